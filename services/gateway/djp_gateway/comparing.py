"""What differs in configuration since a run: what a new run would get now, and what became of prices and rules."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.json_format import MessageToDict

import djp
from djp.mesh.errors import InvalidInput, NotFound, Unavailable
from djp.mesh.identity import current_identity
from djp.mesh.rpc_errors import error_from_rpc
from djp.money import format_usd
from djp.v1 import common_pb2, redaction_pb2, run_pb2
from djp_gateway.citing import find_passages
from djp_gateway.hiding import hidden
from djp_gateway.spec import asked_of
from djp_gateway.steps import bound
from djp_gateway.templates.making import Made

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from google.protobuf.descriptor import FieldDescriptor

    from djp_gateway.adapters.leaves import Leaves
    from djp_gateway.resolving import Resolver
    from djp_gateway.templates.making import Templates

_NOT_COMPARED = frozenset(
    {
        *("spec_version", "task", "trace_name", "asked", "inputs"),  # settled by the request alone
        *("policy_document", "template_text", "template_version", "corpus_version"),  # told in words of their own
    }
)
_RATES = ("input", "cached_input", "output")


@dataclass(frozen=True)
class Comparison:
    """Compares the configuration of an earlier run with that of now."""

    earlier: run_pb2.Run
    resolver: Resolver
    leaves: Leaves
    templates: Templates

    async def differences(self) -> list[str]:
        """For people, one each: what the replay keeps as it was, then what has changed for it, too.

        Raises:
            grpc.RpcError: the corpus that the run read is gone, or a model of it cannot be called any more.
        """
        return [*await self._kept(), *[line async for line in self._changed()]]

    async def _kept(self) -> list[str]:
        """What presets, policies, templates, settings and the corpus would give a new run."""
        old, made = self.earlier.spec, None
        if not old.HasField("asked"):
            return ["the run is too old to compare its preset and settings; the replay keeps what it had"]
        found = []
        try:
            if old.template:
                shelf = await self.templates.shelf(current_identity().tenant)
                template = shelf.template(old.template, "template")
                if template.text != old.template_text:
                    found.append(
                        f"the template {old.template} has changed (version {old.template_version} then, "
                        f"{template.version} now); the replay keeps the task that it made"
                    )
                made = Made(template, old.task, MessageToDict(old.inputs))
            now = self.resolver.spec(asked_of(old), made)
        except (InvalidInput, NotFound) as error:
            return [*found, f"a new run like it is refused now ({error.told}); the replay keeps what it had"]
        if old.corpus and (version := await self.resolver.corpus_version(old)) != old.corpus_version:
            found.append(
                f"the corpus {old.corpus} is at version {version} now; the replay reads version {old.corpus_version}"
            )
        if now.policy == old.policy and now.policy_document != old.policy_document:
            found.append(f"the policy {old.policy} has other rules now; the replay keeps those of then")
        return [*found, *_changes(old, now)]

    async def _changed(self) -> AsyncIterator[str]:
        """What is another for the replay: the release, the prices, what the models may cost, the redaction rules."""
        run = self.earlier
        if run.djp_version and run.djp_version != djp.__version__:
            yield f"the release is {djp.__version__} now, and was {run.djp_version}"
        passages = await find_passages(run.spec, self.leaves)
        try:
            now = await bound(await hidden(run.spec, self.leaves, passages), str(uuid.uuid4()), self.leaves)
            rules = await self._rules_version()
        except (grpc.aio.AioRpcError, Unavailable) as error:
            problem = error if isinstance(error, Unavailable) else error_from_rpc(error)
            if problem.code not in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
                raise
            yield f"prices and rules cannot be compared: {problem.told}"
            return
        before = run.projection
        for line in _price_changes(before.prices, now.prices):
            yield line
        if run.HasField("projection") and before.total.cost_nano_usd != now.total.cost_nano_usd:
            then, most = (format_usd(one.total.cost_nano_usd) for one in (before, now))
            yield f"the run can cost {most} at most now, and could cost {then}"
        if run.rules_version and rules != run.rules_version:
            yield f"the redaction rules are version {rules} now, and were {run.rules_version}"

    async def _rules_version(self) -> str:
        if not self.earlier.rules_version:
            return ""
        request = redaction_pb2.RedactRequest(options=self.earlier.spec.redaction_options)
        return (await self.leaves.redaction.Redact(request)).rules_version


def _changes(old: run_pb2.RunSpec, now: run_pb2.RunSpec) -> Iterator[str]:
    for field in run_pb2.RunSpec.DESCRIPTOR.fields:
        if field.name in _NOT_COMPARED:
            continue
        was, would = _value(old, field), _value(now, field)
        if was != would:
            yield f"{field.name} would be {_told(would)} now; the replay keeps {_told(was)}"


def _value(spec: run_pb2.RunSpec, field: FieldDescriptor) -> Any:
    """A field as a value that can be compared; None where it is not set."""
    if field.has_presence and not spec.HasField(field.name):  # type: ignore[arg-type]  # it is one of its own
        return None
    value = getattr(spec, field.name)
    if field.message_type is None or field.message_type.GetOptions().map_entry:
        return dict(value) if field.message_type else list(value) if field.is_repeated else value
    if field.is_repeated:
        return [MessageToDict(one) for one in value]
    return MessageToDict(value)


def _told(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return "nothing"
    if isinstance(value, list):
        return ", ".join(str(one["model"]) if isinstance(one, dict) else str(one) for one in value)
    return str(value)


def _price_changes(before: Iterable[common_pb2.ModelPrice], now: Iterable[common_pb2.ModelPrice]) -> Iterator[str]:
    known = {price.model: price for price in before}
    for model, price in sorted({price.model: price for price in now}.items()):
        for rate in _RATES if model in known else ():
            was, is_now = (getattr(one, f"{rate}_nano_usd_per_million") for one in (known[model], price))
            if was != is_now:
                kind = rate.replace("_", " ")
                yield f"a million {kind} tokens of {model} cost {format_usd(is_now)} now, and cost {format_usd(was)}"
