"""Resolves a request, its preset, its policy and the defaults into one RunSpec; every bad field is named at once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from djp.mesh.errors import DjpError, InvalidInput, Violation
from djp.v1 import debate_pb2, judge_pb2, run_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from djp_gateway.catalogue import Catalogue, Document
    from djp_gateway.templates.making import Made

SPEC_VERSION = 1
"""Raised together with a field of RunSpec that a gateway would do a run wrong without: then only gateways that know the
field take up runs that have it. A field that changes nothing for who ignores it needs no new version."""
_MODEL = re.compile(r"[^/\s]+/\S+")
DEFAULT_TOP_K = 8
DEFAULT_PASSAGE_TOKENS = 2560
"""Eight of the longest passages: what a run gets that asks for no other number of tokens."""
_SHORT_PASSAGE = 80
_MAX_TOP_K = 100  # the contract's
DEFAULT_ORDERS = 2
"""Orders that each juror sees: with a single one nobody could tell whether the place decided."""
MAX_TIMEOUT_S = 86_400
MAX_TAG_CHARS = 200
MAX_SPEC_BYTES = 2 << 20
"""Of a resolved spec: a run is shown in one message of at most 16 MiB, its text and citations with it."""

FAST_PATH_MARGIN = 3.0
"""Points of 10 by which a draft must lead for a preset's `fast_path` to skip the jurors left. Our choice: more than
clarity is worth in all (2 points), so that a lead in style alone is never enough."""

# What a run gets that names no preset: the guide's "thorough" is a choice, not a default, so this is its middle ground.
DEFAULT_PRESET: Mapping[str, Any] = {"max_tokens": 1200, "temperature": 0.3, "max_debaters": 3, "timeout_s": 300}


def new_run(run_id: str, tenant: str, spec: run_pb2.RunSpec, replay: run_pb2.Replay | None = None) -> run_pb2.Run:
    """A run of that spec as it stands in the queue first."""
    state = run_pb2.RUN_STATE_QUEUED
    run = run_pb2.Run(run_id=run_id, tenant=tenant, state=state, spec=spec, attempt=1, replay=replay)
    run.created_at.GetCurrentTime()
    return run


def resolve(
    request: run_pb2.RunRequest,
    catalogue: Catalogue,
    made: Made | None = None,
    problems: Iterable[Violation] = (),
    *,
    default_policy: str,
    default_debaters: Sequence[str],
    default_jurors: Sequence[str],
) -> run_pb2.RunSpec:
    """The spec that the run will keep for good; `made` is what the request's template makes of its inputs,
    and `problems` what is wrong with these.

    Explicit fields win over the template's parameters, these over the preset, the preset over the defaults.

    Raises:
        InvalidInput: with one violation for every bad field.
    """
    violations = list(problems)

    def checked(look_up: Callable[[str], Document], name: str, otherwise: Document) -> Document:
        if not name:
            return otherwise
        try:
            return look_up(name)
        except DjpError as error:
            violations.append(Violation(error.field, str(error)))
            return otherwise

    parameters: Mapping[str, Any] = made.template.parameters if made else {}
    preset_name = request.preset or parameters.get("preset", "")
    preset = {**checked(catalogue.preset, preset_name, DEFAULT_PRESET), **parameters}
    policy_name = request.policy or preset.get("policy") or default_policy
    policy = checked(catalogue.policy, policy_name, {})
    _check_task(request, made, violations)
    _check_limits(request, violations)
    required = (
        request.grounded_required
        if request.HasField("grounded_required")
        else (int(preset.get("required_citations", 0)) if request.corpus else 0)
    )
    if required and not request.corpus:
        violations.append(
            Violation("run.grounded_required", "asks for citations, but the run has no corpus; name one in run.corpus")
        )
    if request.HasField("passage_tokens") and not request.corpus:
        violations.append(Violation("run.passage_tokens", "bounds what is read of a corpus; name one in run.corpus"))
    count = int(preset["max_debaters"])
    default_models = [preset["model"]] * count if "model" in parameters else default_debaters
    debaters = _copies(request.debaters) or _debaters(default_models, count)
    jurors = list(request.jurors) or [
        judge_pb2.Juror(juror_id=f"j{number}", model=model) for number, model in enumerate(default_jurors, 1)
    ]
    for field, ids in (
        ("run.debaters", [debater.debater_id for debater in debaters]),
        ("run.jurors", [juror.juror_id for juror in jurors]),
    ):
        if len(set(ids)) < len(ids):
            violations.append(Violation(field, "has an id twice; give each its own"))
    for field, models in (
        ("run.debaters", [debater.model for debater in debaters]),
        ("run.jurors", [juror.model for juror in jurors]),
    ):
        violations += [
            Violation(f"{field}[{place}].model", "is not of the form provider/model")
            for place, model in enumerate(models)
            if not _MODEL.fullmatch(model)
        ]
    rounds = request.rounds if request.HasField("rounds") else int(preset.get("rounds", 1))
    if violations:
        raise InvalidInput("; ".join(f"{v.field}: {v.description}" for v in violations), violations=violations)

    temperature = request.temperature if request.HasField("temperature") else float(preset["temperature"])
    seed = request.seed if request.HasField("seed") else int(preset.get("seed", 0))
    for debater in debaters:
        if not debater.HasField("temperature"):
            debater.temperature = temperature
        if not debater.HasField("seed"):
            debater.seed = seed
    spec = run_pb2.RunSpec(
        spec_version=SPEC_VERSION,
        task=made.task if made else request.task,
        workflow=request.workflow or (made.template.name if made else "adhoc"),
        preset=preset_name,
        policy=policy_name,
        policy_document=ParseDict(dict(policy), Struct()),
        corpus=request.corpus,
        grounded_required=required,
        max_tokens=request.max_tokens if request.HasField("max_tokens") else int(preset["max_tokens"]),
        temperature=temperature,
        seed=seed,
        rounds=rounds,
        debaters=debaters,
        jurors=jurors,
        orders=int(preset.get("orders", DEFAULT_ORDERS)),
        redaction=request.redaction or run_pb2.REDACTION_MODE_ON,
        redaction_options=request.redaction_options if request.HasField("redaction_options") else None,
        timeout=request.timeout if request.HasField("timeout") else Duration(seconds=int(preset["timeout_s"])),
        require_approval=request.require_approval,
        trace_name=request.trace_name,
        priority=request.priority,
        tags=request.tags,
        blocking_safety_flags=list(policy.get("blocking_safety_flags", [])),
        top_k=_top_k(request),
        passage_tokens=request.passage_tokens if request.HasField("passage_tokens") else DEFAULT_PASSAGE_TOKENS,
        min_words=parameters.get("min_words", 0),
        max_words=parameters.get("max_words", 0),
    )
    if made:
        spec.template, spec.template_version = made.template.name, made.template.version
        spec.template_text = made.template.text
        spec.inputs.update(made.inputs)
    if request.HasField("budget_nano_usd"):
        spec.budget_nano_usd = request.budget_nano_usd
    if request.HasField("budget_tokens"):
        spec.budget_tokens = request.budget_tokens
    if preset.get("fast_path", False):
        spec.fast_path_margin = FAST_PATH_MARGIN
    if "agreement_threshold" in preset:
        spec.agreement_threshold = float(preset["agreement_threshold"])
    spec.asked.CopyFrom(request)
    spec.asked.ClearField("task")
    spec.asked.ClearField("inputs")
    spec.asked.ClearField("redaction_options")
    check_size(spec)
    return spec


def asked_of(spec: run_pb2.RunSpec) -> run_pb2.RunRequest:
    """What was asked for when the spec was made, whole again but for a template's inputs."""
    asked = run_pb2.RunRequest()
    asked.CopyFrom(spec.asked)
    if not spec.template:
        asked.task = spec.task
    if spec.HasField("redaction_options"):
        asked.redaction_options.CopyFrom(spec.redaction_options)
    if spec.HasField("budget_nano_usd"):
        asked.budget_nano_usd = spec.budget_nano_usd  # which a batch settles for each of its rows
    return asked


