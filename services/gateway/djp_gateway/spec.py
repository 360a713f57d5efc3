"""Resolves a request, its preset, its policy and the defaults into one RunSpec; every bad field is named at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from djp.mesh.errors import DjpError, InvalidInput, Violation
from djp.v1 import debate_pb2, judge_pb2, run_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from djp_gateway.catalogue import Catalogue, Document

SPEC_VERSION = 1
MAX_TASK_BYTES = 262_144
DEFAULT_TOP_K = 8

# What a run gets that names no preset: the guide's "thorough" is a choice, not a default, so this is its middle ground.
DEFAULT_PRESET: Mapping[str, Any] = {"max_tokens": 1200, "temperature": 0.3, "max_debaters": 3, "timeout_s": 300}


def resolve(
    request: run_pb2.RunRequest,
    catalogue: Catalogue,
    *,
    default_policy: str,
    default_debaters: Sequence[str],
    default_jurors: Sequence[str],
) -> run_pb2.RunSpec:
    """The spec that the run will keep for good.

    Explicit fields win over the preset, the preset over the defaults.

    Raises:
        InvalidInput: with one violation for every bad field.
    """
    violations: list[Violation] = []

    def checked(look_up: Callable[[str], Document], name: str, otherwise: Document) -> Document:
        if not name:
            return otherwise
        try:
            return look_up(name)
        except DjpError as error:
            violations.append(Violation(error.field, str(error)))
            return otherwise

    preset = checked(catalogue.preset, request.preset, DEFAULT_PRESET)
    policy_name = request.policy or preset.get("policy") or default_policy
    policy = checked(catalogue.policy, policy_name, {})
    _check_task(request, violations)
    required = (
        request.grounded_required
        if request.HasField("grounded_required")
        else (int(preset.get("required_citations", 0)) if request.corpus else 0)
    )
    if required and not request.corpus:
        violations.append(
            Violation("run.grounded_required", "asks for citations, but the run has no corpus; name one in run.corpus")
        )
    debaters = list(request.debaters) or _debaters(default_debaters, int(preset["max_debaters"]))
    jurors = list(request.jurors) or [
        judge_pb2.Juror(juror_id=f"j{number}", model=model) for number, model in enumerate(default_jurors, 1)
    ]
    for field, ids in (
        ("run.debaters", [debater.debater_id for debater in debaters]),
        ("run.jurors", [juror.juror_id for juror in jurors]),
    ):
        if len(set(ids)) < len(ids):
            violations.append(Violation(field, "has an id twice; give each its own"))
    if violations:
        raise InvalidInput("; ".join(v.description for v in violations), violations=violations)

    temperature = request.temperature if request.HasField("temperature") else float(preset["temperature"])
    seed = request.seed if request.HasField("seed") else int(preset.get("seed", 0))
    for debater in debaters:
        if not debater.HasField("temperature"):
            debater.temperature = temperature
        if not debater.HasField("seed"):
            debater.seed = seed
    spec = run_pb2.RunSpec(
        spec_version=SPEC_VERSION,
        task=request.task,
        workflow=request.workflow or "adhoc",
        preset=request.preset,
        policy=policy_name,
        policy_document=ParseDict(dict(policy), Struct()),
        corpus=request.corpus,
        grounded_required=required,
        max_tokens=request.max_tokens if request.HasField("max_tokens") else int(preset["max_tokens"]),
        temperature=temperature,
        seed=seed,
        rounds=request.rounds if request.HasField("rounds") else int(preset.get("rounds", 1)),
        debaters=debaters,
        jurors=jurors,
        orders=int(preset.get("orders", 1)),
        redaction=request.redaction or run_pb2.REDACTION_MODE_ON,
        redaction_options=request.redaction_options,
        timeout=request.timeout if request.HasField("timeout") else Duration(seconds=int(preset["timeout_s"])),
        trace_name=request.trace_name,
        priority=request.priority,
        tags=request.tags,
        blocking_safety_flags=list(policy.get("blocking_safety_flags", [])),
        top_k=DEFAULT_TOP_K,
    )
    if request.HasField("budget_nano_usd"):
        spec.budget_nano_usd = request.budget_nano_usd
    if request.HasField("budget_tokens"):
        spec.budget_tokens = request.budget_tokens
    return spec


def _check_task(request: run_pb2.RunRequest, violations: list[Violation]) -> None:
    if request.template or request.inputs.fields:
        violations.append(Violation("run.template", "templates cannot be run yet; give the whole text in run.task"))
    if not request.task.strip():
        violations.append(Violation("run.task", "is empty; say what the run should answer"))
    if len(request.task.encode()) > MAX_TASK_BYTES:
        violations.append(
            Violation("run.task", f"is longer than {MAX_TASK_BYTES} bytes; put long material into a corpus")
        )
    for field, given in (
        ("run.require_approval", request.require_approval),
        ("run.redaction", request.redaction == run_pb2.REDACTION_MODE_ALL),
    ):
        if given:
            violations.append(Violation(field, "is not available yet; leave it out"))


def _debaters(models: Sequence[str], count: int) -> list[debate_pb2.Debater]:
    return [
        debate_pb2.Debater(debater_id=f"d{number}", model=model) for number, model in enumerate(models[:count], start=1)
    ]
