"""A small gateway that plays a script, and ways to run the `djp` command against it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.json_format import ParseDict

from djp.cli import terminal
from djp.mesh.channel import open_channel
from djp.mesh.errors import DjpError, FailedPrecondition, NotFound
from djp.mesh.server import MeshServer, Service
from djp.v1 import (
    catalogue_pb2,
    catalogue_pb2_grpc,
    common_pb2,
    governance_pb2,
    governance_pb2_grpc,
    grounding_pb2,
    grounding_pb2_grpc,
    redaction_pb2,
    redaction_pb2_grpc,
    run_pb2,
    run_pb2_grpc,
)
from djp_governance.server import open_service
from djp_governance.settings import GovernanceSettings
from djp_storage.adapters.directory_store import DirectoryStore
from djp_storage.server import open_service as open_storage
from djp_storage.settings import StorageSettings
from tests.storage.conftest import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from djp_storage.model import ObjectName

RUN_ID = "3f2b8c1e-0000-4000-8000-000000000001"
DJP = Path(sys.executable).with_name("djp")

TEXT = "Money is reserved first. [Budgets]\nThen it is spent. [Nowhere]\n"


def finished_run(state: str = "PUBLISHED", **changes: Any) -> run_pb2.Run:
    """A run that has ended, as the gateway tells it; `changes` replace fields of the run (proto JSON names)."""
    document = {
        "runId": RUN_ID,
        "tenant": "default",
        "state": f"RUN_STATE_{state}",
        "createdAt": "2026-03-01T10:00:00Z",
        "startedAt": "2026-03-01T10:00:00.010Z",
        "finishedAt": "2026-03-01T10:00:02.500Z",
        "offline": True,
        "lastSequence": "9",
        "spec": {
            "task": "How are budgets kept?",
            "workflow": "adhoc",
            "preset": "thorough",
            "policy": "any",
            "corpus": "docs",
            "groundedRequired": 1,
            "redaction": "REDACTION_MODE_ON",
        },
        "result": result_document(),
        **changes,
    }
    return ParseDict(document, run_pb2.Run())


def result_document(**changes: Any) -> dict[str, Any]:
    """A result with everything in it."""
    return {
        "text": TEXT,
        "draftId": "d2-r1",
        "model": "offline/precise",
        "verdict": {
            "winnerDraftId": "d2-r1",
            "ranking": [
                {"draftId": "d2-r1", "taskFit": 3.5, "support": 3.25, "clarity": 1.5, "mean": 8.25},
                {"draftId": "d1-r1", "taskFit": 2, "support": 1, "clarity": 1, "mean": 4},
            ],
            "disqualified": [
                {"draftId": "d3-r1", "rule": "too_few_citations", "reason": "0 of 1 citations resolve"},
            ],
            "agreement": 1,
            "validBallots": 1,
        },
        "citations": [
            {
                "text": "Budgets",
                "start": 25,
                "end": 34,
                "status": "CITATION_STATUS_RESOLVED",
                "title": "Budgets",
                "path": "budgets.md",
            },
            {
                "text": "Nowhere",
                "start": 53,
                "end": 62,
                "status": "CITATION_STATUS_UNRESOLVED",
                "reason": "no document has this title",
            },
        ],
        "totals": [
            {
                "model": "openai/gpt-4o",
                "calls": 1,
                "inputTokens": 150,
                "outputTokens": 80,
                "costNanoUsd": 2_100_000,
            },
            {"model": "openai/gpt-4o-mini", "calls": 1, "inputTokens": 100, "outputTokens": 50, "costNanoUsd": 100_000},
        ],
        "totalNanoUsd": 2_200_000,
        "totalTokens": 380,
        "redactionCounts": {"EMAIL": 2, "PHONE": 1},
        "artifactLocation": "/data/artifacts/hot/default/adhoc/run.json",
        "drafts": [
            {"draftId": "d1-r1", "debaterId": "d1", "model": "offline/broad", "tokens": 120},
            {"draftId": "d2-r1", "debaterId": "d2", "model": "offline/precise", "tokens": 90},
            {"draftId": "d3-r1", "debaterId": "d3", "model": "offline/terse", "tokens": 30},
        ],
        **changes,
    }


def events_of(run: run_pb2.Run) -> list[run_pb2.RunEvent]:
    """What a gateway tells of a run from its start to its end."""
    told: list[dict[str, Any]] = [
        {"state": {"state": "RUN_STATE_RUNNING"}},
        {"stageStarted": {"stage": "STAGE_DEBATE"}},
        {"debaterStarted": {"debaterId": "d1", "model": "offline/broad", "round": 1}},
        {"draftFinished": {"draftId": "d1-r1", "debaterId": "d1", "model": "offline/broad", "tokens": "120"}},
        {"draftFailed": {"debaterId": "d2", "model": "offline/precise", "message": "the provider is down"}},
        {"stageFinished": {"stage": "STAGE_DEBATE", "duration": "0.120s", "summary": "1 draft"}},
        {
            "ballot": {
                "jurorId": "j1",
                "model": "offline/juror",
                "scores": [{"draftId": "d1-r1", "total": 4}, {"draftId": "d2-r1", "total": 8.25}],
            }
        },
        {"warning": "projected cost $0.009 is 95 % of the budget $0.010"},
    ]
    events = [ParseDict({"sequence": str(n), **event}, run_pb2.RunEvent()) for n, event in enumerate(told, 1)]
    last = run_pb2.RunEvent(sequence=len(events) + 1, state=run_pb2.StateChanged(state=run.state, run=run))
    return [*events, last]


class FakeGateway(
    run_pb2_grpc.RunServiceServicer,
    grounding_pb2_grpc.GroundingServiceServicer,
    redaction_pb2_grpc.RedactionServiceServicer,
    catalogue_pb2_grpc.CatalogueServiceServicer,
):
    """Plays `run`: every run that is started becomes it. A test changes the attributes and reads what arrived."""

    finished = staticmethod(finished_run)
    result = staticmethod(result_document)
    told = staticmethod(events_of)

    def __init__(self) -> None:
        self.address = ""
        self.run = finished_run()
        self.events: list[run_pb2.RunEvent] | None = None
        self.refusal: DjpError | None = None
        self.lost: list[DjpError] = []
        """What is said, once each, in the place of the answer to a run that was started."""
        self.start_requests: list[run_pb2.StartRunRequest] = []
        self.restored: run_pb2.Run | DjpError | None = None
        """What is said to who asks for the run's values; None: the run as it is."""
        self.breaks: list[int] = []
        """After which event numbers the stream breaks, once each."""
        self.goes_on = asyncio.Event()
        """Cleared, the stream waits before its last event."""
        self.goes_on.set()
        self.waiting = asyncio.Event()
        self.projection = {
            "debate": {"costNanoUsd": "29000000", "tokens": "4000", "calls": 3},
            "judge": {"costNanoUsd": "16500000", "tokens": "1600", "calls": 1},
            "total": {"costNanoUsd": "45500000", "tokens": "5600", "calls": 4},
        }
        self.skipped: list[tuple[str, str]] = []
        self.told_skipped: list[grounding_pb2.SkippedFile] = []
        self.sent_bytes = 0  # of all corpus files
        self.stored: list[run_pb2.Run] = []
        self.started: list[run_pb2.RunRequest] = []
        self.projected: list[run_pb2.RunRequest] = []
        self.listed: list[run_pb2.ListRunsRequest] = []
        self.cancelled: list[run_pb2.CancelRunRequest] = []
        self.decided: list[tuple[str, str, str]] = []
        self.cancelled_as = "CANCELLED"
        """The state in which a run then is."""
        self.watched_after: list[int] = []
        self.corpora: dict[str, dict[str, bytes]] = {}

    async def StartRun(self, request: run_pb2.StartRunRequest, context: Any) -> run_pb2.StartRunResponse:
        self.start_requests.append(request)
        if self.refusal:
            raise self.refusal
        self.started.append(request.run)
        if self.lost:
            raise self.lost.pop(0)
        return run_pb2.StartRunResponse(run=run_pb2.Run(run_id=self.run.run_id, state=run_pb2.RUN_STATE_QUEUED))

    async def WatchRun(self, request: run_pb2.WatchRunRequest, context: Any) -> AsyncIterator[run_pb2.WatchRunResponse]:
        self.watched_after.append(request.after_sequence)
        yield run_pb2.WatchRunResponse(event=run_pb2.RunEvent(heartbeat=run_pb2.Heartbeat()))
        events = events_of(self.run) if self.events is None else self.events
        for event in events[request.after_sequence :]:
            if event is events[-1] and not self.goes_on.is_set():
                self.waiting.set()
                await self.goes_on.wait()
            yield run_pb2.WatchRunResponse(event=event)
            if event.sequence in self.breaks:
                self.breaks.remove(event.sequence)
                return

    async def GetRun(self, request: run_pb2.GetRunRequest, context: Any) -> run_pb2.GetRunResponse:
        if (self.breaks or self.events is not None) and not self.stored:
            return run_pb2.GetRunResponse(run=run_pb2.Run(run_id=self.run.run_id, state=run_pb2.RUN_STATE_RUNNING))
        if request.restore_values and self.restored:
            if isinstance(self.restored, DjpError):
                raise self.restored
            return run_pb2.GetRunResponse(run=self.restored)
        for run in [*self.stored, self.run]:
            if run.run_id.startswith(request.run_id):
                return run_pb2.GetRunResponse(run=run)
        raise NotFound(f"there is no run {request.run_id}; djp runs list shows those there are", field="run_id")

    async def CancelRun(self, request: run_pb2.CancelRunRequest, context: Any) -> run_pb2.CancelRunResponse:
        self.cancelled.append(request)
        if self.refusal:
            raise self.refusal
        return run_pb2.CancelRunResponse(run=finished_run(self.cancelled_as, result={"totalNanoUsd": "2200000"}))

    async def ApproveRun(self, request: run_pb2.ApproveRunRequest, context: Any) -> run_pb2.ApproveRunResponse:
        self.decided.append(("approve", request.run_id, request.reason))
        return run_pb2.ApproveRunResponse(run=finished_run())

    async def RejectRun(self, request: run_pb2.RejectRunRequest, context: Any) -> run_pb2.RejectRunResponse:
        self.decided.append(("reject", request.run_id, request.reason))
        error = {"reason": "ERROR_REASON_APPROVAL_REJECTED", "message": "rejected by tenant default: not true"}
        return run_pb2.RejectRunResponse(run=finished_run("REJECTED", error=error))

    async def ListRuns(self, request: run_pb2.ListRunsRequest, context: Any) -> run_pb2.ListRunsResponse:
        self.listed.append(request)
        more = "more" if len(self.stored) > (request.page_size or 50) else ""
        return run_pb2.ListRunsResponse(runs=self.stored[: request.page_size or 50], next_page_token=more)

    async def ProjectRun(self, request: run_pb2.ProjectRunRequest, context: Any) -> run_pb2.ProjectRunResponse:
        self.projected.append(request.run)
        spec = run_pb2.RunSpec(task=request.run.task)
        if request.run.HasField("budget_nano_usd"):
            spec.budget_nano_usd = request.run.budget_nano_usd
        if request.run.HasField("budget_tokens"):
            spec.budget_tokens = request.run.budget_tokens
        return run_pb2.ProjectRunResponse(spec=spec, projection=ParseDict(self.projection, run_pb2.Projection()))

    async def CreateCorpus(self, request_iterator: Any, context: Any) -> grounding_pb2.CreateCorpusResponse:
        name, files, path, skipped, missing = "", dict[str, bytes](), "", [], []
        async for part in request_iterator:
            if part.WhichOneof("part") == "header":
                name = part.header.corpus
                skipped = list(part.header.skipped)
                self.told_skipped = list(skipped)
            elif part.WhichOneof("part") == "hashes":
                for one in part.hashes.files:
                    known = self.corpora.get(name, {}).get(one.path)
                    if known is not None and sha256(known).digest() == one.sha256:
                        files[one.path] = known
                    else:
                        missing.append(one.path)
            else:
                path = part.file.path or path
                files[path] = files.get(path, b"") + part.file.content
                self.sent_bytes += len(part.file.content)
        if missing:
            return grounding_pb2.CreateCorpusResponse(missing=missing)
        reused = self.corpora.get(name) == files
        self.corpora[name] = files
        skipped += [grounding_pb2.SkippedFile(path=path, reason=reason) for path, reason in self.skipped]
        version = grounding_pb2.CorpusVersion(corpus=name, version="v1", documents=len(files), passages=len(files))
        return grounding_pb2.CreateCorpusResponse(version=version, skipped=skipped, reused=reused)

    async def Redact(self, request: redaction_pb2.RedactRequest, context: Any) -> redaction_pb2.RedactResponse:
        return redaction_pb2.RedactResponse(text=request.text.replace("ada@example.org", "[REDACTED:EMAIL]"))

    async def ListPresets(self, request: Any, context: Any) -> catalogue_pb2.ListPresetsResponse:
        preset = catalogue_pb2.Preset(name="remote", description="Only there.")
        preset.document.update({"description": "Only there.", "max_tokens": 500})
        return catalogue_pb2.ListPresetsResponse(presets=[preset])

    def service(self) -> Service:
        """The gateway as a target."""
        return Service(
            "gateway",
            [
                (
                    run_pb2.DESCRIPTOR.services_by_name["RunService"],
                    self,
                    run_pb2_grpc.add_RunServiceServicer_to_server,
                ),
                (
                    grounding_pb2.DESCRIPTOR.services_by_name["GroundingService"],
                    self,
                    grounding_pb2_grpc.add_GroundingServiceServicer_to_server,
                ),
                (
                    redaction_pb2.DESCRIPTOR.services_by_name["RedactionService"],
                    self,
                    redaction_pb2_grpc.add_RedactionServiceServicer_to_server,
                ),
                (
                    catalogue_pb2.DESCRIPTOR.services_by_name["CatalogueService"],
                    self,
                    catalogue_pb2_grpc.add_CatalogueServiceServicer_to_server,
                ),
            ],
        )


