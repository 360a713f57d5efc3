"""Replays runs: a new run by the spec of an earlier one, or with another task, preset or trace name."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.json_format import MessageToDict

from djp.mesh.deadline import bounded_timeout, deadline_scope
from djp.mesh.errors import FailedPrecondition, InvalidInput
from djp.mesh.identity import current_identity
from djp.v1 import run_pb2
from djp_gateway.command_line import command_of
from djp_gateway.comparing import Comparison
from djp_gateway.resolving import ANSWER_S, fields_named
from djp_gateway.spec import SPEC_VERSION, asked_of, check_size, new_run
from djp_gateway.templates.files import NotATemplate, template_of
from djp_gateway.templates.making import Made

if TYPE_CHECKING:
    from djp_gateway.adapters.leaves import Leaves
    from djp_gateway.door import Entry
    from djp_gateway.ports import RunStore
    from djp_gateway.resolving import Resolver
    from djp_gateway.runner import Runner
    from djp_gateway.templates.making import Templates

_OF_THE_RUN = dict.fromkeys(("corpus", "version", "query", "options", "debate", "debaters", "jurors"), "run_id")
"""What a leaf refuses of an old spec is not in the request: it is a property of the run."""


@dataclass(frozen=True)
class Replaying:
    """Makes runs of earlier ones. What those hid from models keeps its names, see `LiveRun.hidden_before`."""

    store: RunStore
    runner: Runner
    resolver: Resolver
    leaves: Leaves
    templates: Templates

    async def replay(self, request: run_pb2.ReplayRunRequest, entry: Entry) -> run_pb2.ReplayRunResponse:
        """Start the replay, which has come in by that entry, or on a dry run only say what it would be.

        Raises:
            NotFound: the tenant has no such run, or the corpus that it read is gone.
            InvalidInput: there is no such preset, or the task is blank.
            FailedPrecondition: the run's spec is newer than this gateway, or too old for another preset.
            RequestIdReused: the request_id came with another body.
        """
        tenant = current_identity().tenant
        body = sha256(b"replay" + request.SerializeToString(deterministic=True)).hexdigest()
        if not request.dry_run and (known := await self.store.earlier(tenant, request.request_id, body)):
            return _answer(known.spec, known.replay, known)
        earlier = await self.store.get(tenant, request.run_id)
        if earlier.spec.spec_version > SPEC_VERSION:
            raise FailedPrecondition(
                f"run {earlier.run_id} was made by a newer release than this gateway; ask a newer gateway",
                field="run_id",
            )
        spec = self._spec(earlier, request)
        with deadline_scope(bounded_timeout(ANSWER_S)), fields_named(_OF_THE_RUN):
            await self.resolver.check_models(spec, _OF_THE_RUN)
            differences = await Comparison(earlier, self.resolver, self.leaves, self.templates).differences()
        replay = run_pb2.Replay(run_id=earlier.run_id, differences=differences)
        if request.dry_run:
            return _answer(spec, replay)
        run = new_run(str(uuid.uuid4()), tenant, spec, replay)
        stored, entry.waits = await self.runner.accept(run, request_id=request.request_id, request_sha256=body)
        return _answer(stored.spec, stored.replay, stored)

    def _spec(self, earlier: run_pb2.Run, request: run_pb2.ReplayRunRequest) -> run_pb2.RunSpec:
        """The earlier run's spec with what the request changes in it."""
        if request.task and not request.task.strip():
            raise InvalidInput("task: is blank; say what the run should answer, or leave it out", field="task")
        spec = run_pb2.RunSpec()
        spec.CopyFrom(self._with_preset(earlier, request.preset) if request.preset else earlier.spec)
        if request.task:
            spec.task = request.task
            for field in ("template", "template_version", "template_text", "inputs"):  # which made the other task
                spec.ClearField(field)
            spec.asked.ClearField("template")
        if request.trace_name:
            spec.trace_name = spec.asked.trace_name = request.trace_name
        check_size(spec, field="task")
        return spec

    def _with_preset(self, earlier: run_pb2.Run, preset: str) -> run_pb2.RunSpec:
        """What the earlier run was asked for, with another preset; it reads the same version of its corpus."""
        old = earlier.spec
        if not old.HasField("asked"):
            raise FailedPrecondition(
                f"run {earlier.run_id} is too old to tell what came from its preset; start a new run, or leave the "
                "preset out",
                field="preset",
            )
        asked, made = asked_of(old), None
        asked.preset = preset
        if old.template:
            try:
                template = template_of(old.template_text, Path(f"{old.template}.yaml"))
            except NotATemplate as error:
                raise FailedPrecondition(
                    f"the template of run {earlier.run_id} is none by today's rules ({error.problems[0].told}); start "
                    "a new run, or leave the preset out",
                    field="preset",
                ) from error
            made = Made(template, old.task, MessageToDict(old.inputs))
        with_preset = self.resolver.spec(asked, made)
        with_preset.corpus_version = old.corpus_version
        return with_preset


def _answer(spec: run_pb2.RunSpec, replay: run_pb2.Replay, run: run_pb2.Run | None = None) -> run_pb2.ReplayRunResponse:
    command, not_in_command = command_of(spec)
    return run_pb2.ReplayRunResponse(
        run=run, command=command, differences=replay.differences, not_in_command=not_in_command
    )
