"""Presets and policies: what a run may name, read from their files."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from djp.catalogue_files import data_dir, validate_against
from djp.mesh.errors import FailedPrecondition, InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Catalogue:
    """Documents by name, each valid against its schema."""

    presets: Mapping[str, Document]
    policies: Mapping[str, Document]

    def preset(self, name: str) -> Document:
        """The preset of that name.

        Raises:
            InvalidInput: there is none; the message lists those that exist and suggests the nearest.
        """
        return named("preset", name, self.presets)

    def policy(self, name: str) -> Document:
        """The policy of that name.

        Raises:
            InvalidInput: there is none; the message lists those that exist and suggests the nearest.
        """
        return named("policy", name, self.policies)


def load_catalogue(root: Path | None = None, *, presets: Path | None = None, policies: Path | None = None) -> Catalogue:
    """Read presets/ and policies/ of a folder, by default the data directory, and then folders of the deployment's own.

    Of the same name the deployment's counts.

    Raises:
        FailedPrecondition: a file cannot be read, is no JSON or not valid, or a folder is none; the message names it.
    """
    root = root or data_dir()
    return Catalogue(
        presets=_load(root / "presets", "preset") | _own(presets, "preset", "DJP_PRESETS"),
        policies=_load(root / "policies", "policy") | _own(policies, "policy", "DJP_POLICIES"),
    )


def _own(folder: Path | None, schema: str, variable: str) -> dict[str, Document]:
    if folder is None:
        return {}
    if not folder.is_dir():
        raise FailedPrecondition(f"{folder} is no folder; mend or unset {variable}")
    return _load(folder, schema)


def _load(folder: Path, schema: str) -> dict[str, Document]:
    documents: dict[str, Document] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise FailedPrecondition(f"{path} cannot be read: {error.strerror}; mend its permissions") from error
        except ValueError as error:
            raise FailedPrecondition(f"{path} is not JSON: {error}; mend the file or take it away") from error
        problems = validate_against(schema, document)
        if not problems and document["name"] != path.stem:
            problems = [f"$.name: must be {path.stem!r}, as the file is called"]
        if problems:
            raise FailedPrecondition(f"{path} is not a valid {schema}: {'; '.join(problems)}")
        documents[path.stem] = document
    return documents


def named(kind: str, name: str, documents: Mapping[str, Document], field: str = "") -> Document:
    """The one of that name. Raises InvalidInput: there is none; the message lists those that exist."""
    if name in documents:
        return documents[name]
    near = difflib.get_close_matches(name.lower(), documents, n=1)
    hint = f"did you mean {near[0]!r}? There are" if near else "there are"
    raise InvalidInput(f"there is no {kind} {name!r}; {hint}: {', '.join(documents)}", field=field or f"run.{kind}")
