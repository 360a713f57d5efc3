"""`djp dashboard`: what it starts, who reaches it, and that nothing of it is left."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import tomllib
from pathlib import Path

import httpx2
import pytest

from djp.sync_client import connect
from tests.dashboards.conftest import APP, DJP
from tests.rest.djp_up import free_port


def start(home: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(DJP), "dashboard", *arguments],
        env={**os.environ, "DJP_HOME": str(home), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def gateway_of_the_app(command: int) -> str:
    """The address that `djp dashboard` has told the app."""
    app = Path(f"/proc/{command}/task/{command}/children").read_text().split()[0]
    told = Path(f"/proc/{app}/environ").read_bytes().decode().split("\0")
    return next(one for one in told if one.startswith("DJP_GATEWAY=")).partition("=")[2]


def test_it_serves_its_own_mesh_on_localhost_alone_and_ctrl_c_ends_both(home: Path) -> None:
    with start(home) as process:
        assert process.stdout is not None
        told = ""
        while not (found := re.search(r"URL: http://localhost:(\d+)", told)):
            line = process.stdout.readline()
            assert line, told
            told += line
        port = int(found[1])
        assert "streamlit" in httpx2.get(f"http://localhost:{port}/", timeout=60).text.lower()
        with connect(gateway_of_the_app(process.pid)) as client:  # it is a process of its own, and so are we
            assert client.list_presets()
        with pytest.raises(OSError):  # noqa: PT011  refused, or no such address: it depends on the system
            socket.create_connection(("127.0.0.2", port), timeout=60).close()
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate()
        assert process.returncode == 130
        assert "Traceback" not in told + rest
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port)).close()
    with start(home, "--gateway", f"localhost:{free_port()}", "--port", "0") as refused:
        assert "--port" in refused.communicate()[0]


def test_it_ends_where_nobody_reads_what_it_says(home: Path) -> None:
    with start(home, "--gateway", f"localhost:{free_port()}") as process:
        assert process.stdout is not None
        while not (found := re.search(r"URL: http://localhost:(\d+)", process.stdout.readline())):
            pass
        process.stdout.close()  # as `| head` does
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 143
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(found[1]))).close()


def test_a_port_in_use_and_a_data_folder_in_use_are_said(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, start(home, "--port", str(taken.getsockname()[1])) as process:
        told, _ = process.communicate()
        assert process.returncode == 1
        assert "in use" in told or "not available" in told
        assert "Traceback" not in told


def test_the_app_tells_nobody_that_it_is_used() -> None:
    """Streamlit reads this file because it lies beside the app."""
    settings = tomllib.loads((APP.parent / ".streamlit" / "config.toml").read_text())
    assert settings["browser"]["gatherUsageStats"] is False
    assert settings["server"]["address"] == "localhost"
    assert settings["client"]["showErrorDetails"] == "none"
