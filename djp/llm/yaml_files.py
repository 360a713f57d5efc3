"""Reads the files of providers and prices, with errors that say what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from djp.mesh.errors import FailedPrecondition
from djp.strict_yaml import load_yaml

if TYPE_CHECKING:
    from pathlib import Path


def read_yaml(path: Path, what: str, variable: str) -> dict[str, Any]:
    """The map in a file; empty if it holds something else. `what` and the `variable` that names it go into errors.

    Raises FailedPrecondition, naming the file and the remedy, if it cannot be read or is no YAML.
    """
    try:
        document = load_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FailedPrecondition(
            f"{what} {path} cannot be read ({error.strerror}); mend it, or name another one with {variable}"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        problem = " ".join(str(error).split())[:300]
        raise FailedPrecondition(f"{what} {path} is not YAML in UTF-8; mend it: {problem}") from error
    return document if isinstance(document, dict) else {}
