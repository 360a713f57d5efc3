"""`djp lifecycle run`, `status` and `check`: artifacts move on as they age, and somebody looks whether they do."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from rich.text import Text

from djp.cli.bars import doing
from djp.cli.documents import document
from djp.cli.exits import Exit
from djp.cli.session import connected
from djp.cli.storage import full_name, moment, print_stat_table, size
from djp.cli.terminal import one_line, say
from djp.mesh.identity import Identity, identity_scope
from djp.v1 import storage_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from djp.cli.bars import Doing

_ACTIONS = {
    storage_pb2.LIFECYCLE_ACTION_TO_WARM: "to warm",
    storage_pb2.LIFECYCLE_ACTION_TO_COLD: "to cold",
    storage_pb2.LIFECYCLE_ACTION_TO_TRASH: "to trash",
    storage_pb2.LIFECYCLE_ACTION_ERASED: "erased",
    storage_pb2.LIFECYCLE_ACTION_FAILED: "FAILED",
}


async def run(gateway: str | None, tenant: str, *, live: bool, confirm: bool, verbose: bool, as_json: bool) -> int:
    """Run the lifecycle and say what it did; FAILED when something could not be moved."""
    with doing("lifecycle run" if live else "dry run", silent=as_json or verbose) as progress:
        seen = _Seen(progress, live=live, verbose=verbose, as_json=as_json)
        try:
            async with connected(gateway) as client:
                with identity_scope(Identity(role="operator")):
                    stream = client.storage.run_lifecycle(live=live, confirm=confirm, tenant=tenant)
                    async with aclosing(stream) as responses:
                        async for response in responses:
                            seen.hear(response)
        except asyncio.CancelledError:
            seen.print("stopped; the next run goes on", progress.say)
            raise
    seen.print("done" if live else "dry run, nothing was moved", say)
    return Exit.FAILED if seen.so_far.errors else Exit.OK


class _Seen:
    """What a run has told so far."""

    def __init__(self, progress: Doing, *, live: bool, verbose: bool, as_json: bool) -> None:
        self.so_far = storage_pb2.LifecycleSummary()
        self._progress = progress
        self._verb = "moved" if live else "due"
        self._verbose = verbose
        self._as_json = as_json
        self._artifacts: list[dict[str, Any]] = []
        self._began = time.monotonic()

    def hear(self, response: storage_pb2.RunLifecycleResponse) -> None:
        """One answer of the stream."""
        self.so_far.CopyFrom(response.so_far)
        failed = response.action == storage_pb2.LIFECYCLE_ACTION_FAILED
        if response.action and self._as_json:
            if self._verbose or failed:
                self._artifacts.append(document(response))
        elif response.action and (self._verbose or failed):
            self._print_artifact(response, failed=failed)
        spent = time.monotonic() - self._began
        rate = f", {self._done() / spent:,.0f}/s" if spent > 1 else ""
        self._progress.tell(f"{self._counts()}{rate}")

    def print(self, how: str, line: Callable[[str], None]) -> None:
        """The end."""
        if self._as_json:
            print(json.dumps({"summary": document(self.so_far), "artifacts": self._artifacts}, indent=2), flush=True)
            return
        amount = f", {size(self.so_far.bytes_moved)}" if self.so_far.bytes_moved else ""
        line(f"{how[0].upper()}{how[1:]}: {self._counts()}{amount}")

    def _print_artifact(self, response: storage_pb2.RunLifecycleResponse, *, failed: bool) -> None:
        info = response.artifact
        what = f"  {info.tenant} {full_name(info.key)}  {size(info.size)}" if response.HasField("artifact") else ""
        told = f"{_ACTIONS[response.action]:<8}{what}{f': {one_line(response.error, 300)}' if response.error else ''}"
        self._progress.say(Text(told, style="red" if failed else ""))

    def _done(self) -> int:
        told = self.so_far
        return told.to_warm + told.to_cold + told.to_trash + told.erased

    def _counts(self) -> str:
        told = self.so_far
        counts = {
            "to warm": told.to_warm,
            "to cold": told.to_cold,
            "to trash": told.to_trash,
            "out of the trash for good": told.erased,
        }
        parts = [f"{count:,} {where}" for where, count in counts.items() if count]
        errors = [f"{told.errors:,} failed"] if told.errors else []
        return f"{', '.join(parts + errors)} {self._verb}" if parts or errors else f"nothing {self._verb}"


async def print_status(gateway: str | None, tenant: str, *, as_json: bool) -> int:
    """Print the last run and what the tiers hold."""
    async with connected(gateway) as client:
        with identity_scope(Identity(role="operator")):
            status = await client.storage.lifecycle_status(tenant)
            stats = await client.storage.stats(tenant)
    if as_json:
        told = {"last": None, **document(status), "stats": [document(one) for one in stats]}
        print(json.dumps(told, indent=2))
        return Exit.OK
    _say_last(status)
    print_stat_table(stats)
    return Exit.OK


async def check(gateway: str | None, tenant: str, *, as_json: bool) -> int:
    """PROBLEM when the last run is too long ago or had errors."""
    async with connected(gateway) as client:
        with identity_scope(Identity(role="operator")):
            status = await client.storage.lifecycle_status(tenant)
    if as_json:
        print(json.dumps({"last": None, **document(status)}, indent=2))
    else:
        _say_last(status)
    return Exit.OK if status.healthy else Exit.PROBLEM


def _say_last(status: storage_pb2.GetLifecycleStatusResponse) -> None:
    if status.HasField("last"):
        last = status.last
        ended = f"{moment(last.finished_at)} UTC" if last.HasField("finished_at") else "not ended"
        say(
            f"Last live run: {moment(last.started_at)} to {ended}; {last.to_warm:,} to warm, {last.to_cold:,} to cold, "
            f"{last.to_trash:,} to trash, {last.erased:,} erased, {last.errors:,} errors"
        )
    if status.healthy:
        say("All is well.", "green")
    else:
        say(one_line(status.problem), "red")
