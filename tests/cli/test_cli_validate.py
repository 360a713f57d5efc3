"""`djp validate`: the guide's report, files that are broken in every way, and the exit code."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from djp import catalogue_files
from djp.catalogue_files import data_dir
from djp.cli import validate
from djp.cli.validate import validate_files

if TYPE_CHECKING:
    from pathlib import Path

ARTIFACT = "0a1b2c3d-0000-4000-8000-00000000000{}.json"


@pytest.fixture
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the installation's files that a test may break."""
    for name in ("schemas", "policies", "presets"):
        shutil.copytree(data_dir() / name, tmp_path / "data" / name)
    monkeypatch.setattr(validate, "data_dir", lambda: tmp_path / "data")
    return tmp_path / "data"


async def report(capsys: pytest.CaptureFixture[str], *files: Path) -> tuple[int, list[str]]:
    code = await validate_files(files, as_json=False)
    return code, capsys.readouterr().out.splitlines()


async def test_everything_here_is_valid_in_the_guides_words(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = await report(capsys)

    assert code == 0
    assert lines[:5] == [
        "DJP Pipeline Schema Validation",
        "=" * 40,
        "Validating schemas...",
        "[OK] Schema valid: schemas/artifact.json",
        "[OK] Sample artifact validates against schema",
    ]
    assert {
        "[OK] Schema valid: schemas/policy.json",
        "[OK] Policy validates: openai_only.json",
        "[OK] Policy validates: openai_preferred.json",
        "[OK] Preset validates: quick.json",
    } <= set(lines)
    assert lines[-2:] == ["", "[SUCCESS] Schema validation passed!"]


async def test_a_broken_policy_preset_and_schema_fail(
    home: Path, catalogue: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (catalogue / "policies" / "openai_only.json").write_text('{"name": "openai_only", "allowed_models": "all"}')
    (catalogue / "presets" / "quick.json").write_text("{not json")
    (catalogue / "schemas" / "template.json").write_text('{"type": 7}')
    code, lines = await report(capsys)

    assert code == 1
    failed = [line for line in lines if line.startswith("[FAIL] ")]
    assert any(line.startswith("[FAIL] openai_only.json: $") for line in failed)
    assert any(line.startswith("[FAIL] quick.json: is not JSON") for line in failed)
    assert any(line.startswith("[FAIL] schemas/template.json: ") for line in failed)
    assert lines[-1].startswith("[FAILURE] Schema validation failed: ")


async def test_stored_artifacts_are_checked_and_other_files_are_not(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = home / "artifacts" / "hot" / "default" / "adhoc"
    folder.mkdir(parents=True)
    good = validate._sample()
    (folder / ARTIFACT.format(1)).write_text(json.dumps(good))
    (folder / ARTIFACT.format(2)).write_text(json.dumps({**good, "schema_version": "1.0"}))
    (folder / ARTIFACT.format(3)).write_text(json.dumps(good)[:-20])
    (folder / "notes.json").write_text("[1, 2]")
    code, lines = await report(capsys)

    assert code == 1
    assert f"[OK] Stored artifacts validate: 1 in {home / 'artifacts'}" in lines
    failed = [line.partition(":")[0] for line in lines if line.startswith("[FAIL] ")]
    assert failed == [f"[FAIL] {ARTIFACT.format(2)}", f"[FAIL] {ARTIFACT.format(3)}"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"[" * 200_000, "is nested too deeply"),
        (b'"text"', "is no artifact, policy, preset or schema"),
        (b'{"run_metadata": {}}', "is a required property"),
        (b'{"allowed_models": ["\\u001b[2J"], "x\\u001b[2J": 1}', "Additional properties"),
    ],
)
async def test_a_given_file_that_is_not_valid_says_why(
    content: bytes, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "given.json").write_bytes(content)
    code, lines = await report(capsys, tmp_path / "given.json")

    assert code == 1
    assert any(line.startswith("[FAIL] ") and says in line for line in lines)
    assert "\x1b" not in "".join(lines)


async def test_given_files_are_known_by_what_is_in_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "artifact.json").write_text(json.dumps(validate._sample()))
    files = [tmp_path / "artifact.json", data_dir() / "policies" / "any.json", data_dir() / "schemas" / "policy.json"]
    code, lines = await report(capsys, *files)
    assert code == 0
    assert [line.partition(":")[0] for line in lines[3:6]] == [
        "[OK] Artifact validates",
        "[OK] Policy validates",
        "[OK] Schema valid",
    ]

    monkeypatch.setattr(validate, "MAX_FILE_BYTES", 10)
    code, lines = await report(capsys, tmp_path / "artifact.json", tmp_path / "missing.json", tmp_path)
    assert code == 1
    assert [line.rpartition(".json: ")[2] for line in lines[3:5]] == [
        "is larger than 0 MiB",
        "cannot be read: No such file or directory",
    ]
    assert lines[5] == f"[FAIL] {tmp_path}: cannot be read: Is a directory"


async def test_json_lists_every_finding(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await validate_files([], as_json=True)
    told: dict[str, Any] = json.loads(capsys.readouterr().out)

    assert told["valid"] is True
    assert {"what": "Sample artifact validates against schema", "problem": None} in told["findings"]
    assert catalogue_files.load_schema("artifact")["properties"].keys() == validate._sample().keys()
