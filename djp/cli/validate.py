"""`djp validate`: schemas, policies, presets and stored artifacts against their schemas."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from djp.catalogue_files import data_dir, schema_problem, validate_against
from djp.cli.exits import Exit
from djp.cli.terminal import one_line
from djp.mesh.settings import djp_home

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

MAX_FILE_BYTES = 64 * 1024 * 1024
"""A larger file is no artifact of ours: the longest texts a run can have come to a few megabytes."""
_PROBLEMS_SHOWN = 5

_KINDS = {"artifact": "run_metadata", "policy": "allowed_models", "preset": "max_debaters"}
"""What each kind of document always has, to tell them apart."""


_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_RUN_FILE = re.compile(r"([0-9a-f]{12}-)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.json")


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was checked, and the problem, empty if there is none."""

    what: str
    problem: str = ""


async def validate_files(files: Sequence[Path], *, kind: str = "", as_json: bool) -> int:
    """Check the given files, as documents of a kind if one is named, or everything that is known here; exits with 1
    when anything is not valid."""
    findings = [found for file in files for found in check_file(file, kind)] if files else list(check_everything())
    failed = [found for found in findings if found.problem]
    if as_json:
        told = [{"what": found.what, "problem": found.problem or None} for found in findings]
        print(json.dumps({"valid": not failed, "findings": told}, indent=2))
    else:
        print("DJP Pipeline Schema Validation")
        print("=" * 40)
        print("Validating files..." if files else "Validating schemas...")
        for found in findings:
            print(f"[FAIL] {found.what}: {found.problem}" if found.problem else f"[OK] {found.what}")
        print()
        problems = f"{len(failed)} problem{'' if len(failed) == 1 else 's'}"
        print(f"[FAILURE] Schema validation failed: {problems}" if failed else "[SUCCESS] Schema validation passed!")
    return Exit.PROBLEM if failed else Exit.OK


def check_everything() -> Iterator[Finding]:
    """The schemas, a sample artifact, the policies and presets of this installation, and the stored artifacts."""
    for path in sorted((data_dir() / "schemas").glob("*.json")):
        yield from _check_schema(path)
        match path.stem:
            case "artifact":
                yield from _report("Sample artifact validates against schema", "sample artifact", "artifact", _sample())
            case "policy" | "preset" as kind:
                folder = data_dir() / {"policy": "policies", "preset": "presets"}[kind]
                for document in sorted(folder.glob("*.json")):
                    yield from check_file(document, kind)
    artifacts, valid = djp_home() / "artifacts", 0
    for path in _stored(artifacts):
        found = list(check_file(path, "artifact"))
        valid += not found[0].problem
        yield from (one for one in found if one.problem)
    if valid:
        yield Finding(f"Stored artifacts validate: {valid} in {artifacts}")


def _stored(artifacts: Path) -> list[Path]:
    """The files of runs' artifacts, by path: they are named after the run, other files of a workflow are not."""
    files = (path for tier in ("hot", "warm", "cold") for path in (artifacts / tier).glob("*/*/[!.]*.json"))
    return sorted(path for path in files if _RUN_FILE.fullmatch(path.name))


def check_file(path: Path, kind: str = "") -> Iterator[Finding]:
    """One document; `kind` is the schema's name, or empty to tell by what is in it."""
    name = one_line(path.name if kind else str(path))
    try:
        document = _read(path)
    except ValueError as error:
        yield Finding(name, str(error))
        return
    if not kind and isinstance(document, dict) and "$schema" in document:
        yield from _check_schema(path)
        return
    known = [one for one, key in _KINDS.items() if isinstance(document, dict) and key in document]
    if not kind and not known:
        yield Finding(name, "is no artifact, policy, preset or schema")
        return
    kind = kind or known[0]
    yield from _report(f"{kind.capitalize()} validates: {name}", name, kind, document)