@dataclass
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str


@dataclass
class Command:
    """Runs the real command in a process of its own, in an empty DJP_HOME."""

    home: Path
    gateway: str = ""
    env: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("DJP_", "PYTHON", "COLUMNS"))}
        gateway = {"DJP_GATEWAY": self.gateway} if self.gateway else {}
        return {**kept, "DJP_HOME": str(self.home), **gateway, **self.env}

    async def start(self, *args: str, **kwargs: Any) -> asyncio.subprocess.Process:
        pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
        return await asyncio.create_subprocess_exec(DJP, *args, env=self.environment(), **{**pipes, **kwargs})

    async def __call__(self, *args: str, stdin: bytes = b"") -> Ended:
        process = await self.start(*args)
        out, err = await process.communicate(stdin)
        assert process.returncode is not None
        return Ended(process.returncode, out.decode(), err.decode())


@pytest.fixture(autouse=True)
def _fresh_consoles() -> Iterator[None]:
    terminal.out.cache_clear()
    terminal.err.cache_clear()
    yield
    terminal.out.cache_clear()
    terminal.err.cache_clear()


@pytest.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    fake = FakeGateway()
    folder = Path(tempfile.mkdtemp(prefix="djp-"))  # a socket's path may have 103 bytes
    async with MeshServer(fake.service(), f"unix:{folder}/gateway.sock") as server:
        fake.address = server.address
        yield fake
        fake.goes_on.set()
    shutil.rmtree(folder)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty DJP_HOME, for this process too."""
    monkeypatch.setenv("DJP_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DJP_GATEWAY", raising=False)
    return tmp_path / "home"


@pytest.fixture
def djp(home: Path) -> Command:
    """The command, without a gateway."""
    return Command(home)


@pytest.fixture
def djp_at(home: Path, gateway: FakeGateway) -> Command:
    """The command with the fake gateway."""
    return Command(home, gateway.address)


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A folder with two documents and two files that are none."""
    folder = tmp_path / "My Docs"
    (folder / "deep").mkdir(parents=True)
    (folder / "budgets.md").write_text("# Budgets\nMoney is reserved first.\n")
    (folder / "deep" / "Ünïcode.txt").write_text("Then it is spent.\n")
    (folder / "logo.png").write_bytes(b"\x89PNG")
    (folder / "empty.md").write_text("")
    return folder


