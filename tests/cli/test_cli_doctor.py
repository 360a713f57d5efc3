"""`djp doctor`: finds what is broken, says how to mend it, changes nothing; and `djp serve` refuses in one line."""

from __future__ import annotations

import json
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock

from djp import __version__
from djp.cli import doctor, doctor_reach
from djp.cli.doctor import examine
from djp.mesh.errors import PermissionDenied
from djp.mesh.server import MeshServer, Service
from djp.standalone import standalone_mesh
from djp.v1 import key_pb2, key_pb2_grpc, scaling_pb2, scaling_pb2_grpc
from tests.grounding.minio_server import MinioServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


async def checks(capsys: pytest.CaptureFixture[str], gateway: str | None = None) -> tuple[int, dict[str, Any]]:
    code = await examine(gateway, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["healthy"] is (code == 0)
    return code, {check["name"]: check for check in told["checks"]}


async def test_a_fresh_installation_is_healthy_and_stays_fresh(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = await checks(capsys)

    assert code == 0
    assert found["data folder"]["found"] == f"{home} (made at the first run)"
    assert {found[name]["state"] for name in ("versions", "files", "disk", "clock")} == {"ok"}
    assert not home.exists()  # noqa: ASYNC240
    assert await examine(None, as_json=False) == 0
    assert capsys.readouterr().out.endswith("Everything that djp needs is here.\n")


async def test_a_gateway_that_answers_and_one_that_does_not(
    home: Path, gateway: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    async with standalone_mesh() as address:
        code, found = await checks(capsys, address)
    assert (code, found["gateway"]["state"]) == (0, "ok")
    assert f"is djp {__version__}; you are tenant default there in the role tenant" in found["gateway"]["found"]
    code, found = await checks(capsys, gateway.address)  # which knows nothing of callers, as older ones do not
    assert (code, found["gateway"]["state"]) == (0, "warning")
    assert "older than this command" in found["gateway"]["found"]
    code, found = await checks(capsys, f"unix:{tmp_path}/nobody.sock")
    assert (code, found["gateway"]["state"]) == (1, "broken")
    code, found = await checks(capsys, "what")
    assert (code, found["gateway"]["state"]) == (1, "broken")


class AnotherRelease(key_pb2_grpc.KeyServiceServicer):
    """A gateway that says what it is told to say."""

    async def GetCaller(self, request: key_pb2.GetCallerRequest, context: Any) -> key_pb2.GetCallerResponse:
        return key_pb2.GetCallerResponse(
            tenant="ada", role=key_pb2.ROLE_ADMIN, name="key \x1b[31mops", djp_version="99.0.0"
        )


async def test_the_release_of_the_gateway_and_the_role_of_the_key_are_told(
    home: Path, short_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = key_pb2.DESCRIPTOR.services_by_name["KeyService"]
    servicers = [(service, AnotherRelease(), key_pb2_grpc.add_KeyServiceServicer_to_server)]
    async with MeshServer(Service("gateway", servicers), f"unix:{short_folder}/gateway.sock") as server:
        code, found = await checks(capsys, server.address)
        assert await examine(server.address, as_json=False) == 0
    assert (code, found["gateway"]["state"]) == (0, "warning")
    assert "is djp 99.0.0; you are tenant ada there in the role admin" in found["gateway"]["found"]
    assert f"this command is djp {__version__}" in found["gateway"]["found"]
    assert "\x1b" not in capsys.readouterr().out


class RolledBack(scaling_pb2_grpc.ScalingServiceServicer):
    """A gateway with runs of a newer release in its queue."""

    def __init__(self) -> None:
        self.waiting = 3
        self.may = True

    async def GetScaling(self, request: Any, context: Any) -> scaling_pb2.GetScalingResponse:
        if not self.may:
            raise PermissionDenied("this is for operators")
        return scaling_pb2.GetScalingResponse(scaling=scaling_pb2.Scaling(waiting_for_newer=self.waiting))


async def test_runs_that_no_gateway_of_this_release_can_take_are_told(
    home: Path, short_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rolled_back = RolledBack()
    services = (key_pb2.DESCRIPTOR.services_by_name, scaling_pb2.DESCRIPTOR.services_by_name)
    servicers: list[Any] = [
        (services[0]["KeyService"], AnotherRelease(), key_pb2_grpc.add_KeyServiceServicer_to_server),
        (services[1]["ScalingService"], rolled_back, scaling_pb2_grpc.add_ScalingServiceServicer_to_server),
    ]
    async with MeshServer(Service("gateway", servicers), f"unix:{short_folder}/gateway.sock") as server:
        code, found = await checks(capsys, server.address)
        assert (code, found["queue"]["state"]) == (0, "warning")
        assert found["queue"]["found"].startswith("3 runs wait for a gateway of a newer release")
        for rolled_back.waiting, rolled_back.may in ((0, True), (3, False)):
            code, found = await checks(capsys, server.address)
            assert code == 0
            assert "queue" not in found


async def test_where_callers_need_keys_an_admin_has_to_have_one(
    home: Path, djp: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, found = await checks(capsys)
    assert "admin keys" not in found
    monkeypatch.setenv("DJP_AUTH", "keys")
    _, found = await checks(capsys)
    assert found["admin keys"]["state"] == "warning"
    assert not home.exists(), "looking has made something"  # noqa: ASYNC240
    for role in ("operator", "admin"):
        made = json.loads((await djp("keys", "create", "--role", role, "--name", role, "--json")).out)
        _, found = await checks(capsys)
        assert found["admin keys"]["state"] == ("ok" if role == "admin" else "warning")
    assert (await djp("keys", "revoke", made["key"]["key_id"])).code == 0
    _, found = await checks(capsys)
    assert found["admin keys"]["state"] == "warning"


async def test_a_gateway_that_takes_the_call_and_says_nothing(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "GATEWAY_ANSWERS_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        code, found = await checks(capsys, f"127.0.0.1:{silent.getsockname()[1]}")

    assert (code, found["gateway"]["state"]) == (1, "broken")
    assert "does not answer" in found["gateway"]["found"]


async def test_a_data_folder_in_use_is_a_warning_and_is_left_alone(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home.mkdir()  # noqa: ASYNC240
    with FileLock(home / "lock"):
        code, found = await checks(capsys)
    assert (code, found["data folder"]["state"]) == (0, "warning")
    code, found = await checks(capsys)
    assert found["data folder"]["state"] == "ok"


async def test_damaged_databases_and_keys_are_broken(djp: Any, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (await djp("runs", "list")).code == 0
    code, found = await checks(capsys)
    assert code == 0
    assert not {"database", "seal key"} & set(found)
    with open(home / "gateway.db", "r+b") as database:  # noqa: ASYNC230
        database.write(b"garbage" * 100)
    (home / "seal.key").write_bytes(b"short")
    code, found = await checks(capsys)

    assert code == 1
    assert "gateway.db is damaged" in found["database"]["found"]
    assert "has 5 bytes" in found["seal key"]["found"]
    assert "backup" in found["database"]["remedy"]


async def test_a_data_folder_that_is_a_file_is_broken(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home.write_text("")  # noqa: ASYNC240
    code, found = await checks(capsys)

    assert (code, found["data folder"]["state"]) == (1, "broken")
    assert "DJP_HOME" in found["data folder"]["remedy"]


async def test_tls_files_are_looked_at_and_wrong_settings_named(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DJP_TLS_CERT", str(tmp_path / "missing.pem"))
    code, found = await checks(capsys)
    assert code == 1
    assert "DJP_TLS_KEY" in found["settings"]["found"]

    (tmp_path / "key.pem").write_text("no key")
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    monkeypatch.setenv("DJP_TLS_KEY", str(tmp_path / "key.pem"))
    monkeypatch.setenv("DJP_TLS_CA", str(tmp_path / "ca.pem"))
    await examine(None, as_json=False)
    told = capsys.readouterr().out
    assert "missing.pem: No such file" in told
    assert "key.pem is not PEM" in told
    assert "no key" not in told
    assert f"✓ tls         DJP_TLS_CA: {tmp_path}/ca.pem" in told


async def test_little_disk_and_a_missing_extra_are_warnings_and_no_userinfo_is_shown(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "LOW_DISK_BYTES", 2**62)
    monkeypatch.setattr(doctor, "_EXTRAS", {"pdf": ("no_such_module", "PDF files are skipped")})
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:secret@collector:4317")
    code, found = await checks(capsys)

    assert code == 0
    assert (found["disk"]["state"], found["pdf"]["state"]) == ("warning", "warning")
    assert found["pdf"]["remedy"] == "pip install 'djp-workflow[pdf]'"
    assert found["traces"]["found"] == "sent to http://collector:4317"


@pytest.fixture(scope="module")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MinioServer]:
    server = MinioServer(tmp_path_factory.mktemp("minio"))
    server.start()
    yield server
    server.stop()


async def test_an_object_store_is_reached_with_its_buckets_and_its_credentials(
    home: Path, minio: MinioServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DJP_STORAGE_BUCKETS", "hot=doctor-a,warm=doctor-b,cold=doctor-c,trash=doctor-d")
    monkeypatch.setenv("DJP_STORAGE_S3_ENDPOINT", minio.account.endpoint)
    code, found = await checks(capsys)
    assert (code, found["object store"]["state"]) == (1, "broken")
    assert "has no credentials" in found["object store"]["found"]

    monkeypatch.setenv("DJP_STORAGE_S3_ACCESS_KEY", minio.account.access_key)
    monkeypatch.setenv("DJP_STORAGE_S3_SECRET_KEY", "not-the-secret")
    code, found = await checks(capsys)
    assert (code, found["object store"]["state"]) == (1, "broken")
    assert "credentials are wrong" in found["object store"]["found"]
    assert "not-the-secret" not in json.dumps(found)

    monkeypatch.setenv("DJP_STORAGE_S3_SECRET_KEY", minio.account.secret_key)
    code, found = await checks(capsys)
    assert (code, found["object store"]["state"]) == (0, "note")
    assert "has no bucket doctor-a, doctor-b, doctor-c, doctor-d yet" in found["object store"]["found"]

    monkeypatch.setattr(doctor_reach, "_time", lambda: time.time() + 3600)
    code, found = await checks(capsys)
    assert (code, found["clock"]["state"]) == (1, "broken")
    assert "s ahead of http://" in found["clock"]["found"]


async def test_a_database_that_is_not_there_and_a_port_that_is_taken(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DJP_GOVERNANCE_DATABASE_URL", "postgresql+psycopg://djp:hush@localhost:1/djp")
    monkeypatch.setenv("DJP_API_KEY", "sk-from-somewhere-else")
    with socket.create_server(("localhost", 0)) as taken:
        monkeypatch.setenv("DJP_REST_LISTEN", f"localhost:{taken.getsockname()[1]}")
        code, found = await checks(capsys)
    assert code == 1
    assert found["database"]["state"] == "broken"
    assert "governance" in found["database"]["found"]
    assert "DJP_REST_LISTEN" in found["port"]["remedy"]  # the last of them
    assert found["api key"]["state"] == "warning"
    assert "hush" not in json.dumps(found)
    assert "somewhere-else" not in json.dumps(found)


async def test_a_clock_before_this_release_is_wrong(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_reach, "_time", lambda: 0.0)
    code, found = await checks(capsys)
    assert (code, found["clock"]["state"]) == (1, "broken")


async def test_serve_refuses_an_unknown_service_and_a_taken_address_in_one_line(djp: Any, gateway: Any) -> None:
    unknown = await djp("serve", "debated")
    taken = await djp("serve", "judge", "--listen", gateway.address)

    assert unknown.code == 2
    assert "there is no service 'debated'" in unknown.err
    assert taken.code != 0
    for ended in (unknown, taken):
        assert "Traceback" not in ended.err
        assert len([line for line in ended.err.splitlines() if line.startswith("error: ")]) == 1


async def test_serve_ends_on_a_signal(djp: Any, gateway: Any) -> None:
    djp.env = {"DJP_DRAIN_DELAY_S": "0"}
    address = gateway.address.replace("gateway.sock", "judge.sock")
    process = await djp.start("serve", "judge", "--listen", address)
    assert process.stderr is not None
    while b"listening on" not in (line := await process.stderr.readline()):
        assert line, "it ended before it listened"
    process.send_signal(signal.SIGTERM)
    await process.communicate()

    assert process.returncode == 0


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("DJP_BUDGETS", "/nowhere.yaml", "DJP_BUDGETS"),
        ("DJP_BUDGET_ZONE", "Mars/Olympus", "DJP_BUDGET_ZONE"),
        ("GLOBAL_BUDGET_DAILY", "much", "GLOBAL_BUDGET_DAILY"),
        ("BUDGET_WEEKLY_USD", "-1", "BUDGET_WEEKLY_USD"),
        ("ANOMALY_MIN_DOLLARS", "0.0000000001", "ANOMALY_MIN_DOLLARS"),
    ],
)
async def test_limits_that_would_stop_governance_are_found(
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    told: str,
) -> None:
    monkeypatch.setenv(variable, value)
    code, found = await checks(capsys)
    assert (code, found["budgets"]["state"]) == (1, "broken")
    assert told in found["budgets"]["found"]
    assert found["budgets"]["remedy"]


async def test_a_broken_budgets_file_is_found_by_its_field(home: Any, capsys: pytest.CaptureFixture[str]) -> None:
    home.mkdir()
    (home / "budgets.yaml").write_text("tenants: {acme: {daily: much}}")
    code, found = await checks(capsys)
    assert (code, found["budgets"]["state"]) == (1, "broken")
    assert "tenants.acme.daily" in found["budgets"]["found"]
    (home / "budgets.yaml").write_text("tenants: {acme: {daily: 1}}")
    assert (await checks(capsys))[1]["budgets"]["state"] == "ok"
