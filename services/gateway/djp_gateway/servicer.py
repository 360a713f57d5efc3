"""The gateway's RPCs about runs."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.json_format import MessageToDict

from djp.llm.offline import DEBATER_MODELS, JUROR_MODELS
from djp.mesh.deadline import bounded_timeout, deadline_scope
from djp.mesh.errors import DjpError, InvalidInput, NotFound, Violation
from djp.mesh.identity import current_identity
from djp.mesh.rpc_errors import error_from_rpc
from djp.run_states import TERMINAL_STATES
from djp.v1 import grounding_pb2, redaction_pb2, run_pb2, run_pb2_grpc
from djp_gateway.citing import find_passages
from djp_gateway.hiding import hidden, put_back
from djp_gateway.ordering import Ordering
from djp_gateway.ports import APPROVE, CANCEL, REJECT
from djp_gateway.spec import resolve
from djp_gateway.steps import bound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from djp_gateway.adapters.leaves import Leaves
    from djp_gateway.catalogue import Catalogue
    from djp_gateway.live import Watchers
    from djp_gateway.ports import RunOrders, RunStore
    from djp_gateway.runner import Runner
    from djp_gateway.settings import GatewaySettings
    from djp_gateway.templates.making import Made, Templates

_ANSWER_S = 30.0  # a leaf that is asked before there is a run answers in milliseconds, or is frozen
_MOST_LOOK_S = 1.0
_LOOK_S = 0.2  # until the store is asked again, for no bell rings here for another gateway's run
_MODELS_S = 10.0  # the first question about a real model loads prices and tokenizers

Context = grpc.aio.ServicerContext[Any, Any]


class RunServicer(run_pb2_grpc.RunServiceServicer):
    """Accepts runs, shows them, and streams their events."""

    def __init__(
        self,
        settings: GatewaySettings,
        catalogue: Catalogue,
        store: RunStore,
        orders: RunOrders,
        runner: Runner,
        watchers: Watchers,
        leaves: Leaves,
        templates: Templates,
        *,
        alone: bool,
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._store = store
        self._ordering = Ordering(store, orders, runner, watchers)
        self._runner = runner
        self._alone = alone
        self._watchers = watchers
        self._leaves = leaves
        self._templates = templates

    async def StartRun(self, request: run_pb2.StartRunRequest, context: Context) -> run_pb2.StartRunResponse:
        tenant, request_id = current_identity().tenant, request.request_id
        request_sha256 = sha256(request.run.SerializeToString(deterministic=True)).hexdigest()
        # Before anything is resolved: a preset may have changed since, but the answer to this request has not.
        if earlier := await self._store.earlier(tenant, request_id, request_sha256):
            return run_pb2.StartRunResponse(run=earlier)
        run = run_pb2.Run(
            run_id=str(uuid.uuid4()),
            tenant=tenant,
            state=run_pb2.RUN_STATE_QUEUED,
            spec=await self._resolve(request.run),
            attempt=1,
        )
        run.created_at.GetCurrentTime()
        stored = await self._runner.accept(run, request_id=request_id, request_sha256=request_sha256)
        return run_pb2.StartRunResponse(run=stored)

    async def ProjectRun(self, request: run_pb2.ProjectRunRequest, context: Context) -> run_pb2.ProjectRunResponse:
        return await self.project(request.run)

    async def project(self, request: run_pb2.RunRequest) -> run_pb2.ProjectRunResponse:
        """What a run of the current tenant's would be, and the most that it could cost."""
        spec = await self._resolve(request)
        with deadline_scope(bounded_timeout(_ANSWER_S)):
            passages = await find_passages(spec, self._leaves)
            sent = await hidden(spec, self._leaves, passages)
            projection = await bound(sent, str(uuid.uuid4()), self._leaves)
        return run_pb2.ProjectRunResponse(spec=spec, projection=projection)

    async def GetRun(self, request: run_pb2.GetRunRequest, context: Context) -> run_pb2.GetRunResponse:
        run = await self._store.get(current_identity().tenant, request.run_id)
        if request.restore_values:
            put_back(run, await self._store.hidden(run.run_id))
        return run_pb2.GetRunResponse(run=run)

    async def ListRuns(self, request: run_pb2.ListRunsRequest, context: Context) -> run_pb2.ListRunsResponse:
        page = await self._store.list(current_identity().tenant, request)
        return run_pb2.ListRunsResponse(runs=page.runs, next_page_token=page.next_page_token)

    async def WatchRun(
        self, request: run_pb2.WatchRunRequest, context: Context
    ) -> AsyncIterator[run_pb2.WatchRunResponse]:
        run = await self._store.get(current_identity().tenant, request.run_id)
        sequence, look_s = request.after_sequence, _LOOK_S
        loop, beat_s = asyncio.get_running_loop(), self._settings.heartbeat_s
        said_at = loop.time()
        with self._watchers.bell(run.run_id) as bell, ExitStack() as stack:
            drafting = stack.enter_context(self._watchers.listener(run.run_id, bell)) if request.deltas else None
            while True:
                bell.clear()
                for event in drafting.take() if drafting else ():
                    yield run_pb2.WatchRunResponse(event=event)
                events = await self._store.events_after(run.run_id, sequence)
                for event in events:
                    sequence = event.sequence
                    last = event.HasField("state") and event.state.state in TERMINAL_STATES
                    if last:
                        event.state.run.spec.CopyFrom(run.spec)  # the whole run; events are kept without the task
                    yield run_pb2.WatchRunResponse(event=event)
                    if last:
                        return
                if events:
                    said_at, look_s = loop.time(), _LOOK_S
                    continue
                if run.state in TERMINAL_STATES:
                    return  # the caller had seen the last event before
                if problem := self._watchers.stuck(run.run_id):
                    raise problem
                # No bell rings here for what another gateway does: so the store is asked, ever less often.
                wait_s = beat_s if self._alone or self._runner.has(run.run_id) else min(look_s, beat_s)
                look_s = min(look_s * 1.5, _MOST_LOOK_S)
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await bell.wait()
                if loop.time() - said_at >= beat_s:
                    said_at = loop.time()
                    yield run_pb2.WatchRunResponse(event=run_pb2.RunEvent(heartbeat=run_pb2.Heartbeat()))

    async def CancelRun(self, request: run_pb2.CancelRunRequest, context: Context) -> run_pb2.CancelRunResponse:
        return run_pb2.CancelRunResponse(run=await self._ordering.give(CANCEL, request))

    async def ApproveRun(self, request: run_pb2.ApproveRunRequest, context: Context) -> run_pb2.ApproveRunResponse:
        return run_pb2.ApproveRunResponse(run=await self._ordering.give(APPROVE, request))

    async def RejectRun(self, request: run_pb2.RejectRunRequest, context: Context) -> run_pb2.RejectRunResponse:
        return run_pb2.RejectRunResponse(run=await self._ordering.give(REJECT, request))

    async def _resolve(self, request: run_pb2.RunRequest) -> run_pb2.RunSpec:
        made: Made | None = None
        problems: list[Violation] = []
        if request.template:
            try:
                given = MessageToDict(request.inputs)
                made = await self._templates.make(current_identity().tenant, request.template, given)
            except (InvalidInput, NotFound) as error:
                problems += error.violations  # told with all else that is wrong
        spec = resolve(
            request,
            self._catalogue,
            made,
            problems,
            default_policy=self._settings.policy,
            default_debaters=_models(self._settings.debaters),
            default_jurors=_models(self._settings.jurors),
        )
        await self._check_models(
            spec,
            {
                "debaters": "run.debaters" if request.debaters else "DJP_DEBATERS",
                "jurors": "run.jurors" if request.jurors else "DJP_JURORS",
            },
        )
        with deadline_scope(bounded_timeout(_ANSWER_S)):
            if spec.corpus:
                # Pins the version, so that search and citation check see the same documents, and a replay too.
                probe = grounding_pb2.SearchRequest(corpus=spec.corpus, query=spec.task, top_k=1)
                with _fields_named({"corpus": "run.corpus", "query": "run.task"}):
                    spec.corpus_version = (await self._leaves.grounding.Search(probe)).version
            if spec.HasField("redaction_options"):
                # Options that redaction will refuse are refused now, not when the debate is paid.
                with _fields_named({"options": "run.redaction_options"}):
                    await self._leaves.redaction.Redact(redaction_pb2.RedactRequest(options=spec.redaction_options))
        return spec

    async def _check_models(self, spec: run_pb2.RunSpec, origins: Mapping[str, str]) -> None:
        """Refuse a model that cannot be called before there is a run, if debate and judge are there to be asked.

        The offline models are always there. `origins`: where debaters and jurors come from, the caller or a setting.
        """
        debaters = all(one.model in DEBATER_MODELS and not one.fallback_models for one in spec.debaters)
        if debaters and all(one.model in JUROR_MODELS and not one.fallback_models for one in spec.jurors):
            return
        try:
            names = {"debate.debaters": origins["debaters"], "options": "run.redaction_options", **origins}
            with deadline_scope(bounded_timeout(_MODELS_S)), _fields_named(names):
                await bound(await hidden(spec, self._leaves, []), str(uuid.uuid4()), self._leaves)
        except DjpError as error:
            if error.code not in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
                raise  # those that are away are told by the run itself, which is patient


@contextmanager
def _fields_named(names: Mapping[str, str]) -> Iterator[None]:
    """A leaf's error about fields of its request, told in the fields of the caller's."""
    try:
        yield
    except grpc.aio.AioRpcError as failure:
        error = error_from_rpc(failure)
        error.violations = tuple(
            Violation(_field_named(field, names), violation.description.removeprefix(f"{field}: "))
            for violation in error.violations
            for field in [violation.field]
        )
        raise error from failure


def _field_named(field: str, names: Mapping[str, str]) -> str:
    for inner, outer in names.items():
        if field == inner or field.startswith((f"{inner}.", f"{inner}[")):
            return outer + field[len(inner) :]
    return field


def _models(setting: str) -> list[str]:
    return [model.strip() for model in setting.split(",") if model.strip()]
