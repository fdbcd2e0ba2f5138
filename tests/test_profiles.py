"""Contract: prompts. Each profile is a data file; its size is pinned, its slots are filled."""

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
def test_every_slot_of_a_template_is_one_that_is_filled(name):
    profile = profiles.load(name)

    assert "{question}" in profile.question
    assert "{output}" in profile.output
    assert "{reason}" in profile.last_turn


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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name = "x"\nextends = "strong"\nsytem = "Hi"', "there is no field sytem"),
        ('name = "x"\nextends = "strong"\n[sub]\nmpa = "Hi"', "there is no field sub.mpa"),
        ('name = "x"\nextends = "genius"', "extends 'genius'; it may: reasoning, strong"),
        ('name = "x"', "missing required field `system`"),
        ('name = "x"\nextends = "strong"\noutput_chars = "many"', "Expected `int`"),
        ("name = ", "cannot be read"),
    ],
)
def test_a_file_that_is_no_profile_says_what_is_wrong(tmp_path, text, words):
    file = tmp_path / "wrong.toml"
    file.write_text(text)

    with pytest.raises(ConfigError, match=words):
        profiles.load(str(file))


def test_a_profile_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        profiles.load(str(tmp_path / "none.toml"))
