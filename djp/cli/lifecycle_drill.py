"""`djp lifecycle drill`: the whole life of artifacts, rehearsed on a tenant made for it, with a report."""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from rich.text import Text

from djp.cli.bars import doing
from djp.cli.exits import Exit
from djp.cli.session import connected
from djp.cli.storage import counts_by_tier, tier_name
from djp.cli.terminal import one_line, say
from djp.mesh.errors import DjpError
from djp.mesh.identity import Identity, identity_scope
from djp.v1 import common_pb2, storage_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from djp.storage_client import StorageClient

_WORKFLOW = "drill"
_REASON = "lifecycle drill"
_MOMENT = timedelta(seconds=1)


class Step(NamedTuple):
    """What was tried, and what is wrong with how it went; empty if nothing is."""

    what: str
    problem: str


async def drill(gateway: str | None, *, count: int, as_json: bool) -> int:
    """Run the drill and print its report; PROBLEM when a step did not do what it should."""
    tenant = f"drill-{uuid.uuid4().hex[:12]}"
    steps: list[Step] = []
    with doing("drill", silent=as_json) as progress:
        async with connected(gateway) as client:
            with identity_scope(Identity(role="operator")):  # nothing is made where the caller is no operator
                await client.storage.lifecycle_status(tenant)
            with identity_scope(Identity(tenant, "operator")):
                rehearsal = _Rehearsal(client.storage, tenant, count)
                try:
                    for what, step in rehearsal.steps():
                        progress.tell(what)
                        problem = await _tried(step)
                        steps.append(Step(what, problem))
                        if not as_json:
                            progress.say(_step_line(steps[-1]))
                except asyncio.CancelledError:
                    progress.say(f"Stopped. What tenant {tenant} has left ages like everything else.")
                    raise
    failed = [step for step in steps if step.problem]
    if as_json:
        told = [{"step": step.what, "ok": not step.problem, "problem": step.problem or None} for step in steps]
        print(json.dumps({"tenant": tenant, "ok": not failed, "steps": told}, indent=2))
    elif failed:
        say(f"{len(failed)} of {len(steps)} steps failed. What is left of tenant {tenant} ages like the rest.", "red")
    else:
        say(f"All {len(steps)} steps did what they should. Nothing of tenant {tenant} is left but its events.", "green")
    return Exit.PROBLEM if failed else Exit.OK


async def _tried(step: Callable[[], Awaitable[str]]) -> str:
    try:
        return await step()
    except DjpError as error:
        return error.message


def _step_line(step: Step) -> Text:
    mark, style = ("FAILED", "red") if step.problem else ("ok", "green")
    told = one_line(f"{step.what}{f': {step.problem}' if step.problem else ''}")
    return Text(f"{mark:<6}  ", style=style).append(told, style="default")


