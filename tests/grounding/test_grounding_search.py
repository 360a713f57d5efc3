"""Search: what finds what, in which order, and that no query can break it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from djp.llm.tokens import count_tokens
from djp.mesh.errors import NotFound
from djp_grounding.analysis import analyser, spaced, spaced_analyser

HANDBOOK = {
    "refunds.md": "# Refunds\n\nA refund is paid within ten days. Customers ask for a refund by letter.",
    "budgets.md": "# Budgets\n\nMoney is reserved before a model is called. A budget is never overdrawn.",
    "storage/tiers.md": "# Tiers\n\nAn artifact moves from hot to warm and to cold.",
    "other.txt": "Nothing of interest stands here, except the word budget.",
}


@pytest.fixture
def handbook(library: Any) -> Any:
    library.add(HANDBOOK)
    return library


def test_a_question_finds_its_document_first(handbook: Any) -> None:
    hit = handbook.search("How is a budget kept from being overdrawn?")[0]
    assert hit.document.path == "budgets.md"
    assert hit.passage.text.startswith("# Budgets")
    assert hit.score > 0
    assert handbook.found("refunding customers' letters") == ["Refunds"]


def test_a_title_counts_beside_the_text(handbook: Any) -> None:
    assert handbook.found("budget")[0] == "Budgets"
    assert set(handbook.found("budget")) == {"Budgets", "other"}


def test_a_repeated_term_weighs_more(library: Any) -> None:
    library.add({"a.md": "apples and other fruit", "b.md": "pears and other fruit"})
    assert library.found("apples pears pears")[0] == "b"
    assert library.found("apples apples pears")[0] == "a"


@pytest.mark.parametrize(
    "query",
    [
        "a:(b",
        "title:refund AND",
        '"unbalanced',
        "refund^^ +-!{}[]()~*?:\\/",
        "budget OR (",
        "/[/",
        "'; DROP TABLE",
        "*:*",
    ],
)
def test_punctuation_has_no_meaning(handbook: Any, query: str) -> None:
    words = "".join(char if char.isalnum() else " " for char in query)
    assert handbook.found(query) == handbook.found(words)


@pytest.mark.parametrize("query", ["the of and is", "?!", " \n ", "\0", "nothingofthatkind", "😀", "a" * 1000])
def test_no_search_term_no_passage(handbook: Any, query: str) -> None:
    assert handbook.search(query) == []


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("数据库预算", "zh.md"),
        ("予算", "ja.md"),
        ("бюджета", "ru.md"),
        ("ΑΠΟΘΉΚΗ", "el.md"),
        ("예산은", "ko.md"),
        ("बजट", "hi.md"),
        ("งบ", "th.md"),
        ("ميزانية", "ar.md"),
        ("cafe resume", "fr.md"),
        ("café résumé", "en.md"),
    ],
)
def test_other_scripts(library: Any, query: str, path: str) -> None:
    library.add(
        {
            "zh.md": "# 文档\n\n每个数据库都有预算\uff0c超过就会被拒绝。",
            "ja.md": "このサービスの予算は超過しません。",
            "ru.md": "Размер бюджета известен заранее.",
            "el.md": "\u0397 αποθήκη είναι ασφαλής.",
            "ko.md": "이 예산은 절대 초과되지 않는다.",
            "hi.md": "यह बजट कभी पार नहीं होता।",
            "th.md": "งบประมาณไม่เกิน",
            "ar.md": "هذه ميزانية لا تتجاوز.",
            "fr.md": "Le résumé est au café.",
            "en.md": "The resume is in the cafe.",
        }
    )
    assert path in [hit.document.path for hit in library.search(query)][:2]


def test_top_k_and_the_order_of_equals(library: Any) -> None:
    library.add({f"{number:03}.txt": "the same words everywhere" for number in range(150)})
    assert library.found("words") == [f"{number:03}" for number in range(8)]
    assert library.found("words", top_k=100) == [f"{number:03}" for number in range(100)]
    assert library.found("words", top_k=1) == ["000"]


def test_a_token_budget_stops_before_it_is_passed(library: Any) -> None:
    library.add({f"{number}.txt": "words " * 20 for number in range(5)})  # 119 bytes: 30 tokens
    assert len(library.search("words", token_budget=90)) == 3
    assert len(library.search("words", token_budget=89)) == 2
    assert library.search("words", token_budget=1) == []
    assert len(library.search("words", token_budget=0)) == 5


def test_passages_come_from_several_documents(library: Any) -> None:
    section = "whales " * 6 + "swim in the sea. " + "word " * 100
    library.add(
        {
            "whales.md": "# Whales\n\n" + "\n\n".join(f"## Part {number}\n\n{section}" for number in range(9)),
            "ships.md": "# Ships\n\nShips avoid whales in the sea.",
            "ports.md": "# Ports\n\nFrom the ports of the sea whales are rarely seen.",
        }
    )
    assert library.found("whales in the sea", top_k=5).count("Whales") >= 3
    spread = library.search("whales in the sea", top_k=5, per_document=2)
    titles = [hit.document.title for hit in spread]
    assert {"Ships", "Ports"} <= set(titles)
    assert titles.count("Whales") == 3, "for want of others"
    assert [hit.score for hit in spread] == sorted((hit.score for hit in spread), reverse=True)
    tight = library.search("whales in the sea", top_k=20, per_document=1, token_budget=200)
    assert {hit.document.title for hit in tight} == {"Whales", "Ships", "Ports"}
    assert sum(count_tokens(hit.passage.text) for hit in tight) <= 200
    alone = library.search("swim", top_k=4, per_document=1)
    assert [hit.document.title for hit in alone] == ["Whales"] * 4


def test_what_neighbours_share_is_given_once(library: Any) -> None:
    text = " ".join(f"Sentence number {number} is about whales." for number in range(120))
    library.add({"a.md": text})
    hits = sorted(library.search("whales", top_k=100), key=lambda hit: hit.passage.start)
    assert len(hits) > 3
    assert " ".join(hit.passage.text for hit in hits) == text
    assert all(text[hit.passage.start : hit.passage.end] == hit.passage.text for hit in hits)


def test_a_megabyte_of_query_is_bounded(handbook: Any) -> None:
    assert handbook.found("refund " * 150_000) == ["Refunds"]
    assert handbook.search(" ".join(f"{number:x}" for number in range(1, 150_000))) == []


def test_offsets_are_code_points_of_the_extracted_text(library: Any) -> None:
    text = "# 😀 Ünïcode\n\nThe a\u0301ccent and the 😀 emoji stand before the needle."
    library.add({"a.md": ("\ufeff" + text).replace("\n", "\r\n")})
    passage = library.search("needle")[0].passage
    assert (passage.start, passage.end, passage.text) == (0, len(text), text)


def test_an_unknown_corpus_says_what_to_do(library: Any) -> None:
    with pytest.raises(NotFound, match="'docs' does not exist; add it from a folder"):
        library.search("anything")


def test_a_document_without_terms_is_kept_and_citable(library: Any) -> None:
    library.add({"a.md": "the of and\n\n!!!"})
    assert library.search("the") == []
    assert library.resolved("[a]") == ["a.md"]


_TEXTS = st.text(alphabet=st.one_of(st.characters(codec="utf-8", max_codepoint=0x24FF), st.characters(codec="utf-8")))


@given(_TEXTS)
@example("_ __ a_b \u00d7 \u2018q\u2019 \u00b2 \u0905\u094d \u6570\u636e 'tis \x0b\x1c\x85 \u0e07\u0e1a")
def test_words_are_the_same_however_they_are_split(text: str) -> None:
    assert spaced_analyser().analyze(spaced(text)) == analyser().analyze(text)
