"""Drafts while they are written: redacted for those who watch, and never a burden to the run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from djp.client import connect
from djp.mesh.errors import Unavailable
from djp.v1 import debate_pb2, run_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SECRET = "jane.roe@example.com"
LABEL = "[REDACTED:EMAIL]"


def delta(text: str, *, debater: str = "d1", round_: int = 1, attempt: int = 1) -> debate_pb2.DebateResponse:
    piece = debate_pb2.DraftDelta(debater_id=debater, round=round_, text=text, attempt=attempt)
    return debate_pb2.DebateResponse(delta=piece)


def done(text: str = "It is.") -> list[debate_pb2.DebateResponse]:
    draft = debate_pb2.Draft(draft_id="d1-r1", debater_id="d1", model="offline/lead", round=1, text=text)
    return [
        debate_pb2.DebateResponse(draft=debate_pb2.DraftFinished(draft=draft)),
        debate_pb2.DebateResponse(finished=debate_pb2.DebateFinished(drafts=[draft], rounds=1)),
    ]


class Watcher:
    """Watches a run with its deltas, and knows when one has come."""

    def __init__(self, gateway: Any, run_id: str) -> None:
        self.events: list[run_pb2.RunEvent] = []
        self._came = asyncio.Condition()
        self._stream = gateway.runs.WatchRun(run_pb2.WatchRunRequest(run_id=run_id, deltas=True))
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for answer in self._stream:
            async with self._came:
                self.events.append(answer.event)
                self._came.notify_all()

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(60), self._came:
            await self._came.wait_for(lambda: condition(self))

    async def end(self) -> list[run_pb2.RunEvent]:
        await self._task
        return self.events

    def deltas(self) -> list[tuple[str, int, int, str]]:
        found = [event.draft_delta for event in self.events if event.HasField("draft_delta")]
        return [(one.debater_id, one.round, one.attempt, one.text) for one in found]

    def text(self, attempt: int = 1) -> str:
        return "".join(text for _, _, number, text in self.deltas() if number == attempt)


async def watched(gateway: Any, leaves: Any, debate: Any, **fields: Any) -> tuple[run_pb2.Run, Watcher]:
    """A run whose debate begins when somebody watches it."""
    gate = leaves.hold("Debate")
    leaves.debate = debate
    run = await gateway.start(**fields)
    watcher = Watcher(gateway, run.run_id)
    await gate.entered.wait()
    await watcher.until(lambda one: any(event.stage_started.stage for event in one.events))
    gate.opened.set()
    return run, watcher


@pytest.mark.parametrize("redaction", [run_pb2.REDACTION_MODE_ON, run_pb2.REDACTION_MODE_OFF])
async def test_pieces_come_redacted_in_order_and_are_not_kept(gateway: Any, leaves: Any, redaction: Any) -> None:
    async def debate(_request: Any) -> AsyncIterator[debate_pb2.DebateResponse]:
        for text in ("Ask ", SECRET, " and ", "wait."):
            yield delta(text)
        await leaves.take("Written", None)
        for response in done():
            yield response

    gate = leaves.hold("Written")
    run, watcher = await watched(gateway, leaves, debate, redaction=redaction)
    shown = f"Ask {LABEL if redaction == run_pb2.REDACTION_MODE_ON else SECRET} and wait."
    await watcher.until(lambda one: one.text() == shown)
    gate.opened.set()
    events = await watcher.end()
    assert all(event.sequence == 0 for event in events if event.HasField("draft_delta"))
    kept = await gateway.watch(run.run_id)
    assert not any(event.HasField("draft_delta") for event in kept)
    assert [e.sequence for e in events if e.sequence] == [event.sequence for event in kept]
    options = [r for r in leaves.requests("RedactStreamPart") if r.HasField("options")]
    assert len(options) == (redaction == run_pb2.REDACTION_MODE_ON)


async def test_the_python_client_gets_them_when_it_asks(gateway: Any, leaves: Any) -> None:
    async def debate(_request: Any) -> AsyncIterator[debate_pb2.DebateResponse]:
        yield delta("Ask.")
        await leaves.take("Written", None)
        for response in done():
            yield response

    begin, written = leaves.hold("Debate"), leaves.hold("Written")
    leaves.debate = debate
    run = await gateway.start()
    events = []
    async with connect(gateway.server.address) as client:
        async for event in client.watch(run.run_id, deltas=True):
            events.append(event)
            begin.opened.set()
            if event.HasField("draft_delta"):
                written.opened.set()
        assert [event.draft_delta.text for event in events if not event.sequence] == ["Ask."]
        assert [event.sequence for event in events if event.sequence] == list(range(1, events[-1].sequence + 1))
        assert all([event.sequence async for event in client.watch(run.run_id)])


async def test_nothing_is_redacted_while_nobody_watches(gateway: Any, leaves: Any) -> None:
    async def debate(_request: Any) -> AsyncIterator[debate_pb2.DebateResponse]:
        yield delta("Ask ")
        for response in done():
            yield response

    leaves.debate = debate
    run = await gateway.do()
    assert run.state == run_pb2.RUN_STATE_PUBLISHED
    assert "RedactStream" not in leaves.names()


async def test_who_comes_late_sees_no_text_whose_beginning_is_missing(gateway: Any, leaves: Any) -> None:
    """Half of an address, begun before anybody looked, would not be found."""
    first, second = SECRET[:8], SECRET[8:]

    async def debate(_request: Any) -> AsyncIterator[debate_pb2.DebateResponse]:
        yield delta(first)
        await leaves.take("Half", None)
        yield delta(second)
        yield delta("Fine.", attempt=2)
        await leaves.take("Written", None)
        for response in done():
            yield response

    half, written = leaves.hold("Half"), leaves.hold("Written")
    leaves.debate = debate
    run = await gateway.start()
    await half.entered.wait()
    watcher = Watcher(gateway, run.run_id)
    await watcher.until(lambda one: one.events)
    half.opened.set()
    await watcher.until(lambda one: one.text(2) == "Fine.")
    written.opened.set()
    await watcher.end()
    assert watcher.text(1) == ""


async def test_a_leaf_that_dies_begins_its_texts_anew(
    gateway: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("djp_gateway.patience.RETRY_DELAYS_S", (0.0,) * 3)
    asked: list[int] = []

    async def debate(request: Any) -> AsyncIterator[debate_pb2.DebateResponse]:
        asked.append(request.attempt)
        if len(asked) == 1:
            yield delta("Half of", attempt=1)
            yield delta("Half of it", attempt=2)
            await leaves.take("Half", None)
            raise Unavailable("going away")
        yield delta("All of it.", attempt=1)
        await leaves.take("Written", None)
        for response in done():
            yield response

    half, written = leaves.hold("Half"), leaves.hold("Written")
    _, watcher = await watched(gateway, leaves, debate)
    await watcher.until(lambda one: one.text(2) == "Half of it")
    half.opened.set()
    await watcher.until(lambda one: one.text(3) == "All of it.")
    written.opened.set()
    await watcher.end()


async def test_redaction_that_fails_ends_the_deltas_and_not_the_run(gateway: Any, leaves: Any) -> None:
    async def debate(_request: Any) -> AsyncIterator[debate_pb2.DebateResponse]:
        yield delta(f"Ask {SECRET}")
        yield delta(f"Ask {SECRET}", debater="d2")
        await leaves.take("Written", None)
        yield delta(SECRET, debater="d3")
        for response in done():
            yield response

    leaves.fail("RedactStream", Unavailable("out of order"))
    gate = leaves.hold("Written")
    run, watcher = await watched(gateway, leaves, debate)
    await watcher.until(lambda one: any("are not shown" in event.warning for event in one.events))
    gate.opened.set()
    events = await watcher.end()
    assert not watcher.deltas()
    (warning,) = (event for event in events if event.warning)
    assert warning.sequence == 0
    assert (await gateway.get(run.run_id)).state == run_pb2.RUN_STATE_PUBLISHED


async def test_redaction_that_hangs_does_not_hold_the_run(gateway: Any, leaves: Any) -> None:
    async def debate(_request: Any) -> AsyncIterator[debate_pb2.DebateResponse]:
        for _ in range(5000):
            yield delta("word ")
        for response in done():
            yield response

    hang = leaves.hold("RedactStream")
    run, watcher = await watched(gateway, leaves, debate)
    await watcher.end()
    assert (await gateway.get(run.run_id)).state == run_pb2.RUN_STATE_PUBLISHED
    await hang.cancelled.wait()
    assert not watcher.deltas()


async def test_a_piece_longer_than_redaction_takes_is_cut(gateway: Any, leaves: Any) -> None:
    text = "🦔" * 600_000

    async def debate(_request: Any) -> AsyncIterator[debate_pb2.DebateResponse]:
        yield delta(text)
        await leaves.take("Written", None)
        for response in done():
            yield response

    gate = leaves.hold("Written")
    _, watcher = await watched(gateway, leaves, debate)
    await watcher.until(lambda one: one.text() == text)
    gate.opened.set()
    await watcher.end()
    parts = [r for r in leaves.requests("RedactStreamPart") if r.HasField("text")]
    assert all(len(part.text.encode()) <= 1 << 20 for part in parts)


async def test_a_watcher_that_does_not_read_loses_the_rest_of_a_text_and_the_run_goes_on(
    gateway: Any, leaves: Any
) -> None:
    async def debate(_request: Any) -> AsyncIterator[debate_pb2.DebateResponse]:
        for number in range(6000):
            yield delta(f"{number:04} ".ljust(1000))
        for response in done():
            yield response

    gate = leaves.hold("Debate")
    leaves.debate = debate
    run = await gateway.start(redaction=run_pb2.REDACTION_MODE_OFF)
    stream = gateway.runs.WatchRun(run_pb2.WatchRunRequest(run_id=run.run_id, deltas=True))
    await gate.entered.wait()
    first = (await stream.read()).event
    assert first.sequence
    gate.opened.set()
    done_ = await gateway.finish(run.run_id)
    assert done_.state == run_pb2.RUN_STATE_PUBLISHED
    pieces = [answer.event.draft_delta.text[:4] async for answer in stream if answer.event.HasField("draft_delta")]
    assert pieces == [f"{number:04}" for number in range(len(pieces))]
    assert len(pieces) < 6000