class _Rehearsal:
    """The steps; each returns what is wrong, or nothing. They ask when a thing is due: no retention is known here."""

    def __init__(self, storage: StorageClient, tenant: str, count: int) -> None:
        self._storage = storage
        self._tenant = tenant
        self._hashes = {
            f"artifact-{number:05}.txt": hashlib.sha256(_content(number)).hexdigest() for number in range(count)
        }
        self._names = list(self._hashes)
        self._restored, self._held, self._undeleted = self._names[0], self._names[-1], self._names[count // 2]

    def steps(self) -> list[tuple[str, Callable[[], Awaitable[str]]]]:
        """In their order, each with what it tries."""
        count = len(self._names)
        return [
            (f"make {count} artifacts", self._make),
            ("dry run once they are due: says what would move, moves nothing", self._dry_run),
            ("live run: hot to warm, every hash as before", lambda: self._age(to_tier="warm")),
            ("live run: warm to cold, every hash as before", lambda: self._age(to_tier="cold")),
            ("restore one from cold to hot", self._restore),
            ("put one on legal hold", self._hold),
            ("live run: cold to the trash, but not what is held", self._to_trash),
            ("undelete one", self._undelete),
            ("live run: out of the trash for good, the others as they were", self._erase),
            ("clean up", self._clean_up),
        ]

    async def _make(self) -> str:
        for number, name in enumerate(self._names):
            await self._storage.put(
                _WORKFLOW, name, _once(_content(number)), sha256=self._hashes[name], content_type="text/plain"
            )
        return await self._expect(hot=len(self._names))

    async def _dry_run(self) -> str:
        told = await self._run(await self._due(self._names[-1]), live=False)
        if told.to_warm != len(self._names):
            return f"said that {told.to_warm} would move to warm"
        return await self._expect(hot=len(self._names))

    async def _age(self, *, to_tier: str) -> str:
        await self._run(await self._due(self._names[-1]))
        return await self._expect(**{to_tier: len(self._names)}) or await self._check_hashes(self._names)

    async def _restore(self) -> str:
        info = await self._storage.restore(
            _WORKFLOW,
            self._restored,
            from_tier=common_pb2.TIER_COLD,
            to_tier=common_pb2.TIER_HOT,
            reason=_REASON,
        )
        if info.tier != common_pb2.TIER_HOT:
            return f"it is in the {tier_name(info.tier)} tier"
        return await self._check_hashes([self._restored])

    async def _hold(self) -> str:
        due = await self._due(self._held)
        await self._storage.hold(_WORKFLOW, self._held, hold=True, reason=_REASON)
        info = await self._storage.stat(_WORKFLOW, self._held)
        self._cold_is_due = due
        return "" if info.legal_hold and not info.HasField("due_at") else "it is not held"

    async def _to_trash(self) -> str:
        await self._run(self._cold_is_due, confirm=True)
        tiers = counts_by_tier(await self._storage.stats(self._tenant))
        expected = len(self._names) - len({self._restored, self._held})
        if tiers.get("trash", 0) != expected:
            return f"{tiers.get('trash', 0)} of {expected} are in the trash"
        return await self._check_hashes([self._restored, self._held])

    async def _undelete(self) -> str:
        info = await self._storage.undelete(_WORKFLOW, self._undeleted, reason=_REASON)
        if info.tier == common_pb2.TIER_TRASH:
            return "it is still in the trash"
        return await self._check_hashes([self._undeleted])

    async def _erase(self) -> str:
        kept = {self._restored, self._held, self._undeleted}
        trashed = next((name for name in self._names if name not in kept), "")
        if trashed:
            await self._run(await self._due(trashed), confirm=True)
        left = await self._left()
        return "" if kept <= left else f"{', '.join(sorted(kept - left))} went, too"

    async def _clean_up(self) -> str:
        await self._storage.hold(_WORKFLOW, self._held, hold=False, reason=_REASON)
        for name in await self._left():
            info = await self._storage.stat(_WORKFLOW, name)
            if info.tier != common_pb2.TIER_TRASH:
                await self._storage.purge(_WORKFLOW, name, reason=_REASON)
            await self._run(await self._due(name), confirm=True)
        return await self._expect()

    async def _due(self, name: str) -> datetime:
        info = await self._storage.stat(_WORKFLOW, name)
        return info.due_at.ToDatetime(tzinfo=UTC) + _MOMENT

    async def _run(self, as_of: datetime, *, live: bool = True, confirm: bool = False) -> storage_pb2.LifecycleSummary:
        told = storage_pb2.LifecycleSummary()
        stream = self._storage.run_lifecycle(live=live, confirm=confirm, tenant=self._tenant, as_of=as_of)
        async with aclosing(stream) as responses:
            async for response in responses:
                told.CopyFrom(response.so_far)
        return told

    async def _expect(self, **tiers: int) -> str:
        found = counts_by_tier(await self._storage.stats(self._tenant))
        if found == tiers:
            return ""
        told = ", ".join(f"{count} in {tier}" for tier, count in found.items()) or "nothing is there"
        return f"{told}; it should be {', '.join(f'{count} in {tier}' for tier, count in tiers.items()) or 'nothing'}"

    async def _left(self) -> set[str]:
        """The names of all that is there, the trash included."""
        left, request = set[str](), storage_pb2.ListArtifactsRequest(page_size=1000)
        while True:
            page = await self._storage.list(request)
            left |= {one.key.artifact for one in page.artifacts}
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return left

    async def _check_hashes(self, names: list[str]) -> str:
        for name in names:
            digest = hashlib.sha256()
            async with aclosing(self._storage.get(_WORKFLOW, name)) as parts:
                async for part in parts:
                    if isinstance(part, bytes):
                        digest.update(part)
            if digest.hexdigest() != self._hashes[name]:
                return f"{name} came back with another hash"
        return ""


def _content(number: int) -> bytes:
    return f"Artifact {number} of a lifecycle drill.\n".encode() * 100


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
