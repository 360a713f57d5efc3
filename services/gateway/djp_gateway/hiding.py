"""What a run sends to models: everything, or with redaction ALL placeholders where values were found."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc

from djp.mesh.errors import FailedPrecondition, InvalidInput, Unavailable
from djp.mesh.rpc_errors import error_from_rpc
from djp.v1 import common_pb2, redaction_pb2, run_pb2
from djp_gateway.live import count
from djp_gateway.patience import persistently
from djp_gateway.placeholders import Found, Placeholders, type_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from djp_gateway.adapters.leaves import Leaves
    from djp_gateway.live import LiveRun

MAX_KEPT = 1000
"""What RedactionOptions.keep_titles takes."""
_AT_ONCE = 8
_MAX_TASK_BYTES = 262_144  # what debate and judge take


@dataclass(frozen=True)
class Sent:
    """A run's spec and passages as the leaves that call models get them."""

    spec: run_pb2.RunSpec
    passages: Sequence[common_pb2.Passage]
    placeholders: Placeholders = field(default_factory=Placeholders)
    written: Mapping[str, str] = field(default_factory=dict)
    """By name, hidden values as the passages write them, or rather their titles."""

    def options(self, titles: Iterable[str] = (), text: str | None = None) -> redaction_pb2.RedactionOptions:
        """How a text of the run's models is redacted: citations of these titles, and placeholders, stay as they are.

        With `text` only the placeholders in it count: there is room for a thousand.
        """
        options = redaction_pb2.RedactionOptions()
        options.CopyFrom(self.spec.redaction_options)
        names = self.placeholders.values if text is None else self.placeholders.names_in(text)
        kept = dict.fromkeys((*options.keep_titles, *titles, *names))
        options.keep_titles[:] = list(kept)[:MAX_KEPT]
        return options


async def hide(live: LiveRun, leaves: Leaves, passages: Sequence[common_pb2.Passage]) -> Sent:
    """What is sent to models from here on; what is hidden from them is kept with the run before anything is sent."""
    if live.run.spec.redaction != run_pb2.REDACTION_MODE_ALL:
        return Sent(live.run.spec, passages)
    async with live.stage(common_pb2.STAGE_HIDE) as finished:
        sent = await hidden(live.run.spec, leaves, passages, live)
        values = sent.placeholders.values
        await live.keep_hidden(values)
        kinds = ", ".join(sorted({type_of(name) for name in values}))
        finished.summary = f"{count(len(values), 'value')} of {kinds}" if values else "nothing to hide"
    return sent


async def hidden(
    spec: run_pb2.RunSpec, leaves: Leaves, passages: Sequence[common_pb2.Passage], live: LiveRun | None = None
) -> Sent:
    """The spec and the passages as models get them; who watches the run is told when that takes longer.

    Raises:
        Unavailable, grpc.aio.AioRpcError: redaction failed.
        InvalidInput: the task grows too long.
    """
    if spec.redaction != run_pb2.REDACTION_MODE_ALL:
        return Sent(spec, passages)
    roles = [debater.role for debater in spec.debaters]
    documents = [part for passage in passages for part in (passage.title, passage.path, passage.text)]
    texts = [text for text in dict.fromkeys([spec.task, *roles, *documents]) if text]
    answers = await redacted(dict.fromkeys(texts, spec.redaction_options), leaves, live)
    findings = {
        text: [Found(found.type, found.start, found.end) for found in answer.findings]
        for text, answer in answers.items()
    }
    placeholders = Placeholders(await live.hidden_before() if live else None)  # which keep their names
    placeholders.hide(findings)

    def covered(text: str, *, bare: bool = False) -> str:
        return placeholders.covered(text, findings.get(text, ()), bare=bare)

    sent_spec = run_pb2.RunSpec()
    sent_spec.CopyFrom(spec)
    sent_spec.task = covered(spec.task)
    if (size := len(sent_spec.task.encode())) > _MAX_TASK_BYTES:
        raise InvalidInput(
            f"with its placeholders the task has {size} bytes and the limit is {_MAX_TASK_BYTES}; shorten it",
            field="run.task",
        )
    for debater in sent_spec.debaters:
        debater.role = covered(debater.role)
    sent_passages, written = [], dict[str, str]()
    for part in (*(passage.text for passage in passages), *(passage.title for passage in passages)):
        written |= placeholders.named(part, findings.get(part, ()))
    for passage in passages:
        sent = common_pb2.Passage()
        sent.CopyFrom(passage)
        sent.title = covered(passage.title, bare=True)
        sent.path = covered(passage.path, bare=True)
        sent.text = covered(passage.text)
        sent_passages.append(sent)
    return Sent(sent_spec, sent_passages, placeholders, written)


async def redacted(
    texts: Mapping[str, redaction_pb2.RedactionOptions], leaves: Leaves, live: LiveRun | None = None
) -> dict[str, redaction_pb2.RedactResponse]:
    """What redaction makes of each text by its options; it is asked again for about a minute while it is away.

    Who watches the run is told so once; that is no warning to keep, for it passes.

    Raises:
        Unavailable: it does not come back.
        grpc.aio.AioRpcError: it fails otherwise.
    """
    at_once, tell = asyncio.Semaphore(_AT_ONCE), live.waiting_for("redaction") if live else None

    async def redact(text: str, options: redaction_pb2.RedactionOptions) -> redaction_pb2.RedactResponse:
        request = redaction_pb2.RedactRequest(text=text, options=options)
        async with at_once:
            return await persistently(lambda: leaves.redaction.Redact(request), tell)

    tasks = [asyncio.ensure_future(redact(text, options)) for text, options in texts.items()]
    try:
        return dict(zip(texts, await asyncio.gather(*tasks), strict=True))
    except grpc.aio.AioRpcError as error:
        if error_from_rpc(error).code == "UNAVAILABLE":
            raise Unavailable(
                "the redaction service does not answer, and no text goes on without it; start it, then the run again"
            ) from error
        raise
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)  # one may be telling


def put_back(run: run_pb2.Run, values: Mapping[str, str] | None) -> None:
    """Show the run's owner the result with the hidden values in their places; `values` by the placeholders' names.

    Raises:
        FailedPrecondition: the run hid nothing, or what it hid is not kept any more.
        ResourceExhausted: the text would be too long.
    """
    if run.spec.redaction != run_pb2.REDACTION_MODE_ALL:
        raise FailedPrecondition(
            f"run {run.run_id} hid no values from its models, so there are none to put back: it was not run with "
            "redaction ALL (--redact all); leave it out",
            field="restore_values",
        )
    result = run.result
    if not result.text:
        return
    if values is None:
        raise FailedPrecondition(
            f"the values that run {run.run_id} hid are not kept any more; leave it out to see the text with its "
            "placeholders",
            field="restore_values",
        )
    placeholders = Placeholders(values)

    def restored(text: str) -> str:
        return placeholders.restored(text).text

    text = placeholders.restored(result.text, {citation.text for citation in result.citations})
    result.text = text.text
    for citation in result.citations:
        citation.start, citation.end = text.place(citation.start, citation.end) or (0, 0)
        citation.text, citation.title, citation.path = map(restored, (citation.text, citation.title, citation.path))
    result.advisory_reason = restored(result.advisory_reason)
    result.verdict.reason = restored(result.verdict.reason)
    for disqualified in result.verdict.disqualified:
        disqualified.reason = restored(disqualified.reason)
