"""What the offline debaters write: whole sentences, cited as they must be, from whatever the passages hold."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from djp.llm.asking import Asker
from djp.llm.models import Model
from djp.llm.offline import DEBATER_MODELS, NO_ANSWER
from djp.llm.prices import PriceBook
from djp.llm.text import sentences
from djp.llm.tokens import count_tokens
from djp_debate.compose import compose
from djp_debate.debate import debate, project
from djp_debate.material import Material
from djp_debate.model import Brief, Debater, Failed, Finished, Passage
from djp_debate.ports import Work
from djp_debate.writing import cite

RUN = "0b0f1f0e-6f3c-4f5e-9c55-3a9a7f6f2b11"
DOCS = sorted((Path(__file__).parents[2] / "docs").glob("*.md"))
CITATION = re.compile(r" \[([^\[\]]+)\](?=[.!?\u2026\u3002]*(?:\s|$|[\"')]))")


PRICES = PriceBook.load()
FIRST = Work(1)


def _voice(debater_id: str, model: str, **fields: object) -> Debater:
    return Debater(debater_id, (Model(model, model, "offline", PRICES.price(model)),), **fields)  # type: ignore[arg-type]


def _brief(task: str = "How is a budget kept?", *texts: str, title: str = "T", **fields: object) -> Brief:
    passages = tuple(
        Passage(f"p{number}", f"doc{number}", f"{title}{number}", text) for number, text in enumerate(texts)
    )
    debaters = tuple(_voice(f"d{number}", model) for number, model in enumerate(DEBATER_MODELS))
    whole: dict[str, object] = {"debaters": debaters, "max_tokens": 1200, "passages": passages}
    return Brief(run_id=RUN, task=task, **(whole | fields))  # type: ignore[arg-type]


def _texts(brief: Brief) -> list[str]:
    material = Material(brief.passages)
    return [compose(brief, debater, material, FIRST).text for debater in brief.debaters]


@pytest.fixture(scope="module")
def documentation() -> tuple[Passage, ...]:
    """The project's own documents, a section a passage."""
    assert DOCS
    return tuple(
        Passage(f"{path.stem}:{number}", path.stem, path.read_text().split("\n", 1)[0].lstrip("# "), section, number)
        for path in DOCS
        for number, section in enumerate(re.split(r"\n(?=## )", path.read_text()))
    )


@pytest.mark.parametrize("seed", [0, 12345])
@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("How does DJP Mesh keep a budget from being overdrawn?", "reserving the most that a run can cost"),
        ("What happens to a citation when two titles are equally near?", "ambiguous"),
        ("When is a draft disqualified?", "A draft is disqualified when it is empty"),
    ],
)
def test_drafts_from_real_documents_read_well(
    documentation: tuple[Passage, ...], task: str, expected: str, seed: int
) -> None:
    debaters = tuple(_voice(f"d{number}", model, seed=seed) for number, model in enumerate(DEBATER_MODELS))
    brief = Brief(RUN, task, debaters, 1200, documentation, 2)
    texts = _texts(brief)
    said = {sentence for passage in documentation for sentence in sentences(passage.text)}
    titles = {passage.title for passage in documentation}
    assert len(set(texts)) == len(texts)
    assert any(expected in text for text in texts)
    for text in texts:
        assert set(CITATION.findall(text)) <= titles
        assert len(CITATION.findall(text)) == text.count(" [") >= 2
        bare = [sentence for line in text.splitlines() for sentence in sentences(CITATION.sub("", line))]
        assert set(bare) <= said, "every sentence is whole and stands in a document"
        assert len(bare) == len(set(bare)), "and none comes twice"
        assert "|" not in text
        assert "**" not in text
        assert not re.search(r"(?m)^(?:- )?(?:It|This|They|These|But|That) ", text), "nor hangs in the air"


def test_a_sentence_that_refers_back_brings_what_it_refers_to() -> None:
    brief = _brief("What does the ledger invent?", "The ledger holds budgets. It never invents money for anybody.")
    for text in _texts(brief):
        assert text.removeprefix("- ") == "The ledger holds budgets. It never invents money for anybody [T0]."


def test_a_dangling_sentence_is_left_out_when_its_sentence_is_missing() -> None:
    text = "It keeps every budget safe.\n\nThe ledger keeps every budget of a tenant.\n\nThis is why budgets are kept."
    assert set(_texts(_brief("Keep a budget", text))) <= {
        "The ledger keeps every budget of a tenant [T0].",
        "- The ledger keeps every budget of a tenant [T0].",
    }


def test_halves_of_sentences_are_left_out_while_there_are_whole_ones() -> None:
    cut = "of the budget is kept here.\n\nThe budget is kept by the ledger.\n\nAnother budget is kept by the"
    assert {text.removeprefix("- ") for text in _texts(_brief("budget kept", cut))} == {
        "The budget is kept by the ledger [T0]."
    }


