"""What documents are called: stated titles, file names, hostile ones, and no two the same."""

from __future__ import annotations

from typing import Any

import pytest

from djp_grounding.titles import UniqueTitles, clean_title, text_title


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("---\ntitle: From the front\n---\n# Heading\n", "From the front"),
        ("---\nTITLE:  'Quoted: with # sign'  # a remark\n---\n", "Quoted: with # sign"),
        ("---\ntitle: Plain # a remark\n---\n", "Plain"),
        ("---\ntitle: >\n  folded\n---\n# Heading\n", "Heading"),
        ("---\ntags: [a]\n---\n\nIntro\n\n## Later heading ##\n", "Later heading"),
        ("# **Bold** [link](x.md) `code` ![image](i.png)\n", "Bold link code"),
        ("Underlined\n==========\ntext", "Underlined"),
        ("```\n# in code\n```\n# Real\n", "Real"),
        ("# A title with [brackets]\n", "A title with (brackets)"),
        ("# Ünïcödé · 標題 · عنوان\n", "Ünïcödé · 標題 · عنوان"),
        ("# reversed\u202e\u200b\x07 text\n", "reversed text"),
        ("#hashtag is no heading\n", ""),
        ("# !!!\n", ""),
        ("no heading at all", ""),
        ("", ""),
    ],
)
def test_a_text_states_its_title(text: str, title: str) -> None:
    assert text_title(text)[0] == title


def test_text_between_two_rules_is_text_and_not_front_matter() -> None:
    text = "---\nA first paragraph.\n---\n# Heading\n"
    assert text_title(text)[1] == 0


def test_front_matter_is_not_searched(library: Any) -> None:
    library.add({"a.md": "---\ntitle: Alpha\nsecret_key: zebra\n---\nThe body speaks of lions."})
    assert library.found("lions") == ["Alpha"]
    assert library.found("zebra") == []


def test_a_long_title_is_cut_so_that_it_fits_a_citation(library: Any) -> None:
    library.add({"a.md": "# " + "word " * 500 + "\n\ntext"})
    title = library.titles()["a.md"]
    assert len(title) <= 200
    assert library.resolved(f"As said in [{title}].") == ["a.md"]


def test_without_a_stated_title_the_file_name_is_the_title(library: Any) -> None:
    library.add({"deep/notes on [things].txt": "text", "deep/…md.md": "other", "!!!.md": "third"})
    assert library.titles() == {
        "!!!.md": "!!!.md",
        "deep/notes on [things].txt": "notes on (things)",
        "deep/…md.md": "…md",
    }


def test_no_two_documents_share_a_title(library: Any) -> None:
    library.add({"a.md": "# Same", "b.md": "# same", "c.md": "# Same (2)", "d/same.txt": "text"})
    titles = library.titles()
    assert titles["a.md"] == "Same"
    assert len({title.casefold() for title in titles.values()}) == 4
    for path, title in titles.items():
        assert library.resolved(f"[{title}]") == [path]


def test_ten_thousand_equal_titles_are_numbered() -> None:
    unique = UniqueTitles()
    given = {unique.give("Index", f"{number}/index.md") for number in range(10_000)}
    assert len(given) == 10_000
    assert "Index (10000)" in given


@pytest.mark.parametrize(
    "hostile",
    [
        "---\n" * 20_000,
        "---\n" + "\n" * 80_000,
        "# " + " " * 80_000,
        "```\n" * 20_000,
        "*" * 80_000,
        "---\na:\n" + "#\n" * 40_000,
    ],
)
def test_hostile_texts_are_read_to_the_end(hostile: str) -> None:
    title, body = text_title(hostile)
    assert title == clean_title(title)
    assert 0 <= body <= len(hostile)
