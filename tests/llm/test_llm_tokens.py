"""A prompt never has more tokens than its bound, whatever the text, and bounds take linear time."""

from __future__ import annotations

import sys
import unicodedata
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.bounds import measure
from djp.llm.provider import Question
from djp.llm.tokens import cut_to_prompt_bytes, prompt_bound, prompt_bytes, utf8_bytes

if TYPE_CHECKING:
    from djp.llm.models import Tokenizer

FORMS = ("NFC", "NFKC")
ANY_TEXT = st.text(st.characters(exclude_categories=()))
TRICKY = st.text(
    st.sampled_from("a \n\u00a0\u0301\u0323\u0344\u0f73\uac00\u1100\u1161\u11a8\ufdfa\u2126\u304c\u3099\ud800\u00b4")
)


def bound(tokenizer: Tokenizer, text: str) -> int:
    return prompt_bound(tokenizer, Question("", text, 10), 0)


@pytest.mark.parametrize(
    ("tokenizer", "text", "tokens"),
    [
        ("o200k_base", "", 0),
        ("o200k_base", "hello world", 2),
        ("cl100k_base", "hello world", 2),
        ("cl100k_base", "antidisestablishmentarianism", 6),
        ("o200k_base", "antidisestablishmentarianism", 6),
        ("cl100k_base", "2 + 2 = 4", 7),
        ("o200k_base", "2 + 2 = 4", 7),
        ("cl100k_base", "\u304a\u8a95\u751f\u65e5\u304a\u3081\u3067\u3068\u3046", 9),
        ("o200k_base", "\u304a\u8a95\u751f\u65e5\u304a\u3081\u3067\u3068\u3046", 8),
        ("o200k_base", "<|endoftext|>", 7),  # as ordinary text; as a special token it would be one
        ("cl100k_base", "a" * 16, 2),
        ("bytes", "hello world", 11),
        ("bytes", "\u304a", 3),
    ],
)
def test_tokens_are_counted_as_openai_counts_them(tokenizer: Tokenizer, text: str, tokens: int) -> None:
    assert bound(tokenizer, text) == tokens


@given(ANY_TEXT)
def test_no_vocabulary_makes_more_tokens_than_bytes(text: str) -> None:
    for tokenizer in ("o200k_base", "cl100k_base"):
        assert bound(tokenizer, text) <= bound("bytes", text)  # type: ignore[arg-type]


@pytest.mark.parametrize("tokenizer", ["o200k_base", "cl100k_base", "bytes"])
@pytest.mark.parametrize(
    "unit",
    [
        "a",
        " ",
        "\n",
        "1",
        "!?",
        "a\n",
        "<|endoftext|>",
        "\ud800",
        "\U0001f600",
        "\u0300\u0323",
        "\u0f73",
        "\ufdfa",
        "\u0e33",
    ],
)
def test_hostile_texts_of_a_million_characters_come_to_an_end(tokenizer: Tokenizer, unit: str) -> None:
    """A quadratic step would take minutes here."""
    text = unit * (1_000_000 // len(unit))
    assert 0 < bound(tokenizer, text) <= 11 * utf8_bytes(text)


@given(st.one_of(ANY_TEXT, TRICKY))
def test_no_form_of_a_text_has_more_bytes_than_it_is_bounded_at(text: str) -> None:
    assert prompt_bytes(text) >= utf8_bytes(text)
    for form in FORMS:
        assert utf8_bytes(unicodedata.normalize(form, text)) <= prompt_bytes(text)


@given(TRICKY, st.sampled_from([64, 65, 200]))
def test_nor_has_a_long_word_which_is_bounded_character_by_character(text: str, times: int) -> None:
    word = "".join(text.split()) * times
    for form in FORMS:
        assert utf8_bytes(unicodedata.normalize(form, word)) <= prompt_bytes(word)


def test_composing_never_lengthens_a_character_on_which_the_bound_of_long_words_rests() -> None:
    for code in range(sys.maxunicode + 1):
        decomposed = unicodedata.normalize("NFD", chr(code))
        assert utf8_bytes(unicodedata.normalize("NFC", decomposed)) <= utf8_bytes(decomposed)


def test_white_space_never_becomes_longer_on_which_measuring_by_the_word_rests() -> None:
    for space in filter(str.isspace, map(chr, range(sys.maxunicode + 1))):
        for form in FORMS:
            assert utf8_bytes(unicodedata.normalize(form, space)) <= utf8_bytes(space)


def test_usual_texts_are_bounded_at_their_bytes() -> None:
    for text in (
        "plain English",
        "d\u00e9j\u00e0 vu",
        "\ud55c\uad6d\uc5b4 \ubb38\uc7a5",
        "\u4e2d\u6587\u3002",
        "\u304c\u304e",
    ):
        assert prompt_bytes(text) == utf8_bytes(text)


@given(st.lists(st.one_of(ANY_TEXT, TRICKY)))
def test_texts_with_space_between_add_up(texts: list[str]) -> None:
    assert prompt_bytes("\n".join(texts)) == sum(map(prompt_bytes, texts)) + max(0, len(texts) - 1)


@given(st.one_of(ANY_TEXT, TRICKY), st.integers(0, 200))
def test_a_cut_text_is_a_beginning_within_its_limit(text: str, limit: int) -> None:
    cut = cut_to_prompt_bytes(text, limit)
    assert prompt_bytes(cut) <= limit
    if prompt_bytes(text) <= limit and not any("\ud800" <= char <= "\udfff" for char in text):
        assert cut == text


def test_system_text_user_text_schema_and_template_are_all_in_the_bound() -> None:
    question = Question("a" * 10, "b" * 100, 5, schema={"type": "object"}, schema_name="answer")
    schema = '{\n  "type": "object"\n}answer'
    assert prompt_bound("bytes", question, 1000) == 10 + 100 + len(schema) + 1000
    assert prompt_bound("o200k_base", question, 1000) < prompt_bound("bytes", question, 1000)
    assert prompt_bound("bytes", Question("", "", 5)) == 512


async def test_none_of_ten_thousand_generated_calls_costs_more_than_its_bound() -> None:
    """Raises at the first that does."""
    ratios = await measure(10_000)
    assert {name: len(pairs) for name, pairs in ratios.items()} == {"tokenized": 5000, "bytes": 5000}
    assert all(ratio >= 1 for pairs in ratios.values() for pair in pairs for ratio in pair)
