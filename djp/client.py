"""The Python client of the gateway: corpora, runs, budgets, artifacts; typed, asynchronous. `djp` uses it."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from djp.batches_client import BatchesClient
from djp.client_pages import PAGE_SIZE, pages
from djp.client_retries import RETRY_WAITS_S, Retrying
from djp.client_streams import resumed
from djp.corpora_client import CorporaClient
from djp.corpus_upload import UPLOAD_TIMEOUT_S, Upload
from djp.mesh.channel import open_channel
from djp.mesh.errors import DjpError
from djp.mesh.rpc_errors import answer_of as _answer
from djp.mesh.rpc_errors import error_from_rpc
from djp.mesh.times import to_timestamp
from djp.run_states import TERMINAL_STATES
from djp.storage_client import StorageClient
from djp.v1 import (
    catalogue_pb2,
    catalogue_pb2_grpc,
    dead_letter_pb2,
    dead_letter_pb2_grpc,
    debate_pb2,
    debate_pb2_grpc,
    governance_pb2,
    governance_pb2_grpc,
    grounding_pb2,
    grounding_pb2_grpc,
    key_pb2,
    key_pb2_grpc,
    redaction_pb2,
    redaction_pb2_grpc,
    run_pb2,
    run_pb2_grpc,
    scaling_pb2,
    scaling_pb2_grpc,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from djp.corpus_files import SkippedFile

CALL_TIMEOUT_S = 60.0
"""A single call's deadline: a projection searches a corpus, everything else answers in milliseconds."""
_MAX_SKIPPED_SENT = 1000  # keeps the upload's first message small; the rest is counted in one entry


@dataclass(frozen=True)
class Corpus:
    """A corpus that a run can name.

    `skipped` holds every file that is not in it, with the reason, whether it was left out here or by the gateway.
    `reused` says that these files were known already and nothing was built.
    """

    name: str
    version: str
    documents: int
    passages: int
    skipped: Sequence[SkippedFile]
    reused: bool


