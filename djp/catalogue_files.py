"""Finds the files that configure a deployment (schemas, presets, policies, …); checks documents against schemas."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jsonschema_rs import Draft202012Validator

_PACKAGE = Path(__file__).parent
_MAX_MESSAGE = 300


@cache
def data_dir() -> Path:
    """The folder that holds schemas/, presets/, policies/, templates/, config/ and dashboards/.

    In a checkout that is its root; an installed wheel carries a copy inside the package.
    """
    packaged = _PACKAGE / "_data"
    return packaged if packaged.is_dir() else _PACKAGE.parent


def load_schema(name: str) -> dict[str, Any]:
    """The JSON Schema of that name, for example "artifact"."""
    document: dict[str, Any] = json.loads((data_dir() / "schemas" / f"{name}.json").read_text(encoding="utf-8"))
    return document


def validate_against(schema: str, document: object) -> list[str]:
    """What is wrong with a document: one message a problem, each with the place in the document; empty if valid."""
    return [f"{_json_path(where)}: {message}" for where, message in problems_of(schema, document)]


def problems_of(schema: str, document: object) -> list[tuple[Sequence[str | int], str]]:
    """What is wrong with a document: where, as keys and indexes from its top, and what."""
    problems = sorted(
        _validator(schema).iter_errors(document), key=lambda problem: list(map(str, problem.instance_path))
    )
    return [(tuple(problem.instance_path), _short(problem.message)) for problem in problems]


def schema_problem(document: object) -> str:
    """What is wrong with a JSON Schema (2020-12) itself, with the place in it; empty if it is valid."""
    import jsonschema_rs

    if not isinstance(document, dict | bool):
        return "$: is no schema, which is an object, true or false"
    try:
        jsonschema_rs.meta.validate(document)
    except jsonschema_rs.ValidationError as problem:
        return f"{_json_path(problem.instance_path)}: {_short(problem.message)}"
    return ""


def _json_path(parts: Sequence[str | int]) -> str:
    """`$.debate.drafts[0]` of `["debate", "drafts", 0]`."""
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)


def _short(message: str) -> str:
    """Without the middle: a message quotes the whole value, which may be a text of megabytes."""
    half = _MAX_MESSAGE // 2
    return message if len(message) <= _MAX_MESSAGE else f"{message[:half]} … {message[-half:]}"


@cache
def _validator(schema: str) -> Draft202012Validator:
    import jsonschema_rs  # lazily: a run that starts no gateway has no use for it

    return jsonschema_rs.Draft202012Validator(load_schema(schema), validate_formats=True)
