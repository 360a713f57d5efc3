"""The clients of examples/, compiled and run against a real `djp up`: curl, Python, Go, TypeScript."""

from __future__ import annotations

import json
import os
import re
import subprocess
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from djp.mesh.errors import InvalidInput, ResourceExhausted
from djp.sync_client import connect
from djp.v1 import key_pb2, redaction_pb2, run_pb2, run_pb2_grpc
from tests.examples.clients import COMMANDS, build, numbers
from tests.examples.cutting_proxy import CuttingProxy
from tests.mesh.test_mesh_tls import Authority
from tests.rest.djp_up import DJP, Up

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from djp.mesh.settings import TlsFiles

TASK = "Why do blind juries judge better? “Ünïcode”, 'quotes' & $HOME\nin two lines"


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    build()
    with ExitStack() as stack:
        yield Up(stack)


class Guarded:
    """A `djp up` that asks for keys and for certificates of its own authority."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        home, self.authority = folder / "home", Authority(folder, "ours")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DJP_")}
        made = subprocess.run(  # the first key is made where the database is, before the mesh is up
            [str(DJP), "keys", "create", "--name", "examples", "--tenant", "acme", "--role", "admin", "--json"],
            env={**environment, "DJP_HOME": str(home)},
            capture_output=True,
            text=True,
            check=True,
        )
        self.key: str = json.loads(made.stdout)["secret"]
        self.up = Up(stack, DJP_HOME=str(home), DJP_AUTH="keys", **variables(self.authority.issue("server")))


def variables(files: TlsFiles) -> dict[str, str]:
    """The files as the settings name them."""
    return {"DJP_TLS_CERT": str(files.cert), "DJP_TLS_KEY": str(files.key), "DJP_TLS_CA": str(files.ca)}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    build()
    with ExitStack() as stack:
        yield Guarded(stack, tmp_path_factory.mktemp("guarded"))


@pytest.fixture(params=COMMANDS)
def example(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def run(example: str, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """The exit code, the text and what was said beside it."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DJP_")}
    ended = subprocess.run(
        [*COMMANDS[example], *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd="/",
        env={**inherited, **environment},
    )
    return ended.returncode, ended.stdout, ended.stderr


def address(up: Up, example: str) -> str:
    return up.rest if example == "curl" else up.grpc


def newest(up: Up) -> run_pb2.Run:
    runs = run_pb2_grpc.RunServiceStub(up.channel)
    (run_id,) = (run.run_id for run in runs.ListRuns(run_pb2.ListRunsRequest(page_size=1)).runs)
    return runs.GetRun(run_pb2.GetRunRequest(run_id=run_id)).run


def check_whole(up: Up, code: int, out: str, said: str) -> None:
    """All of the newest run has been shown: every event once, the text, the cost."""
    shown = newest(up)
    assert code == 0, said
    assert shown.spec.task == TASK
    assert out.rstrip("\n") == shown.result.text.rstrip("\n")
    assert list(numbers(said)) == list(range(1, shown.last_sequence + 1))
    assert f"ADVISORY, cost: {shown.result.total_nano_usd} nano-dollars" in said
    assert shown.result.total_nano_usd > 0


def test_a_run_is_started_watched_and_shown(up: Up, example: str) -> None:
    check_whole(up, *run(example, address(up, example), TASK))


def test_a_connection_that_breaks_costs_no_event(up: Up, example: str) -> None:
    with closing(CuttingProxy(address(up, example))) as uncut:
        run(example, uncut.address, TASK)
    limits = (uncut.answered // 2, uncut.answered // 4)
    with closing(CuttingProxy(address(up, example), limits)) as proxy:
        check_whole(up, *run(example, proxy.address, TASK))
        assert proxy.cuts > 0


def test_a_refusal_is_shown_by_its_reason(up: Up, example: str) -> None:
    code, out, said = run(example, address(up, example), "")
    assert (code, out) == (1, "")
    assert re.fullmatch(r"refused: INVALID_INPUT: run\.task: .+\n", said)


def test_a_run_that_is_denied_shows_its_reason(up: Up, example: str) -> None:
    code, out, said = run(example, address(up, example), TASK, "1")
    assert (code, out) == (1, "")
    assert "\nDENIED, cost: 0 nano-dollars\nRUN_BUDGET_EXCEEDED: " in said
    assert newest(up).state == run_pb2.RUN_STATE_DENIED


def test_a_gateway_that_is_not_there_is_told(example: str, up: Up) -> None:
    with closing(CuttingProxy("127.0.0.1:1")) as proxy:
        nobody = proxy.address
    code, out, said = run(example, nobody, TASK)
    assert code != 0
    assert not out
    assert "UNAVAILABLE" in said or "onnect" in said


def test_keys_and_certificates_are_shown_where_they_are_asked_for(guarded: Guarded, example: str) -> None:
    secret, files = {"DJP_API_KEY": guarded.key}, variables(guarded.authority.issue("client"))
    where = address(guarded.up, example)
    for one in {where, guarded.up.rest}:  # gRPC passes the bridge, too
        code, out, said = run(example, one.replace("127.0.0.1", "localhost"), TASK, **secret, **files)
        assert code == 0, said
        assert out
        assert list(numbers(said)) == list(range(1, len(numbers(said)) + 1))
        assert "ADVISORY, cost: " in said
        assert guarded.key not in out + said
    for key in ({}, {"DJP_API_KEY": guarded.key + "x"}):
        code, out, said = run(example, where, TASK, **key, **files)
        assert (code, out) == (1, "")
        assert re.fullmatch(r"refused: UNAUTHENTICATED: .+\n", said)
        assert guarded.key not in said


def test_who_calls_too_often_waits_as_long_as_it_is_told(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key of twenty calls a minute has room again after three seconds, and no client tries for as long by itself."""
    files = variables(guarded.authority.issue("client"))
    for name, value in files.items():
        monkeypatch.setenv(name, value)
    gateway = guarded.up.grpc.replace("127.0.0.1", "localhost")
    with connect(gateway, api_key=guarded.key) as admin:
        keys = {
            example: admin.create_key(
                key_pb2.CreateKeyRequest(
                    request_id=str(uuid.uuid4()), tenant="acme", role=key_pb2.ROLE_TENANT, rate_limit=20
                )
            ).secret
            for example in COMMANDS
        }

    def limited(example: str) -> tuple[int, str, str]:
        with connect(gateway, api_key=keys[example], retry_waits_s=()) as client, pytest.raises(ResourceExhausted):
            while client.get_caller():
                pass
        where = address(guarded.up, example).replace("127.0.0.1", "localhost")
        return run(example, where, TASK, DJP_API_KEY=keys[example], **files)

    with ThreadPoolExecutor() as at_once:
        ended = dict(zip(COMMANDS, at_once.map(limited, COMMANDS), strict=True))
    for example, (code, out, said) in ended.items():
        assert code == 0, (example, said)
        assert out
        assert list(numbers(said)) == list(range(1, len(numbers(said)) + 1))
        assert "ADVISORY, cost: " in said


def test_nobody_talks_to_a_stranger(guarded: Guarded, example: str, tmp_path: Path) -> None:
    """Not to a gateway of another authority, and the gateway not to a client of another one, nor without TLS."""
    secret, where = {"DJP_API_KEY": guarded.key}, address(guarded.up, example)
    theirs = Authority(tmp_path, "theirs")
    strange_client = variables(theirs.issue("client", trusting=guarded.authority.path))
    strange_gateway = variables(guarded.authority.issue("client", trusting=theirs.path))
    with ThreadPoolExecutor() as at_once:
        tried = [
            at_once.submit(run, example, where, TASK, **secret, **files)
            for files in ({}, strange_client, strange_gateway)
        ]
    for code, out, said in (one.result() for one in tried):
        assert code != 0
        assert not out
        assert said
        assert guarded.key not in said


def test_a_blocking_program_sends_and_reads_in_pieces(up: Up) -> None:
    with connect(up.grpc) as client:
        stored = client.storage.put("examples", "a.bin", (bytes([number]) * 1000 for number in range(200)))
        parts = client.storage.get("examples", "a.bin")
        assert next(parts) == stored
        assert sha256(b"".join(part for part in parts if isinstance(part, bytes))).hexdigest() == stored.sha256
        options = redaction_pb2.RedactionOptions()
        redacted = client.redact_stream((piece for piece in ("mail ada@exam", "ple.org", " now")), options)
        assert "".join(answer.text for answer in redacted) == client.redact("mail ada@example.org now").text

        def broken() -> Iterator[bytes]:
            yield b"x"
            raise InvalidInput("the pieces end here", field="pieces")

        with pytest.raises(InvalidInput, match="the pieces end here"):
            client.storage.put("examples", "b.bin", broken())
