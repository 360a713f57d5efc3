"""Begins a new version: in `djp/__init__.py`, which the build reads, and as a section of CHANGELOG.md."""

from __future__ import annotations

import argparse
import re
import sys
from datetime import UTC, date, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODULE = ROOT / "djp" / "__init__.py"
CHANGELOG = ROOT / "CHANGELOG.md"
PARTS = ("major", "minor", "patch")
TO_FILL_IN = "### Added\n\n- \n\n### Changed\n\n- \n\n### Fixed\n\n- \n"


def main(arguments: list[str]) -> int:
    """Write both files, or neither; 1 when something in them is not as it has to be, which is then told."""
    parser = argparse.ArgumentParser(prog="version.py", description=__doc__)
    group = parser.add_mutually_exclusive_group(required=True)
    for part in PARTS:
        group.add_argument(f"--{part}", dest="part", action="store_const", const=part)
    part = parser.parse_args(arguments).part
    try:
        code, notes = MODULE.read_text(encoding="utf-8"), CHANGELOG.read_text(encoding="utf-8")
        version, code = raised(code, part)
        notes = with_section(notes, version, datetime.now(UTC).date())
        CHANGELOG.write_text(notes, encoding="utf-8")
        MODULE.write_text(code, encoding="utf-8")
    except (OSError, ValueError) as error:
        print(f"version.py: {error}; no version was begun", file=sys.stderr)
        return 1
    print(f"{version}: read its section in CHANGELOG.md again, then\n")
    print(f'  git commit -am "Release {version}" && git tag v{version}')
    return 0


def raised(code: str, part: str) -> tuple[str, str]:
    """The next version, and the module with it. Raises ValueError where there is not one version of three numbers."""
    line = r'^__version__ = "(\d+)\.(\d+)\.(\d+)"$'
    found = re.findall(line, code, re.MULTILINE)
    if len(found) != 1:
        raise ValueError('djp/__init__.py must have one line __version__ = "1.2.3"')
    major, minor, patch = map(int, found[0])
    after = {"major": (major + 1, 0, 0), "minor": (major, minor + 1, 0), "patch": (major, minor, patch + 1)}
    version = ".".join(map(str, after[part]))
    return version, re.sub(line, f'__version__ = "{version}"', code, flags=re.MULTILINE)


def with_section(notes: str, version: str, day: date) -> str:
    """The change log with what is unreleased in a section of that version, or with one to fill in where nothing is.

    Raises ValueError where the change log has no place for unreleased changes, or the version already.
    """
    if re.search(rf"^## \[{re.escape(version)}\]", notes, re.MULTILINE):
        raise ValueError(f"CHANGELOG.md has a section of {version} already")
    head, place, rest = notes.partition("\n## [Unreleased]\n")
    if not place:
        raise ValueError("CHANGELOG.md needs a section ## [Unreleased]; put it above the latest version")
    unreleased, older, tail = rest.partition("\n## [")
    section = unreleased.strip() or TO_FILL_IN.strip("\n")
    return f"{head}{place}\n## [{version}] - {day.isoformat()}\n\n{section}\n{older}{tail}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
