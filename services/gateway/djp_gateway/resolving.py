"""Resolves what callers ask for, and sees that it can be done before there is a run."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc
from google.protobuf.json_format import MessageToDict

from djp.llm.offline import DEBATER_MODELS, JUROR_MODELS
from djp.mesh.deadline import bounded_timeout, deadline_scope
from djp.mesh.errors import DjpError, InvalidInput, NotFound, Violation
from djp.mesh.identity import current_identity
from djp.mesh.rpc_errors import error_from_rpc
from djp.v1 import grounding_pb2, redaction_pb2, run_pb2
from djp_gateway.hiding import hidden
from djp_gateway.spec import resolve
from djp_gateway.steps import bound

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from djp_gateway.adapters.leaves import Leaves
    from djp_gateway.catalogue import Catalogue
    from djp_gateway.settings import GatewaySettings
    from djp_gateway.templates.making import Made, Templates

ANSWER_S = 30.0  # a leaf that is asked before there is a run answers in milliseconds, or is frozen
_MODELS_S = 10.0  # the first question about a real model loads prices and tokenizers


class Resolver:
    """Makes specs of requests by this gateway's settings, presets, policies and templates."""

    def __init__(self, settings: GatewaySettings, catalogue: Catalogue, leaves: Leaves, templates: Templates) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._leaves = leaves
        self._templates = templates

    async def resolve(self, request: run_pb2.RunRequest) -> run_pb2.RunSpec:
        """The spec of a new run, which can be done as far as can be seen now.

        Raises:
            InvalidInput: with one violation for every bad field.
            DjpError: what a leaf says of it, in the fields of the request.
        """
        made: Made | None = None
        problems: list[Violation] = []
        if request.template:
            try:
                given = MessageToDict(request.inputs)
                made = await self._templates.make(current_identity().tenant, request.template, given)
            except (InvalidInput, NotFound) as error:
                problems += error.violations  # told with all else that is wrong
        spec = self.spec(request, made, problems)
        await self.check_models(
            spec,
            {
                "debaters": "run.debaters" if request.debaters else "DJP_DEBATERS",
                "jurors": "run.jurors" if request.jurors else "DJP_JURORS",
            },
        )
        with deadline_scope(bounded_timeout(ANSWER_S)):
            if spec.corpus:
                # Pins the version, so that search and citation check see the same documents, and a replay too.
                with fields_named({"corpus": "run.corpus", "query": "run.task"}):
                    spec.corpus_version = await self.corpus_version(spec)
            if spec.HasField("redaction_options"):
                # Options that redaction will refuse are refused now, not when the debate is paid.
                with fields_named({"options": "run.redaction_options"}):
                    await self._leaves.redaction.Redact(redaction_pb2.RedactRequest(options=spec.redaction_options))
        return spec

    def spec(
        self, request: run_pb2.RunRequest, made: Made | None = None, problems: Iterable[Violation] = ()
    ) -> run_pb2.RunSpec:
        """As `djp_gateway.spec.resolve`, with this gateway's presets, policies and defaults; no leaf is asked."""
        return resolve(
            request,
            self._catalogue,
            made,
            problems,
            default_policy=self._settings.policy,
            default_debaters=_models(self._settings.debaters),
            default_jurors=_models(self._settings.jurors),
        )

    async def corpus_version(self, spec: run_pb2.RunSpec) -> str:
        """The version of the spec's corpus that a new run reads."""
        probe = grounding_pb2.SearchRequest(corpus=spec.corpus, query=spec.task, top_k=1)
        return (await self._leaves.grounding.Search(probe)).version

    async def check_models(self, spec: run_pb2.RunSpec, origins: Mapping[str, str]) -> None:
        """Refuse a model that cannot be called before there is a run, if debate and judge are there to be asked.

        The offline models are always there. `origins`: where debaters and jurors come from, the caller or a setting.
        """
        debaters = all(one.model in DEBATER_MODELS and not one.fallback_models for one in spec.debaters)
        if debaters and all(one.model in JUROR_MODELS and not one.fallback_models for one in spec.jurors):
            return
        try:
            names = {"debate.debaters": origins["debaters"], "options": "run.redaction_options", **origins}
            with deadline_scope(bounded_timeout(_MODELS_S)), fields_named(names):
                await bound(await hidden(spec, self._leaves, []), str(uuid.uuid4()), self._leaves)
        except DjpError as error:
            if error.code not in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
                raise  # those that are away are told by the run itself, which is patient


@contextmanager
def fields_named(names: Mapping[str, str]) -> Iterator[None]:
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
