"""The steps by which a run's text leaves it: the policy's choice, redaction, the artifact."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING

import grpc
from google.protobuf.json_format import MessageToDict

from djp.v1 import common_pb2, redaction_pb2, run_pb2, storage_pb2
from djp_gateway.artifact import build_artifact
from djp_gateway.away import named
from djp_gateway.hiding import redacted
from djp_gateway.live import count
from djp_gateway.patience import may_pass, persistently, step_id
from djp_gateway.placeholders import type_of
from djp_gateway.policy import Publication, Ranked, choose
from djp_gateway.record import build_result

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from djp.v1 import debate_pb2, judge_pb2
    from djp_gateway.adapters.leaves import Leaves
    from djp_gateway.live import LiveRun
    from djp_gateway.record import RunRecord

_CHUNK_BYTES = 1 << 20
_MESSAGE_S = 5.0  # what the redaction of an error's message may take

# In these stages a leaf sees texts, and could quote them in an error.
_STAGES_WITH_TEXTS = frozenset(
    {
        common_pb2.STAGE_SEARCH,
        common_pb2.STAGE_HIDE,
        common_pb2.STAGE_PROJECT,
        common_pb2.STAGE_DEBATE,
        common_pb2.STAGE_CITE,
        common_pb2.STAGE_JUDGE,
        common_pb2.STAGE_REDACT,
    }
)


def publish(spec: run_pb2.RunSpec, drafts: Sequence[debate_pb2.Draft], verdict: judge_pb2.Verdict) -> Publication:
    """Let the policy say what becomes of the ranking."""
    by_id = {draft.draft_id: draft for draft in drafts}
    return choose(
        MessageToDict(spec.policy_document),
        [
            Ranked(entry.draft_id, by_id[entry.draft_id].model, entry.mean, by_id[entry.draft_id].safety_flags)
            for entry in verdict.ranking
        ],
        contested=verdict.contested,
        no_winner_reason=verdict.reason,
    )


async def redact(live: LiveRun, leaves: Leaves, record: RunRecord) -> None:
    """Redact everything that leaves the run, and build its result; without redaction there is no publication."""
    spec = live.run.spec
    async with live.stage(common_pb2.STAGE_REDACT) as finished:
        if spec.redaction == run_pb2.REDACTION_MODE_OFF:
            finished.summary = "off"
        else:
            sent, titles = record.sent, record.titles()
            record.cleaned = await redacted({text: sent.options(titles, text) for text in record.texts()}, leaves, live)
            live.run.rules_version = next(iter(record.cleaned.values())).rules_version
            for text, answer in record.cleaned.items():  # what was hidden from the models is hidden from the readers
                for name in sent.placeholders.names_in(text):
                    answer.counts[type_of(name)] += 1
            finished.summary = count(sum(record.shown.counts.values()), "finding")
        live.run.result.CopyFrom(build_result(record))


async def clean_message(message: str, run: run_pb2.Run, leaves: Leaves) -> str:
    """A leaf's error message as it may be shown: redacted like any text, or withheld when that is not possible."""
    spec = run.spec
    if not message or spec.redaction == run_pb2.REDACTION_MODE_OFF or run.stage not in _STAGES_WITH_TEXTS:
        return message
    request = redaction_pb2.RedactRequest(text=message, options=spec.redaction_options)
    try:
        return (await leaves.redaction.Redact(request, timeout=_MESSAGE_S)).text
    except grpc.RpcError:
        return "the details are withheld, for they could not be redacted; the log of the service that failed has more"


def outcome(result: run_pb2.RunResult) -> run_pb2.RunState.ValueType:
    """The state in which a run with that result ends."""
    if not result.draft_id:
        return run_pb2.RUN_STATE_NO_RESULT
    return run_pb2.RUN_STATE_ADVISORY if result.advisory_reason else run_pb2.RUN_STATE_PUBLISHED


_STATUS = {run_pb2.RUN_STATE_PUBLISHED: "published", run_pb2.RUN_STATE_ADVISORY: "advisory"}


def artifact_bytes(record: RunRecord) -> bytes:
    """The artifact of a run that was judged and redacted; it holds redacted text only."""
    return json.dumps(build_artifact(record), ensure_ascii=False, indent=2, allow_nan=False).encode() + b"\n"


async def store(live: LiveRun, leaves: Leaves, content: bytes) -> None:
    """Store the artifact. From the stage's beginning on it may be stored, whatever is heard of that."""
    async with live.stage(common_pb2.STAGE_STORE) as finished:

        def tell(problem: str) -> None:
            live.warn(f"the artifact cannot be stored yet, trying again: {problem}")

        stored = await persistently(lambda: put(live.run, leaves, content), tell)
        finished.summary = f"{stored.size} bytes"


async def put(run: run_pb2.Run, leaves: Leaves, content: bytes) -> storage_pb2.ArtifactInfo:
    """Have the artifact stored, and note in the run's result where; done again, it changes nothing more.

    Raises:
        grpc.aio.AioRpcError: storage refuses it, or cannot take it now.
    """
    header = storage_pb2.ArtifactHeader(
        request_id=step_id(run.run_id, "store"),
        key=_key(run),
        content_type="application/json",
        sha256=sha256(content).hexdigest(),
        run_id=run.run_id,
        tags={"preset": run.spec.preset, "status": _STATUS.get(outcome(run.result), "none")},
    )

    def parts() -> Iterator[storage_pb2.PutArtifactRequest]:
        yield storage_pb2.PutArtifactRequest(header=header)
        for start in range(0, len(content), _CHUNK_BYTES):
            yield storage_pb2.PutArtifactRequest(chunk=content[start : start + _CHUNK_BYTES])

    try:
        stored = (await leaves.storage.PutArtifact(parts())).artifact
    except grpc.aio.AioRpcError as error:
        raise named(error, "storage") from error
    _note(run, stored)
    return stored


async def is_stored(run: run_pb2.Run, leaves: Leaves, content: bytes) -> bool:
    """Whether storage has the artifact after all, although it was last refused; then it is noted in the run's result.

    Raises:
        grpc.aio.AioRpcError: storage cannot say now.
    """
    try:
        stored = (await leaves.storage.StatArtifact(storage_pb2.StatArtifactRequest(key=_key(run)))).artifact
    except grpc.aio.AioRpcError as error:
        if may_pass(error):
            raise
        return False
    if stored.sha256 != sha256(content).hexdigest():
        return False
    _note(run, stored)
    return True


def _key(run: run_pb2.Run) -> storage_pb2.ArtifactKey:
    return storage_pb2.ArtifactKey(workflow=run.spec.workflow, artifact=f"{run.run_id}.json")


def _note(run: run_pb2.Run, stored: storage_pb2.ArtifactInfo) -> None:
    run.result.artifact_workflow = stored.key.workflow
    run.result.artifact_name = stored.key.artifact
    run.result.artifact_location = stored.location
    run.result.artifact_sha256 = stored.sha256