def test_list_items_without_a_full_stop_serve_where_sentences_are_few() -> None:
    text = "# Budgets\n\n- Budgets are reserved before a run\n- Money flows back to the budget\n\nend of a cut li"
    for draft in _texts(_brief("budget", text)):
        assert "Budgets are reserved before a run" in draft
        assert "cut li" not in draft


def test_without_any_sentence_the_beginning_of_a_fragment_is_quoted_and_marked() -> None:
    for draft in _texts(_brief("budget", "a budget kept by whom")):
        assert draft.removeprefix("- ") == "a budget kept by whom [T0]\u2026"


def test_the_same_sentence_is_quoted_once_whatever_its_emphasis() -> None:
    texts = [
        "The **budget** is kept by the ledger.",
        "The budget is *kept* by the `ledger`.",
        "THE BUDGET is kept by the ledger.",
    ]
    for draft in _texts(_brief("budget kept", *texts)):
        assert draft.casefold().count("budget") == 1


@pytest.mark.parametrize(
    ("sentence", "shown"),
    [
        ("A budget [Other Title] is kept [x].", "A budget (Other Title) is kept (x)"),
        ("A budget is kept [1] by [[nested]] ledgers [^2].", "A budget is kept by ((nested)) ledgers"),
        ("A budget in `code [Title]` is kept well.", "A budget in `code [Title]` is kept well"),
        ("A budget of [REDACTED:EMAIL] is kept well.", "A budget of [REDACTED:EMAIL] is kept well"),
        ("A budget is kept ] by [ nobody here.", "A budget is kept ) by ( nobody here"),
        ("A budget is kept by `nobody [T here.", "A budget is kept by nobody (T here"),
    ],
)
def test_brackets_in_a_document_make_no_citation(sentence: str, shown: str) -> None:
    for draft in _texts(_brief("budget kept", sentence)):
        assert draft.removeprefix("- ") == f"{shown} [T0]."


@pytest.mark.parametrize(
    ("sentence", "title", "cited"),
    [
        ("A fact.", "Title", "A fact [Title]."),
        ("A fact!", "Title", "A fact [Title]!"),
        ('He said "no."', "Title", 'He said "no." [Title]'),
        ("\u4e2d\u6587\u3002", "Title", "\u4e2d\u6587 [Title]\u3002"),
        ("A fact.", "Notes [draft]", "A fact [Notes (draft)]."),
        ("A fact.", "Two\nlines", "A fact [Two lines]."),
        ("A fact.", "", "A fact."),
    ],
)
def test_where_a_citation_goes(sentence: str, title: str, cited: str) -> None:
    assert cite(sentence, title) == cited


def test_required_citations_are_met_when_the_passages_allow_it() -> None:
    text = " ".join(
        f"The budget number {word} is kept by ledger {word}." for word in ["one", "two", "three", "four", "five", "six"]
    )
    for draft in _texts(_brief("budget", text, required_citations=6)):
        assert draft.count("[T0]") == 6


def test_required_citations_are_met_with_short_sentences_when_room_is_short() -> None:
    text = (
        "The budget that is kept of all the budgets is the most kept budget of those that anybody keeps, by far.\n\n"
        "Ledgers keep the money.\n\nTenants see their money.\n\nMoney comes back soon."
    )
    for draft in _texts(_brief("budget kept", text, required_citations=3, max_tokens=26)):
        assert draft.count("[T0]") == 3


def test_keys_and_hashes_are_never_quoted() -> None:
    key = "-----BEGIN PRIVATE KEY-----\n" + "M" * 64 + "\n-----END PRIVATE KEY-----."
    for draft in _texts(_brief("budget", f"The budget key is here:\n{key} A budget is kept by the ledger.")):
        assert "MMM" not in draft


def test_a_role_moves_what_a_debater_looks_at() -> None:
    texts = ["The run has a budget that is kept.", "The run has a jury that is blind."]
    brief = _brief("What has the run?", *texts)
    plain = _voice("d", "offline/brief", temperature=0)
    material = Material(brief.passages)
    for role, first in (("juries and blindness", "jury"), ("budgets", "budget")):
        draft = compose(brief, _voice("d", "offline/brief", role=role, temperature=0), material, FIRST).text
        assert first in draft.split(".")[0]
    assert compose(brief, plain, material, FIRST).text


def test_seeds_choose_among_near_equals_only() -> None:
    texts = [
        f"The {word} ledger keeps a budget." for word in ("red", "green", "blue", "white", "black", "grey", "pink")
    ]
    brief = _brief("ledger budget", *texts, "Nothing else matters to the weather today.")
    material = Material(brief.passages)
    drafts = {compose(brief, _voice("d", "offline/brief", seed=seed), material, FIRST).text for seed in range(12)}
    assert len(drafts) > 3
    assert not any("weather" in draft for draft in drafts)


