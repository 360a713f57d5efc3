"""Calls the `djp` command many times, each in a process of its own, which is forked when all is imported already."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import sys

import djp.cli
from djp.cli.main import main


def call(args: list[str], out: str, err: str) -> int:
    """The command's exit code; its two streams go to files."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for number, path in enumerate((os.devnull, out, err)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), number)
    sys.argv = ["djp", *args]
    code = 99
    try:
        main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    for module in pkgutil.iter_modules(djp.cli.__path__, "djp.cli."):
        importlib.import_module(module.name)
    for line in sys.stdin:
        print(call(**json.loads(line)), flush=True)