@dataclass
class Ledger:
    """A real governance service with a clock to turn, behind a socket that believes whoever says to be an operator."""

    address: str
    port: str
    """The same service where nobody is believed, as on a gateway's port."""
    channel: Any
    moment: datetime = datetime(2026, 3, 31, 12, 0, tzinfo=UTC)

    async def spend(self, tenant: str, *costs: int, model: str = "acme/good", hold: int = 0, **tags: str) -> None:
        """A run that made a call for each cost, of 1,000 tokens in and 100 out; `hold` is held on, else it settles."""
        stub = governance_pb2_grpc.GovernanceServiceStub(self.channel)
        as_tenant = {"metadata": (("djp-tenant", tenant),)}
        granted = await stub.Reserve(
            governance_pb2.ReserveRequest(
                request_id=str(uuid.uuid4()), run_id=str(uuid.uuid4()), amount_nano_usd=sum(costs) + hold, tags=tags
            ),
            **as_tenant,
        )
        reservation_id, usage = granted.reservation.reservation_id, {"input_tokens": 1000, "output_tokens": 100}
        calls = [
            common_pb2.ModelCall(
                call_id=str(uuid.uuid4()), stage="STAGE_DEBATE", model=model, cost_nano_usd=cost, usage=usage, attempt=1
            )
            for cost in costs
        ]
        if calls:
            request = governance_pb2.ChargeRequest(
                request_id=str(uuid.uuid4()), reservation_id=reservation_id, calls=calls
            )
            await stub.Charge(request, **as_tenant)
        if not hold:
            request = governance_pb2.SettleRequest(request_id=str(uuid.uuid4()), reservation_id=reservation_id)
            await stub.Settle(request, **as_tenant)


