"""The command line that asks for the run of a spec, and what of the run no command line can say."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

from google.protobuf.json_format import MessageToDict

from djp.money import format_usd
from djp.v1 import debate_pb2, run_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_ARGUMENT_BYTES = 100_000
"""Of one argument: Linux takes 131,072 bytes, and some shells count their quotes."""
_ESCAPES = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\t": "\\t"}


def command_of(spec: run_pb2.RunSpec) -> tuple[str, list[str]]:
    """The command as one printable line for a shell, and what it leaves out, for people."""
    words = ["djp", "run"]
    for name, value in _flags(spec):
        words += [name] if value is None else [name, _quoted(value)]
    return " ".join(words), list(_left_out(spec))


def _flags(spec: run_pb2.RunSpec) -> Iterator[tuple[str, str | None]]:
    """Names as the operations guide writes them. All that the spec settled is there, so that no preset matters."""
    if spec.template:
        yield "--template", spec.template
        inputs = json.dumps(MessageToDict(spec.inputs), ensure_ascii=False)
        yield "--inputs", inputs if _fits(inputs) else "-"
    else:
        yield "--task", spec.task if _fits(spec.task) else "-"
    if spec.trace_name:
        yield "--trace_name", spec.trace_name
    yield "--max_tokens", str(spec.max_tokens)
    yield "--temperature", str(spec.temperature)
    yield "--policy", spec.policy
    if spec.preset:
        yield "--preset", spec.preset
    yield "--seed", str(spec.seed)
    yield "--rounds", str(spec.rounds)
    for debater in spec.debaters:
        yield "--debater", debater.model
    for juror in spec.jurors:
        yield "--juror", juror.model
    if spec.corpus:
        yield "--grounded_required", str(spec.grounded_required)
        yield "--passage_tokens", str(spec.passage_tokens)
    if spec.HasField("budget_nano_usd"):
        yield "--budget_usd", format_usd(spec.budget_nano_usd, places=9).lstrip("$")
    if spec.HasField("budget_tokens"):
        yield "--budget_tokens", str(spec.budget_tokens)
    if spec.redaction in (run_pb2.REDACTION_MODE_OFF, run_pb2.REDACTION_MODE_ALL):
        yield "--redact", run_pb2.RedactionMode.Name(spec.redaction).removeprefix("REDACTION_MODE_").lower()
    if spec.require_approval:
        yield "--require_approval", None
    yield "--timeout", f"{spec.timeout.ToTimedelta().total_seconds():g}"
    yield "--workflow", spec.workflow


def _left_out(spec: run_pb2.RunSpec) -> Iterator[str]:
    if spec.template:
        yield f"the template as it was then, version {spec.template_version}"
        if not _fits(json.dumps(MessageToDict(spec.inputs), ensure_ascii=False)):
            yield "the inputs, which are too long for an argument: the command reads them from standard input"
    elif not _fits(spec.task):
        yield "the task, which cannot be an argument: the command reads it from standard input"
    if spec.corpus:
        yield f"the corpus {spec.corpus} in its version {spec.corpus_version}: add --grounded_corpus with its folder"
    if any(_more(debater, spec) for debater in spec.debaters):
        yield "roles, fallbacks, temperatures or seeds of single debaters"
    if any(juror.fallback_models or juror.temperature for juror in spec.jurors):
        yield "fallbacks or temperatures of single jurors"
    if spec.HasField("redaction_options"):
        yield "how it is redacted: --redaction_rules takes rules from a file"
    if spec.tags:
        yield "its tags"
    if spec.priority:
        yield f"its priority, {spec.priority}"


def _more(debater: debate_pb2.Debater, spec: run_pb2.RunSpec) -> bool:
    """Whether a debater has more than a model and what all debaters of the run have."""
    of_all = (debater.temperature, debater.seed) == (spec.temperature, spec.seed)
    return bool(debater.role or debater.fallback_models) or not of_all


def _fits(text: str) -> bool:
    """Whether the command takes the text as an argument: `-` and `@…` mean something else there."""
    return text != "-" and not text.startswith("@") and len(_quoted(text).encode()) <= MAX_ARGUMENT_BYTES


def _quoted(text: str) -> str:
    """The text for a shell, in one line that does nothing to a terminal; a control character needs bash or zsh."""
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(map(_escaped, text)) + "'"


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"
