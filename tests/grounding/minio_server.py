"""A MinIO of the tests' own: started in a folder, stopped and started again on the same port."""

from __future__ import annotations

import os
import socket
import ssl
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

    def __init__(
        self, folder: Path, certificates: Path | None = None, *, room_mib: int = 0, **environment: str
    ) -> None:
        """With a folder of `public.crt` and `private.key` it speaks TLS.

        With `room_mib` its disk has no more room than that, and is gone when it stops.
        """
        self._folder = folder
        self._certificates = certificates
        self._room_mib = room_mib
        self._environment = environment
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.endpoint = f"127.0.0.1:{probe.getsockname()[1]}"
        self.account = S3Account(f"{'https' if certificates else 'http'}://{self.endpoint}", KEY, SECRET)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {**os.environ, "MINIO_ROOT_USER": KEY, "MINIO_ROOT_PASSWORD": SECRET, "MINIO_BROWSER": "off"}
        environment |= self._environment
        options = ["--quiet", "--address", self.endpoint]
        if self._certificates:
            options += ["--certs-dir", str(self._certificates)]
        data = self._folder / "data"
        command = [_binary(), "server", *options, str(data)]
        if self._room_mib:  # a disk of its own, which no other process sees; that takes no rights of root
            data.mkdir()
            mount = f'mount -t tmpfs -o size={self._room_mib}m none "$0" && exec "$@"'
            command = ["unshare", "--mount", "--map-root-user", "sh", "-c", mount, str(data), *command]
        with (self._folder / "minio.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"MinIO did not start: {(self._folder / 'minio.log').read_text()[-1000:]}")
            time.sleep(0.05)

    def half_uploads(self) -> list[Path]:
        """What lies on its disk of uploads in parts that were neither ended nor given up."""
        assert self._process
        disk = Path(f"/proc/{self._process.pid}/root") if self._room_mib else Path("/")
        parts = disk / self._folder.relative_to("/") / "data/.minio.sys/multipart"
        return [one for one in parts.rglob("*") if one.is_file()]

    def _answers(self) -> bool:
        trusting = ssl._create_unverified_context() if self._certificates else None
        address = f"{self.account.endpoint}/minio/health/cluster"
        try:
            with urllib.request.urlopen(address, timeout=5, context=trusting) as answer:
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
