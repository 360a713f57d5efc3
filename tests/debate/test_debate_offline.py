"""The offline debaters over this project's documents, through grounding's own search and by the jury's own rules."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from djp.llm.models import Model
from djp.llm.offline import DEBATER_MODELS, NO_ANSWER
from djp.llm.prices import PriceBook
from djp.llm.text import sentences, terms
from djp_debate.compose import compose
from djp_debate.material import Material
from djp_debate.model import Brief, Debater, Draft, Passage
from djp_debate.ports import Work
from djp_grounding.corpora import Corpora
from djp_judge.quotes import MAX_QUOTED_WORDS, Copies

if TYPE_CHECKING:
    from collections.abc import Callable

    Search = Callable[[str], tuple[Passage, ...]]

DOCS = Path(__file__).parents[2] / "docs"
PRICES = PriceBook.load()
DEMO = "How does DJP Mesh keep a budget from being overdrawn?"
COVERED = (
    DEMO,
    "How are citations checked?",
    "What does the jury see of a draft?",
    "What happens when the gateway is killed in the middle of a run?",
    "Who may publish a draft?",
    "Which exit codes does djp run have?",
    "What is redacted from a text?",
    "How do I run the mesh as a server?",
    "What happens to a run when a budget denies it?",
    "When is a verdict contested?",
    "Where are artifacts stored?",
    "How can I see the trace of a run?",
    "Summarize 3 key insights about budgets",
    "Explain how redaction works",
    "What is a tenant?",
    "Why is my draft advisory?",
    "How do I add a price for a model?",
    "Can two runs take the same last dollar?",
    "What does it cost when a call fails?",
    "What is kept when the disk is full?",
    "Which model wins a tie?",
    "How do I replay a run?",
    "What is a lease?",
    "How is Ollama configured?",
    "How do I set a fallback?",
    "When does a debate end early?",
    "What do debaters see of other drafts?",
    "What happens to a draft that is cut off?",
)
BESIDE = (
    "What is the capital of France?",
    "what is the capital of france",
    "How do I bake bread?",
    "Who won the world cup in 2018?",
    "Explain photosynthesis in plants",
    "What is the best way to learn the violin?",
    "Write a poem about the sea",
    "Summarize 3 key insights about machine learning",
    "How tall is Mount Everest?",
    "What are the symptoms of influenza?",
    "How does a combustion engine work?",
    "What is the price of a model train?",
    "When does the jury of the Cannes film festival meet?",
    "How many people live in Tokyo?",
    "How do I install Windows on a laptop?",
    "What is the cost of a house in Berlin?",
    "How do I reset the password of my router?",
    "What is the storage capacity of a human brain?",
    "When is a court verdict contested in France?",
    "What is the role of the mitochondria?",
    "Which bank has the best interest rate?",
    "Who was the judge in the trial of Galileo?",
    "How do I cite a book in APA style?",
    "What is a budget airline?",
    "How does a nuclear plant run?",
)


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Search:
    """The passages that a run over docs/ gets for a task."""
    corpora = Corpora(tmp_path_factory.mktemp("corpora"))
    with corpora.intake() as intake:
        intake.add_all(((path.name, path.read_bytes()) for path in sorted(DOCS.glob("*.md"))), ())
        corpora.create("t", "docs", intake, str(uuid.uuid4()))

    def passages(task: str) -> tuple[Passage, ...]:
        hits = corpora.search("t", "docs", task)[1]
        return tuple(
            Passage(hit.passage_id, hit.document.document_id, hit.document.title, hit.passage.text, hit.passage.start)
            for hit in hits
        )

    return passages


def _debate(
    task: str, passages: tuple[Passage, ...], *, rounds: int = 1, seed: int = 1, required: int = 2
) -> list[list[Draft]]:
    """The drafts of each round."""
    debaters = tuple(
        Debater(f"d{number}", (Model(name, name, "offline", PRICES.price(name)),), temperature=0.3, seed=seed)
        for number, name in enumerate(DEBATER_MODELS)
    )
    brief, material = Brief("", task, debaters, 1200, passages, required), Material(passages)
    found: list[list[Draft]] = []
    for round_ in range(1, rounds + 1):
        before = found[-1] if found else []
        drafts = []
        for debater in debaters:
            own = next((draft for draft in before if draft.debater_id == debater.debater_id), None)
            work = Work(round_, own, tuple(draft for draft in before if draft is not own))
            written = compose(brief, debater, material, work)
            ids = (f"{debater.debater_id}-r{round_}", debater.debater_id, debater.model, round_)
            drafts.append(Draft(*ids, written.text, 0, written.evidence, written.safety_flags))
        found.append(drafts)
    return found


@pytest.mark.parametrize("task", COVERED)
def test_what_the_documents_cover_is_answered_with_citations_and_without_long_quotes(search: Search, task: str) -> None:
    passages = search(task)
    copies = Copies(passage.text for passage in passages)
    titles = {passage.title for passage in passages}
    for seed in (1, 2):
        for drafts in _debate(task, passages, rounds=2, seed=seed):
            for draft in drafts:
                assert draft.safety_flags == ()
                assert draft.evidence
                assert sum(draft.text.count(f"[{title}]") for title in titles) >= 2
                assert not copies.copied(draft.text), draft.text


@pytest.mark.parametrize("task", BESIDE)
def test_what_they_do_not_cover_gets_a_note_that_says_so(search: Search, task: str) -> None:
    for drafts in _debate(task, search(task), rounds=2):
        for draft in drafts:
            assert draft.safety_flags == (NO_ANSWER,)
            assert draft.evidence == ()
            assert draft.text


def test_the_demo_s_drafts_keep_to_its_question(search: Search) -> None:
    passages = search(DEMO)
    assert passages[0].title == "Budgets"
    assert "reserving the most that a run can cost" in passages[0].text
    for drafts in _debate(DEMO, passages, rounds=2):
        for draft in drafts:
            said = [sentence for line in draft.text.splitlines() for sentence in sentences(line)]
            assert "reserving the most that a run can cost" in said[0]
            for sentence in said:
                assert {"budget", "overdrawn"} & set(terms(sentence.replace("[Budgets]", ""))), sentence


def _passage(text: str, *, title: str = "T", number: int = 0, document: str = "d", start: int = 0) -> Passage:
    return Passage(f"p{number}", document, title, text, start)


@pytest.mark.parametrize(
    ("text", "title"),
    [("Money comes back in thirty days.", "Refunds"), ("# Refunds\n\nMoney comes back in thirty days.", "T")],
)
def test_of_a_few_passages_the_headings_say_what_they_are_about(text: str, title: str) -> None:
    assert Material([_passage(text, title=title)]).speaks_about("What is the refund policy?")
    assert not Material([_passage(text, title=title)]).speaks_about("What is the thirty policy?")


def test_a_word_in_passing_is_no_answer_and_no_word_at_all_is_no_reason() -> None:
    passages = [_passage("Other capitals and other punctuation make no difference.")]
    assert not Material(passages).speaks_about("What is the capital of France?")
    assert Material(passages).speaks_about("Which punctuation makes a difference to capitals?")
    assert Material(passages).speaks_about("Tell me more")
    assert not Material([]).speaks_about("Tell me more")


@pytest.mark.parametrize("joint", ["-", "_", "/", ".", ":", "\u2013"])
def test_words_in_one_word_count_as_the_jury_counts_them(joint: str) -> None:
    parts = [" ".join(joint.join((f"alpha{n}", f"beta{m}", "gamma")) for m in range(8)) for n in range(9)]
    text = " ".join(f"The budget {part} is kept by ledger {number}." for number, part in enumerate(parts))
    copies = Copies([text])
    for draft in _debate("Which ledger keeps the budget?", (_passage(text),), required=0)[0]:
        assert "ledger" in draft.text
        assert not copies.copied(draft.text), draft.text


def test_a_quote_does_not_go_on_from_one_passage_into_another_that_overlaps_it() -> None:
    words = ["red", "green", "blue", "white", "black", "grey", "oak", "elm", "ash", "beech", "birch", "pine"]
    said = [
        f"The ledger keeps the budget of {one} for all {one} runs, as those of {other} cost {other} money and no more."
        for one, other in zip(words[::2], words[1::2], strict=True)
    ]
    whole = " ".join(said)
    at = whole.index(said[3])
    copies = Copies([whole])
    for passages in (
        (_passage(whole[at:], title="", number=1, start=at), _passage(whole, title="")),
        (_passage(whole, title=""), _passage(whole[at:], title="", number=1, start=at)),
    ):
        for draft in _debate("Which ledger keeps the budget of a run?", passages, required=0)[0]:
            assert draft.text
            assert not copies.copied(draft.text), draft.text


def test_a_fragment_longer_than_a_quote_may_be_is_not_quoted_either() -> None:
    fragment = "budget " + " ".join("a-b-c-d-e-f" for _ in range(40))
    for draft in _debate("Who has the budget?", (_passage(fragment),))[0]:
        assert draft.safety_flags == (NO_ANSWER,)


def test_a_sentence_longer_than_a_quote_may_be_is_not_quoted() -> None:
    long = f"The budget is kept by {' '.join(['every-ledger-of-tenants'] * 20)}."
    assert len(long.split()) < MAX_QUOTED_WORDS < len(long.replace("-", " ").split())
    for draft in _debate("Who keeps the budget?", (_passage(f"{long} The budget is kept by the house."),))[0]:
        assert "every-ledger" not in draft.text
        assert "kept by the house" in draft.text


def test_in_a_later_round_what_the_others_say_weighs_more() -> None:
    words = ("red", "green", "blue", "white", "black", "grey")
    texts = [f"The {word} ledger keeps a budget." for word in words]
    passages = tuple(_passage(text, number=n, document=f"d{n}", title=f"T{n}") for n, text in enumerate(texts))
    model = Model("offline/brief", "offline/brief", "offline", PRICES.price("offline/brief"))
    debater = Debater("d", (model,), temperature=0)
    brief, material = Brief("", "Which ledger keeps a budget?", (debater,), 300, passages), Material(passages)
    for text in texts:
        others = tuple(Draft(f"o{n}-r1", f"o{n}", "m", 1, f"So it is. {text}", 9) for n in range(3))
        assert compose(brief, debater, material, Work(2, None, others)).text.startswith(text[:-1])
    alone = compose(brief, debater, material, Work(1)).text
    beside = tuple(Draft(f"o{n}-r1", f"o{n}", "m", 1, "Bread is baked of flour and water.", 9) for n in range(3))
    assert compose(brief, debater, material, Work(2, None, beside)).text == alone
