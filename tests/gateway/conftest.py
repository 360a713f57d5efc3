"""Real gateways on Unix sockets, with six small leaves whose answers, errors and pauses a test can set."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import tempfile
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from djp.mesh.channel import open_channel
from djp.mesh.errors import AlreadyExists, DjpError, FailedPrecondition, NotFound
from djp.mesh.identity import current_identity
from djp.mesh.server import MeshServer, Service
from djp.scaling.settings import ScalingSettings
from djp.v1 import (
    catalogue_pb2_grpc,
    common_pb2,
    debate_pb2,
    debate_pb2_grpc,
    governance_pb2,
    governance_pb2_grpc,
    grounding_pb2,
    grounding_pb2_grpc,
    judge_pb2,
    judge_pb2_grpc,
    redaction_pb2,
    redaction_pb2_grpc,
    run_pb2,
    run_pb2_grpc,
    scaling_pb2_grpc,
    storage_pb2,
    storage_pb2_grpc,
)
from djp_gateway.ports import COMMAND
from djp_gateway.server import open_service
from djp_gateway.settings import GatewaySettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

SECRET = "jane.roe@example.com"
LABEL = "[REDACTED:EMAIL]"
TITLES = ("Budgets", "The Jury")


class Gate:
    """Holds calls until it is opened."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.opened = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def __call__(self, _request: Any) -> None:
        self.entered.set()
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


@dataclass
class Reservation:
    """What a ledger remembers of one."""

    message: governance_pb2.Reservation
    calls: dict[str, common_pb2.ModelCall] = field(default_factory=dict)
    releases: int = 0

    def totals(self) -> list[common_pb2.ModelTotal]:
        totals: dict[str, common_pb2.ModelTotal] = {}
        for call in self.calls.values():
            total = totals.setdefault(call.model, common_pb2.ModelTotal(model=call.model))
            total.calls += 1
            total.input_tokens += call.usage.input_tokens
            total.output_tokens += call.usage.output_tokens
            total.cost_nano_usd += call.cost_nano_usd
            total.usage_unknown_calls += call.usage_unknown
        return list(totals.values())