def check_size(spec: run_pb2.RunSpec, *, field: str = "run") -> None:
    """Raises InvalidInput for a spec that is too large, under that field."""
    if (size := spec.ByteSize()) > MAX_SPEC_BYTES:
        raise InvalidInput(
            f"the run's settings have {size} bytes and the limit is {MAX_SPEC_BYTES}; shorten its redaction_options",
            field=field,
        )


def _check_task(request: run_pb2.RunRequest, made: Made | None, violations: list[Violation]) -> None:
    if request.template and request.task:
        violations.append(Violation("run.task", "cannot be given with run.template, which makes the task; drop one"))
    if request.inputs.fields and not request.template:
        violations.append(Violation("run.inputs", "are for a template; name it in run.template, or leave them out"))
    if not (made or request.template or request.task.strip()):
        violations.append(Violation("run.task", "is empty; say what the run should answer, or name a template"))


def _check_limits(request: run_pb2.RunRequest, violations: list[Violation]) -> None:
    if request.redaction == run_pb2.REDACTION_MODE_OFF and request.HasField("redaction_options"):
        violations.append(Violation("run.redaction_options", "says how to redact, but run.redaction is off; drop one"))
    timeout = request.timeout
    if request.HasField("timeout") and not (
        0 <= timeout.seconds <= MAX_TIMEOUT_S and 0 <= timeout.nanos < 10**9 and (timeout.seconds or timeout.nanos)
    ):
        violations.append(Violation("run.timeout", f"must be more than 0 and at most {MAX_TIMEOUT_S} seconds"))
    if any(not 0 < len(key) <= MAX_TAG_CHARS or len(value) > MAX_TAG_CHARS for key, value in request.tags.items()):
        violations.append(Violation("run.tags", f"names and values have at most {MAX_TAG_CHARS} characters, names one"))


def _top_k(request: run_pb2.RunRequest) -> int:
    """Eight passages, or as many as can be needed to fill the tokens that the run asks for."""
    if not request.HasField("passage_tokens"):
        return DEFAULT_TOP_K
    return max(DEFAULT_TOP_K, min(request.passage_tokens // _SHORT_PASSAGE, _MAX_TOP_K))


def _copies(debaters: Iterable[debate_pb2.Debater]) -> list[debate_pb2.Debater]:
    """Debaters that can be filled in while the request stays as it came."""
    copies = []
    for debater in debaters:
        copy = debate_pb2.Debater()
        copy.CopyFrom(debater)
        copies.append(copy)
    return copies


def _debaters(models: Sequence[str], count: int) -> list[debate_pb2.Debater]:
    return [
        debate_pb2.Debater(debater_id=f"d{number}", model=model) for number, model in enumerate(models[:count], start=1)
    ]
