"""A `djp up` of the tests' own: the whole mesh behind Envoy, on free ports, and clients of it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import httpx2

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack

DJP = Path(sys.executable).with_name("djp")
OPEN = "https://app.example"
"""The origin whose pages may call."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


class Up:
    """A `djp up` that serves, and clients of it."""

    def __init__(self, stack: ExitStack, listen: str | None = None, **environment: str) -> None:
        """Of `listen` and the environment `{}` is a folder of its own."""
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="djp-"))
        self.folder = Path(folder)
        self.rest = f"127.0.0.1:{free_port()}"
        self.grpc = listen.format(folder) if listen else f"127.0.0.1:{free_port()}"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DJP_")}
        self.process = stack.enter_context(
            subprocess.Popen(
                [str(DJP), "up", "--listen", self.grpc],
                env={
                    **inherited,
                    "DJP_HOME": f"{folder}/home",
                    "DJP_DRAIN_DELAY_S": "0",
                    "DJP_REST_LISTEN": self.rest,
                    "DJP_REST_CORS_ORIGINS": OPEN,
                    "DJP_REST_MAX_BODY_MIB": "1",
                    **{name: value.format(folder) for name, value in environment.items()},
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        stack.callback(self.process.kill)
        assert self.process.stderr is not None
        self.said = ""
        while "REST listening on" not in self.said:
            line = self.process.stderr.readline()
            assert line, self.said
            self.said += line
        self.client = stack.enter_context(httpx2.Client(base_url=f"http://{self.rest}", timeout=60))
        self.channel = stack.enter_context(grpc.insecure_channel(self.grpc))

    def envoys(self) -> list[int]:
        """The processes of Envoy below this one."""
        told = subprocess.run(
            ["pgrep", "-P", str(self.process.pid), "envoy"], capture_output=True, text=True, check=False
        )
        return [int(pid) for pid in told.stdout.split()]

    def start(self, **fields: Any) -> dict[str, Any]:
        answer = self.client.post("/v1/runs", json={"requestId": str(uuid.uuid4()), "run": {"task": "x", **fields}})
        assert answer.status_code == 200, answer.text
        run: dict[str, Any] = answer.json()["run"]
        return run

    def watch(self, run_id: str, after: int = 0) -> Iterator[dict[str, Any]]:
        with self.client.stream("GET", f"/v1/runs/{run_id}:watch", params={"afterSequence": after}) as answer:
            assert answer.headers["content-type"] == "text/event-stream"
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    yield json.loads(line.removeprefix("data: "))["event"]