@pytest.fixture
async def ledger(home: Path, tmp_path: Path, short_folder: Path) -> AsyncIterator[Ledger]:
    """A ledger with the guide's limits."""
    settings = GovernanceSettings(database_url=f"sqlite+aiosqlite:///{tmp_path}/governance.db")
    found = Ledger("", "", None)
    async with (
        open_service(settings, lambda: found.moment) as service,
        MeshServer(service, f"unix:{short_folder}/governance.sock") as server,
        MeshServer(replace(service, public=True, background=()), "localhost:0") as public,
        open_channel(server.address) as channel,
    ):
        found.address, found.port, found.channel = server.address, public.address, channel
        yield found


class SlowStore(DirectoryStore):
    """A store of objects whose copies a test can hold up, or have refused."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.copies_left: int | None = None
        """After so many copies the next ones wait for `goes_on`."""
        self.goes_on = asyncio.Event()
        self.refuses_copies = False

    async def copy(self, source: ObjectName, target: ObjectName, description: str) -> None:
        if self.refuses_copies:
            raise FailedPrecondition("the bucket may only be read; mend its policy")
        if self.copies_left is not None:
            self.copies_left -= 1
            if self.copies_left < 0:
                await self.goes_on.wait()
        await super().copy(source, target, description)


@dataclass
class Archive:
    """A real storage service with a clock to turn, behind a socket that believes whoever says to be an operator."""

    address: str
    port: str
    """The same service where nobody is believed, as on a gateway's port."""
    store: SlowStore
    clock: Clock


@pytest.fixture
async def archive(
    home: Path, tmp_path: Path, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Archive]:
    """Storage with nothing in it."""
    folder, clock = tmp_path / "artifacts", Clock()
    store = await asyncio.to_thread(SlowStore, folder)
    monkeypatch.setattr("djp_storage.server._open_store", lambda _settings: store)
    settings = StorageSettings(database_url=f"sqlite+aiosqlite:///{tmp_path}/storage.db", data_dir=folder)
    async with (
        open_storage(settings, clock) as service,
        MeshServer(service, f"unix:{short_folder}/storage.sock") as server,
        MeshServer(replace(service, public=True, background=(), on_drain=()), "localhost:0") as public,
    ):
        yield Archive(server.address, public.address, store, clock)
        store.goes_on.set()
