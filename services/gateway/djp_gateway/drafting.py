"""Drafts while they are written: their text, redacted piece by piece, for those who watch a run with its deltas."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import grpc

from djp.mesh.rpc_errors import error_from_rpc
from djp.v1 import debate_pb2, redaction_pb2, run_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from djp_gateway.adapters.leaves import Leaves
    from djp_gateway.watching import Watchers

_MOST_WAITING = 1000
"""Pieces that wait for one slow watcher, or for redaction: a model writes perhaps ten a second."""
_PIECE_CHARS = 1 << 18  # a piece for redaction has at most 1 MiB, and a character at most 4 bytes


class Text(NamedTuple):
    """One text that is being written: an attempt at a debater's draft of a round."""

    debater_id: str
    round: int
    attempt: int


class Listener:
    """One who watches drafts being written. `bell` rings when something waits for it.

    A text whose beginning it missed, or that it was too slow for, is left out from there on: it has no hole.
    """

    def __init__(self, bell: asyncio.Event) -> None:
        self._bell = bell
        self._waiting: deque[run_pb2.RunEvent] = deque()
        self._texts: set[Text] = set()

    def begin(self, text: Text) -> None:
        """The text begins; the listener is there to see it."""
        self._texts.add(text)

    def offer(self, text: Text, event: run_pb2.RunEvent) -> None:
        """A further piece of the text."""
        if text in self._texts and len(self._waiting) >= _MOST_WAITING:
            self._texts.discard(text)
        elif text in self._texts:
            self.tell(event)

    def tell(self, event: run_pb2.RunEvent) -> None:
        """Something that is no piece of a text."""
        self._waiting.append(event)
        self._bell.set()

    def take(self) -> list[run_pb2.RunEvent]:
        """What has waited since the last time."""
        taken = list(self._waiting)
        self._waiting.clear()
        return taken


class Drafting:
    """The texts of one run that are being written. Redaction that fails ends the deltas, and never the run."""

    def __init__(self, watchers: Watchers) -> None:
        self._watchers = watchers
        self._texts: dict[Text, asyncio.Queue[str | None] | None] = {}
        """What waits for redaction; None: nobody watched when the text began, or no more of it is shown."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._before: dict[tuple[str, int], int] = {}
        self._failed = False

    def piece(
        self,
        delta: debate_pb2.DraftDelta,
        run_id: str,
        options: redaction_pb2.RedactionOptions | None,
        leaves: Leaves,
    ) -> None:
        """A further piece of a text; redacted (unless `options` is None) and passed on in the background, if anybody
        watches."""
        before = self._before.get((delta.debater_id, delta.round), 0)
        text = Text(delta.debater_id, delta.round, before + delta.attempt)
        if text not in self._texts:
            self._texts[text] = self._begin(text, run_id, options, leaves)
        if (waiting := self._texts[text]) is None:
            return
        if waiting.qsize() < _MOST_WAITING:
            waiting.put_nowait(delta.text)
        else:
            self._end(text)  # redaction is too slow: what was shown of the text stays its beginning

    def ended(self, debater_id: str, round_: int) -> None:
        """The draft is there, or has failed: no further piece of it comes."""
        for text in self._texts:
            if (text.debater_id, text.round) == (debater_id, round_):
                self._end(text)

    def begin_anew(self) -> None:
        """The texts that are being written will be begun anew: attempts are counted on from here."""
        for text in self._texts:
            self._end(text)
            draft = (text.debater_id, text.round)
            self._before[draft] = max(self._before.get(draft, 0), text.attempt)

    async def close(self) -> None:
        """Stop what still goes on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _end(self, text: Text) -> None:
        if (waiting := self._texts[text]) is not None:
            waiting.put_nowait(None)
            self._texts[text] = None

    def _begin(
        self, text: Text, run_id: str, options: redaction_pb2.RedactionOptions | None, leaves: Leaves
    ) -> asyncio.Queue[str | None] | None:
        listeners = self._watchers.listeners(run_id)
        if not listeners or self._failed:
            return None
        for listener in listeners:
            listener.begin(text)
        waiting: asyncio.Queue[str | None] = asyncio.Queue()
        pieces = _pieces(waiting)
        if options is not None:
            pieces = _redacted(pieces, options, leaves)
        task = asyncio.create_task(self._pass_on(text, pieces, run_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return waiting

    async def _pass_on(self, text: Text, pieces: AsyncIterator[str], run_id: str) -> None:
        try:
            async for piece in pieces:
                event = run_pb2.RunEvent(draft_delta=debate_pb2.DraftDelta(**text._asdict(), text=piece))
                event.at.GetCurrentTime()
                for listener in self._watchers.listeners(run_id):
                    listener.offer(text, event)
        except grpc.aio.AioRpcError as error:
            self._texts[text] = None
            if self._failed:
                return
            self._failed = True
            reason = error_from_rpc(error).reason
            warning = run_pb2.RunEvent(warning=f"drafts are not shown while they are written: redaction says {reason}")
            warning.at.GetCurrentTime()
            for listener in self._watchers.listeners(run_id):
                listener.tell(warning)


async def _redacted(
    pieces: AsyncIterator[str], options: redaction_pb2.RedactionOptions, leaves: Leaves
) -> AsyncIterator[str]:
    async def requests() -> AsyncIterator[redaction_pb2.RedactStreamRequest]:
        yield redaction_pb2.RedactStreamRequest(options=options)
        async for piece in pieces:
            for start in range(0, len(piece), _PIECE_CHARS):
                yield redaction_pb2.RedactStreamRequest(text=piece[start : start + _PIECE_CHARS])

    async for answer in leaves.redaction.RedactStream(requests()):
        if answer.text:
            yield answer.text


async def _pieces(waiting: asyncio.Queue[str | None]) -> AsyncIterator[str]:
    while (piece := await waiting.get()) is not None:
        yield piece