class DjpClient:
    """A gateway's client. Every method raises DjpError, with the gateway's own code and reason; none raises RpcError.

    `djp.sync_client` has the same methods for programs without an event loop.

    Example:
        async with connect("localhost:7100") as client:
            corpus = await client.create_corpus(Path("docs"))
            run = await client.start_run(RunRequest(task="How are citations checked?", corpus=corpus.name))
            async for event in client.watch(run.run_id):
                print(event.sequence, event.WhichOneof("event"))
            print((await client.get_run(run.run_id)).result.text)
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.batches = BatchesClient(channel)
        self.corpora = CorporaClient(channel)
        self.storage = StorageClient(channel)
        self._runs = run_pb2_grpc.RunServiceStub(channel)
        self._catalogue = catalogue_pb2_grpc.CatalogueServiceStub(channel)
        self._dead_letters = dead_letter_pb2_grpc.DeadLetterServiceStub(channel)
        self._debate = debate_pb2_grpc.DebateServiceStub(channel)
        self._keys = key_pb2_grpc.KeyServiceStub(channel)
        self._scaling = scaling_pb2_grpc.ScalingServiceStub(channel)
        self._governance = governance_pb2_grpc.GovernanceServiceStub(channel)
        self._grounding = grounding_pb2_grpc.GroundingServiceStub(channel)
        self._redaction = redaction_pb2_grpc.RedactionServiceStub(channel)

    async def create_corpus(
        self, folder: Path, *, name: str = "", sent: Callable[[int, int], None] | None = None
    ) -> Corpus:
        """Make a corpus of the documents of a folder, or a new version of it. Files that did not change are not sent.

        Without a `name` the corpus's name comes from the folder's. `sent` is told the bytes sent so far, and all there
        are to send.

        Raises InvalidInput when the folder is missing or cannot be listed; the gateway refuses one without a document.
        """
        from djp.corpus_files import CorpusFile, SkippedFile, iter_corpus_files

        found = await asyncio.to_thread(lambda: list(iter_corpus_files(folder)))
        files = [entry for entry in found if isinstance(entry, CorpusFile)]
        skipped = [entry for entry in found if isinstance(entry, SkippedFile)]
        name = name or await asyncio.to_thread(lambda: corpus_name(folder.resolve()))
        told = skipped[:_MAX_SKIPPED_SENT]
        if len(skipped) > len(told):
            told = [*told[:-1], SkippedFile("…", f"{len(skipped) - len(told) + 1} more were left out")]
        upload = Upload(self._grounding, name, files, told, sent)
        answer = await upload.run()
        return _corpus(answer, [*skipped, *upload.unread])

    async def import_corpus(self, prefix: str, *, name: str, request_id: str | None = None) -> Corpus:
        """Make a corpus, or a new version of it, of what lies below a prefix of the store that the service reads."""
        request = grounding_pb2.ImportCorpusRequest(
            request_id=request_id or str(uuid.uuid4()), corpus=name, prefix=prefix
        )
        return _corpus(await _answer(self._grounding.ImportCorpus(request, timeout=UPLOAD_TIMEOUT_S)), [])

    async def start_run(self, run: run_pb2.RunRequest, *, request_id: str | None = None) -> run_pb2.Run:
        """Start a run. Give the same `request_id` (a UUID) again to repeat a call whose answer was lost."""
        request = run_pb2.StartRunRequest(request_id=request_id or str(uuid.uuid4()), run=run)
        return (await _answer(self._runs.StartRun(request, timeout=CALL_TIMEOUT_S))).run

    async def project_run(self, run: run_pb2.RunRequest) -> run_pb2.ProjectRunResponse:
        """What a run would be and cost at most; no model is called and nothing is stored."""
        return await _answer(self._runs.ProjectRun(run_pb2.ProjectRunRequest(run=run), timeout=CALL_TIMEOUT_S))

    async def watch(
        self, run_id: str, *, after_sequence: int = 0, deltas: bool = False
    ) -> AsyncGenerator[run_pb2.RunEvent, None]:
        """A run's numbered events up to and including the terminal one, each once, whatever happens to the stream.

        With `deltas` also the drafts while they are written, redacted, in events with the number 0; a stream that broke
        and was taken up again shows those only that began since.

        Raises Unavailable when the gateway does not come back; the run itself goes on there.
        """

        def start(sequence: int) -> object:
            return self._runs.WatchRun(run_pb2.WatchRunRequest(run_id=run_id, after_sequence=sequence, deltas=deltas))

        async def whole(sequence: int) -> bool:
            run = await self.get_run(run_id)
            return run.state in TERMINAL_STATES and run.last_sequence <= sequence

        answers = resumed(
            start, lambda answer: int(answer.event.sequence), whole, after=after_sequence, what=f"run {run_id}"
        )
        async with aclosing(answers):
            async for answer in answers:
                event: run_pb2.RunEvent = answer.event
                if event.HasField("heartbeat"):
                    continue
                yield event
                if event.state.state in TERMINAL_STATES:
                    return

    async def get_run(self, run_id: str, *, restore_values: bool = False) -> run_pb2.Run:
        """One run, by its id or by at least 8 characters that only its id begins with.

        With `restore_values` its result has the values again that redaction mode ALL hid from the models. Raises
        FailedPrecondition if the run had another mode, or the values are not kept any more.
        """
        request = run_pb2.GetRunRequest(run_id=run_id, restore_values=restore_values)
        return (await _answer(self._runs.GetRun(request, timeout=CALL_TIMEOUT_S))).run

    async def cancel_run(self, run_id: str, *, reason: str = "", request_id: str | None = None) -> run_pb2.Run:
        """Stop a run: calls under way are charged, the rest of its money goes back. Answers with the run as it then is.

        One that has ended already stays as it is.
        """
        request = run_pb2.CancelRunRequest(request_id=request_id or str(uuid.uuid4()), run_id=run_id, reason=reason)
        return (await _answer(self._runs.CancelRun(request, timeout=CALL_TIMEOUT_S))).run

    async def approve_run(self, run_id: str, *, reason: str = "", request_id: str | None = None) -> run_pb2.Run:
        """Let a run be published that waits for approval. Answers with the run when it has ended, or as it then is."""
        request = run_pb2.ApproveRunRequest(request_id=request_id or str(uuid.uuid4()), run_id=run_id, reason=reason)
        return (await _answer(self._runs.ApproveRun(request, timeout=CALL_TIMEOUT_S))).run

    async def reject_run(self, run_id: str, *, reason: str, request_id: str | None = None) -> run_pb2.Run:
        """End a run that waits for approval without publishing it. Answers as `approve_run`."""
        request = run_pb2.RejectRunRequest(request_id=request_id or str(uuid.uuid4()), run_id=run_id, reason=reason)
        return (await _answer(self._runs.RejectRun(request, timeout=CALL_TIMEOUT_S))).run

    async def replay_run(
        self,
        run_id: str,
        *,
        task: str = "",
        preset: str = "",
        trace_name: str = "",
        dry_run: bool = False,
        request_id: str | None = None,
    ) -> run_pb2.ReplayRunResponse:
        """Start a run by the spec of an earlier one, with another task, preset or trace name where one is given.

        The answer has the new run, but not on a dry run, the command line that asks for the same, and what differs in
        configuration since the earlier one.
        """
        request = run_pb2.ReplayRunRequest(
            request_id=request_id or str(uuid.uuid4()),
            run_id=run_id,
            task=task,
            preset=preset,
            trace_name=trace_name,
            dry_run=dry_run,
        )
        return await _answer(self._runs.ReplayRun(request, timeout=CALL_TIMEOUT_S))

    async def list_runs(self, request: run_pb2.ListRunsRequest) -> run_pb2.ListRunsResponse:
        """Runs, newest first; a page's `next_page_token` is the next request's `page_token`."""
        return await _answer(self._runs.ListRuns(request, timeout=CALL_TIMEOUT_S))

    async def list_dead_letters(
        self, wanted: dead_letter_pb2.DeadLetterFilter, *, page_size: int = 0, page_token: str = ""
    ) -> dead_letter_pb2.ListDeadLettersResponse:
        """The caller's runs that were denied or failed and fit, the latest first."""
        request = dead_letter_pb2.ListDeadLettersRequest(filter=wanted, page_size=page_size, page_token=page_token)
        return await _answer(self._dead_letters.ListDeadLetters(request, timeout=CALL_TIMEOUT_S))

    async def get_dead_letter(self, dead_letter_id: str) -> dead_letter_pb2.GetDeadLetterResponse:
        """One dead letter with its run, whose id it has."""
        request = dead_letter_pb2.GetDeadLetterRequest(dead_letter_id=dead_letter_id)
        return await _answer(self._dead_letters.GetDeadLetter(request, timeout=CALL_TIMEOUT_S))

    async def replay_dead_letters(
        self,
        wanted: dead_letter_pb2.DeadLetterFilter,
        *,
        window_share: float | None = None,
        request_id: str | None = None,
    ) -> dead_letter_pb2.ReplayDeadLettersResponse:
        """Queue those that fit again, each once; together they use at most the share (0.5) of each budget window."""
        request = dead_letter_pb2.ReplayDeadLettersRequest(
            request_id=request_id or str(uuid.uuid4()), filter=wanted, window_share=window_share
        )
        return await _answer(self._dead_letters.ReplayDeadLetters(request, timeout=UPLOAD_TIMEOUT_S))

    async def purge_dead_letters(
        self, wanted: dead_letter_pb2.DeadLetterFilter, *, request_id: str | None = None
    ) -> int:
        """Forget those that fit; their runs stay. How many that were."""
        request = dead_letter_pb2.PurgeDeadLettersRequest(request_id=request_id or str(uuid.uuid4()), filter=wanted)
        return (await _answer(self._dead_letters.PurgeDeadLetters(request, timeout=CALL_TIMEOUT_S))).purged

    async def create_key(self, request: key_pb2.CreateKeyRequest) -> key_pb2.CreateKeyResponse:
        """A new API key, with its secret, which is shown only now. For admins."""
        return await _answer(self._keys.CreateKey(request, timeout=CALL_TIMEOUT_S))

    async def list_keys(self, tenant: str = "") -> Sequence[key_pb2.Key]:
        """The API keys of a tenant, or all, newest first. For admins."""
        request = key_pb2.ListKeysRequest(tenant=tenant, page_size=PAGE_SIZE)
        return [one async for page in pages(self._keys.ListKeys, request) for one in page.keys]

    async def revoke_key(self, key_id: str, *, request_id: str | None = None) -> key_pb2.Key:
        """Let an API key work no more, everywhere within a second. For admins."""
        request = key_pb2.RevokeKeyRequest(request_id=request_id or str(uuid.uuid4()), key_id=key_id)
        return (await _answer(self._keys.RevokeKey(request, timeout=CALL_TIMEOUT_S))).key

    async def get_caller(self) -> key_pb2.GetCallerResponse:
        """As whom the gateway takes this client's calls, and which release of DJP Mesh it is."""
        return await _answer(self._keys.GetCaller(key_pb2.GetCallerRequest(), timeout=CALL_TIMEOUT_S))

    async def list_audit_events(self, request: key_pb2.ListAuditEventsRequest) -> key_pb2.ListAuditEventsResponse:
        """One page of who made and revoked keys, decided about runs and was refused, newest first."""
        return await _answer(self._keys.ListAuditEvents(request, timeout=CALL_TIMEOUT_S))

    async def get_scaling(self) -> scaling_pb2.Scaling:
        """The workers of the gateway that answers, and what its autoscaler decides. For operators, where keys are."""
        request = scaling_pb2.GetScalingRequest()
        return (await _answer(self._scaling.GetScaling(request, timeout=CALL_TIMEOUT_S))).scaling

    async def list_presets(self) -> Sequence[catalogue_pb2.Preset]:
        """The presets that a run may name."""
        request = catalogue_pb2.ListPresetsRequest()
        return (await _answer(self._catalogue.ListPresets(request, timeout=CALL_TIMEOUT_S))).presets

    async def list_policies(self) -> Sequence[catalogue_pb2.Policy]:
        """The policies that a run may name."""
        answer = await _answer(
            self._catalogue.ListPolicies(catalogue_pb2.ListPoliciesRequest(), timeout=CALL_TIMEOUT_S)
        )
        return list(answer.policies)

    async def list_templates(self) -> catalogue_pb2.ListTemplatesResponse:
        """The templates that a run may name, and the files that could not be read as one."""
        return await _answer(
            self._catalogue.ListTemplates(catalogue_pb2.ListTemplatesRequest(), timeout=CALL_TIMEOUT_S)
        )

    async def get_template(self, name: str) -> catalogue_pb2.Template:
        """One template. Raises NotFound."""
        request = catalogue_pb2.GetTemplateRequest(name=name)
        return (await _answer(self._catalogue.GetTemplate(request, timeout=CALL_TIMEOUT_S))).template

    async def render_template(self, name: str, inputs: Mapping[str, Any]) -> str:
        """The task that a template makes. Raises InvalidInput with one violation for every bad input."""
        request = catalogue_pb2.RenderTemplateRequest(name=name)
        request.inputs.update(inputs)
        return (await _answer(self._catalogue.RenderTemplate(request, timeout=CALL_TIMEOUT_S))).text

    async def list_models(self, provider: str = "") -> Sequence[debate_pb2.Model]:
        """The models that a run may name, with reachability and price; of one provider, or all."""
        request = debate_pb2.ListModelsRequest(provider=provider)
        return (await _answer(self._debate.ListModels(request, timeout=CALL_TIMEOUT_S))).models

    async def redact(
        self, text: str, options: redaction_pb2.RedactionOptions | None = None
    ) -> redaction_pb2.RedactResponse:
        """The text, of up to 8 MiB, without personal data and secrets; what was found, with offsets in code points."""
        request = redaction_pb2.RedactRequest(text=text, options=options)
        return await _answer(self._redaction.Redact(request, timeout=CALL_TIMEOUT_S))

    async def redact_stream(
        self, pieces: AsyncIterator[str], options: redaction_pb2.RedactionOptions
    ) -> AsyncGenerator[redaction_pb2.RedactStreamResponse, None]:
        """The same for a text of any length that comes in pieces of up to 1 MiB: what can no longer change, at once.

        Raises what `pieces` raises, too.
        """
        await self.redact("", options)  # a stream that is refused while it is written to can lose the reason
        broken: list[DjpError] = []

        async def requests() -> AsyncIterator[redaction_pb2.RedactStreamRequest]:
            yield redaction_pb2.RedactStreamRequest(options=options)
            try:
                async for piece in pieces:
                    yield redaction_pb2.RedactStreamRequest(text=piece)
            except DjpError as error:  # grpc would answer it with a mere cancellation
                broken.append(error)
                raise

        call = self._redaction.RedactStream(requests())
        try:
            async for response in call:
                yield response
        except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:
            if broken:
                raise broken[0] from error
            if isinstance(error, grpc.aio.AioRpcError):
                raise error_from_rpc(error) from error
            raise
        finally:
            call.cancel()

    async def list_rules(self) -> redaction_pb2.ListRulesResponse:
        """The rules of redaction in force for the caller's tenant, and their version."""
        return await _answer(self._redaction.ListRules(redaction_pb2.ListRulesRequest(), timeout=CALL_TIMEOUT_S))

    async def validate_rules(self, rules: Sequence[redaction_pb2.RedactionRule]) -> redaction_pb2.ValidateRulesResponse:
        """Whether custom rules would be accepted, and if not what is wrong with which."""
        request = redaction_pb2.ValidateRulesRequest(rules=rules)
        return await _answer(self._redaction.ValidateRules(request, timeout=CALL_TIMEOUT_S))

    async def cost_report(self, tenant: str = "", days: int = 0) -> governance_pb2.ReportResponse:
        """What was spent in the last days (0: 30), today the last: by a tenant, or by all that the caller may see."""
        request = governance_pb2.ReportRequest(tenant=tenant, days=days)
        return await _answer(self._governance.Report(request, timeout=CALL_TIMEOUT_S))

    async def list_anomalies(self, tenant: str = "", days: int = 0) -> Sequence[governance_pb2.Anomaly]:
        """The days among the last ones (0: 30) on which a tenant spent unusually much, newest first."""
        request = governance_pb2.ListAnomaliesRequest(tenant=tenant, days=days)
        return (await _answer(self._governance.ListAnomalies(request, timeout=CALL_TIMEOUT_S))).anomalies

    async def list_budgets(self) -> Sequence[governance_pb2.Budget]:
        """All budgets that the caller may see, by scope, with their windows now."""
        request = governance_pb2.ListBudgetsRequest(page_size=PAGE_SIZE)
        return [one async for page in pages(self._governance.ListBudgets, request) for one in page.budgets]

    async def get_budget(self, scope: str) -> governance_pb2.Budget:
        """The budget of `global`, `tenant:NAME` or `workflow:NAME`; `tenant` is the caller's own."""
        request = governance_pb2.GetBudgetRequest(scope=scope)
        return (await _answer(self._governance.GetBudget(request, timeout=CALL_TIMEOUT_S))).budget

    async def set_budget(
        self, scope: str, limits: governance_pb2.Budget, reason: str, *, request_id: str | None = None
    ) -> governance_pb2.Budget:
        """Set all four limits of a budget; one that is not in `limits` is none. For operators.

        Give the same `request_id` (a UUID) again to repeat a call whose answer was lost.
        """
        request = governance_pb2.SetBudgetRequest(
            request_id=request_id or str(uuid.uuid4()), scope=scope, budget=limits, reason=reason
        )
        return (await _answer(self._governance.SetBudget(request, timeout=CALL_TIMEOUT_S))).budget

    async def delete_budget(self, scope: str, reason: str, *, request_id: str | None = None) -> None:
        """Take back what `set_budget` set: the configured limits count again. For operators.

        Raises NotFound when nothing was set.
        """
        request = governance_pb2.DeleteBudgetRequest(
            request_id=request_id or str(uuid.uuid4()), scope=scope, reason=reason
        )
        await _answer(self._governance.DeleteBudget(request, timeout=CALL_TIMEOUT_S))

    async def list_events(
        self, since: datetime, kind: governance_pb2.GovernanceEventKind.ValueType
    ) -> Sequence[governance_pb2.GovernanceEvent]:
        """The events of a kind since then that the caller may see, newest first."""
        request = governance_pb2.ListEventsRequest(kind=kind, page_size=PAGE_SIZE)
        request.range.since.CopyFrom(to_timestamp(since))
        return [one async for page in pages(self._governance.ListEvents, request) for one in page.events]