def test_another_process_writes_the_same_bytes() -> None:
    program = """
from djp.llm.offline import DEBATER_MODELS
from djp.llm.models import Model
from djp_debate.compose import compose
from djp_debate.material import Material
from djp_debate.model import Brief, Debater, Passage
from djp_debate.ports import Work
texts = ["The %s ledger keeps a budget, but only for run %s." % (word, word) for word in "abcdefgh"]
passages = tuple(Passage(text, str(n // 3), f"T{n // 3}", text, n) for n, text in enumerate(texts))
debaters = [Debater("d", (Model(model, model, "offline", None),), seed=7) for model in DEBATER_MODELS]
brief = Brief("", "Which ledger keeps the budget of a run?", tuple(debaters), 300, passages, 2)
print([compose(brief, debater, Material(brief.passages), Work(1)).text for debater in debaters])
"""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert b"ledger keeps a budget" in outputs.pop()


@pytest.mark.parametrize("passages", [(), ("",), ("\n \n",), ("| a | b |\n|---|---|\n| c | d |",), ("```\ncode\n```",)])
def test_with_nothing_to_quote_the_note_says_so_and_what_to_do(passages: tuple[str, ...]) -> None:
    brief = _brief("Contact us at admin@company.com", *passages)
    material = Material(brief.passages)
    assert all(compose(brief, one, material, FIRST).safety_flags == (NO_ANSWER,) for one in brief.debaters)
    texts = _texts(brief)
    assert len(set(texts)) == 5
    for text in texts:
        assert "admin@company.com" in text
        assert "--grounded-corpus" in text
        assert "model" in text or "cannot know anything" in text
        assert not CITATION.search(text)


@pytest.mark.parametrize("task", ["`", "Say `[Budgets]`", "`[Budgets", "[Budgets] `" + "x " * 400 + "[Budgets]`"])
def test_a_restated_task_cites_nothing_and_leaves_no_code_open(task: str) -> None:
    for text in _texts(_brief(task)):
        assert "[" not in text
        assert text.count("`") % 2 == 0


def test_a_long_task_is_restated_in_part_and_never_cut_inside_a_word() -> None:
    secret = "sk-" + "a" * 500
    for text in _texts(_brief(f"Keep [this] in mind. {'word ' * 60}{secret} and more {secret}")):
        assert "Keep (this) in mind." in text
        assert "sk-" not in text
        assert len(text) < 1500
    for text in _texts(_brief("x" * 262_144)):
        assert "xx" not in text
    for text in _texts(_brief(f"Use {'this ' * 100}-----BEGIN RSA PRIVATE KEY-----\n{'QUJD ' * 100}")):
        assert "QUJD" not in text


@pytest.mark.parametrize("max_tokens", [16, 20, 30, 60, 100])
def test_a_note_keeps_to_its_tokens(max_tokens: int) -> None:
    for text in _texts(_brief("What is it? " * 50, max_tokens=max_tokens)):
        assert 0 < count_tokens(text) <= max_tokens


_WORDS = """
Budget~ledger~run~keeps~[T0]~`code`~**bold**~_it_~It.~The~a~\u6f22\u5b57\u3002~x]~[~`~|~#~-~
~\n\n~>~1.~but.~\u00e9!~.~...~``~<b>~](x)~![~[1]~Unless~not.~The budget is kept by the ledger.~If it fails, it ends.
"""
_passage = st.lists(st.sampled_from(_WORDS.split("~")), max_size=60).map(" ".join)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(_passage, max_size=5),
    st.text(min_size=1, max_size=60),
    st.integers(16, 400),
    st.integers(0, 12),
    st.integers(),
    st.floats(0, 2),
)
async def test_any_passages_give_drafts_within_their_limits_and_costs_within_their_bound(
    texts: list[str], task: str, max_tokens: int, required: int, seed: int, temperature: float
) -> None:
    asker = Asker({}, max_concurrency={})
    debaters = tuple(
        _voice(f"d{n}", model, role=task, temperature=temperature, seed=seed) for n, model in enumerate(DEBATER_MODELS)
    )
    brief = _brief(task, *texts, max_tokens=max_tokens, required_citations=required, debaters=debaters)
    events = [event async for event in debate(brief, asker)]
    calls = [call for event in events if isinstance(event, Finished | Failed) for call in event.calls]
    bound = await project(brief, asker)
    assert len(calls) == bound.calls == 5
    assert sum(call.cost_nano_usd for call in calls) <= bound.nano_usd
    assert sum(call.usage.input_tokens + call.usage.output_tokens for call in calls) <= bound.tokens
    for event in events:
        if isinstance(event, Finished):
            assert event.draft.tokens <= max_tokens
            outside = re.sub(r"`[^`]*`", "", event.draft.text)
            titles = {f"T{number}" for number in range(len(texts))}
            assert set(re.findall(r"\[([^\[\]]*)\]", outside)) <= titles
            assert event.draft.text.count("`") % 2 == 0
