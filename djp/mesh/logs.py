"""Logging of a process: readable lines on standard error, with the run's id when one is known."""

from __future__ import annotations

import logging
import sys

from djp.mesh.telemetry import current_run_id


class _OursOrWarning(logging.Filter):
    """Lets our own records through, and a library's from WARNING on; notes the run."""

    def filter(self, record: logging.LogRecord) -> bool:
        run_id = current_run_id()
        record.run = f" [{run_id}]" if run_id else ""
        return record.levelno >= logging.WARNING or record.name.startswith("djp")


def setup_logging(level: str) -> None:
    """Log to standard error: our records from `level` on, a library's from WARNING on. Replaces other handlers."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_OursOrWarning())
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s%(run)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