@asynccontextmanager
async def connect(
    address: str, *, api_key: str = "", retry_waits_s: Sequence[float] = RETRY_WAITS_S
) -> AsyncIterator[DjpClient]:
    """A client of the gateway at `host:port` or `unix:/path`; TLS as DJP_TLS_* say. Connects at the first call.

    `api_key` is what `djp keys create` printed, or a token of the issuer that the gateway takes tokens of; without TLS
    anybody on the way can read it.

    A call of one answer whose failure may pass (`UNAVAILABLE`, `RATE_LIMITED`, …) is made again after each of
    `retry_waits_s`, within its deadline and with its `request_id`; streams of events resume. A refusal by a budget is
    final, and so are uploads: call again, what was sent of a corpus is known. Raises InvalidInput for a malformed
    address.
    """
    headers = {"authorization": f"Bearer {api_key}"} if api_key else None
    async with open_channel(address, interceptors=[Retrying(retry_waits_s)], headers=headers) as channel:
        yield DjpClient(channel)


def _corpus(
    answer: grounding_pb2.CreateCorpusResponse | grounding_pb2.ImportCorpusResponse, left_out: Sequence[SkippedFile]
) -> Corpus:
    """What became of an upload; `left_out` are the files that were not sent."""
    from djp.corpus_files import SkippedFile

    told = {entry.path for entry in answer.skipped}
    rejected = [SkippedFile(entry.path, entry.reason) for entry in answer.skipped if entry.path != "…"]
    return Corpus(
        name=answer.version.corpus,
        version=answer.version.version,
        documents=answer.version.documents,
        passages=answer.version.passages,
        skipped=[*rejected, *(entry for entry in left_out if entry.path not in told)],
        reused=answer.reused,
    )


def corpus_name(folder: Path) -> str:
    """The corpus of a folder: its name, readable, and a part of its path's hash, so that no two folders meet."""
    import re
    from hashlib import sha256

    readable = re.sub(r"[^a-z0-9._-]+", "-", folder.name.lower()).strip("._-")[:80] or "corpus"
    return f"{readable}-{sha256(str(folder).encode(errors='surrogateescape')).hexdigest()[:12]}"