def _check_schema(path: Path) -> Iterator[Finding]:
    shown = f"schemas/{path.name}" if path.parent == data_dir() / "schemas" else one_line(str(path))
    try:
        problem = schema_problem(_read(path))
    except ValueError as error:
        problem = str(error)
    yield Finding(shown, one_line(problem, 300)) if problem else Finding(f"Schema valid: {shown}")


def _report(good: str, name: str, kind: str, document: object) -> Iterator[Finding]:
    try:
        problems = validate_against(kind, document)
    except RecursionError:
        problems = ["is nested too deeply"]
    for problem in problems[:_PROBLEMS_SHOWN]:
        yield Finding(name, one_line(problem, 300))
    if len(problems) > _PROBLEMS_SHOWN:
        yield Finding(name, f"and {len(problems) - _PROBLEMS_SHOWN} problems more")
    if not problems:
        yield Finding(good)


def _read(path: Path) -> Any:
    """The JSON document in a file. Raises ValueError with what is wrong, in words."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        if raw.startswith(_ZSTD_MAGIC):  # of a warm or cold artifact
            raw = _decompressed(raw)
        if len(raw) > MAX_FILE_BYTES:
            raise ValueError(f"is larger than {MAX_FILE_BYTES >> 20} MiB")
        return json.loads(raw.decode())
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError("is not UTF-8 text") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error}") from error
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error


def _decompressed(raw: bytes) -> bytes:
    """At most a byte more than a file may have. Raises ValueError."""
    import zstandard

    try:
        with zstandard.ZstdDecompressor(max_window_size=MAX_FILE_BYTES).stream_reader(raw) as reader:
            return reader.read(MAX_FILE_BYTES + 1)
    except zstandard.ZstdError as error:
        raise ValueError("is damaged: it cannot be decompressed") from error


def _sample() -> dict[str, Any]:
    """The artifact that the gateway would write for a small run, made by the gateway's own code."""
    from google.protobuf.json_format import ParseDict

    from djp.v1 import common_pb2, debate_pb2, judge_pb2, run_pb2
    from djp_gateway.artifact import build_artifact
    from djp_gateway.hiding import Sent
    from djp_gateway.policy import Publication
    from djp_gateway.record import RunRecord

    run_id, at = "00000000-0000-4000-8000-000000000001", "2026-01-01T00:00:00Z"
    run = ParseDict(
        {
            "runId": run_id,
            "tenant": "default",
            "startedAt": at,
            "spec": {
                "task": "What is checked here?",
                "workflow": "adhoc",
                "policy": "any",
                "maxTokens": 100,
                "debaters": [{"debaterId": "d1", "model": "offline/sample"}],
            },
            "result": {"text": "The schema. [Schema]", "model": "offline/sample", "draftId": "d1-r1"},
            "reservationId": run_id,
            "traceId": "0" * 31 + "1",
        },
        run_pb2.Run(),
    )
    draft = debate_pb2.Draft(draft_id="d1-r1", debater_id="d1", model="offline/sample", round=1, text=run.result.text)
    score = judge_pb2.Score(draft_id="d1-r1", task_fit=4, support=3, clarity=2, total=9)
    call = common_pb2.ModelCall(
        call_id=run_id, stage=common_pb2.STAGE_DEBATE, model=draft.model, attempt=1, actor_id="d1"
    )
    call.started_at.FromJsonString(at)
    return build_artifact(
        RunRecord(
            run=run,
            sent=Sent(run.spec, []),
            debated=debate_pb2.DebateFinished(drafts=[draft], rounds=1),
            failures=[],
            citations={},
            ballots=[judge_pb2.Ballot(juror_id="j1", model="offline/sample", order=["d1-r1"], scores=[score])],
            verdict=judge_pb2.Verdict(winner_draft_id="d1-r1", agreement=1, valid_ballots=1),
            publication=Publication("published", "d1-r1", ""),
            calls=[call],
        )
    )
