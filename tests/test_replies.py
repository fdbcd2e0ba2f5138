"""Contract: engine/replies. What of a reply is run, and what is said of the rest."""

import pytest

from abyme.core.replies import parse


@pytest.mark.parametrize("language", ["repl", "python", "py", "Python", "", "python3"])
def test_every_runnable_fence_runs(language):
    assert parse(f"Look:\n```{language}\nprint(1)\n```").code == "print(1)\n"


def test_a_fence_of_another_language_does_not_run():
    reply = parse('```json\n{"a": 1}\n```\nthen\n```python\nx = 1\n```')

    assert reply.code == "x = 1\n"
    assert parse("```text\nhello\n```").code is None


def test_an_unclosed_fence_runs_to_the_end():
    assert parse("```python\nx = 1\nprint(x)").code == "x = 1\nprint(x)"


def test_a_fence_inside_a_string_literal_does_not_cut_the_code():
    code = 'report = """\n```\ntable\n```\n"""\nprint(report)\n'

    assert parse(f"```python\n{code}```\nDone.").code == code


def test_a_fence_after_an_apostrophe_in_a_comment_still_closes():
    assert parse("```python\n# don't stop\nx = 1\n```\nIt's done").code == "# don't stop\nx = 1\n"


def test_a_longer_fence_holds_a_shorter_one():
    assert parse("````python\na = 1\n```\nb = 2\n````").code == "a = 1\n```\nb = 2\n"


def test_text_after_the_first_block_is_dropped_and_the_model_is_told():
    reply = parse("```python\na = 1\n```\n```python\nb = 2\n```")

    assert reply.code == "a = 1\n"
    assert reply.kept == "```python\na = 1\n```"
    assert reply.dropped == "only the first block ran; 1 more block after it dropped"


def test_prose_has_nothing_to_run():
    assert parse("The answer is 42.").code is None
    assert parse("").code is None
    assert parse("```python\n\n```").code is None


def test_an_indented_block_is_dedented():
    assert parse("1. do:\n   ```python\n   x = 1\n   ```").code == "x = 1\n"


def test_code_on_the_fence_line_runs():
    assert parse("```print(1)```").code == "print(1)"
    assert parse("```python print(1)```").code == "print(1)"


def test_thinking_is_not_searched_for_code():
    reply = parse("<think>```python\nwrong()\n```</think>\n```python\nright()\n```")

    assert reply.code == "right()\n"
    assert "wrong" not in reply.kept


def test_crlf_replies_run():
    assert parse("```python\r\nx = 1\r\n```\r\n").code == "x = 1\r\n"


def test_ten_thousand_quotes_are_read_in_linear_time():
    """A reply cannot stall the host: the scan is bounded by its length."""
    assert parse("```python\n" + '"""' * 10_001).code is not None


def test_code_behind_the_language_is_the_first_line():
    assert parse("```python import re\nprint(re)\n```").code == "import re\nprint(re)\n"


def test_data_on_one_line_is_not_code():
    assert parse('```json {"a": 1}```').code is None


def test_an_unclosed_second_block_is_counted():
    assert parse("```python\na\n```\n```python\nb").dropped == (
        "only the first block ran; 1 more block after it dropped"
    )
