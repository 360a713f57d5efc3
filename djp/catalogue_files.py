"""Finds the files that configure a deployment (schemas, presets, policies, …); checks documents against schemas."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

_PACKAGE = Path(__file__).parent
_MAX_MESSAGE = 300


@cache
def data_dir() -> Path:
    """The folder that holds schemas/, presets/, policies/, templates/ and config/.

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
    problems = sorted(_validator(schema).iter_errors(document), key=lambda problem: list(map(str, problem.path)))
    return [f"{problem.json_path}: {_short(problem.message)}" for problem in problems]


def _short(message: str) -> str:
    """Without the middle: a message quotes the whole value, which may be a text of megabytes."""
    half = _MAX_MESSAGE // 2
    return message if len(message) <= _MAX_MESSAGE else f"{message[:half]} … {message[-half:]}"


@cache
def _validator(schema: str) -> Draft202012Validator:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(load_schema(schema), format_checker=Draft202012Validator.FORMAT_CHECKER)
