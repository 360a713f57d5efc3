"""Citations: which brackets are one, where exactly they stand, and which document they mean."""

from __future__ import annotations

from typing import Any

import pytest

from djp.mesh.errors import InvalidInput
from djp_grounding.citations import MAX_MENTIONS, find_mentions
from djp_grounding.resolve import CitationStatus, fold


def mentioned(text: str) -> list[str]:
    found = find_mentions(text)
    for mention in found:
        assert text[mention.start : mention.end] == f"[{mention.text}]"
    return [mention.text for mention in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("As told in [Budgets].", ["Budgets"]),
        ("[A][B] [C]; [D]", ["A", "B", "C", "D"]),
        ("[[Budgets]] and [see [Budgets] there]", ["Budgets", "Budgets"]),
        ("over\n[two\nlines]", ["two\nlines"]),
        ("😀 [Ünïcode 標題] 😀", ["Ünïcode 標題"]),
        ("X[X] and [x] are no boxes", ["X", "x"]),
        ("a stray ` here\n\n[Budgets] and ` there", ["Budgets"]),
        ("a stray ` here\n  \n[Budgets] and ` there", ["Budgets"]),
        ("a stray `` and a stray ` leave [Budgets]", ["Budgets"]),
        ("``` not a fence `[code]` ``` [Budgets]", ["Budgets"]),
        ("~~~\n[code]\n```\n~~~\n[Budgets]", ["Budgets"]),
        ("```` \n```\n[code]\n````\n[Budgets]", ["Budgets"]),
        (r"\\[Budgets]", ["Budgets"]),
        ("[Budgets]: said the page", ["Budgets"]),
        ("[Budgets][1]\n\n[2]: https://example.org", ["Budgets", "1"]),
        ("[unknown] [REDACTEDLY]", ["unknown", "REDACTEDLY"]),
    ],
)
def test_citations(text: str, expected: list[str]) -> None:
    assert mentioned(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "[link](https://example.org)",
        "![image](picture.png) ![image][ref]\n\n[ref]: /x.png",
        "[reference][1] [collapsed][] [shortcut]\n\n[1]: https://a\n[collapsed]: <b>\n[Shortcut]: #c",
        "a footnote[^1]\n\n[^1]: the note",
        "> [!NOTE]\n> text",
        "- [ ] open\n- [x] done\n  * [X] done\n1. [x] done\n> - [x] quoted",
        "[REDACTED:EMAIL] [REDACTED] [REDACTED:STAFF_ID]",
        r"\[escaped\] \\\[escaped]",
        "`[code]` ``a ` [b]``",
        "```python\na[index] = [Budgets]\n```",
        "```\nnever closed [Budgets]",
        "[] [ ] [--] [!]",
        "[a paragraph\n\nends before this]",
        "[" + "long " * 100 + "]",
        "[never closed",
        "never opened]",
        "",
    ],
)
def test_not_citations(text: str) -> None:
    assert mentioned(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "]" * 100_000,
        "[" * 50_000 + "]" * 50_000,
        "[a" * 50_000,
        ("[" + "a" * 399) * 2_000,
        "`" * 100_000,
        "` " * 50_000,
        "``` \n" * 20_000,
        "~~~\n```\n" * 10_000,
        "\\" * 100_000,
        "`a\n\n" * 30_000,
        "[a]: " * 20_000 + "(",
    ],
)
def test_floods_of_brackets_are_read_to_the_end(text: str) -> None:
    assert len(find_mentions(text)) <= MAX_MENTIONS


def test_too_many_citations_are_refused_by_name() -> None:
    assert len(find_mentions("[a]" * MAX_MENTIONS)) == MAX_MENTIONS
    with pytest.raises(InvalidInput, match="more than 20000 citations") as refused:
        find_mentions("[a]" * 100_000)
    assert refused.value.field == "text"


# -- resolving -------------------------------------------------------------------------------------------------------

SAID = "Every one of these documents holds the same brief sentence"
TITLES = [
    "Budgets",
    "The Jury: How Drafts Are Judged",
    "Release 2023",
    "Release 2024",
    "Appendix A",
    "X",
    "Größe & Maß",
    "हिन्दी भाषा",
    "预算与限制说明",
    "3",
    "Redaction (2)",
]


