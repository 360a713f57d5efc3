"""A gateway with the real redaction service: no raw value leaves a run, whatever is planted where and whatever dies."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from djp.mesh.server import MeshServer
from djp.v1 import common_pb2, debate_pb2, redaction_pb2, run_pb2
from djp_redaction.server import open_service
from djp_redaction.settings import RedactionSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

SECRETS = (
    "jane.roe@example.com",
    "sk-ant-api03-Zk3vQ9xT7mB2nL5pR8sW1yC4dF6gH0jK",
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "555-123-4567",
    "219-09-9999",
    "4111 1111 1111 1111",
    "203.0.113.77",
    "https://intranet.example.com/secret?id=7",
    "DE89 3704 0044 0532 0130 00",
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "TICKET-123456",
)
TEXT = "Mind these: " + "; ".join(SECRETS) + "; and nothing else [Budgets]."
TICKETS = redaction_pb2.RedactionRule(name="ticket", type="TICKET", pattern="TICKET-[0-9]{6}")
OPTIONS = redaction_pb2.RedactionOptions(
    custom_rules=[TICKETS], strategy_by_type={"EMAIL": redaction_pb2.REDACTION_STRATEGY_MASK}
)


@pytest.fixture
async def redaction(leaves: Any) -> AsyncIterator[MeshServer]:
    """The real service in the place of the fake one; a test may drain it."""
    await leaves.stop("redaction")
    async with open_service(RedactionSettings()) as service:
        server = MeshServer(service, leaves.address("redaction"))
        await server.start()
        leaves.servers["redaction"] = server
        yield server


def leaked(content: str) -> list[str]:
    return [secret for secret in SECRETS if secret in content]


def leaking_files(folder: Path) -> list[str]:
    """The files with a raw value in them; there must be some to look into."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert files
    return [file.name for file in files if any(secret.encode() in file.read_bytes() for secret in SECRETS)]


def writing(leaves: Any, pieces: list[str]) -> Callable[[Any], AsyncIterator[debate_pb2.DebateResponse]]:
    """A debate that writes these pieces, waits, and hands in the whole."""

    async def debate(_request: Any) -> AsyncIterator[debate_pb2.DebateResponse]:
        for piece in pieces:
            delta = debate_pb2.DraftDelta(debater_id="d1", round=1, text=piece, attempt=1)
            yield debate_pb2.DebateResponse(delta=delta)
            await leaves.take("Piece", piece)
        await leaves.take("Written", None)
        draft = debate_pb2.Draft(
            draft_id="d1-r1", debater_id="d1", model="offline/lead", round=1, text="".join(pieces), tokens=9
        )
        yield debate_pb2.DebateResponse(draft=debate_pb2.DraftFinished(draft=draft))
        yield debate_pb2.DebateResponse(finished=debate_pb2.DebateFinished(drafts=[draft], rounds=1))

    return debate


async def watched_from_the_start(gateway: Any, leaves: Any, **fields: Any) -> tuple[run_pb2.Run, Any]:
    """A run whose debate goes on when its watcher is there."""
    gate = leaves.hold("Debate")
    run = await gateway.start(**fields)
    stream = gateway.runs.WatchRun(run_pb2.WatchRunRequest(run_id=run.run_id, deltas=True))
    await gate.entered.wait()
    assert (await stream.read()).event.sequence
    gate.opened.set()
    return run, stream


