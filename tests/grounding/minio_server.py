"""A MinIO of the tests' own: started in a folder, stopped and started again on the same port."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from djp.s3 import S3Account

KEY, SECRET = "grounding-tests", "only-for-tests"


class MinioServer:
    """`start` returns when it answers, `stop` when its process is gone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.endpoint = f"127.0.0.1:{probe.getsockname()[1]}"
        self.account = S3Account(f"http://{self.endpoint}", KEY, SECRET)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {**os.environ, "MINIO_ROOT_USER": KEY, "MINIO_ROOT_PASSWORD": SECRET, "MINIO_BROWSER": "off"}
        with (self._folder / "minio.log").open("ab") as log:
            self._process = subprocess.Popen(
                [_binary(), "server", "--quiet", "--address", self.endpoint, str(self._folder / "data")],
                env=environment,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"MinIO did not start: {(self._folder / 'minio.log').read_text()[-1000:]}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.endpoint}/minio/health/cluster", timeout=5) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None


def _binary() -> str:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "djp-tools"
    found = sorted(cache.glob("minio-*/minio"))
    if not found:
        pytest.fail("these tests need MinIO: run `make test` once, which builds it")
    return str(found[-1])