@pytest.fixture
def titled(library: Any) -> Any:
    library.add({f"{number}.md": f"# {title}\n\n{SAID}." for number, title in enumerate(TITLES)})
    assert list(library.titles().values()) == sorted(TITLES, key=lambda title: f"{TITLES.index(title)}.md")
    return library


@pytest.mark.parametrize(
    ("cited", "title"),
    [
        ("Budgets", "Budgets"),
        ("BUDGETS", "Budgets"),
        ("  budgets. ", "Budgets"),
        ("Bugdets", "Budgets"),
        ("Budget", "Budgets"),
        ("the jury - how drafts are judged", "The Jury: How Drafts Are Judged"),
        ("The Jury: How Draft Are Juged", "The Jury: How Drafts Are Judged"),
        ("The Jury:\nHow Drafts Are Judged", "The Jury: How Drafts Are Judged"),
        ("Release 2024", "Release 2024"),
        ("relaese 2023", "Release 2023"),
        ("x", "X"),
        ("Größe & Maß", "Größe & Maß"),
        ("GRÖSSE und MASS", None),
        ("GRÖSSE & MASS", "Größe & Maß"),
        ("हिन्दी भाषा", "हिन्दी भाषा"),
        ("हान्दू भाषा", None),
        ("预算与限制说明", "预算与限制说明"),
        ("决算与限制说明", None),
        ("3", "3"),
        ("Redaction (2)", "Redaction (2)"),
        ("Redaction (3)", None),
        ("Release 2025", None),
        ("Appendix B", None),
        ("Appendx A", "Appendix A"),
        ("Storage", None),
        ("Budgets and more", None),
    ],
)
def test_a_citation_means_one_document_or_none(titled: Any, cited: str, title: str | None) -> None:
    (citation,) = titled.check(f"{SAID} [{cited}].")
    assert (citation.document.title if citation.document else None) == title
    assert (citation.status is CitationStatus.RESOLVED) == (title is not None)
    assert bool(citation.reason) == (title is None)
    assert citation.support == (None if title is None else pytest.approx(1))


def test_equally_near_titles_are_ambiguous(library: Any) -> None:
    library.add({"a.md": "# Station plans", "b.md": "# Stations plan", "c.md": "# Unrelated"})
    (citation,) = library.check("[Station plan]")
    assert citation.status is CitationStatus.AMBIGUOUS
    assert citation.document is None
    assert "[Station plans]" in citation.reason
    assert "[Stations plan]" in citation.reason


def test_titles_that_differ_in_punctuation_only(library: Any) -> None:
    library.add({"a.md": "# C-14 dating", "b.md": "# C 14 Dating!"})
    assert library.resolved("[C-14 dating]") == ["a.md"]
    assert library.check("[c 14: dating]")[0].status is CitationStatus.AMBIGUOUS


def test_a_number_counts_only_where_a_document_is_called_so(titled: Any) -> None:
    assert titled.resolved("As [1] and [2, 3] show, but [3]!") == ["9.md"]
    assert len(titled.check("[1] [2023] [3]")) == 1


def test_offsets_are_code_points(titled: Any) -> None:
    text = "😀😀 e\u0301 [Budgets] 😀 [Nope]"
    assert [(one.mention.start, one.mention.end) for one in titled.check(text)] == [(6, 15), (18, 24)]


def test_many_unknown_citations_against_many_titles(library: Any) -> None:
    library.add({f"{number}.txt": f"# Chapter on subject {chr(97 + number % 26)}{number}\n" for number in range(2_000)})
    text = " ".join(f"[Chapter on subjekt {number}]" for number in range(5_000))
    citations = library.check(text)
    assert len(citations) == 5_000
    assert "more than 500 unknown" in citations[-1].reason


def test_folding_twice_changes_nothing() -> None:
    for title in ("Größe \uff06 Maß", "İstanbul", "a\u200bb", "ﬁne", "e\u0301", "हिन्दी"):
        assert fold(fold(title)) == fold(title)
    assert fold("bud\u200bgets") == "budgets"
    assert fold("e\u0301té") == fold("Été")
