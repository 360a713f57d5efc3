"""The flags of `djp run` as one value, and the run request that they make; every bad flag is named at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from djp.cli.given import read_inputs, read_task
from djp.mesh.errors import DjpError, InvalidInput, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from djp.v1 import run_pb2

_VOICES = {"debaters": "--debater", "jurors": "--juror"}
"""The lists of a request whose entries are each a flag of their own."""

_FLAGS = {
    "batch_id": "--batch-id",
    "budget_nano_usd": "--budget-usd",
    "input": "--input",
    "max_cost": "--max-cost",
    "corpus": "--grounded-corpus",
    "redaction": "--redact",
    "redaction_options": "--redaction-rules",
    "custom_rules": "--rules",
    "rules": "--rules",
    "check_rules": "--check-rules",
    "strategy_by_type": "--strategy-for",
    "keep_titles": "--keep-title",
    "show": "--show",
    "address": "--gateway",
    "provider": "--provider",
    "restore_values": "--restore-values",
    "run_id": "RUN",
    "artifact": "--artifact",
    "content_type": "--content-type",
    "tags": "--tag",
    "from_tier": "--from-tier",
    "to_tier": "--to-tier",
    "tenant": "--tenant",
    "days": "--days",
    "rate": "--rate",
    "seconds": "--seconds",
    "run_seconds": "--run-seconds",
    "png": "--png",
    "scope": "SCOPE",
    "reason": "--reason",
}

_PLAIN = (
    *("template", "preset", "policy", "grounded_required", "max_tokens", "temperature", "seed", "rounds", "workflow"),
    *("trace_name", "budget_tokens", "passage_tokens"),
)
"""The fields of a request that are a flag as it is."""

_RULES = {
    "workflow": "give at most 100 lower-case letters, digits, and . _ - between them; begin with a letter or a digit",
    "budget_nano_usd": "a run that may spend nothing can call no model; give more than 0, or leave it out for no limit",
    "budget_tokens": "a run without a token can call no model; give more than 0, or leave it out for no limit",
}
"""What the contract's rules about a field mean, where its own words for them are no help."""


@dataclass(frozen=True)
class RunFlags:
    """What the command line of `djp run` said; None where it said nothing. `timeout` is in seconds."""

    task: str | None = None
    template: str | None = None
    inputs: str | None = None
    preset: str | None = None
    policy: str | None = None
    grounded_corpus: Path | None = None
    grounded_required: int | None = None
    passage_tokens: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    seed: int | None = None
    budget_usd: str | None = None
    budget_tokens: int | None = None
    redact: Literal["on", "off", "all"] = "on"
    redaction_rules: Path | None = None
    restore_values: bool = False
    require_approval: bool = False
    timeout: float | None = None
    debaters: tuple[str, ...] = ()
    jurors: tuple[str, ...] = ()
    rounds: int | None = None
    workflow: str | None = None
    trace_name: str | None = None
    dry_run: bool = False
    stream: bool = False
    quiet: bool = False
    verbose: bool = False
    as_json: bool = False
    metrics: Path | None = None
    output: Path | None = None
    gateway: str | None = None


def flag_of(field: str) -> str:
    """The flag that a field of the request came from; the field itself where no flag has its name."""
    name = field.removeprefix("run.").removeprefix("options.").removeprefix("header.").removeprefix("key.")
    if (stem := name.partition("[")[0].partition(".")[0]) in _VOICES:
        return _VOICES[stem]
    if stem == "inputs":
        return f"--inputs {name.partition('.')[2]}".strip()
    if name in RunFlags.__dataclass_fields__:
        return "--" + name.replace("_", "-")
    return _FLAGS.get(stem, field)


