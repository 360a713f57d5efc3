"""What counts as a sentence of a text, and which of its words carry it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djp.llm.markdown import Block, prose
from djp.llm.text import sentences, split_sentences, terms, word_count

DOCUMENT = """\
---

# Budgets <!-- old name -->

A run is **paid for** before it *begins*. See [the ledger](ledger.md "The ledger") for
more, e.g. for the _daily_ limit. It costs 3.50 dollars.

Setext heading
--------------

| limit | value |
|-------|-------|
| day   | 5. No prose. |

a | b
--|--
c. | d

```python
print("Not prose. Not at all.")
# neither
```

    indented = "Not prose. Either."

- [x] **Remedy.** Restart `djp serve`. Then wait
  a little while.
- A second item

1. First step.
> Quoted words. They count.

<div class="x">Not prose.</div>

<!-- a comment. Over
two lines. -->
[ledger]: https://example.com/x

The well-
known end!
"""


def test_the_prose_of_markdown_without_its_markup() -> None:
    assert sentences(DOCUMENT) == [
        "A run is paid for before it begins.",
        "See the ledger for more, e.g. for the daily limit.",
        "It costs 3.50 dollars.",
        "Restart `djp serve`.",
        "Then wait a little while.",
        "A second item",
        "First step.",
        "Quoted words.",
        "They count.",
        "The well-known end!",
    ]


def test_blocks_know_their_heading_and_their_label() -> None:
    assert list(prose("# A *b* #\n\n**Remedy:** Restart it.\n\n## C\n\nMore.")) == [
        Block("Restart it.", "A b", "Remedy"),
        Block("More.", "C"),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A fact. [Budgets] Another one [The Jury].", ["A fact. [Budgets]", "Another one [The Jury]."]),
        ("[Budgets] says so. Yes.", ["[Budgets] says so.", "Yes."]),
        ("One. [Budgets] holds the other.", ["One.", "[Budgets] holds the other."]),
        ("As [Dr. No. A Tale?] says. Done.", ["As [Dr. No. A Tale?] says.", "Done."]),
        ("Dr. Smith met J. Doe vs. Mr. Roe. They left.", ["Dr. Smith met J. Doe vs. Mr. Roe.", "They left."]),
        ("Call `a. B` now. Then `stop`.", ["Call `a. B` now.", "Then `stop`."]),
        ('He said "no." She left (late). So?', ['He said "no."', "She left (late).", "So?"]),
        ("Wait\u2026 what?! Yes.", ["Wait\u2026 what?!", "Yes."]),
        ("Version 3.1 of example.com works. Fine.", ["Version 3.1 of example.com works.", "Fine."]),
        ("\u4e2d\u6587\u3002\u7b2c\u4e8c\u53e5\uff01", ["\u4e2d\u6587\u3002", "\u7b2c\u4e8c\u53e5\uff01"]),
        ("\u00c9t\u00e9 fini. \u00c7a va.", ["\u00c9t\u00e9 fini.", "\u00c7a va."]),
        ("no stop at the end", ["no stop at the end"]),
        ("", []),
        (" \n\t\u2028", []),
    ],
)
def test_where_sentences_end(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def test_emphasis_does_not_eat_names_and_formulas() -> None:
    kept = "Set snake_case_name to 2 * 3 * 4, `a * b_c_d`, and sk_live_a_b."
    assert sentences(kept) == [kept]


def test_a_lone_backtick_is_dropped() -> None:
    assert sentences("A `broken code. Next one.") == ["A broken code.", "Next one."]


def test_terms_are_stems_without_stop_words() -> None:
    assert len(set(terms("reserve reserved reserving reserves reservation reservations"))) == 1
    assert set(terms("cite cites cited citation")) == set(terms("citations"))
    assert terms("The Budgets' LIMITS, and what it's for") == ["budget", "limit"]
    assert terms("don't won't isn't") == []
    assert terms("process processes died dies") == ["process", "process", "die", "die"]


def test_terms_of_other_scripts() -> None:
    assert terms("caf\u00e9 CAFE\u0301 cafe") == ["caf"] * 3
    assert terms("\u6f22\u5b57\u4eee\u540d") == ["\u6f22\u5b57", "\u5b57\u4eee", "\u4eee\u540d"]
    assert terms("\u0431\u044e\u0434\u0436\u0435\u0442") == ["\u0431\u044e\u0434\u0436\u0435\u0442"]
    assert terms("x" * 100) == []


def test_words_are_counted_in_any_script() -> None:
    assert word_count("two words") == 2
    assert word_count("\u6f22\u5b57\u4eee\u540d ok") == 3


@given(st.text(st.sampled_from('aA .?!`*_[](){}#|-=+>\n\t<!1\u3002\u2026"\\~:')))
def test_no_text_breaks_the_reader_and_nothing_is_invented(text: str) -> None:
    for sentence in sentences(text):
        assert sentence == " ".join(sentence.split())
        assert sentence
        assert set(sentence) - {" "} <= set(text)
    assert all(term for term in terms(text))


@given(st.text())
def test_splitting_a_line_loses_nothing(text: str) -> None:
    line = " ".join(text.split())
    assert "".join("".join(split_sentences(line)).split()) == "".join(line.split())


HOSTILE = """
a.~ [ ` ```~ *a~ _a __a **a ![]( [a]( <!--^
|- -~ >~ #~ --~ <a~ .~[a .' a.b a ~ \t# -~x^ 1.~ a^ |^ # . [a] ( a-^ \u3002 A.~
"""


@pytest.mark.parametrize("unit", [unit.replace("~", " ").replace("^", "\n") for unit in HOSTILE.split()])
def test_hostile_text_comes_to_an_end(unit: str) -> None:
    """A pattern that backtracks would take minutes here."""
    text = unit * (60_000 // len(unit))
    assert "".join(sentences(text)).count(unit) <= len(text)
    assert len(terms(text)) <= len(text)


def test_accents_are_dropped_from_any_run_of_them_in_linear_time() -> None:
    assert terms("Cafe\u0301 \u1d00\u030a \ufb01n" + "a" + "\u0301\u0323" * 500_000)[:1] == terms("cafe")
