"""Reads what a flag was given: the text itself, what the file after `@` holds, or for `-` standard input."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import yaml

from djp.mesh.errors import InvalidInput
from djp.strict_yaml import load_yaml

MAX_TASK_BYTES = 262_144
"""The contract's limit for `RunRequest.task`; nothing longer is read from a file or from standard input."""
MAX_INPUTS_BYTES = 1 << 20
"""Of a template's inputs: what they make has `MAX_TASK_BYTES` at most."""


def read_task(task: str | None) -> str:
    """The task that `--task` was given.

    Raises InvalidInput: no task, an unreadable file, no UTF-8, empty, or longer than `MAX_TASK_BYTES`.
    """
    if task is None:
        raise InvalidInput("is missing; give a text, @FILE, or - for standard input; or give --template", field="task")
    remedy = "put long material into a folder for --grounded-corpus"
    text = _read(task, "task", MAX_TASK_BYTES, remedy)
    if not text:
        raise InvalidInput("is empty; say what the run should answer", field="task")
    return text


def read_inputs(inputs: str) -> dict[str, Any]:
    """The object that `--inputs` was given, in JSON or in YAML.

    Raises InvalidInput: an unreadable file, neither JSON nor YAML, no object, or longer than `MAX_INPUTS_BYTES`.
    """
    text = _read(inputs, "inputs", MAX_INPUTS_BYTES, "shorten what they hold")
    try:
        given = json.loads(text)
    except RecursionError:
        raise InvalidInput("are nested too deeply", field="inputs") from None
    except ValueError as error:
        given = _yaml(text, error)
    if not isinstance(given, dict):
        raise InvalidInput('are no object; give one such as {"start_date": "2025-10-01"}', field="inputs")
    return given


def _yaml(text: str, problem: ValueError) -> Any:
    """What JSON is not may be YAML, unless it was meant to be JSON. A date stays as it is written."""
    if not text.startswith(("{", "[")):
        try:
            return load_yaml(text, aliases=False)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise InvalidInput(f"are neither JSON nor YAML: {' '.join(str(error).split())}", field="inputs") from error
    raise InvalidInput(f"are not JSON: {problem}", field="inputs") from problem


def _read(given: str, field: str, most: int, too_long: str) -> str:
    if given == "-":
        if sys.stdin is None:
            raise InvalidInput("- is standard input, which is closed", field=field)
        if sys.stdin.isatty():
            print(f"Type the {field}; end with Ctrl-D on a line of its own.", file=sys.stderr)
        raw, source = sys.stdin.buffer.read(most + 1), "standard input"
    elif given.startswith("@"):
        source = given[1:]
        try:
            with open(source, "rb") as file:
                raw = file.read(most + 1)
        except (OSError, ValueError) as error:
            cause = getattr(error, "strerror", None) or error
            raise InvalidInput(
                f"file {source!r} cannot be read ({cause}); what itself begins with @ can come from standard "
                f"input: --{field} -",
                field=field,
            ) from error
    else:
        raw, source = os.fsencode(given), "the text"
    if len(raw) > most:
        raise InvalidInput(f"is longer than {most} bytes; {too_long}", field=field)
    try:
        return raw.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{source} is not UTF-8 text; convert it first", field=field) from error
