"""Contract: prompts. Each profile is a data file; its size is pinned, its slots are filled."""

import os
import re
from pathlib import Path
from typing import get_args

import pytest
from core_doubles import Run
from msgspec import structs

from abyme import RLM
from abyme.core import effects as do
from abyme.core.profile import Profile, Slots, SubPrompts
from abyme.errors import ConfigError
from abyme.run import profiles
from abyme.run.spec import Settings, settle
from abyme.testing import ScriptedEndpoint, ScriptedModel


def code(*lines):
    return "```repl\n" + "\n".join(lines) + "\n```"


@pytest.mark.parametrize(
    ("name", "most"), [("strong", 2040), ("weak-local", 900), ("weak-local-text", 900)]
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


def test_only_the_profiles_for_small_local_models_show_output_without_a_fence():
    """They answered fewer questions with one (docs/concepts/security.md)."""
    bare = [name for name in profiles.names() if not profiles.fences(profiles.load(name).output)]

    assert bare == ["weak-local", "weak-local-text"]


def test_a_file_that_fences_output_in_its_own_way_is_taken(tmp_path):
    own = "output = '[{nonce}]{output}{guest_notes}{changed}[{nonce}]{notes}{status}'"
    profile = profiles.load(written(tmp_path, f'extends = "weak-local"\n{own}'))

    assert profile.output.startswith("[{nonce}]{output}")


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
    "output_chars = -3": "output_chars must be a number from 1 to 1,000,000,000, it is -3",
    "max_output_tokens = 0": "max_output_tokens must be a number from 1 to",
    "max_output_tokens = 1000000000000": "must be a number from 1 to 1,000,000,000",
    "temperature = nan": "temperature must be a number from 0 to 2, it is nan",
    "[sub]\nmap_items = 0": "sub.map_items must be a number from 1 to 10,000, it is 0",
    "models = ['(']": "models: '(' is no regular expression",
    "models = ['a{99999999999}']": "models: 'a{99999999999}' is no regular expression",
    'stop = [""]': "stop: an empty text",
    'examples = [{role = "usre", content = "x"}]': "there is no role 'usre'",
    'question = "Go on."': "question lacks {question}",
    'output = "{output}"': "output lets a document speak to the model as the engine does",
    'output = "<{nonce}>{output}"': "put {nonce} before and after",
    'output = "{guest_notes}<{nonce}>{output}</{nonce}>"': "put {nonce} before and after",
    'output = "<{nonce}>{output}</{nonce}>{changed}"': "put {nonce} before and after",
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


def test_the_guide_lists_the_slots_that_there_are():
    guide = Path(__file__).parents[1] / "docs/guides/models.md"
    table = guide.read_text().partition("| field | must have |")[2].partition("\n\n")[0]
    listed = {}
    for row in table.splitlines()[2:]:
        fields, needs, may = (re.findall(r"`\{?([\w.]+)\}?`", cell) for cell in row.split("|")[1:4])
        listed |= {field: ({*needs, *may} - {"nonce"}) for field in fields}
    marked = {}
    for kind, before in ((Profile, ""), (SubPrompts, "sub.")):
        for field in structs.fields(kind):
            for mark in get_args(field.type):
                if isinstance(mark, Slots):
                    marked[before + field.name] = {*mark.needs, *mark.may} - {"nonce"}

    assert listed == marked


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


# -- the cap on output


def caps(model, profile=None, **given):
    """Tell the caps of a turn and of a sub-call, as `build` takes them from the settings."""
    url = "http://127.0.0.1:1/v1"
    free = {"price": (0, 0), "sub_price": (0, 0) if "sub_model" in given else None}
    if not model.startswith("local:"):
        given = {"base_url": url, **free, **given}
    spec = settle(Settings(model=model, profile=profile, **given), {})
    return tuple(
        spec.facts(endpoint, profiles.load(name)).max_output_tokens
        for endpoint, name in ((spec.root, spec.profile), (spec.sub, spec.sub_profile))
    )


def test_the_profile_that_a_models_name_chooses_caps_its_replies():
    assert caps("m") == (4096, 4096)
    assert caps("gpt-5") == (16384, 16384)
    assert caps("m", sub_model="gpt-5") == (4096, 16384)
    assert caps("local:coder-1.5b") == (1024, 1024)


def test_a_profile_that_the_user_names_caps_the_replies_of_its_model(tmp_path):
    file = written(tmp_path, 'extends = "strong"\nmax_output_tokens = 1234')

    assert caps("m", "reasoning") == (16384, 16384)
    assert caps("gpt-5", "strong") == (4096, 4096)
    assert caps("gpt-5", "strong", sub_model="o3") == (4096, 16384)
    assert caps("m", file) == (1234, 1234)


def test_a_local_model_writes_no_more_than_it_can_whatever_its_profile_says(tmp_path):
    file = written(tmp_path, 'extends = "weak-local"\nmax_output_tokens = 300')

    assert caps("local:coder-1.5b", "strong") == (1024, 1024)
    assert caps("local:coder-1.5b", file) == (300, 300)


def test_what_the_user_says_of_a_replys_length_goes_before_any_profile():
    assert caps("m", "reasoning", max_output_tokens=77) == (77, 77)
    assert caps("m", "strong", max_output_tokens=9000, sub_model="gpt-5") == (9000, 9000)
    assert caps("local:coder-1.5b", max_output_tokens=2000) == (2000, 2000)


def test_no_cap_is_set_that_the_journal_could_not_give_back():
    with pytest.raises(ConfigError, match="max_output_tokens must be at most 1,000,000,000"):
        caps("m", max_output_tokens=10**30)


@pytest.mark.parametrize(("profile", "cap"), [("reasoning", 16384), (None, 4096)])
def test_the_cap_of_a_profile_is_what_the_endpoint_is_sent(tmp_path, profile, cap):
    with (
        ScriptedEndpoint([code("submit(4)")]) as endpoint,
        RLM("m", base_url=endpoint.url, runs_dir=tmp_path, profile=profile) as rlm,
    ):
        rlm.ask("What?", "text")

    assert endpoint.requests[0]["max_tokens"] == cap


def test_turns_and_sub_calls_have_the_cap_of_a_file_that_is_given_as_a_path(tmp_path):
    file = written(tmp_path, 'extends = "strong"\nmax_output_tokens = 1234')
    model = ScriptedModel([code("llm_query('Who?', context)", "submit(1)"), "Nobody."])
    with RLM(model=model, runs_dir=tmp_path, profile=file) as rlm:
        answer = rlm.ask("What?", "text")

    assert answer.value == 1
    assert [request.max_output_tokens for request in model.requests] == [1234, 1234]
