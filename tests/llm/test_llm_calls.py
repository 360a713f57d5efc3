"""Call ids that never change, usage that adds up, tokens that never outnumber bytes."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djp.llm.calls import ModelCall, Usage, call_id
from djp.llm.convert import to_proto
from djp.llm.errors import UnknownModel
from djp.llm.tokens import BYTES_PER_TOKEN, count_tokens, cut_to_tokens, utf8_bytes
from djp.mesh.validation import validate
from djp.v1 import common_pb2

RUN = "0b0f1f0e-6f3c-4f5e-9c55-3a9a7f6f2b11"


def test_a_call_id_is_the_same_on_every_attempt_to_report_it() -> None:
    assert call_id(RUN, "debate", "d1", 1) == call_id(RUN, "debate", "d1", 1)
    assert uuid.UUID(call_id(RUN, "debate")).version == 5


def test_call_ids_tell_runs_and_parts_apart() -> None:
    ids = {call_id(RUN, "a b", "c"), call_id(RUN, "a", "b c"), call_id(RUN, "a", "b", "c"), call_id(RUN)}
    assert len(ids | {call_id(str(uuid.uuid4()), "a b", "c")}) == 5


def test_a_call_id_needs_a_run() -> None:
    with pytest.raises(ValueError, match="UUID"):
        call_id("run-1", "a")


@pytest.mark.parametrize("usage", [(-1,), (3, 4), (3, -1), (3, 0, 1, 2), (3, 0, -1), (3, 0, 1, -1)])
def test_usage_that_cannot_be_is_refused(usage: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        Usage(*usage)


def test_a_call_goes_over_the_wire_whole_and_valid() -> None:
    call = ModelCall(
        call_id=call_id(RUN, 1),
        stage="JUDGE",
        model="offline/rubric",
        usage=Usage(100, 40, 20, 5),
        cost_nano_usd=7,
        bound_nano_usd=9,
        started_at=datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC),
        duration=timedelta(seconds=1.5),
        actor_id="j1",
        attempt=2,
        offline=True,
        usage_unknown=True,
        error="slow",
    )
    message = to_proto(call)
    validate(message)
    assert message.stage == common_pb2.STAGE_JUDGE
    assert message.started_at.ToDatetime(tzinfo=UTC) == call.started_at
    assert message.duration.ToTimedelta() == call.duration
    assert (message.usage.cached_input_tokens, message.usage.reasoning_tokens) == (40, 5)
    assert {field.name for field, _ in message.ListFields()} == set(common_pb2.ModelCall.DESCRIPTOR.fields_by_name)


@given(st.text(st.characters(exclude_categories=())), st.integers(0, 50))
def test_tokens_never_outnumber_bytes_and_a_cut_text_keeps_to_its_limit(text: str, limit: int) -> None:
    assert count_tokens(text) <= utf8_bytes(text) <= BYTES_PER_TOKEN * count_tokens(text)
    cut = cut_to_tokens(text, limit)
    assert count_tokens(cut) <= limit
    if not any("\ud800" <= char <= "\udfff" for char in text):
        assert text.startswith(cut)
        assert cut == text or count_tokens(text[: len(cut) + 1]) > limit


@given(st.lists(st.text()))
def test_a_text_has_no_more_tokens_than_its_parts(parts: list[str]) -> None:
    assert count_tokens("".join(parts)) <= sum(map(count_tokens, parts))


def test_an_unknown_model_is_told_the_nearest_and_what_exists() -> None:
    error = UnknownModel("offline/leed", ["offline/lead", "offline/focus"], field="debaters[0].model")
    assert (error.code, error.reason, error.field) == ("INVALID_ARGUMENT", "UNKNOWN_MODEL", "debaters[0].model")
    assert "did you mean offline/lead?" in error.message
    assert "offline/focus" in error.message
    assert len(UnknownModel("x" * 10_000, ["offline/lead"]).message) < 300
