"""The script that begins a new version, called on a copy of the files that it changes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = ("scripts/version.py", "djp/__init__.py", "CHANGELOG.md")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    put_version(tmp_path, "1.4.2")
    return tmp_path


def put_version(copy: Path, version: str) -> None:
    (copy / "djp" / "__init__.py").write_text(f'"""What it is for."""\n\n__version__ = "{version}"\n')


def begin(copy: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, copy / "scripts" / "version.py", *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=copy.parent)


def version_of(copy: Path) -> str:
    """As the build reads it."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["version"]
    return re.search(r'__version__ = "(.*)"', (copy / settings["path"]).read_text())[1]  # type: ignore[index]


@pytest.mark.parametrize(("flag", "expected"), [("--patch", "1.4.3"), ("--minor", "1.5.0"), ("--major", "2.0.0")])
def test_a_version_begins_with_what_was_unreleased(copy: Path, flag: str, expected: str) -> None:
    before = (copy / "CHANGELOG.md").read_text()
    ended = begin(copy, flag)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f"git tag v{expected}" in ended.stdout
    assert version_of(copy) == expected
    heading = f"## [Unreleased]\n\n## [{expected}] - {datetime.now(UTC).date().isoformat()}\n"
    assert (copy / "CHANGELOG.md").read_text() == before.replace("## [Unreleased]\n", heading, 1)


def test_two_versions_one_after_the_other_and_a_section_to_fill_in_where_nothing_is_unreleased(copy: Path) -> None:
    begin(copy, "--minor")
    assert begin(copy, "--patch").returncode == 0
    sections = re.split(r"^## ", (copy / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert [one.split("]")[0] for one in sections[1:4]] == ["[Unreleased", "[1.5.1", "[1.5.0"]
    assert re.findall(r"^### (.*)", sections[2], re.MULTILINE) == ["Added", "Changed", "Fixed"]
    assert "The contracts of the whole product" in sections[3]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("djp/__init__.py", "", "__version__"),
        ("djp/__init__.py", '__version__ = "1.4.2rc1"\n', "__version__"),
        ("djp/__init__.py", '__version__ = "1.4.2"\n__version__ = "1.4.1"\n', "__version__"),
        ("CHANGELOG.md", "# Changelog\n\n## [1.4.2] - 2026-01-01\n", "## [Unreleased]"),
        ("CHANGELOG.md", "# Changelog\n\n## [Unreleased]\n\n## [1.4.3] - 2026-01-01\n", "1.4.3 already"),
    ],
)
def test_files_that_are_not_as_they_have_to_be_stay_as_they_are(copy: Path, name: str, text: str, told: str) -> None:
    (copy / name).write_text(text)
    before = [(copy / one).read_text() for one in FILES]
    ended = begin(copy, "--patch")
    assert ended.returncode == 1
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr
    assert [(copy / one).read_text() for one in FILES] == before


@pytest.mark.parametrize("flags", [(), ("--patch", "--minor"), ("--again",)])
def test_just_one_part_is_raised(copy: Path, flags: tuple[str, ...]) -> None:
    ended = begin(copy, *flags)
    assert ended.returncode == 2
    assert "--patch" in ended.stderr or "--again" in ended.stderr
    assert version_of(copy) == "1.4.2"