def run_request(flags: RunFlags) -> run_pb2.RunRequest:
    """The request that the flags make, without a corpus (that is sent first) but with everything checked.

    Raises InvalidInput with one violation for every problem.
    """
    from djp.money import parse_usd
    from djp.v1 import run_pb2

    problems = _contradictions(flags)
    request = run_pb2.RunRequest(
        redaction=run_pb2.RedactionMode.Value(f"REDACTION_MODE_{flags.redact.upper()}"),
    )

    def put(field: str, value: object) -> None:
        if value is None:
            return
        try:
            setattr(request, field, value)
        except (TypeError, ValueError):  # an integer past the field's width; bytes that are no UTF-8
            problems.append(Violation(f"run.{field}", f"{str(value)[:40]!r} is not a value that this flag can take"))

    try:
        if flags.template is None or flags.task is not None:
            put("task", read_task(flags.task))
        if flags.inputs is not None:
            request.inputs.update(read_inputs(flags.inputs))
    except InvalidInput as error:
        problems.extend(error.violations)
    except (TypeError, ValueError):
        problems.append(Violation("inputs", "hold a value that is neither text, number, true, false, list nor object"))
    for field in _PLAIN:
        put(field, getattr(flags, field))
    for number, model in enumerate(flags.debaters, start=1):
        request.debaters.add(debater_id=f"d{number}", model=model)
    for number, model in enumerate(flags.jurors, start=1):
        request.jurors.add(juror_id=f"j{number}", model=model)
    if flags.redaction_rules is not None:
        from djp.cli.redact import rules_options

        try:
            request.redaction_options.CopyFrom(rules_options(flags.redaction_rules, "redaction_rules"))
        except InvalidInput as error:
            problems.extend(error.violations)
    request.require_approval = flags.require_approval
    if flags.timeout is not None:
        if 0 < flags.timeout <= 86_400:
            request.timeout.FromNanoseconds(round(flags.timeout * 1e9))
        else:
            problems.append(Violation("timeout", "give seconds, above 0 and up to 86400 (a day)"))
    if flags.budget_usd is not None:
        try:
            request.budget_nano_usd = parse_usd(flags.budget_usd, field="budget_usd")
        except DjpError as error:
            problems.extend(error.violations)
    problems += _broken_rules(request, {problem.field for problem in problems})
    problems += _unusable_paths(flags)
    if problems:
        raise InvalidInput("; ".join(f"{flag_of(p.field)}: {p.description}" for p in problems), violations=problems)
    return request


def _contradictions(flags: RunFlags) -> list[Violation]:
    problems = []
    if flags.grounded_required and flags.grounded_corpus is None:
        problems.append(
            Violation(
                "grounded_required", "asks for citations, but there is nothing to cite; give --grounded-corpus DIR"
            )
        )
    if flags.passage_tokens and flags.grounded_corpus is None:
        problems.append(Violation("passage_tokens", "bounds what is read of a corpus; give --grounded-corpus DIR"))
    if flags.template is not None and flags.task is not None:
        problems.append(Violation("task", "--task and --template exclude each other: a template makes the task"))
    if flags.inputs is not None and flags.template is None:
        problems.append(Violation("inputs", "are for a template; name it with --template"))
    if flags.restore_values and flags.redact != "all":
        problems.append(Violation("restore_values", "puts back what --redact all hides; give both, or neither"))
    if flags.restore_values and flags.dry_run:
        problems.append(Violation("restore_values", "--dry-run has no text to show; leave --restore-values out"))
    if flags.redaction_rules is not None and flags.redact == "off":
        problems.append(Violation("redaction_rules", "has no use with --redact off; leave one out"))
    if flags.quiet and flags.verbose:
        problems.append(Violation("quiet", "--quiet and --verbose contradict each other; leave one out"))
    if flags.stream and (flags.quiet or flags.dry_run):
        other = "--quiet" if flags.quiet else "--dry-run"
        problems.append(Violation("stream", f"shows drafts, and {other} shows none; leave one out"))
    if flags.dry_run and flags.metrics:
        problems.append(Violation("metrics", "--dry-run makes no run to record; leave --metrics out"))
    if flags.dry_run and flags.output:
        problems.append(Violation("output", "--dry-run has no text to write; leave --output out"))
    if flags.dry_run and flags.quiet:
        problems.append(Violation("quiet", "--dry-run has nothing but costs to tell; leave --quiet out"))
    return problems


def _unusable_paths(flags: RunFlags) -> Iterator[Violation]:
    """What is wrong with the folder to answer from and with the file to add to, as far as can be seen now."""
    if flags.grounded_corpus is not None:
        from djp.corpus_files import iter_corpus_files

        try:
            iter_corpus_files(flags.grounded_corpus)
        except InvalidInput as error:
            yield from error.violations
    if flags.output is not None and not flags.dry_run:
        from djp.cli.output import check_output

        try:
            check_output(flags.output)
        except InvalidInput as error:
            yield from error.violations
    if flags.metrics is not None and not flags.dry_run:
        from djp.cli.metrics import check_metrics_file

        try:
            check_metrics_file(flags.metrics)
        except InvalidInput as error:
            yield from error.violations


def _broken_rules(request: run_pb2.RunRequest, told: set[str]) -> list[Violation]:
    """What the contract itself says against the request; fields in `told` have their problem already."""
    from djp.mesh.validation import validate

    try:
        validate(request)
    except InvalidInput as error:
        return [
            Violation(f"run.{violation.field}", _RULES.get(violation.field, violation.description))
            for violation in error.violations
            if not {violation.field, f"run.{violation.field}", flag_of(violation.field)[2:].replace("-", "_")} & told
        ]
    return []
