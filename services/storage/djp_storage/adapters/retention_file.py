"""retention.yaml: how long artifacts of single tenants stay in each tier; read again when the file changes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import yaml

from djp.edited_file import EditedFile
from djp.mesh.errors import FailedPrecondition, InvalidInput
from djp.mesh.identity import Identity
from djp.strict_yaml import load_yaml

if TYPE_CHECKING:
    from pathlib import Path

    from djp_storage.retention import Days

_NAMES = {"hot_days": "hot", "warm_days": "warm", "cold_days": "cold", "trash_days": "trash", "kept_days": "kept"}
_MAX_DAYS = 36_500
_MAX_BYTES = 1_000_000


class RetentionFile:
    """The file, which somebody has named if it is `needed`; `days` count where it says nothing."""

    def __init__(self, path: Path, days: Days, *, needed: bool) -> None:
        self._path = path
        self._days = days
        self._needed = needed
        self._file = EditedFile(path)

    def read(self) -> dict[str, Days]:
        """The days of each tenant in it. Raises FailedPrecondition."""
        return read_retention(self._path, self._days, needed=self._needed)

    def poll(self) -> dict[str, Days] | None:
        """The days if the file has changed, once it has rested since the last poll: nobody sees half of an edit.

        Raises FailedPrecondition, once, where it is broken: then the days of before still count.
        """
        return self.read() if self._file.changed() else None


def read_retention(path: Path, days: Days, *, needed: bool) -> dict[str, Days]:
    """The days of each tenant in the file, `days` where it says nothing. A file that is not `needed` may be missing.

    Raises FailedPrecondition, which names the place and the remedy.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if len(text) > _MAX_BYTES:
            raise FailedPrecondition(f"retention file {path} is longer than {_MAX_BYTES} characters; make it shorter")
        document = load_yaml(text)
    except FileNotFoundError:
        if not needed:
            return {}
        raise FailedPrecondition(f"retention file {path} is missing; write it, or unset DJP_RETENTION") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise FailedPrecondition(f"retention file {path} cannot be read ({error}); mend it") from error
    tenants = document.get("tenants") if isinstance(document, dict) and set(document) == {"tenants"} else None
    if not isinstance(tenants, dict):
        raise _bad(path, "tenants", "has to be all there is, with a tenant's name and its days below")
    return {name: _days(path, name, told, days) for name, told in tenants.items()}


def _days(path: Path, name: Any, told: Any, days: Days) -> Days:
    place = f"tenants.{str(name)[:70]}"
    try:
        Identity(name)
    except (InvalidInput, TypeError):
        raise _bad(path, place, "is no name of a tenant") from None
    if not isinstance(told, dict) or not told or set(told) - set(_NAMES):
        raise _bad(path, place, f"takes {', '.join(_NAMES)}")
    values = {}
    for field, text in told.items():
        try:
            values[_NAMES[field]] = float(text)
        except (ValueError, TypeError):
            values[_NAMES[field]] = -1
        if not 0 <= values[_NAMES[field]] <= _MAX_DAYS:
            raise _bad(path, f"{place}.{field}", f"has to be a number of days from 0 to {_MAX_DAYS}")
    return replace(days, **values)


def _bad(path: Path, place: str, told: str) -> FailedPrecondition:
    return FailedPrecondition(f"retention file {path}: {place} {told}; mend it")