@pytest.mark.usefixtures("redaction")
async def test_secrets_planted_everywhere_are_nowhere_afterwards(gateway: Any, leaves: Any, folder: Path) -> None:
    leaves.drafts = [TEXT, TEXT.upper() + TEXT, TEXT]
    leaves.juror_reason = TEXT
    leaves.call_error = TEXT
    leaves.disqualify = {"d2-r1": TEXT}
    run = await gateway.start(task=TEXT, corpus="docs", redaction_options=OPTIONS, trace_name=TEXT[:100])
    events = await gateway.watch(run.run_id)
    done = await gateway.get(run.run_id)
    assert done.state == run_pb2.RUN_STATE_PUBLISHED
    artifact = json.dumps(leaves.artifact(done), ensure_ascii=False)
    assert leaked(artifact) == []
    assert "[Budgets]" in done.result.text
    (cited,) = done.result.citations
    assert cited.status == common_pb2.CITATION_STATUS_RESOLVED
    assert done.result.text[cited.start : cited.end] == "[Budgets]"
    assert "[REDACTED:TICKET]" in done.result.text
    assert "********" in done.result.text
    for event in events:
        if event.state.HasField("run"):
            event.state.run.ClearField("spec")  # the caller's own task, shown to the caller alone
        assert leaked(str(event)) == []
    assert leaked(str(done.result)) == []
    assert sum(done.result.redaction_counts.values()) == len(SECRETS)
    assert leaking_files(folder) == []


@pytest.mark.usefixtures("redaction")
@pytest.mark.parametrize("size", [1, 2, 3, 7, 16, 61, 1000])
async def test_who_watches_sees_what_the_artifact_shows(gateway: Any, leaves: Any, size: int) -> None:
    pieces = [TEXT[start : start + size] for start in range(0, len(TEXT), size)]
    leaves.debate = writing(leaves, pieces)
    run, stream = await watched_from_the_start(gateway, leaves, redaction_options=OPTIONS)
    last = leaves.hold("Written")
    text = ""
    async for answer in stream:
        text += answer.event.draft_delta.text
        assert leaked(text) == []
        if "[REDACTED:TICKET]" in text:  # what is held back now is the end at most
            last.opened.set()
    assert last.opened.is_set()
    assert (await gateway.get(run.run_id)).result.text.startswith(text)


async def test_redaction_that_dies_in_the_middle_shows_no_more_and_publishes_nothing(
    gateway: Any, leaves: Any, redaction: MeshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("djp_gateway.patience.RETRY_DELAYS_S", (0.0, 0.0))  # about a minute otherwise
    pieces = ["Nothing yet. ", "Still nothing. ", f"Now {SECRETS[0]}, ", "that is all."]
    leaves.debate = writing(leaves, pieces)

    async def die(piece: str) -> None:
        if piece == pieces[1]:
            del leaves.servers["redaction"]
            await redaction.drain(0.0)

    leaves.before["Piece"] = die
    run, stream = await watched_from_the_start(gateway, leaves)
    events = [answer.event async for answer in stream]
    text = "".join(event.draft_delta.text for event in events)
    assert "".join(pieces[:2]).startswith(text)
    assert sum("are not shown while they are written" in event.warning for event in events) == 1
    done = await gateway.get(run.run_id)
    assert done.state == run_pb2.RUN_STATE_FAILED
    assert done.result.text == ""
    assert leaves.artifacts == {}
    assert leaked(str(events)) == []


@pytest.mark.usefixtures("redaction")
async def test_with_redaction_off_it_comes_as_it_is(gateway: Any, leaves: Any) -> None:
    leaves.debate = writing(leaves, [TEXT[:30], TEXT[30:]])
    run, stream = await watched_from_the_start(gateway, leaves, redaction=run_pb2.REDACTION_MODE_OFF)
    last = leaves.hold("Written")
    text = ""
    async for answer in stream:
        text += answer.event.draft_delta.text
        if text == TEXT:
            last.opened.set()
    assert last.opened.is_set()
    assert (await gateway.get(run.run_id)).result.text == TEXT


@pytest.mark.usefixtures("redaction")
async def test_rules_that_redaction_cannot_use_are_refused_before_there_is_a_run(gateway: Any, leaves: Any) -> None:
    bad = redaction_pb2.RedactionOptions(custom_rules=[{"name": "x", "type": "X", "pattern": "(?=a)bcd"}])
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await gateway.start(redaction_options=bad)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "(?=" in (refused.value.details() or "")
    assert "Reserve" not in leaves.names()
