"""What callers ask of the gateway: starting twice, bad requests, lists, tenants, watching."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from djp.client import connect
from djp.mesh.errors import FailedPrecondition, InvalidInput, Unavailable
from djp.mesh.identity import Identity, identity_scope
from djp.mesh.rpc_errors import error_from_rpc
from djp.v1 import catalogue_pb2, common_pb2, debate_pb2, judge_pb2, redaction_pb2, run_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from djp.mesh.errors import DjpError


class Refusal:
    """Filled in when the block was refused."""

    error: DjpError

    @property
    def fields(self) -> set[str]:
        return {violation.field for violation in self.error.violations}


@asynccontextmanager
async def refused(code: str) -> AsyncIterator[Refusal]:
    refusal = Refusal()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield refusal
    refusal.error = error_from_rpc(caught.value)
    assert refusal.error.code == code, refusal.error


async def listed(gateway: Any, **fields: Any) -> list[run_pb2.Run]:
    return list((await gateway.runs.ListRuns(run_pb2.ListRunsRequest(**fields))).runs)


async def test_the_same_request_is_the_same_run(gateway: Any, leaves: Any) -> None:
    request_id = str(uuid.uuid4())
    first = await gateway.start(request_id=request_id, debaters=[debate_pb2.Debater(debater_id="d1", model="a/b")])
    again = await gateway.start(request_id=request_id, debaters=[debate_pb2.Debater(debater_id="d1", model="a/b")])
    assert again.run_id == first.run_id
    await gateway.finish(first.run_id)
    leaves.fail("Search", NotImplementedError())  # type: ignore[arg-type]
    later = await gateway.start(request_id=request_id, debaters=[debate_pb2.Debater(debater_id="d1", model="a/b")])
    assert later.run_id == first.run_id
    assert later.state == run_pb2.RUN_STATE_PUBLISHED
    assert len(await listed(gateway)) == 1
    assert len(leaves.reservations) == 1


async def test_the_same_request_id_for_another_run_is_refused(gateway: Any) -> None:
    request_id = str(uuid.uuid4())
    await gateway.start(request_id=request_id)
    async with refused("ALREADY_EXISTS") as refusal:
        await gateway.start(request_id=request_id, task="Another question?")
    assert refusal.error.reason == "REQUEST_ID_REUSED"
    assert len(await listed(gateway)) == 1
    # Another tenant's ids are its own.
    with identity_scope(Identity(tenant="acme")):
        await gateway.start(request_id=request_id, task="Another question?")


async def test_the_same_request_at_the_same_time_is_one_run(gateway: Any, leaves: Any) -> None:
    request_id = str(uuid.uuid4())
    runs = await asyncio.gather(*(gateway.start(request_id=request_id) for _ in range(20)))
    assert len({run.run_id for run in runs}) == 1
    await gateway.finish(runs[0].run_id)
    assert leaves.names().count("Debate") == 1


async def test_a_caller_that_goes_away_leaves_a_run_that_is_worked_on(gateway: Any, leaves: Any) -> None:
    for _ in range(20):
        call = gateway.runs.StartRun(
            run_pb2.StartRunRequest(request_id=str(uuid.uuid4()), run=run_pb2.RunRequest(task="Why?"))
        )
        await asyncio.sleep(0.002)
        call.cancel()
    for run in await listed(gateway):
        assert (await gateway.finish(run.run_id)).state == run_pb2.RUN_STATE_PUBLISHED


async def test_an_unknown_preset_or_policy_is_refused_with_the_nearest(gateway: Any, leaves: Any) -> None:
    async with refused("INVALID_ARGUMENT") as refusal:
        await gateway.start(preset="qick", policy="openai_olny")
    assert refusal.fields == {"run.preset", "run.policy"}
    assert "did you mean 'quick'?" in refusal.error.message
    assert "deterministic, quick, research, thorough" in refusal.error.message
    assert "did you mean 'openai_only'?" in refusal.error.message
    assert not leaves.asked
    assert not await listed(gateway)


async def test_every_bad_field_is_named_at_once(gateway: Any, leaves: Any) -> None:
    twice = [judge_pb2.Juror(juror_id="j", model="a/b"), judge_pb2.Juror(juror_id="j", model="no-slash")]
    async with refused("INVALID_ARGUMENT") as refusal:
        await gateway.start(
            task=" \n",
            template="none",
            preset="none",
            policy="none",
            grounded_required=2,
            jurors=twice,
            redaction=run_pb2.REDACTION_MODE_OFF,
            redaction_options=redaction_pb2.RedactionOptions(keep_titles=["x"]),
            timeout=Duration(seconds=-1),
            tags={"": "x"},
        )
    assert refusal.fields == {
        "run.task", "run.template", "run.preset", "run.policy", "run.grounded_required", "run.jurors",
        "run.jurors[1].model", "run.redaction_options",
        "run.timeout", "run.tags",
    }  # fmt: skip
    assert not leaves.asked


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"task": "x" * (1 << 20)}, "run.task"),
        ({"task": ""}, "run.task"),
        ({"temperature": float("nan")}, "run.temperature"),
        ({"budget_nano_usd": 0}, "run.budget_nano_usd"),
        ({"budget_tokens": 0}, "run.budget_tokens"),
        ({"max_tokens": 1}, "run.max_tokens"),
        ({"workflow": "../../etc"}, "run.workflow"),
        ({"timeout": Duration()}, "run.timeout"),
        ({"timeout": Duration(seconds=2**62, nanos=-5)}, "run.timeout"),
        ({"debaters": [debate_pb2.Debater(debater_id="d", model="no-slash")]}, "run.debaters[0].model"),
        ({"tags": {"k": "v" * 201}}, "run.tags"),
    ],
)
async def test_a_bad_field_is_named(gateway: Any, leaves: Any, fields: dict[str, Any], named: str) -> None:
    async with refused("INVALID_ARGUMENT") as refusal:
        await gateway.start(**fields)
    assert refusal.fields == {named}
    assert not leaves.asked
    assert not await listed(gateway)


@pytest.mark.parametrize(
    ("method", "field", "told"),
    [
        ("ProjectDebate", "debate.debaters[1].model", "run.debaters[1].model"),
        ("ProjectDebate", "debaters[0].fallback_models[2]", "run.debaters[0].fallback_models[2]"),
        ("ProjectJudge", "jurors[0].model", "run.jurors[0].model"),
    ],
)
async def test_a_model_that_does_not_exist_is_refused_before_there_is_a_run(
    gateway: Any, leaves: Any, method: str, field: str, told: str
) -> None:
    error = InvalidInput(f"{field}: there is no model 'a/x'; there are: a/b", field=field)
    error.reason = "UNKNOWN_MODEL"
    leaves.fail(method, error)
    debaters = [debate_pb2.Debater(debater_id=f"d{n}", model="a/b") for n in (1, 2)]
    async with refused("INVALID_ARGUMENT") as refusal:
        await gateway.start(debaters=debaters, jurors=[judge_pb2.Juror(juror_id="j1", model="a/x")])
    assert refusal.error.reason == "UNKNOWN_MODEL"
    (violation,) = refusal.error.violations
    assert (violation.field, violation.description) == (told, "there is no model 'a/x'; there are: a/b")
    assert not await listed(gateway)
    assert not leaves.reservations


async def test_a_model_of_the_settings_is_told_with_the_setting(mesh: Any, leaves: Any) -> None:
    leaves.fail("ProjectJudge", InvalidInput("jurors[0].model: there is no model 'a/x'", field="jurors[0].model"))
    gateway = await mesh.gateway(jurors="a/x")
    async with refused("INVALID_ARGUMENT") as refusal:
        await gateway.start()
    assert refusal.fields == {"DJP_JURORS[0].model"}


@pytest.mark.parametrize("reason", ["UNPRICED_MODEL", "PROVIDER_NOT_CONFIGURED"])
async def test_a_model_that_cannot_be_called_is_refused_before_there_is_a_run(
    gateway: Any, leaves: Any, reason: str
) -> None:
    leaves.fail("ProjectDebate", FailedPrecondition("set OPENAI_API_KEY", reason=reason))
    async with refused("FAILED_PRECONDITION") as refusal:
        await gateway.start(debaters=[debate_pb2.Debater(debater_id="d1", model="openai/gpt-4o")])
    assert (refusal.error.reason, refusal.error.message) == (reason, "set OPENAI_API_KEY")
    assert not await listed(gateway)


async def test_leaves_that_are_away_stop_no_run_from_being_accepted(
    gateway: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    voices = [debate_pb2.Debater(debater_id="d1", model="openai/gpt-4o")]
    leaves.fail("ProjectDebate", Unavailable("starting"), times=1)
    assert (await gateway.do(debaters=voices)).state == run_pb2.RUN_STATE_PUBLISHED
    monkeypatch.setattr("djp_gateway.resolving._MODELS_S", 0.05)
    gate = leaves.hold("ProjectJudge")
    run = await gateway.start(debaters=voices)
    gate.opened.set()
    assert (await gateway.finish(run.run_id)).state == run_pb2.RUN_STATE_PUBLISHED


async def test_the_offline_models_are_asked_about_once(gateway: Any, leaves: Any) -> None:
    await gateway.do()
    assert len(leaves.requests("ProjectDebate")) == len(leaves.requests("ProjectJudge")) == 1


async def test_a_missing_corpus_is_refused_before_there_is_a_run(gateway: Any) -> None:
    async with refused("NOT_FOUND") as refusal:
        await gateway.start(corpus="missing")
    assert refusal.fields == {"run.corpus"}
    assert not await listed(gateway)


@pytest.mark.parametrize("method", ["Search", "Redact", "ProjectJudge"])
async def test_a_frozen_leaf_is_not_waited_for_before_there_is_a_run(
    gateway: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr("djp_gateway.resolving.ANSWER_S", 0.3)  # half a minute otherwise
    leaves.hold(method)
    options = redaction_pb2.RedactionOptions(strategy=redaction_pb2.REDACTION_STRATEGY_LABEL)
    request = run_pb2.RunRequest(task="Why?", corpus="handbook", redaction_options=options)
    with pytest.raises(grpc.aio.AioRpcError) as caught:  # a caller that gives no deadline of its own
        await gateway.runs.ProjectRun(run_pb2.ProjectRunRequest(run=request))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_settings_that_could_not_be_shown_in_one_message_are_refused(gateway: Any, leaves: Any) -> None:
    options = redaction_pb2.RedactionOptions(keep_titles=[f"{n:05}" + "x" * 3000 for n in range(1000)])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.start(redaction_options=options)
    error = error_from_rpc(caught.value)
    assert isinstance(error, InvalidInput)
    assert "redaction_options" in error.message
    assert leaves.names() == []


async def test_a_large_task_of_any_script_comes_back_as_it_was(gateway: Any) -> None:
    task = ("Ärger mit 予算 \u202e🦊\x00 " * 9000).encode()[:262_144].decode(errors="ignore")
    run = await gateway.do(task=task)
    assert run.state == run_pb2.RUN_STATE_PUBLISHED
    assert run.spec.task == task


async def test_a_run_is_found_by_the_beginning_of_its_id(gateway: Any) -> None:
    run = await gateway.start()
    assert (await gateway.get(run.run_id[:8])).run_id == run.run_id
    assert (await gateway.get(run.run_id.upper())).run_id == run.run_id
    async with refused("NOT_FOUND"):
        await gateway.get("%" * 8)
    async with refused("NOT_FOUND"):
        await gateway.get(str(uuid.uuid4()))
    async with refused("INVALID_ARGUMENT"):
        await gateway.get(run.run_id[:7])


async def test_tenants_see_their_own_runs_only(gateway: Any, leaves: Any) -> None:
    with identity_scope(Identity(tenant="acme")):
        run = await gateway.do()
    assert run.tenant == "acme"
    assert {tenant for _, tenant, _ in leaves.asked} == {"acme"}
    with identity_scope(Identity(tenant="other")):
        assert not await listed(gateway)
        for run_id in (run.run_id, run.run_id[:8]):
            async with refused("NOT_FOUND"):
                await gateway.get(run_id)
            async with refused("NOT_FOUND"):
                await gateway.watch(run_id)


async def test_runs_are_listed_newest_first_and_filtered(gateway: Any) -> None:
    plain = await gateway.do(preset="quick")
    grounded = await gateway.do(preset="thorough", corpus="handbook", grounded_required=0, workflow="weekly")
    advice = await gateway.do(policy="openai_only")
    ids = [run.run_id for run in await listed(gateway)]
    assert ids == [advice.run_id, grounded.run_id, plain.run_id]

    async def found(**fields: Any) -> list[str]:
        return [run.run_id for run in await listed(gateway, **fields)]

    assert await found(preset="quick") == [plain.run_id]
    assert await found(workflow="weekly") == [grounded.run_id]
    assert await found(grounded=True) == [grounded.run_id]
    assert await found(grounded=False) == [advice.run_id, plain.run_id]
    assert await found(states=[run_pb2.RUN_STATE_ADVISORY]) == [advice.run_id]
    assert await found(provider="offline") == ids
    assert await found(provider="openai") == []
    cost = grounded.result.total_nano_usd
    assert grounded.run_id in await found(min_cost_nano_usd=cost)
    assert grounded.run_id not in await found(min_cost_nano_usd=cost + 1)
    assert plain.run_id in await found(max_cost_nano_usd=plain.result.total_nano_usd)
    assert await found(created=common_pb2.TimeRange(since=grounded.created_at)) == [advice.run_id, grounded.run_id]
    assert await found(created=common_pb2.TimeRange(until=grounded.created_at)) == [plain.run_id]


async def test_pages_follow_each_other_without_gap_or_repeat(gateway: Any) -> None:
    for _ in range(7):
        await gateway.start()
    seen, token = [], ""
    while True:
        page = await gateway.runs.ListRuns(run_pb2.ListRunsRequest(page_size=3, page_token=token))
        assert len(page.runs) <= 3
        seen += [run.run_id for run in page.runs]
        if not (token := page.next_page_token):
            break
    assert len(seen) == len(set(seen)) == 7
    assert seen == [run.run_id for run in await listed(gateway)]


async def test_a_page_of_large_runs_stays_a_message_that_fits(mesh: Any, leaves: Any) -> None:
    gateway = await mesh.gateway(max_workers=1)
    leaves.hold("Debate")
    for _ in range(20):
        await gateway.start(task="x" * 262_000)
    first = await gateway.runs.ListRuns(run_pb2.ListRunsRequest(page_size=1000))
    assert 1 <= len(first.runs) < 20
    assert first.ByteSize() < 8 << 20
    rest = await gateway.runs.ListRuns(run_pb2.ListRunsRequest(page_size=1000, page_token=first.next_page_token))
    assert len(first.runs) + len(rest.runs) == 20


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"page_token": "nonsense"}, "page_token"),
        ({"page_token": "ÄÖÜ"}, "page_token"),
        ({"page_token": "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTkvMQ=="}, "page_token"),
        ({"page_size": 1001}, "page_size"),
        ({"created": common_pb2.TimeRange(since=Timestamp(seconds=2**62))}, "created.since"),
        ({"created": common_pb2.TimeRange(until=Timestamp(seconds=-(2**62)))}, "created.until"),
        ({"created": common_pb2.TimeRange(until=Timestamp(seconds=5, nanos=-1))}, "created.until"),
    ],
)
async def test_a_list_with_a_bad_field_is_refused(gateway: Any, fields: dict[str, Any], named: str) -> None:
    async with refused("INVALID_ARGUMENT") as refusal:
        await listed(gateway, **fields)
    assert refusal.fields == {named}


async def test_a_watcher_goes_on_where_it_stopped(gateway: Any, leaves: Any) -> None:
    gate = leaves.hold("DebateEnd")
    run = await gateway.start()
    await gate.entered.wait()
    stream = gateway.runs.WatchRun(run_pb2.WatchRunRequest(run_id=run.run_id))
    first = [(await stream.read()).event for _ in range(3)]
    stream.cancel()
    gate.opened.set()
    rest = await gateway.watch(run.run_id, after=first[-1].sequence)
    whole = await gateway.watch(run.run_id)
    assert [*first, *rest] == whole
    assert whole[-1].state.state == run_pb2.RUN_STATE_PUBLISHED


async def test_watchers_of_one_run_see_the_same(gateway: Any, leaves: Any) -> None:
    gate = leaves.hold("Debate")
    run = await gateway.start()
    watches = [asyncio.create_task(gateway.watch(run.run_id[:8])) for _ in range(5)]
    await gate.entered.wait()
    gate.opened.set()
    seen = await asyncio.gather(*watches)
    assert all(events == seen[0] for events in seen)


async def test_an_ended_run_can_be_watched_again(gateway: Any) -> None:
    run = await gateway.do()
    events = await gateway.watch(run.run_id)
    assert events[-1].state.run.result == run.result
    assert await gateway.watch(run.run_id, after=run.last_sequence) == []
    assert await gateway.watch(run.run_id, after=run.last_sequence + 100) == []


async def test_a_watcher_that_never_reads_delays_nobody(gateway: Any, leaves: Any) -> None:
    gate = leaves.hold("Debate")
    run = await gateway.start()
    lazy = gateway.runs.WatchRun(run_pb2.WatchRunRequest(run_id=run.run_id))
    await lazy.read()
    gate.opened.set()
    assert (await gateway.finish(run.run_id)).state == run_pb2.RUN_STATE_PUBLISHED
    rest = [answer.event async for answer in lazy]
    assert rest[-1].state.state == run_pb2.RUN_STATE_PUBLISHED


async def test_watchers_that_left_leave_nothing_behind(gateway: Any, leaves: Any, until: Any) -> None:
    watchers = gateway.service.servicers[0][1]._watchers
    ended = await gateway.do()
    await gateway.watch(ended.run_id)
    gate = leaves.hold("Debate")
    run = await gateway.start()
    streams = [gateway.runs.WatchRun(run_pb2.WatchRunRequest(run_id=run.run_id)) for _ in range(3)]
    for stream in streams:
        await stream.read()
    await until(lambda: len(watchers) == 1)
    for stream in streams:
        stream.cancel()
    await until(lambda: len(watchers) == 0)
    gate.opened.set()
    await gateway.finish(run.run_id)
    await until(lambda: len(watchers) == 0)


async def test_a_silent_run_is_heard_of(mesh: Any, leaves: Any) -> None:
    gateway = await mesh.gateway(heartbeat_s=0.02)
    gate = leaves.hold("Debate")
    run = await gateway.start()
    beats, last = 0, 0
    async for answer in gateway.runs.WatchRun(run_pb2.WatchRunRequest(run_id=run.run_id)):
        if answer.event.HasField("heartbeat"):
            assert answer.event.sequence == 0
            beats += 1
        else:
            assert answer.event.sequence == last + 1
            last = answer.event.sequence
        if beats == 3:
            gate.opened.set()
    assert beats >= 3
    assert (await gateway.get(run.run_id)).last_sequence == last


async def test_a_gateway_that_says_nothing_is_given_up_by_the_client(
    gateway: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("djp.client_streams.SILENCE_S", 0.05)  # a minute and a half otherwise
    monkeypatch.setattr("djp.client_streams.RESUME_WAITS_S", (0.0, 0.0))
    gate = leaves.hold("Debate")
    run = await gateway.start()
    await gate.entered.wait()
    async with connect(gateway.server.address) as client:
        with pytest.raises(Unavailable, match="said nothing for"):
            _ = [event async for event in client.watch(run.run_id)]
        monkeypatch.undo()
        gate.opened.set()
        events = [event async for event in client.watch(run.run_id)]
    assert events[-1].state.state == run_pb2.RUN_STATE_PUBLISHED


async def test_the_catalogue_shows_presets_and_policies(gateway: Any) -> None:
    presets = (await gateway.catalogue.ListPresets(catalogue_pb2.ListPresetsRequest())).presets
    assert [preset.name for preset in presets] == ["deterministic", "quick", "research", "thorough"]
    assert presets[0].document["seed"] == 12345
    policies = (await gateway.catalogue.ListPolicies(catalogue_pb2.ListPoliciesRequest())).policies
    assert [policy.name for policy in policies] == ["any", "openai_only", "openai_preferred"]
    assert all(policy.description for policy in policies)
