"""The process that renders templates: it answers questions on standard input, and dies of one that takes too much.

Usage: python -m djp_gateway.templates.worker MEMORY_BYTES CPU_SECONDS MOST_BYTES. A question and an answer are one line
of JSON each.
"""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import sys

from djp_gateway.templates.sandbox import Refused, render


def main(memory_bytes: int, cpu_s: float, most_bytes: int) -> None:
    """Answer until standard input ends."""
    for kind, limit in ((resource.RLIMIT_AS, memory_bytes), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(ValueError, OSError):  # macOS refuses a limit on address space
            resource.setrlimit(kind, (limit, limit))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which closes our input
    for question in sys.stdin:
        # SIGPROF, unhandled, ends the process, also in the middle of a single long operation.
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        answer: dict[str, object]
        try:
            asked = json.loads(question)
            answer = {"text": render(asked["body"], asked["context"], asked["values"], most_bytes)}
        except Refused as refused:
            answer = {"error": refused.message, "line": refused.line}
        except MemoryError:
            answer = {"error": "needs too much memory; shorten the template or its inputs", "line": 0}
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
