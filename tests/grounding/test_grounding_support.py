"""Citations that are checked: invented uses of real titles, made-up quotations, and what typesetting does to them."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from djp_grounding.citations import find_mentions
from djp_grounding.claims import Claim, find_claims
from djp_grounding.model import Passage
from djp_grounding.quotes import DocumentText
from djp_grounding.resolve import CitationStatus
from tests.grounding.typesetting import damaged

REFUNDS = (
    "Customers may return a product within thirty days of delivery. The finance office pays the amount back to the "
    "original card, usually within five working days. A well-known exception concerns vouchers: they are exchanged, "
    "never refunded."
)
SHIPPING = (
    "Parcels leave the warehouse every weekday at noon. Express delivery costs twelve dollars and takes one night."
)


@pytest.fixture
def shop(library: Any) -> Any:
    library.add({"refunds.md": f"# Refunds\n\n{REFUNDS}", "shipping.md": f"# Shipping\n\n{SHIPPING}"})
    return library


def statuses(library: Any, text: str) -> list[str]:
    return [citation.status.value for citation in library.check(text)]


# -- claims ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        ("One thing is so. Another thing is told here [A]. A third.", ["Another thing is told here ."]),
        ("The money is always reserved first. [A] Then calls.", ["The money is always reserved first."]),
        ("The money is reserved first. See [A].", ["The money is reserved first. See ."]),
        ("Red apples grow here [A]. Blue plums grow there [B].", ["Red apples grow here .", "Blue plums grow there ."]),
        ("- red apples grow here [A]\n- [B]", ["red apples grow here", ""]),
        ("[A] and [B] both say that apples are red.", ["and  both say that apples are red."] * 2),
        ("| apples | red fruit of trees [A] |\n|---|---|\n| plums | blue fruit [B] |", None),
        ("# Heading about apples [A]\n\ntext", ["# Heading about apples"]),
        ("**Apples.** They are red and round [A].", ["They are red and round ."]),
        ("[A]", [""]),
        ("\ue000 [\ue0000] apples are red [A]", None),
    ],
)
def test_the_sentence_that_carries_a_citation_is_its_claim(text: str, claims: list[str] | None) -> None:
    mentions = find_mentions(text)
    found = find_claims(text, mentions)
    assert len(found) == len(mentions)
    assert all("\ue000" not in claim.text for claim in found)
    if claims is not None:
        assert [claim.text for claim in found] == claims


@pytest.mark.parametrize(
    ("text", "quotes"),
    [
        ('It says "apples are always red" [A].', ["apples are always red"]),
        ("It says \u201capples are always red\u201d [A].", ["apples are always red"]),
        ("Es hei\u00dft \u201eapples are always red\u201c [A].", ["apples are always red"]),
        ("Il dit \u00ab apples are always red \u00bb [A].", ["apples are always red"]),
        ('"Apples are red. They always were. So it is," says [A].', ["Apples are red. They always were. So it is,"]),
        ('A "blind" jury reads "the draft" [A].', []),
        ('A 5" pipe and a 6" pipe of the same make [A].', []),
        ('"As [A] says, apples are red" is the rule.', ["As  says, apples are red"]),
        ('Call `print("one two three")` as told in the guide [A].', []),
        ('"one two three" and "four five six" [A]', ["one two three", "four five six"]),
    ],
)
def test_quotations_belong_to_the_sentence(text: str, quotes: list[str]) -> None:
    (claim,) = find_claims(text, find_mentions(text))
    assert claim.quotes == tuple(quotes)


@pytest.mark.parametrize("text", ['"' * 50_000, '" ' * 50_000, "\u201ca " * 20_000, '"a [b]' * 5_000, "a. " * 50_000])
def test_floods_of_marks_are_read_to_the_end(text: str) -> None:
    text += " [A]"
    assert isinstance(find_claims(text, find_mentions(text))[-1], Claim)


# -- support ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sentence",
    [
        "Customers may return a product within thirty days of delivery [Refunds].",
        "A product can be returned within thirty days after its delivery [refunds].",
        "The finance office usually pays within five working days. [Refunds]",
        "The amount goes back to the original card within five days. See [Refunds].",
    ],
)
def test_what_the_document_says_is_supported(shop: Any, sentence: str) -> None:
    (citation,) = shop.check(sentence)
    assert citation.status is CitationStatus.RESOLVED
    assert citation.support > 0.4
    assert citation.passage_id == shop.search("return product")[0].passage_id


@pytest.mark.parametrize(
    "sentence",
    [
        "Parcels leave the warehouse every weekday at noon [Refunds].",
        "The moon consists of green cheese and was bought in 1969 [Refunds].",
        "Refunds are forbidden by the laws of Atlantis since its kings drowned [Refunds].",
        "See [Refunds].",
        "[Refunds]",
        "Sources:\n- [Refunds]",
    ],
)
def test_an_invented_use_of_a_real_title_is_unsupported(shop: Any, sentence: str) -> None:
    (citation,) = shop.check(sentence)
    assert citation.status is CitationStatus.UNSUPPORTED
    assert citation.document.title == "Refunds"
    assert citation.reason
    assert "cheese" not in citation.reason


def test_of_documents_that_repeat_each_other_the_one_that_says_it_backs_it(library: Any) -> None:
    plan = "The {} team meets on {} in the large room upstairs and writes down what was decided there about the {}."
    kinds = {"Legal": ("Tuesday", "contracts"), "Press": ("Friday", "interviews")}
    notes = {f"{n}.md": f"# {n} Rules\n\n" + plan.format(n.lower(), *rest) for n, rest in kinds.items()}
    library.add({**notes, "refunds.md": REFUNDS, "shipping.md": SHIPPING})
    said = plan.format("legal", "Tuesday", "contracts")
    (own,), (other,) = library.check(f"{said} [Legal Rules]"), library.check(f"{said} [Press Rules]")
    assert own.status is CitationStatus.RESOLVED
    assert (other.status, other.support > 0.4) == (CitationStatus.UNSUPPORTED, True)
    assert other.reason.endswith("which another document does")
    assert "Legal" not in other.reason


def test_each_of_two_citations_must_back_the_sentence(shop: Any) -> None:
    text = "Customers may return a product within thirty days [Refunds] [Shipping]."
    assert statuses(shop, text) == ["resolved", "unsupported"]


def test_many_citing_sentences_are_bounded(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("djp_grounding.support.MEASURED", 20)
    text = "\n\n".join(f"Customers may return product {number} within thirty days [Refunds]." for number in range(50))
    found = shop.check(text)
    assert [one.status.value for one in found] == ["resolved"] * 20 + ["unsupported"] * 30
    assert "not checked" in found[-1].reason


# -- quotations ------------------------------------------------------------------------------------------------------


def test_true_and_invented_quotations(shop: Any) -> None:
    true = '"The finance office pays the amount back to the original card" [Refunds].'
    invented = '"The finance office pays the amount back in gold coins" [Refunds].'
    misplaced = (
        '"Parcels leave the warehouse every weekday" to return a product within thirty days of delivery [Refunds].'
    )
    assert statuses(shop, true) == ["resolved"]
    assert statuses(shop, invented) == ["unsupported"]
    assert "quotation" in shop.check(invented)[0].reason
    assert statuses(shop, misplaced) == ["unsupported"]
    both = 'Here "the finance office pays the amount back", there "costs twelve dollars" [Refunds] [Shipping].'
    assert "quotation" not in " ".join(one.reason for one in shop.check(both))


def text_of(*passages: str) -> DocumentText:
    at, made = 0, []
    for ordinal, text in enumerate(passages):
        made.append(Passage(ordinal, 0, at, at + len(text), text))
        at += len(text) + 2
    return DocumentText(made)


@pytest.mark.parametrize(
    ("document", "quote"),
    [
        ("The ef\ufb01cient of\ufb01ce", "efficient office"),
        ("The efficient office", "ef\ufb01cient of\ufb01ce"),
        ("an exam-\nple of it", "example of it"),
        ("a well-\nknown rule", "well-known rule"),
        ("a well-known rule", "a well\u2010known\nrule"),
        ("soft\u00adware is hard", "software is hard"),
        ("He said: \u201cIt\u2019s done\u201d.", "it's done"),
        ("We **must** use `djp run` here", "we must use djp run here"),
        ("read [the guide](https://example.org/a) first", "read the guide first"),
        ("> quoted lines\n> go on here", "quoted lines go on here"),
        ("STRASSE und Ma\u00df", "Stra\u00dfe und mass"),
        ("one two three four five six seven", "one two three \u2026 five six seven"),
        ("one two three four five six seven", "One two three [...] five six seven."),
        ("pages 3\u20135 only", "pages 3-5 only"),
        ("\u6bcf\u4e2a\u6570\u636e\u5e93\u90fd\u6709\u9884\u7b97", "\u6570\u636e\u5e93\u90fd\u6709"),
        ("it costs 1.5 dollars", "costs 1.5 dollars,"),
    ],
)
def test_quotations_that_typesetting_has_changed(document: str, quote: str) -> None:
    assert text_of(document).holds(quote)


@pytest.mark.parametrize(
    ("document", "quote"),
    [
        ("the cat sat here", "he cat sat"),
        ("the cat sat here", "the cat sat her"),
        ("minus -5 degrees", "minus 5 degrees"),
        ("it costs 1.5 dollars", "it costs 15 dollars"),
        ("one two three four five six seven", "five six seven ... one two three"),
        ("one two three four five six seven", "one ... seven"),
        ("one two three", "one three two"),
        ("budgets are never overdrawn", "budgets are ever overdrawn"),
        ("anything", "..."),
        ("", "a b c"),
    ],
)
def test_quotations_that_are_not_there(document: str, quote: str) -> None:
    assert not text_of(document).holds(quote)


def test_quotations_go_over_passages_and_pages() -> None:
    text = text_of("The first page ends in an exam-", "ple that goes on. And", "on it goes.")
    assert text.holds("ends in an example that goes on. And on it goes")


def test_overlapping_passages_are_read_once() -> None:
    whole = "alpha beta gamma delta epsilon"
    text = DocumentText([Passage(0, 0, 0, 16, whole[:16]), Passage(1, 0, 11, 30, whole[11:])])
    assert text.holds(whole)


def test_a_thousand_true_and_a_thousand_invented_quotations() -> None:
    rng = random.Random(7)
    vocabulary = sorted(
        set(re.findall(r"[a-z]+", f"{REFUNDS} {SHIPPING} the official office file affine flow".lower()))
    )
    text = " ".join(rng.choice(vocabulary) for _ in range(3_000))
    document = text_of(*(text[at : at + 997] for at in range(0, len(text), 999)))
    words = " ".join(text[at : at + 997] for at in range(0, len(text), 999)).split()
    true = accepted = 0
    for _ in range(1_000):
        at, length = rng.randrange(len(words) - 12), rng.randrange(3, 12)
        quote = " ".join(words[at : at + length])
        true += document.holds(damaged(quote, rng))
        order = words[at : at + length]
        rng.shuffle(order)
        changed = f"{' '.join(order)} {rng.choice(vocabulary)} {rng.choice(vocabulary)}"
        accepted += document.holds(damaged(changed, rng)) and changed not in " ".join(words)
    assert true >= 990
    assert accepted == 0


def test_floods_of_quotations_are_bounded(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("djp_grounding.support.SEARCHED_CHARS", 200_000)
    library.add({f"{number}.md": f"# Title {number}\n\n" + "aaa bbb ccc " * 2_000 for number in range(20)})
    cited = " ".join(f"[Title {number}]" for number in range(20))
    quotes = " ".join(f'"aaa bbb ccc {number}"' for number in range(100))
    found = library.check(f'aaa bbb ccc {quotes} {cited}.\n\nIt says aaa bbb ccc "aaa bbb ccc" [Title 3].')
    assert [one.status for one in found] == [CitationStatus.UNSUPPORTED] * 21
    assert "too much to search" in found[-1].reason


def test_a_match_inside_words_costs_no_more_than_the_text() -> None:
    assert not text_of("a" * 1_000 + " b", "a" * 500_000).holds("a" * 2_000 + " b c")
    assert not text_of(*["ab ab ab ab" * 100] * 500).holds("b ab a")
