"""The debate service over a real socket: its events, its refusals, its charges."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from djp.llm.asking import Asker
from djp.llm.catalogue import ModelCatalogue
from djp.llm.llm import Llm
from djp.llm.offline import DEBATER_MODELS, JUROR_MODELS
from djp.llm.prices import PriceBook
from djp.llm.settings import LlmSettings
from djp.llm.tokens import count_tokens
from djp.mesh.errors import FailedPrecondition
from djp.mesh.rpc_errors import error_from_rpc
from djp.v1 import common_pb2, debate_pb2
from djp_debate.server import open_service
from djp_debate.servicer import DebateServicer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Requests = Callable[..., debate_pb2.DebateRequest]


async def _events(stub: Any, request: debate_pb2.DebateRequest) -> list[debate_pb2.DebateResponse]:
    return [event async for event in stub.Debate(request)]


async def _refusal(call: Any) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return error_from_rpc(refused.value)


def _drafts(events: list[debate_pb2.DebateResponse]) -> dict[str, debate_pb2.Draft]:
    return {event.draft.draft.debater_id: event.draft.draft for event in events if event.HasField("draft")}


def _calls(events: list[debate_pb2.DebateResponse]) -> list[common_pb2.ModelCall]:
    return [call for event in events for call in (*event.draft.calls, *event.failed.calls)]


async def test_five_debaters_give_five_cited_drafts_that_differ(stub: Any, request_for: Requests) -> None:
    events = await _events(stub, request_for(required_citations=2))
    finished = events[-1].finished
    assert [draft.debater_id for draft in finished.drafts] == ["d1", "d2", "d3", "d4", "d5"]
    assert [draft.model for draft in finished.drafts] == list(DEBATER_MODELS)
    assert (finished.rounds, finished.stopped_early) == (1, False)
    assert len({draft.text for draft in finished.drafts}) == 5
    for draft in finished.drafts:
        assert draft.draft_id == f"{draft.debater_id}-r1"
        assert draft.text.count("[Budgets & Co.]") + draft.text.count("[The Jury]") == draft.text.count("[") >= 2
        assert draft.tokens == count_tokens(draft.text)
        assert set(draft.evidence) <= {"b:0", "j:3"}
        assert "overdrawn" in draft.text
        assert not draft.HasField("confidence")


async def test_only_a_note_is_flagged_as_no_answer(stub: Any, request_for: Requests) -> None:
    answers = (await _events(stub, request_for()))[-1].finished.drafts
    notes = (await _events(stub, request_for(passages=[])))[-1].finished.drafts
    assert [list(draft.safety_flags) for draft in (*answers, *notes)] == [[]] * 5 + [["no_answer"]] * 5


async def test_every_draft_is_started_streamed_and_finished_in_that_order(stub: Any, request_for: Requests) -> None:
    events = await _events(stub, request_for())
    for debater_id, draft in _drafts(events).items():
        own = [
            event
            for event in events
            if debater_id in (event.started.debater_id, event.delta.debater_id, event.draft.draft.debater_id)
        ]
        kinds = [event.WhichOneof("event") for event in own]
        assert kinds == ["started", *["delta"] * (len(own) - 2), "draft"]
        assert "".join(event.delta.text for event in own) == draft.text


async def test_the_same_seed_gives_the_same_bytes(stub: Any, request_for: Requests) -> None:
    first, second = [await _events(stub, request_for(seed=12345)) for _ in range(2)]
    assert first[-1].SerializeToString(deterministic=True) == second[-1].SerializeToString(deterministic=True)
    assert {call.call_id for call in _calls(first)} == {call.call_id for call in _calls(second)}


async def test_what_is_charged_is_below_what_was_projected(stub: Any, request_for: Requests) -> None:
    request = request_for()
    bound = (await stub.ProjectDebate(debate_pb2.ProjectDebateRequest(debate=request))).bound
    calls = _calls(await _events(stub, request))
    assert bound.calls == len(calls) == len({call.call_id for call in calls}) == 5
    assert 0 < sum(call.cost_nano_usd for call in calls) <= bound.cost_nano_usd
    assert sum(call.bound_nano_usd for call in calls) == bound.cost_nano_usd
    assert sum(call.usage.input_tokens + call.usage.output_tokens for call in calls) <= bound.tokens
    for call in calls:
        assert (call.stage, call.offline, call.attempt, call.error) == (common_pb2.STAGE_DEBATE, True, 1, "")
        assert call.cost_nano_usd == 150 * call.usage.input_tokens + 600 * call.usage.output_tokens


async def test_completed_drafts_are_neither_written_nor_charged_again(stub: Any, request_for: Requests) -> None:
    whole = await _events(stub, request_for())
    done = [draft for draft in whole[-1].finished.drafts if draft.debater_id in ("d2", "d4")]
    request = request_for(completed_drafts=reversed(done))
    rest = await _events(stub, request)
    assert rest[-1] == whole[-1]
    assert set(_drafts(rest)) == {"d1", "d3", "d5"} == {e.started.debater_id for e in rest if e.HasField("started")}
    assert {call.actor_id for call in _calls(rest)} == {"d1", "d3", "d5"}
    assert (await stub.ProjectDebate(debate_pb2.ProjectDebateRequest(debate=request))).bound.calls == 3


async def test_a_debate_that_is_already_done_costs_nothing(stub: Any, request_for: Requests) -> None:
    whole = await _events(stub, request_for())
    request = request_for(completed_drafts=whole[-1].finished.drafts)
    assert await _events(stub, request) == whole[-1:]
    bound = (await stub.ProjectDebate(debate_pb2.ProjectDebateRequest(debate=request))).bound
    assert bound == common_pb2.CostBound()


async def test_a_draft_that_was_completed_by_hand_stands_as_it_is(stub: Any, request_for: Requests) -> None:
    given = debate_pb2.Draft(draft_id="mine", debater_id="d1", model="offline/lead", round=1, text="Mine.", tokens=2)
    events = await _events(stub, request_for(completed_drafts=[given]))
    assert events[-1].finished.drafts[0] == given


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"rounds": 9}, "rounds"),
        ({"rounds": 0}, "rounds"),
        ({"agreement_threshold": 1.5}, "agreement_threshold"),
        ({"task": ""}, "task"),
        ({"run_id": "x"}, "run_id"),
        ({"max_tokens": 3}, "max_tokens"),
        ({"debaters": []}, "debaters"),
        ({"models": ["offline/lead"] * 17}, "debaters"),
        ({"debaters": [debate_pb2.Debater(debater_id="d", model="offline/lead")] * 2}, "debaters[1].debater_id"),
        (
            {"debaters": [debate_pb2.Debater(debater_id="d", model="offline/lead", fallback_models=["offline/brief"])]},
            "debaters[0].fallback_models[0]",
        ),
        ({"completed_drafts": [debate_pb2.Draft(debater_id="d9", round=1)]}, "completed_drafts[0].debater_id"),
        ({"completed_drafts": [debate_pb2.Draft(debater_id="d1", round=2)]}, "completed_drafts[0].round"),
        ({"completed_drafts": [debate_pb2.Draft(debater_id="d1", round=1)] * 2}, "completed_drafts[1]"),
    ],
)
async def test_what_cannot_be_done_is_refused_by_both_rpcs(
    stub: Any, request_for: Requests, fields: dict[str, Any], field: str
) -> None:
    request = request_for(**fields)
    error = await _refusal(_events(stub, request))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "INVALID_INPUT")
    assert error.field == field
    error = await _refusal(stub.ProjectDebate(debate_pb2.ProjectDebateRequest(debate=request)))
    assert error.field in (field, f"debate.{field}")


@pytest.mark.parametrize("model", ["offline/leda", "openai/gpt", "offline/rubric", "lead", "offline/" + "x" * 190])
async def test_an_unknown_model_is_told_what_exists(stub: Any, request_for: Requests, model: str) -> None:
    error = await _refusal(_events(stub, request_for(models=["offline/lead", model])))
    assert (error.reason, error.field) == ("UNKNOWN_MODEL", "debaters[1].model")
    assert "there are" in error.message.lower() or "did you mean" in error.message
    if model == "offline/leda":
        assert "did you mean offline/lead?" in error.message


async def test_a_debater_without_room_fails_and_the_others_go_on(stub: Any, request_for: Requests) -> None:
    passages = [common_pb2.Passage(passage_id="a", title="A", text="Budgets hold for all runs. " + "Long " * 60 + ".")]
    role = debate_pb2.Debater(debater_id="d1", model="offline/lead")
    events = await _events(stub, request_for(max_tokens=16, passages=passages, debaters=[role]))
    assert events[-1].finished.drafts[0].text == "Budgets hold for all runs [A]."


async def test_when_every_debater_fails_the_debate_fails_and_the_calls_are_known(
    stub: Any, request_for: Requests
) -> None:
    text = "The ledger keeps every budget of every tenant from being overdrawn, whatever happens to the run."
    passages = [common_pb2.Passage(passage_id="a", title="A long title", text=text)]
    events = []
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        async for event in stub.Debate(request_for(max_tokens=16, passages=passages)):
            events.append(event)  # what came before the error counts
    error = error_from_rpc(refused.value)
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "ALL_DEBATERS_FAILED")
    assert "raise max_tokens" in error.message
    failed = [event.failed for event in events if event.HasField("failed")]
    assert {one.reason for one in failed} == {common_pb2.ERROR_REASON_PROVIDER_FAILED}
    assert len(_calls(events)) == 5
    assert all(call.error and call.usage.output_tokens == 0 and call.cost_nano_usd for call in _calls(events))


async def test_the_models_with_their_prices(stub: Any) -> None:
    models = (await stub.ListModels(debate_pb2.ListModelsRequest())).models
    offline = (await stub.ListModels(debate_pb2.ListModelsRequest(provider="offline"))).models
    assert [model.model for model in offline] == [*DEBATER_MODELS, *JUROR_MODELS]
    assert all(model.offline and model.reachable and not model.problem for model in offline)
    assert offline[0].input_nano_usd_per_million == 150_000_000
    assert {"openai", "anthropic"} < {model.model.partition("/")[0] for model in models}
    assert all(model.problem for model in models if not model.offline), "there is no key"
    error = await _refusal(stub.ListModels(debate_pb2.ListModelsRequest(provider="acme")))
    assert error.field == "provider"


async def test_a_model_without_a_price_is_refused_before_anything_is_called(request_for: Requests) -> None:
    servicer = DebateServicer(Llm(ModelCatalogue(PriceBook({}, "my-prices.yaml")), Asker({}, max_concurrency={})))
    with pytest.raises(FailedPrecondition, match=r"offline/lead.*my-prices\.yaml") as refused:
        await anext(aiter(servicer.Debate(request_for(), None)))  # type: ignore[arg-type]
    assert refused.value.reason == "UNPRICED_MODEL"
    models = (await servicer.ListModels(debate_pb2.ListModelsRequest(), None)).models  # type: ignore[arg-type]
    assert models
    assert all(model.problem and not model.HasField("input_nano_usd_per_million") for model in models)


async def test_prices_come_from_the_file_that_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJP_PRICES", str(tmp_path / "none.yaml"))
    with pytest.raises(FailedPrecondition, match=r"none\.yaml"):
        async with open_service(LlmSettings()):
            pass


async def test_a_caller_who_leaves_leaves_nothing_behind(stub: Any, request_for: Requests) -> None:
    call = stub.Debate(request_for())
    await anext(aiter(call))
    call.cancel()
    assert await call.code() is grpc.StatusCode.CANCELLED
    assert (await _events(stub, request_for()))[-1].HasField("finished")


async def test_the_largest_request_is_answered_while_others_are(stub: Any, request_for: Requests) -> None:
    text = ("The budget of run number %d holds for all tenants, but only until the day ends. " * 60).replace("%d", "{}")
    passages = [
        common_pb2.Passage(
            passage_id=str(n), title=f"T{n}", text=text.format(*range(n * 60, n * 60 + 60)).ljust(65_536)
        )
        for n in range(100)
    ]
    large = asyncio.create_task(_events(stub, request_for(passages=passages, task="budget " * 37_000)))
    while not large.done():  # the service answers others in the meantime
        assert (await stub.ListModels(debate_pb2.ListModelsRequest())).models
    assert len((await large)[-1].finished.drafts) == 5
