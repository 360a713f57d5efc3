"""The file of settings, `djp.env`: lines NAME=value that count where the environment says nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from djp.cli.exits import Exit

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "DJP_ENV_FILE"
"""Names the file; without it djp.env in the data folder, which need not be there."""
NAME = "djp.env"
_MOST_BYTES = 1 << 20

_taken: dict[str, str] = {}


def taken() -> Mapping[str, str]:
    """Where each variable that came from the file stands: `path:line`."""
    return _taken


def env_file() -> Path:
    """The file that would be read."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else data_folder() / NAME


def data_folder() -> Path:
    """As `djp.mesh.settings.djp_home`, without the tenth of a second that importing pydantic takes."""
    from platformdirs import user_data_dir

    return Path(os.environ.get("DJP_HOME") or user_data_dir("djp"))


def read_env_file() -> None:
    """Put into the environment what the file says and the environment does not; an empty variable counts as not set.

    A file that is named and cannot be read, or a line that is none, ends the process with one line on standard error:
    nothing may go on with half of its settings.
    """
    path = env_file()
    try:
        if not path.is_file() and VARIABLE not in os.environ:
            return
        with path.open(encoding="utf-8") as file:
            text = file.read(_MOST_BYTES + 1)
    except OSError as error:
        _refuse(f"{path} cannot be read ({error.strerror}); mend or unset {VARIABLE}")
    except UnicodeDecodeError:
        _refuse(f"{path} is not UTF-8 text; save it as UTF-8")
    if len(text) > _MOST_BYTES:
        _refuse(f"{path} is longer than {_MOST_BYTES >> 20} MiB; {VARIABLE} has to name a file of lines NAME=value")

    import io

    from dotenv.parser import parse_stream

    for line in parse_stream(io.StringIO(text)):
        at = f"{path}:{line.original.line}"
        if line.error or (line.key and line.value is None):
            _refuse(f"{at}: is no line NAME=value; write one, or begin it with #")
        if line.key and line.value and (line.key in _taken or not os.environ.get(line.key)):
            if "\0" in line.value or "=" in line.key:
                _refuse(f"{at}: {line.key[:80]!r} cannot be set to that; a value has no NUL")
            os.environ[line.key] = line.value
            _taken[line.key] = at


def _refuse(message: str) -> NoReturn:
    from djp.cli.terminal import fail

    fail(message)
    sys.exit(Exit.BAD_INPUT)
