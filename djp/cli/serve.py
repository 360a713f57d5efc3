"""`djp serve` and `djp up`: one service, or the whole mesh, in the foreground."""

from __future__ import annotations

import sys

from pydantic import ValidationError

from djp.cli.exits import exit_of
from djp.cli.terminal import fail
from djp.mesh.errors import DjpError
from djp.mesh.settings import settings_problems


def run_service(service: str, listen: str | None, *, rest: bool = False) -> None:
    """Serve until SIGTERM or SIGINT and leave with the exit code; a start that fails is one line."""
    from djp import standalone

    try:
        sys.exit(standalone.serve_all(listen, rest=rest) if service == "all" else standalone.serve_one(service, listen))
    except DjpError as error:
        fail(error.message)
        sys.exit(exit_of(error))
    except ValidationError as error:
        for problem in settings_problems(error):
            fail(problem)
        sys.exit(2)
