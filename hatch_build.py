"""Compiles the redaction engine (services/redaction/engine, Rust) when the distribution is built or installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ENGINE = Path("services/redaction/engine")
MODULE = Path("services/redaction/djp_redaction/_engine.abi3.so")
LIBRARY = "lib_engine.dylib" if sys.platform == "darwin" else "lib_engine.so"


class EngineBuildHook(BuildHookInterface[Any]):
    """Runs cargo, and puts what it made beside the Python modules."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Hatchling's entry. Raises SystemExit if the compiler is missing, or fails; it says why itself."""
        root = Path(self.root)
        for tool, remedy in (
            ("cargo", "install Rust 1.88 or newer from your package manager or https://rustup.rs"),
            ("cc", "Rust links by it; install a C compiler (on Debian: apt-get install gcc)"),
        ):
            if shutil.which(tool) is None:
                raise SystemExit(f"{tool} is needed to compile the redaction engine: {remedy}")
        target = Path(os.environ.get("CARGO_TARGET_DIR", root / ENGINE / "target"))
        command = ["cargo", "build", "--release", "--locked", "--quiet", "--target-dir", str(target)]
        if subprocess.run(command, cwd=root / ENGINE, check=False).returncode:
            raise SystemExit("the redaction engine did not compile; the compiler's message stands above")
        # First beside it: a process that has the old one open keeps it.
        fresh = (root / MODULE).with_suffix(".new")
        shutil.copyfile(target / "release" / LIBRARY, fresh)
        fresh.replace(root / MODULE)
        build_data["artifacts"].append(str(MODULE))
        build_data["pure_python"] = False
        build_data["tag"] = f"cp311-abi3-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