class Leaves:
    """The six leaves: what they were asked, and what they are to do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[tuple[str, str, Any]] = []
        """Method, tenant and request of every call, in order."""
        self.before: dict[str, Callable[[Any], Awaitable[None]]] = {}
        """Awaited before a method answers; may raise, or wait."""
        self.drafts = ["Money is reserved first [Budgets].", f"Ask {SECRET} [Budgets] [Nowhere].", "The jury is blind."]
        self.means: list[float] = [8.5, 7.0, 5.5]
        self.disqualify: dict[str, str] = {}
        self.contested = False
        self.no_winner_reason = ""
        self.titles: set[str] = set(TITLES)
        self.secrets = [SECRET]
        """What redaction finds."""
        self.rules_version = "rules-1"
        self.corpus_version = "version-1"
        self.bound_nano_usd = 2000
        """Of one draft."""
        self.prices: dict[str, int] = {}
        """Of a million input tokens, by debater's model."""
        self.juror_reason = f"clear, says {SECRET}"
        self.call_error = ""
        self.debate: Callable[[debate_pb2.DebateRequest], AsyncIterator[debate_pb2.DebateResponse]] | None = None
        self.judge: Callable[[judge_pb2.JudgeRequest], AsyncIterator[judge_pb2.JudgeResponse]] | None = None
        """What debate and judge say instead of their usual answer."""
        self.reservations: dict[str, Reservation] = {}
        self.warnings: list[str] = []
        self.pace_ms = 0
        self.windows: list[governance_pb2.BudgetWindow] = []
        """Of the tenant's budget."""
        self.artifacts: dict[tuple[str, str, str], bytes] = {}
        self.servers: dict[str, MeshServer] = {}

    def names(self) -> list[str]:
        """The methods that were called, in order."""
        return [name for name, _, _ in self.asked]

    def requests(self, name: str) -> list[Any]:
        """The requests of a method."""
        return [request for method, _, request in self.asked if method == name]

    def fail(self, name: str, error: DjpError, times: int = 1_000_000) -> None:
        """Let a method fail, the first `times` times."""
        left = [times]

        async def fail(_request: Any) -> None:
            if left[0]:
                left[0] -= 1
                raise error

        self.before[name] = fail

    def hold(self, name: str) -> Gate:
        """Let a method wait."""
        gate = Gate()
        self.before[name] = gate
        return gate

    async def take(self, name: str, request: Any) -> None:
        self.asked.append((name, current_identity().tenant, request))
        if name in self.before:
            await self.before[name](request)

    def services(self) -> dict[str, Service]:
        """Each leaf's service."""
        parts = {
            "debate": (debate_pb2, "DebateService", FakeDebate, debate_pb2_grpc.add_DebateServiceServicer_to_server),
            "judge": (judge_pb2, "JudgeService", FakeJudge, judge_pb2_grpc.add_JudgeServiceServicer_to_server),
            "redaction": (
                redaction_pb2,
                "RedactionService",
                FakeRedaction,
                redaction_pb2_grpc.add_RedactionServiceServicer_to_server,
            ),
            "grounding": (
                grounding_pb2,
                "GroundingService",
                FakeGrounding,
                grounding_pb2_grpc.add_GroundingServiceServicer_to_server,
            ),
            "governance": (
                governance_pb2,
                "GovernanceService",
                FakeGovernance,
                governance_pb2_grpc.add_GovernanceServiceServicer_to_server,
            ),
            "storage": (
                storage_pb2,
                "StorageService",
                FakeStorage,
                storage_pb2_grpc.add_StorageServiceServicer_to_server,
            ),
        }
        return {
            name: Service(name, [(module.DESCRIPTOR.services_by_name[service], servicer(self), add)])
            for name, (module, service, servicer, add) in parts.items()
        }

    def address(self, name: str) -> str:
        return f"unix:{self.folder}/{name}.sock"

    async def start(self, *names: str) -> None:
        """Serve these leaves, or all."""
        for name, service in self.services().items():
            if not names or name in names:
                self.servers[name] = MeshServer(service, self.address(name))
                await self.servers[name].start()

    async def stop(self, *names: str) -> None:
        """Take these leaves away, or all."""
        for name in names or tuple(self.servers):
            await self.servers.pop(name).drain(0.0)

    def artifact(self, run: run_pb2.Run) -> Any:
        """The stored artifact of a run."""
        key = (run.tenant, run.result.artifact_workflow, run.result.artifact_name)
        return json.loads(self.artifacts[key])


def a_call(stage: int, actor: str, model: str, cost: int, error: str = "") -> common_pb2.ModelCall:
    """A call that ended, at half its bound."""
    call = common_pb2.ModelCall(
        call_id=str(uuid.uuid4()),
        stage=stage,  # type: ignore[arg-type]
        model=model,
        usage=common_pb2.TokenUsage(input_tokens=100, output_tokens=40),
        cost_nano_usd=cost,
        bound_nano_usd=2 * cost,
        attempt=1,
        actor_id=actor,
        offline=model.startswith("offline/"),
        error=error,
    )
    call.started_at.GetCurrentTime()
    call.duration.FromMilliseconds(3)
    return call


class FakeDebate(debate_pb2_grpc.DebateServiceServicer):
    def __init__(self, leaves: Leaves) -> None:
        self.leaves = leaves

    async def ProjectDebate(self, request: Any, context: Any) -> Any:
        await self.leaves.take("ProjectDebate", request)
        count = len(request.debate.debaters)
        return debate_pb2.ProjectDebateResponse(
            bound=common_pb2.CostBound(
                cost_nano_usd=self.leaves.bound_nano_usd * count, tokens=500 * count, calls=count
            ),
            prices=[
                common_pb2.ModelPrice(model=model, input_nano_usd_per_million=price)
                for model, price in self.leaves.prices.items()
            ],
        )

    async def Debate(self, request: Any, context: Any) -> AsyncIterator[Any]:
        await self.leaves.take("Debate", request)
        if self.leaves.debate:
            async for response in self.leaves.debate(request):
                yield response
            return
        drafts = list(request.completed_drafts)
        written = {draft.debater_id for draft in drafts}
        for place, (debater, text) in enumerate(zip(request.debaters, self.leaves.drafts, strict=False), 1):
            if debater.debater_id in written:
                continue
            yield debate_pb2.DebateResponse(
                started=debate_pb2.DebaterStarted(debater_id=debater.debater_id, model=debater.model, round=1)
            )
            call = a_call(
                common_pb2.STAGE_DEBATE, debater.debater_id, debater.model, 1000 + place, self.leaves.call_error
            )
            draft = debate_pb2.Draft(
                draft_id=f"{debater.debater_id}-r1",
                debater_id=debater.debater_id,
                model=debater.model,
                round=1,
                text=text,
                tokens=40,
            )
            drafts.append(draft)
            yield debate_pb2.DebateResponse(draft=debate_pb2.DraftFinished(draft=draft, calls=[call]))
        await self.leaves.take("DebateEnd", request)
        yield debate_pb2.DebateResponse(finished=debate_pb2.DebateFinished(drafts=drafts, rounds=1))

    async def ListModels(self, request: Any, context: Any) -> Any:
        await self.leaves.take("ListModels", request)
        return debate_pb2.ListModelsResponse(models=[debate_pb2.Model(model="offline/lead", offline=True)])


