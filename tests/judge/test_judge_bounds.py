"""What a judgement costs is never more than its projection."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from djp.llm.bounds import Bound
from djp.llm.prices import PriceBook
from djp.llm.tokens import count_tokens, cut_to_tokens
from djp_judge.jury import Case, Cast, judge
from djp_judge.model import Candidate, Passage, Rules, Seat
from djp_judge.offline import OfflineJuror
from djp_judge.projection import ANSWER_TOKENS_PER_DRAFT, bytes_read, project
from djp_judge.rubric import Rubric

if TYPE_CHECKING:
    from collections.abc import Sequence

PRICES = PriceBook.load()
words = st.text(st.sampled_from("the sea [T]. \n`*#|\u6d77\U0001f30a\u0301a"), max_size=200)


async def spent(case: Case) -> tuple[Bound, list[Bound]]:
    """The sum of what the calls cost, and what each of them was bounded by."""
    juror = OfflineJuror(case.task, case.passages)
    total, bounds = Bound(), []
    async for event in judge(case, {"offline/rubric": juror}, PRICES):
        if isinstance(event, Cast):
            (call,) = event.calls
            assert call.cost_nano_usd <= call.bound_nano_usd
            total += Bound(call.cost_nano_usd, call.usage.input_tokens + call.usage.output_tokens, 1)
            bounds.append(Bound(call.bound_nano_usd, 0, 1))
    return total, bounds


def case_of(
    task: str, texts: Sequence[str], passages: Sequence[Passage], jurors: int, orders: int
) -> tuple[Case, list[Seat]]:
    seats = [Seat(f"j{number}", "offline/rubric") for number in range(jurors)]
    candidates = [Candidate(f"d{number}", text) for number, text in enumerate(texts)]
    return Case(str(uuid.UUID(int=1)), task, candidates, seats, Rules(), passages, orders), seats


@settings(deadline=None, max_examples=60)
@given(
    task=words.filter(bool),
    texts=st.lists(words, min_size=1, max_size=5),
    passages=st.lists(st.builds(Passage, words, words), max_size=3),
    jurors=st.integers(1, 3),
    orders=st.integers(1, 3),
    max_tokens=st.integers(16, 100),
)
async def test_no_judgement_costs_more_than_projected(
    task: str, texts: list[str], passages: list[Passage], jurors: int, orders: int, max_tokens: int
) -> None:
    texts = [cut_to_tokens(text, max_tokens) for text in texts]
    case, seats = case_of(task, texts, passages, jurors, orders)
    projected = project(PRICES, seats, bytes_read(task, passages), len(texts), max_tokens, orders)
    total, bounds = await spent(case)
    assert total.nano_usd <= sum(bound.nano_usd for bound in bounds) <= projected.nano_usd
    assert total.tokens <= projected.tokens
    assert total.calls <= projected.calls == jurors * orders


async def test_drafts_as_long_as_they_may_be_stay_within_it() -> None:
    max_tokens, passages = 5000, [Passage("T" * 1000, "tide " * 5_000)] * 10
    texts = [cut_to_tokens(f"tide {number} " * 20_000, max_tokens) for number in range(16)]
    assert all(count_tokens(text) == max_tokens for text in texts)
    case, seats = case_of("t" * 262_144, texts, passages, 2, 2)
    projected = project(PRICES, seats, bytes_read(case.task, passages), 16, max_tokens, 2)
    total, bounds = await spent(case)
    assert (total.calls, len(bounds)) == (4, 4)
    assert total.nano_usd <= sum(bound.nano_usd for bound in bounds) <= projected.nano_usd


def test_no_reason_is_longer_than_its_bound() -> None:
    task = " ".join(f"term{number}" for number in range(1_200))
    passages = [Passage("T", task)]
    crowded = "A b c d e f g h. " * 300 + "Score the jury draft. " * 200 + "word " * 2000
    for rubric in (Rubric(task, passages), Rubric(task, []), Rubric(crowded, passages)):
        for text in (crowded, task, "", crowded * 3):
            reason = rubric.marks(text).reason
            assert count_tokens(f"Draft A: {reason}") <= ANSWER_TOKENS_PER_DRAFT


def test_every_juror_and_order_adds_the_same() -> None:
    one = project(PRICES, [Seat("j1", "offline/rubric")], 1000, 3, 200, 1)
    assert one.calls == 1
    assert one.nano_usd > 0
    many = project(PRICES, [Seat(f"j{n}", "offline/rubric") for n in range(16)], 1000, 3, 200, 16)
    assert many == Bound(one.nano_usd * 256, one.tokens * 256, 256)
