"""Cutting: along the structure, within the size, with offsets that are exact in code points."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djp.llm.tokens import count_tokens
from djp_grounding.model import Extracted, Passage
from djp_grounding.passages import OVERLAP_TOKENS, PASSAGE_TOKENS, cut


def passages(text: str, **fields: object) -> list[Passage]:
    return list(cut(Extracted(text, **fields)))  # type: ignore[arg-type]


def check(text: str, found: list[Passage], start: int = 0) -> None:
    """What holds of every cut."""
    for number, passage in enumerate(found):
        assert passage.ordinal == number
        assert text[passage.start : passage.end] == passage.text
        assert passage.text == passage.text.strip() != ""
        assert count_tokens(passage.text) <= PASSAGE_TOKENS
    for before, after in pairwise(found):
        assert before.start < after.start
        assert before.end < after.end
        assert count_tokens(text[after.start : before.end]) <= OVERLAP_TOKENS
    ends = [start, *(passage.end for passage in found)]
    starts = [*(passage.start for passage in found), len(text)]
    gaps = [text[left:right] for left, right in zip(ends, starts, strict=True)]
    assert not "".join(gaps).strip(), "text was left out"


WORDS = " ".join(f"word{number}" for number in range(90)) + "."


def test_a_short_text_is_one_passage() -> None:
    text = "# Title\n\nOne paragraph.\n\nAnother one.\n"
    assert [passage.text for passage in passages(text)] == [text.strip()]


def test_a_heading_starts_a_passage_once_the_one_before_is_long_enough() -> None:
    text = f"# One\n\n{WORDS}\n\n# Two\n## Sub\n\n{WORDS}\n"
    found = passages(text)
    check(text, found)
    assert [passage.text.splitlines()[0] for passage in found] == ["# One", "# Two"]


def test_a_fence_keeps_its_comments_and_blank_lines() -> None:
    text = f"{WORDS}\n\n```\n# no heading\n\n# still code\n```\n"
    found = passages(text)
    check(text, found)
    assert len(found) == 1


def test_a_long_paragraph_is_cut_at_sentences() -> None:
    text = " ".join(f"Sentence number {number} is here (really)." for number in range(200))
    found = passages(text)
    check(text, found)
    assert len(found) > 3
    assert all(passage.text.endswith(").") for passage in found)
    for before, after in pairwise(found):
        assert before.text.endswith(after.text[: after.text.index(".") + 1]), "the last sentence is in both"


def test_a_section_that_is_cut_for_its_length_has_its_last_short_paragraph_in_both_passages() -> None:
    text = f"{WORDS}\n\n{WORDS}\n\nA short remark between.\n\n{WORDS}\n\n## Next\n\n{WORDS}"
    found = passages(text)
    check(text, found)
    assert found[0].text.endswith("A short remark between.") is found[1].text.startswith("A short remark between.")
    assert found[-1].text.startswith("## Next"), "a section starts with its heading"


def test_text_without_spaces_is_cut_at_its_own_stops() -> None:
    text = "数据库的预算是有限的。" * 400
    found = passages(text)
    check(text, found)
    assert all(passage.text.endswith("。") for passage in found)


@pytest.mark.parametrize("text", ["x" * 100_000, "😀" * 10_000, "a\u0301" * 5_000, "# " * 30_000, "\n#" * 30_000])
def test_monsters_are_cut_too(text: str) -> None:
    check(text, passages(text))


def test_pages_are_one_based_and_never_crossed() -> None:
    first, second, third = "first page", "", "third page"
    text = "\n\n".join([first, second, third])
    found = passages(text, pages=(0, 12, 14))
    check(text, found)
    assert [(passage.page, passage.text) for passage in found] == [(1, first), (3, third)]


def test_front_matter_is_left_out() -> None:
    text = "---\nkey: value\n---\nThe body."
    found = passages(text, body=19)
    check(text, found, 19)
    assert [passage.text for passage in found] == ["The body."]


@given(st.text(alphabet=st.sampled_from("ab .!?\n\t#`~。'\"😀\u0301\u2003\x85"), max_size=3_000))
def test_any_text_is_cut_without_loss(text: str) -> None:
    check(text, passages(text))