class FakeJudge(judge_pb2_grpc.JudgeServiceServicer):
    def __init__(self, leaves: Leaves) -> None:
        self.leaves = leaves

    async def ProjectJudge(self, request: Any, context: Any) -> Any:
        await self.leaves.take("ProjectJudge", request)
        return judge_pb2.ProjectJudgeResponse(bound=common_pb2.CostBound(cost_nano_usd=3000, tokens=900, calls=1))

    async def Judge(self, request: Any, context: Any) -> AsyncIterator[Any]:
        leaves = self.leaves
        await leaves.take("Judge", request)
        if leaves.judge:
            async for response in leaves.judge(request):
                yield response
            return
        ids = [candidate.draft.draft_id for candidate in request.candidates]
        left = [draft_id for draft_id in ids if draft_id not in leaves.disqualify]
        marks = dict(zip(left, leaves.means, strict=False))
        cast = {ballot.juror_id for ballot in request.completed_ballots}
        for juror in request.jurors if left else ():
            if juror.juror_id in cast:
                continue
            ballot = judge_pb2.Ballot(
                ballot_id=f"{juror.juror_id}-1",
                juror_id=juror.juror_id,
                model=juror.model,
                order=left,
                scores=[
                    judge_pb2.Score(
                        draft_id=draft_id,
                        task_fit=mark / 2.5,
                        support=mark / 2.5,
                        clarity=mark / 5,
                        total=mark,
                        reason=leaves.juror_reason,
                    )
                    for draft_id, mark in marks.items()
                ],
            )
            call = a_call(common_pb2.STAGE_JUDGE, juror.juror_id, juror.model, 500, leaves.call_error)
            yield judge_pb2.JudgeResponse(ballot=judge_pb2.BallotCast(ballot=ballot, calls=[call]))
        verdict = judge_pb2.Verdict(
            winner_draft_id=left[0] if left else "",
            ranking=[
                judge_pb2.Standing(
                    draft_id=draft_id, task_fit=mark / 2.5, support=mark / 2.5, clarity=mark / 5, mean=mark, ballots=1
                )
                for draft_id, mark in marks.items()
            ],
            disqualified=[
                judge_pb2.Disqualification(draft_id=draft_id, rule="too_few_citations", reason=reason)
                for draft_id, reason in leaves.disqualify.items()
                if draft_id in ids
            ],
            contested=leaves.contested,
            agreement=1.0 if left else 0.0,
            valid_ballots=len(request.jurors) if left else 0,
            reason=leaves.no_winner_reason,
        )
        yield judge_pb2.JudgeResponse(verdict=verdict)


