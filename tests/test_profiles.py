"""Contract: prompts. Each profile is a data file; its size is pinned, its slots are filled."""

import os
from pathlib import Path

import pytest
from core_doubles import Run

from abyme.core import effects as do
from abyme.errors import ConfigError
from abyme.run import profiles


@pytest.mark.parametrize(
    ("name", "most"), [("strong", 1950), ("weak-local", 900), ("weak-local-text", 900)]
)
def test_the_system_text_stays_short(name, most):
    assert len(profiles.load(name).system) <= most


def test_the_first_request_of_a_strong_root_stays_under_1300_tokens():
    """Counted at 3.5 characters a token, with a preview of full size (o200k gives less)."""
    run = Run(preview="x" * 1400)
    run.ready()

    assert sum(len(m.content) for m in run.one(do.AskModel).messages) / 3.5 < 1300


def test_the_strong_text_names_the_cut_that_is_made():
    profile = profiles.load("strong")

    assert f"what it prints, at most {profile.output_chars:,} characters" in profile.system


@pytest.mark.parametrize("name", profiles.names())
def test_a_profile_that_comes_along_has_the_slots_it_needs_and_no_others(name):
    assert profiles.load(name).name == name


def test_a_small_local_model_gets_the_plain_prompt():
    assert profiles.choose("local:coder-1.5b") == "weak-local"
    assert profiles.choose("openai:gpt-4.1") == "strong"


@pytest.mark.parametrize("model", ["openai:gpt-5", "openai:o3-mini", "deepseek:deepseek-reasoner"])
def test_a_model_that_thinks_long_may_write_longer(model):
    assert profiles.choose(model) == "reasoning"
    assert (
        profiles.load("reasoning").max_output_tokens
        == 4 * profiles.load("strong").max_output_tokens
    )
    assert profiles.load("reasoning").system == profiles.load("strong").system


def test_a_variant_for_the_contexts_shape_is_taken_where_there_is_one():
    assert profiles.fit("weak-local", "text") == "weak-local-text"
    assert profiles.fit("weak-local", "documents") == "weak-local"
    assert profiles.fit("strong", "text") == "strong"


def test_an_unknown_profile_lists_those_there_are():
    with pytest.raises(
        ConfigError, match="there are: reasoning, strong, weak-local, weak-local-text"
    ):
        profiles.load("genius")


def test_a_profile_of_the_users_own_extends_one_and_says_what_differs(tmp_path):
    file = tmp_path / "terse.toml"
    file.write_text(
        'name = "terse"\nextends = "strong"\noutput_chars = 4000\n[sub]\nmap_items = 40\n'
    )
    profile, strong = profiles.load(str(file)), profiles.load("strong")

    assert (profile.name, profile.output_chars, profile.sub.map_items) == ("terse", 4000, 40)
    assert (profile.system, profile.sub.map) == (strong.system, strong.sub.map)


def written(folder, text):
    file = folder / "own.toml"
    file.write_text(text)
    return file


