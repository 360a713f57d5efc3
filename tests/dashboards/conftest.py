"""A mesh in a process of its own, and the dashboard before it, without a browser."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from streamlit.testing.v1 import AppTest

from djp.sync_client import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from djp.sync_client import SyncDjpClient

APP = Path(__file__).parents[2] / "dashboards" / "observability_app.py"
PAGES = ("runs", "costs", "workers", "storage", "templates", "approvals", "batches", "dead_letters")
DJP = Path(sys.executable).with_name("djp")
_PATIENCE_S = 60


@contextmanager
def served(listen: str, home: Path, **environment: str) -> Iterator[None]:
    """A whole mesh that listens there, until the block ends."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DJP_")}
    with subprocess.Popen(
        [str(DJP), "serve", "all", "--listen", listen],
        env={**kept, "DJP_HOME": str(home), "DJP_DRAIN_DELAY_S": "0", **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        while "listening on" not in (line := process.stderr.readline()):
            assert line, "it ended before it listened"
        try:
            yield
        finally:
            process.terminate()
            process.communicate()


class Dashboard:
    """The app, a page at a time. A new one is a browser's new tab."""

    def __init__(self) -> None:
        self.app = AppTest.from_file(APP, default_timeout=_PATIENCE_S)
        self.app.run()

    def open(self, name: str) -> AppTest:
        self.app.switch_page(f"djp_dashboards/pages/{name}.py")
        self.app.run()
        return self.ran()

    def ran(self) -> AppTest:
        """The app, after it was seen that nothing in it was raised."""
        assert not self.app.exception, [one.message for one in self.app.exception]
        return self.app


def click(app: AppTest, label: str) -> AppTest:
    next(one for one in app.button if one.label == label).click().run()
    assert not app.exception, [one.message for one in app.exception]
    return app


def shown(app: AppTest) -> str:
    """All texts that stand in fields for texts, and in tables."""
    texts = [one.value for one in (*app.code, *app.text)]
    return "\n".join([*texts, *(one.value.to_string() for one in app.dataframe)])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder; nothing of this machine's settings counts."""
    for name in [name for name in os.environ if name.startswith("DJP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DJP_HOME", str(tmp_path / "dashboard"))
    return tmp_path / "home"


@pytest.fixture
def mesh(home: Path, short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Starts a mesh that the dashboard then finds, and gives its client: `mesh(NAME=value)`."""
    with ExitStack() as stack:

        def start(**environment: str) -> SyncDjpClient:
            address = f"unix:{short_folder}/gateway.sock"
            stack.enter_context(served(address, home, **environment))
            monkeypatch.setenv("DJP_GATEWAY", address)
            return stack.enter_context(connect(address))

        yield start