class FakeRedaction(redaction_pb2_grpc.RedactionServiceServicer):
    def __init__(self, leaves: Leaves) -> None:
        self.leaves = leaves

    async def Redact(self, request: Any, context: Any) -> Any:
        await self.leaves.take("Redact", request)
        found = [
            redaction_pb2.Finding(type="EMAIL", rule="fake", start=one.start(), end=one.end(), replacement=LABEL)
            for one in re.finditer("|".join(map(re.escape, self.leaves.secrets)), request.text)
        ]
        text = request.text
        for secret in self.leaves.secrets:
            text = text.replace(secret, LABEL)
        return redaction_pb2.RedactResponse(
            text=text,
            findings=found,
            counts={"EMAIL": len(found)} if found else {},
            rules_version=self.leaves.rules_version,
        )

    async def RedactStream(self, request_iterator: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        await self.leaves.take("RedactStream", None)
        async for request in request_iterator:
            await self.leaves.take("RedactStreamPart", request)
            yield redaction_pb2.RedactStreamResponse(text=request.text.replace(SECRET, LABEL))


class FakeGrounding(grounding_pb2_grpc.GroundingServiceServicer):
    def __init__(self, leaves: Leaves) -> None:
        self.leaves = leaves

    async def Search(self, request: Any, context: Any) -> Any:
        await self.leaves.take("Search", request)
        if request.corpus == "missing":
            raise NotFound("there is no corpus 'missing'", field="corpus")
        return grounding_pb2.SearchResponse(
            passages=[
                common_pb2.Passage(
                    passage_id=f"p{place}", document_id=f"doc{place}", title=title, path=f"{place}.md", text="Money."
                )
                for place, title in enumerate(TITLES, 1)
            ],
            version=request.version or self.leaves.corpus_version,
        )

    async def VerifyCitations(self, request: Any, context: Any) -> Any:
        await self.leaves.take("VerifyCitations", request)
        citations = []
        for found in re.finditer(r"\[([^\]:]+)\]", request.text):
            known = found[1] in self.leaves.titles
            citations.append(
                common_pb2.Citation(
                    text=found[1],
                    start=found.start(),
                    end=found.end(),
                    status=common_pb2.CITATION_STATUS_RESOLVED if known else common_pb2.CITATION_STATUS_UNRESOLVED,
                    document_id=("doc1" if found[1] in TITLES else "doc9") if known else "",
                    title=found[1] if known else "",
                    path="1.md" if known else "",
                )
            )
        return grounding_pb2.VerifyCitationsResponse(citations=citations, version=request.version)

    async def CreateCorpus(self, request_iterator: AsyncIterator[Any], context: Any) -> Any:
        files = [part.file.path async for part in request_iterator if part.HasField("file")]
        await self.leaves.take("CreateCorpus", files)
        return grounding_pb2.CreateCorpusResponse(version=grounding_pb2.CorpusVersion(corpus="c", documents=len(files)))


class FakeGovernance(governance_pb2_grpc.GovernanceServiceServicer):
    """A ledger that is strict: it counts what is released twice, and refuses what is closed."""

    def __init__(self, leaves: Leaves) -> None:
        self.leaves = leaves

    def _find(self, reservation_id: str) -> Reservation:
        if reservation_id not in self.leaves.reservations:
            raise NotFound(f"there is no reservation {reservation_id}")
        return self.leaves.reservations[reservation_id]

    async def Reserve(self, request: Any, context: Any) -> Any:
        await self.leaves.take("Reserve", request)
        earlier = [one for one in self.leaves.reservations.values() if one.message.run_id == request.run_id]
        if any(one.message.state == governance_pb2.RESERVATION_STATE_HELD for one in earlier):
            raise AlreadyExists("reserved twice")
        reservation_id = f"res-{request.run_id}" + "-again" * len(earlier)
        message = governance_pb2.Reservation(
            reservation_id=reservation_id,
            run_id=request.run_id,
            tenant=current_identity().tenant,
            state=governance_pb2.RESERVATION_STATE_HELD,
            reserved_nano_usd=request.amount_nano_usd,
            reserved_tokens=request.tokens,
        )
        self.leaves.reservations[reservation_id] = Reservation(message)
        slowed = governance_pb2.RESERVE_OUTCOME_THROTTLED
        return governance_pb2.ReserveResponse(
            reservation=message,
            outcome=slowed if self.leaves.pace_ms else governance_pb2.RESERVE_OUTCOME_GRANTED,
            warnings=self.leaves.warnings,
            pace_ms=self.leaves.pace_ms,
        )

    async def GetBudget(self, request: Any, context: Any) -> Any:
        await self.leaves.take("GetBudget", request)
        return governance_pb2.GetBudgetResponse(budget=governance_pb2.Budget(windows=self.leaves.windows))

    async def Charge(self, request: Any, context: Any) -> Any:
        await self.leaves.take("Charge", request)
        found = self._find(request.reservation_id)
        if found.message.state not in (
            governance_pb2.RESERVATION_STATE_HELD,
            governance_pb2.RESERVATION_STATE_LAPSED,
        ):
            raise FailedPrecondition("the reservation is closed")
        known = {call_id for one in self.leaves.reservations.values() for call_id in one.calls}
        found.calls.update({call.call_id: call for call in request.calls if call.call_id not in known})
        found.message.charged_nano_usd = sum(call.cost_nano_usd for call in found.calls.values())
        found.message.charged_tokens = sum(
            call.usage.input_tokens + call.usage.output_tokens for call in found.calls.values()
        )
        over = found.message.charged_nano_usd > found.message.reserved_nano_usd
        return governance_pb2.ChargeResponse(reservation=found.message, over_reservation=over)

    async def Extend(self, request: Any, context: Any) -> Any:
        await self.leaves.take("Extend", request)
        return governance_pb2.ExtendResponse(reservation=self._find(request.reservation_id).message)

    async def Settle(self, request: Any, context: Any) -> Any:
        await self.leaves.take("Settle", request)
        found = self._find(request.reservation_id)
        found.message.state = governance_pb2.RESERVATION_STATE_SETTLED
        return governance_pb2.SettleResponse(
            reservation=found.message, totals=found.totals(), total_nano_usd=found.message.charged_nano_usd
        )

    async def GetReservation(self, request: Any, context: Any) -> Any:
        await self.leaves.take("GetReservation", request)
        found = self._find(request.reservation_id)
        return governance_pb2.GetReservationResponse(reservation=found.message, totals=found.totals())

    async def Release(self, request: Any, context: Any) -> Any:
        await self.leaves.take("Release", request)
        found = self._find(request.reservation_id)
        found.releases += 1
        found.message.state = governance_pb2.RESERVATION_STATE_RELEASED
        return governance_pb2.ReleaseResponse(reservation=found.message, total_nano_usd=found.message.charged_nano_usd)

    async def ListReservations(self, request: Any, context: Any) -> Any:
        await self.leaves.take("ListReservations", request)
        tenant = current_identity().tenant
        return governance_pb2.ListReservationsResponse(
            reservations=[
                found.message
                for found in self.leaves.reservations.values()
                if found.message.run_id == request.run_id and found.message.tenant == tenant
            ]
        )


class FakeStorage(storage_pb2_grpc.StorageServiceServicer):
    def __init__(self, leaves: Leaves) -> None:
        self.leaves = leaves

    async def PutArtifact(self, request_iterator: AsyncIterator[Any], context: Any) -> Any:
        header: Any = None
        content = b""
        async for part in request_iterator:
            if part.HasField("header"):
                header = part.header
            else:
                content += part.chunk
        await self.leaves.take("PutArtifact", header)
        assert sha256(content).hexdigest() == header.sha256
        tenant = current_identity().tenant
        self.leaves.artifacts[tenant, header.key.workflow, header.key.artifact] = content
        await self.leaves.take("PutArtifactRest", header)
        return storage_pb2.PutArtifactResponse(
            artifact=storage_pb2.ArtifactInfo(
                key=header.key, tenant=tenant, size=len(content), sha256=header.sha256, location="/somewhere"
            )
        )

    async def StatArtifact(self, request: Any, context: Any) -> Any:
        await self.leaves.take("StatArtifact", request)
        content = self.leaves.artifacts.get((current_identity().tenant, request.key.workflow, request.key.artifact))
        if content is None:
            raise NotFound("there is no such artifact", field="key.artifact")
        info = storage_pb2.ArtifactInfo(key=request.key, size=len(content), sha256=sha256(content).hexdigest())
        return storage_pb2.StatArtifactResponse(artifact=info)

    async def GetArtifact(self, request: Any, context: Any) -> AsyncIterator[Any]:
        await self.leaves.take("GetArtifact", request)
        key = (current_identity().tenant, request.key.workflow, request.key.artifact)
        if key not in self.leaves.artifacts:
            raise NotFound("there is no such artifact", field="key.artifact")
        yield storage_pb2.GetArtifactResponse(info=storage_pb2.ArtifactInfo(key=request.key))
        await self.leaves.take("GetArtifactRest", request)
        yield storage_pb2.GetArtifactResponse(chunk=self.leaves.artifacts[key])


@dataclass
class Gateway:
    """A gateway that serves, and a client of it."""

    service: Service
    server: MeshServer
    channel: Any
    closing: AsyncExitStack

    def __post_init__(self) -> None:
        self.runs = run_pb2_grpc.RunServiceStub(self.channel)
        self.scaling = scaling_pb2_grpc.ScalingServiceStub(self.channel)
        self.catalogue = catalogue_pb2_grpc.CatalogueServiceStub(self.channel)

    async def start(self, *, request_id: str | None = None, **fields: Any) -> run_pb2.Run:
        """Start a run."""
        fields.setdefault("task", "How is a budget kept?")
        request = run_pb2.StartRunRequest(request_id=request_id or str(uuid.uuid4()), run=run_pb2.RunRequest(**fields))
        run: run_pb2.Run = (await self.runs.StartRun(request)).run
        return run

    async def get(self, run_id: str) -> run_pb2.Run:
        run: run_pb2.Run = (await self.runs.GetRun(run_pb2.GetRunRequest(run_id=run_id))).run
        return run

    async def watch(self, run_id: str, after: int = 0) -> list[run_pb2.RunEvent]:
        """Every event of a run, until it ends."""
        stream = self.runs.WatchRun(run_pb2.WatchRunRequest(run_id=run_id, after_sequence=after))
        return [answer.event async for answer in stream]

    async def finish(self, run_id: str) -> run_pb2.Run:
        """The run when it has ended."""
        await self.watch(run_id)
        return await self.get(run_id)

    async def do(self, **fields: Any) -> run_pb2.Run:
        """Start a run and wait for its end."""
        return await self.finish((await self.start(**fields)).run_id)

    async def close(self) -> None:
        await self.closing.aclose()


@dataclass
class Mesh:
    """The leaves, and any number of gateways on one data folder."""

    folder: Path
    leaves: Leaves
    closing: AsyncExitStack = field(default_factory=AsyncExitStack)
    opened: int = 0

    def settings(self, **changes: Any) -> GatewaySettings:
        addresses = {f"{name}_address": self.leaves.address(name) for name in self.leaves.services()}
        return GatewaySettings(**{**addresses, "executor_id": "test", "heartbeat_s": 5.0, **changes})

    async def command(self) -> Gateway:
        """A gateway as it lives for one command."""
        return await self.gateway(executor_id=COMMAND, alone=True)

    async def gateway(
        self, *, alone: bool = False, max_workers: int = 12, scaling: ScalingSettings | None = None, **changes: Any
    ) -> Gateway:
        """Open a gateway, with `max_workers` all the time unless it scales; a test may close it before the others."""
        scaling = scaling or ScalingSettings(min_workers=max_workers, max_workers=max_workers)
        closing = AsyncExitStack()
        self.closing.push_async_callback(closing.aclose)
        service = await closing.enter_async_context(open_service(self.settings(**changes), scaling, alone=alone))
        self.opened += 1
        server = MeshServer(service, f"unix:{self.folder}/gateway{self.opened}.sock")
        await server.start()
        closing.push_async_callback(server.drain, 0.0)
        channel = await closing.enter_async_context(open_channel(server.address))
        return Gateway(service, server, channel, closing)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """DJP_HOME, with a path short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="djp-"))
    monkeypatch.setenv("DJP_HOME", str(path))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def mesh(folder: Path) -> AsyncIterator[Mesh]:
    mesh = Mesh(folder, Leaves(folder))
    await mesh.leaves.start()
    async with mesh.closing:
        yield mesh
    await mesh.leaves.stop()


@pytest.fixture
async def gateway(mesh: Mesh) -> Gateway:
    return await mesh.gateway()


@pytest.fixture
def leaves(mesh: Mesh) -> Leaves:
    return mesh.leaves


@pytest.fixture
def until() -> Callable[[Callable[[], Any]], Awaitable[None]]:
    return _until


async def _until(condition: Callable[[], Any]) -> None:
    """Wait until it holds; a minute is a failure."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  the condition is another process's or the gateway's own business
            await asyncio.sleep(0.005)