WRONG = {
    'sytem = "Hi"': "there is no field sytem",
    '[sub]\nmpa = "Hi"': "there is no field sub.mpa",
    "sub = 3": "sub is no table",
    "sub = [1]": "sub is no table",
    'sub = "x"': "sub is no table",
    'output_chars = "many"': "Expected `int`, got `str` - at `$.output_chars`",
    "output_chars = -3": "Expected `int` >= 1 - at `$.output_chars`",
    "max_output_tokens = 0": "Expected `int` >= 1 - at `$.max_output_tokens`",
    "max_output_tokens = 1000000000000": "Expected `int` <= 1000000000 - at `$.max_output_tokens`",
    "temperature = nan": "Expected `float`",
    "[sub]\nmap_items = 0": "Expected `int` >= 1 - at `$.sub.map_items`",
    "models = ['(']": "models: '(' is no regular expression",
    "models = ['a{99999999999}']": "models: 'a{99999999999}' is no regular expression",
    'stop = [""]': "stop: an empty text",
    'examples = [{role = "usre", content = "x"}]': "there is no role 'usre'",
    'question = "Go on."': "question lacks {question}",
    'output = "{outptu}"': "output lacks {output}; output has {outptu}, which nothing fills",
    'last_turn = "now"': "last_turn lacks {reason}",
    'doubt = "Why {who}?"': "doubt has {who}, which nothing fills; it may have {why}, {question}",
    '[sub]\nmap = "Judge."': "sub.map lacks {instruction}, {values}",
    '[sub]\nmap_labels = "one"': "sub.map_labels lacks {labels}",
    '[sub]\nmap_codes = "one"': "sub.map_codes lacks {labels}",
    '[sub]\nmap_schema = "JSON"': "sub.map_schema lacks {schema}",
    '[sub]\nmap_again = "Again."': "sub.map_again lacks {wrong}",
    '[sub]\nrepair = "Again."': "sub.repair lacks {wrong}",
    '[sub]\nreduce = "Sum up."': "sub.reduce lacks {instruction}",
    '[sub]\nreduce_more = "Sum up."': "sub.reduce_more lacks {instruction}",
    f"system = {'[' * 5000}{']' * 5000}": "cannot be read: it is nested too deep",
    f"output_chars = {'9' * 5000}": "cannot be read: Exceeds the limit",
    "name = ": "cannot be read: Invalid value",
}
"""What a file says beside what it extends, and what is said of that."""


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_with_a_profile_is_said_and_where(tmp_path, text):
    file = written(tmp_path, f'extends = "strong"\n{text}')

    with pytest.raises(ConfigError) as wrong:
        profiles.load(file)

    assert f"the profile {file}" in str(wrong.value)
    assert WRONG[text] in str(wrong.value)


def test_a_profile_extends_one_that_comes_along_or_says_everything(tmp_path):
    with pytest.raises(ConfigError, match="extends 'genius'; it may: reasoning, strong"):
        profiles.load(written(tmp_path, 'extends = "genius"'))
    with pytest.raises(ConfigError, match="missing required field `system`"):
        profiles.load(written(tmp_path, 'name = "x"'))


def test_braces_that_are_no_slots_are_text(tmp_path):
    own = """extends = "strong"
system = "Reply {answer} or {}"
no_code = "{word}"
question = '{question} as {"a": 1, "b": {}} or {1} or {two words}'
[sub]
map = '{instruction} {values} {"1": "x"}'
"""
    profile = profiles.load(written(tmp_path, own))

    assert profile.system == "Reply {answer} or {}"
    assert profile.question == '{question} as {"a": 1, "b": {}} or {1} or {two words}'


def test_texts_that_may_be_left_out_need_no_slots(tmp_path):
    profile = profiles.load(
        written(tmp_path, 'extends = "weak-local"\ndoubt = ""\n[sub]\nmap_codes = ""')
    )

    assert (profile.doubt, profile.sub.map_codes) == ("", "")


def test_a_profile_without_a_name_has_that_of_its_file(tmp_path):
    assert profiles.load(written(tmp_path, 'extends = "strong"')).name == "own"


def test_a_file_that_cannot_be_a_profile_is_not_waited_for_and_not_read(tmp_path):
    pipe, link, folder, long = (tmp_path / f"{name}.toml" for name in ("p", "l", "f", "long"))
    os.mkfifo(pipe)
    link.symlink_to("/dev/zero")
    folder.mkdir()
    long.write_text("#" * (1 << 20) + "\n")

    for path in (pipe, link, folder):
        with pytest.raises(ConfigError, match="cannot be read: it is no regular file"):
            profiles.load(path)
    with pytest.raises(ConfigError, match="it has 1,048,577 bytes, at most 1,048,576 are read"):
        profiles.load(long)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        profiles.load(tmp_path / "none.toml")


def test_a_profile_is_utf_8_with_or_without_a_mark_before_it(tmp_path):
    file = tmp_path / "own.toml"
    file.write_bytes('extends = "strong"\nno_code = "hé"'.encode("utf-8-sig"))
    assert profiles.load(file).no_code == "hé"

    file.write_bytes('extends = "strong"\nno_code = "hé"'.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"it is not UTF-8 \(at byte 31\)"):
        profiles.load(file)


@pytest.mark.parametrize("name", [Path("strong"), Path("strong.txt"), 3, None])
def test_what_is_neither_a_name_nor_a_toml_file_is_said(name):
    with pytest.raises(ConfigError, match=r"a \.toml file"):
        profiles.load(name)
