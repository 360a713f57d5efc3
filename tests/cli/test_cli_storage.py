"""`djp storage`: artifacts put, looked at, moved, held, purged and brought back; archives; events; reconciling."""

from __future__ import annotations

import hashlib
import json
import sys
import tarfile
import uuid
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from djp.cli import storage as looking
from djp.cli import storage_care as care
from djp.cli import storage_files as files
from djp.cli.session import CommandError
from djp.cli.storage import Wanted, size
from djp.mesh.channel import open_channel
from djp.mesh.errors import AlreadyExists, FailedPrecondition, InvalidInput, NotFound, PermissionDenied
from djp.mesh.identity import Identity, identity_scope
from djp.v1 import storage_pb2, storage_pb2_grpc
from tests.storage.older_run import older_file

if TYPE_CHECKING:
    from tests.cli.conftest import Archive

KEY = {"workflow": "reports", "artifact": "report.txt"}


async def put(archive: Archive, content: bytes = b"text", *, tenant: str = "default", **names: str) -> None:
    """An artifact, stored past the command."""
    key = storage_pb2.ArtifactKey(**{**KEY, **names})
    header = storage_pb2.ArtifactHeader(request_id=str(uuid.uuid4()), key=key)
    parts = [storage_pb2.PutArtifactRequest(header=header), storage_pb2.PutArtifactRequest(chunk=content)]
    async with open_channel(archive.address) as channel:
        with identity_scope(Identity(tenant)):
            await storage_pb2_grpc.StorageServiceStub(channel).PutArtifact(iter(parts))


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def told(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(said(capsys))


async def test_an_empty_storage_says_so(archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    assert await looking.print_artifacts(archive.address, Wanted(), as_json=False) == 0
    assert (
        said(capsys)
        == 'There are no artifacts like these. Fewer filters show more; a run stores one: djp run --task "…"\n'
    )
    assert await looking.print_stats(archive.address, "", by_workflow=True, as_json=False) == 0
    assert said(capsys) == 'There are no artifacts yet; a run stores one: djp run --task "…"\n'
    await looking.print_artifacts(archive.address, Wanted(), as_json=True)
    assert told(capsys) == {"artifacts": [], "more": False}


async def test_a_file_goes_in_and_comes_out(
    archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "Report Ж.csv"
    source.write_bytes(b"a;b\n" * 1_000_000)
    more: Any = {"content_type": "", "tags": ["team=red", "empty="], "as_json": True}
    assert await files.put_artifact(archive.address, "", "reports", "", source, **more) == 0
    info = told(capsys)
    assert (info["key"]["artifact"], info["content_type"]) == ("Report Ж.csv", "text/csv")
    assert info["tags"] == {"team": "red", "empty": ""}
    assert info["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    target = tmp_path / "out.csv"
    assert await files.get_artifact(archive.address, "", "reports", "Report Ж.csv", target) == 0
    assert target.read_bytes() == source.read_bytes()
    with pytest.raises(InvalidInput, match="nothing is overwritten"):
        await files.get_artifact(archive.address, "", "reports", "Report Ж.csv", target)
    with pytest.raises(NotFound):
        await files.get_artifact(archive.address, "", "reports", "nothing", tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    assert not (tmp_path / "nothing.part").exists()
    source.write_bytes(b"other")
    with pytest.raises(AlreadyExists, match="never overwritten"):
        await files.put_artifact(archive.address, "", "reports", "", source, **more)


async def test_a_list_shows_names_that_cannot_command_the_terminal(
    archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        await put(archive, b"x" * 10**number, artifact=f"a{number}")
    await put(archive, b"", artifact="Ж\u200f😀 " + "x" * 150, workflow="other")
    await looking.print_artifacts(archive.address, Wanted(workflow="reports", largest_first=True), as_json=False)
    lines = said(capsys).splitlines()
    assert [line.split()[0] for line in lines] == ["workflow/artifact", "reports/a2", "reports/a1", "reports/a0"]
    assert "100 bytes" in lines[1]
    await looking.print_artifacts(archive.address, Wanted(limit=2), as_json=False)
    assert "There are more" in said(capsys)
    await looking.print_artifacts(archive.address, Wanted(limit=3), as_json=True)
    document = told(capsys)
    assert (len(document["artifacts"]), document["more"]) == (3, True)
    await looking.print_artifacts(archive.address, Wanted(tier="cold"), as_json=False)
    assert (
        said(capsys)
        == 'There are no artifacts like these. Fewer filters show more; a run stores one: djp run --task "…"\n'
    )


async def test_totals_are_by_tenant_tier_and_workflow(archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    await put(archive, b"x" * 2048)
    await put(archive, b"x" * 1024, tenant="acme", workflow="weekly")
    await looking.print_stats(archive.address, "", by_workflow=True, as_json=False)
    rows = [line.split() for line in said(capsys).splitlines()]
    assert rows[0][:4] == ["tenant", "tier", "workflow", "artifacts"]
    assert [row[:6] for row in rows[1:]] == [
        ["acme", "hot", "weekly", "1", "1.0", "KiB"],
        ["default", "hot", "reports", "1", "2.0", "KiB"],
        ["all", "2", "3.0", "KiB"],
    ]
    await looking.print_stats(archive.address, "acme", by_workflow=False, as_json=True)
    assert [(one["tenant"], one["bytes"]) for one in told(capsys)["stats"]] == [("acme", "1024")]


async def test_an_artifact_from_hot_to_trash_and_back(archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    await put(archive)
    at: Any = (archive.address, "", *KEY.values())
    assert await care.purge_artifact(*at, reason="no use", as_json=False) == 0
    assert "in the trash; djp storage undelete brings it back until" in said(capsys)
    for tier in ("", "trash"):
        await looking.print_artifacts(archive.address, Wanted(tier=tier), as_json=False)
        assert said(capsys).splitlines()[1].split()[:2] == ["reports/report.txt", "trash"]
    assert await care.undelete_artifact(*at, reason="a mistake", as_json=False) == 0
    assert "back in the hot tier" in said(capsys)
    assert await care.restore_artifact(*at, from_tier="hot", to_tier="cold", reason="large", as_json=False) == 0
    with pytest.raises(FailedPrecondition, match="cold"):
        await care.restore_artifact(*at, from_tier="warm", to_tier="hot", reason="", as_json=False)
    assert await care.restore_artifact(*at, from_tier="cold", to_tier="hot", reason="wanted", as_json=True) == 0
    said(capsys)
    assert await looking.show_artifact(*at, as_json=False) == 0
    shown = said(capsys)
    for fact in ("reports/report.txt", "hot since", "4 bytes", "moves on", "restored_from_cold", "undeleted", "no use"):
        assert fact in shown
    await looking.show_artifact(*at, as_json=True)
    assert [event["action"] for event in told(capsys)["events"]][-3:] == ["undeleted", "purged_from_hot", "put"]


async def test_what_is_held_is_not_purged(archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    await put(archive)
    at: Any = (archive.address, "", *KEY.values())
    assert await care.hold_artifact(*at, hold=True, reason="case 7", as_json=False) == 0
    assert said(capsys) == "reports/report.txt: held, nothing of it is purged\n"
    with pytest.raises(FailedPrecondition, match="legal hold"):
        await care.purge_artifact(*at, reason="x", as_json=False)
    await looking.print_artifacts(archive.address, Wanted(), as_json=False)
    assert "hot, held" in said(capsys)
    await care.hold_artifact(*at, hold=False, reason="closed", as_json=False)
    await care.hold_artifact(archive.address, "", "", "", hold=True, reason="all", as_json=False)
    assert "the whole tenant: held" in said(capsys)
    with pytest.raises(FailedPrecondition, match="legal hold"):
        await care.purge_artifact(*at, reason="x", as_json=False)
    await care.hold_artifact(archive.address, "", "", "", hold=False, reason="none", as_json=True)
    said(capsys)
    assert await care.purge_artifact(*at, reason="x", as_json=False) == 0


async def test_events_say_who_did_what_and_why(archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    await put(archive)
    await put(archive, tenant="acme")
    await care.purge_artifact(archive.address, "acme", *KEY.values(), reason="no use", as_json=False)
    said(capsys)
    every: Any = {"since": "1d", "action": "", "workflow": "", "artifact": "", "limit": 100, "as_json": False}
    await care.print_events(archive.address, "", **every)
    lines = said(capsys).splitlines()
    assert "purged_from_hot acme reports/report.txt, by operator of acme: no use" in lines[0]
    assert len(lines) == 3
    await care.print_events(archive.address, "acme", **{**every, "action": "put", "as_json": True})
    assert [event["tenant"] for event in told(capsys)["events"]] == ["acme"]
    await care.print_events(archive.address, "", **{**every, "limit": 1})
    assert "There are more" in said(capsys)
    await care.print_events(archive.address, "", **{**every, "action": "erased"})
    assert said(capsys) == "Nothing happened; a longer --since and fewer filters show more.\n"
    with pytest.raises(InvalidInput, match="--since"):
        await care.print_events(archive.address, "", **{**every, "since": "soon"})


async def test_a_port_believes_nobody_to_be_an_operator(archive: Archive, tmp_path: Path) -> None:
    await put(archive, tenant="acme")
    for call in (
        looking.print_artifacts(archive.port, Wanted(tenant="acme"), as_json=True),
        looking.print_stats(archive.port, "acme", by_workflow=False, as_json=True),
        care.purge_artifact(archive.port, "acme", *KEY.values(), reason="x", as_json=True),
        care.reconcile(archive.port, mend=True, verify=False, as_json=True),
        files.export_tenant(archive.port, "acme", tmp_path / "acme.tar", as_json=True),
    ):
        with pytest.raises((PermissionDenied, NotFound)):
            await call
    assert not (tmp_path / "acme.tar").exists()


async def test_a_tenant_moves_house_by_archive(
    archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(5):
        await put(archive, f"text {number}".encode(), tenant="acme", artifact=f"a{number}")
    file = tmp_path / "acme.tar"
    assert await files.export_tenant(archive.address, "acme", file, as_json=False) == 0
    assert said(capsys).startswith(str(file))
    with pytest.raises(InvalidInput, match="nothing is overwritten"):
        await files.export_tenant(archive.address, "acme", file, as_json=False)
    take: Any = {"workflow": "imported", "as_json": False}
    assert await files.import_path(archive.address, "bcme", file, **take) == 0
    assert said(capsys) == "5 taken in\n"
    assert await files.import_path(archive.address, "bcme", file, **take) == 0
    assert said(capsys) == "5 there already\n"
    await put(archive, b"other", tenant="ccme", artifact="a3")
    assert await files.import_path(archive.address, "ccme", file, **take) == 1
    lines = said(capsys).splitlines()
    assert lines[0] == "4 taken in, 1 refused"
    assert lines[1].startswith("refused reports/a3")
    file.write_bytes(file.read_bytes()[:-1600])
    with pytest.raises(InvalidInput, match="ends too early"):
        await files.import_path(archive.address, "dcme", file, **take)
    with pytest.raises(InvalidInput, match="cannot be read"):
        await files.import_path(archive.address, "dcme", tmp_path / "nowhere.tar", **take)


async def test_an_archive_goes_through_pipes(
    archive: Archive, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(archive)
    assert await files.export_tenant(archive.address, "", Path("-"), as_json=False) == 0
    content = capsysbinary.readouterr().out
    with tarfile.open(fileobj=BytesIO(content)) as tar:
        assert "objects/00000001" in tar.getnames()
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(content)))
    assert await files.import_path(archive.address, "bcme", Path("-"), workflow="", as_json=True) == 0
    assert json.loads(capsysbinary.readouterr().out)["imported"] == "1"


async def test_an_archive_with_damage_is_kept_and_the_command_fails(
    archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await put(archive)
    await looking.show_artifact(archive.address, "", *KEY.values(), as_json=True)
    (tmp_path / "artifacts" / told(capsys)["location"]).unlink()
    file = tmp_path / "archive.tar"
    with pytest.raises(CommandError, match="1 of 1 artifacts could not be read") as caught:
        await files.export_tenant(archive.address, "", file, as_json=False)
    assert caught.value.exit_code == 6
    assert tarfile.is_tarfile(file)


async def test_runs_of_the_older_system_come_from_their_folder(
    archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    with pytest.raises(InvalidInput, match=r"no \.json files"):
        await files.import_path(archive.address, "", runs, workflow="older", as_json=False)
    (runs / "2025.10.02-1234.json").write_bytes(older_file())
    (runs / "2025.10.03-0900.json").write_bytes(older_file(publish__status="advisory_only"))
    (runs / "broken.json").write_bytes(b"{}")
    (runs / "notes.txt").write_bytes(b"none of it")
    assert await files.import_path(archive.address, "", runs, workflow="older", as_json=False) == 1
    lines = said(capsys).splitlines()
    assert lines[0] == "2 converted, 1 refused"
    assert "broken.json: has no schema_version" in lines[1]
    one = runs / "2025.10.02-1234.json"
    assert await files.import_path(archive.address, "", one, workflow="older", as_json=True) == 0
    assert told(capsys)["unchanged"] == "1"
    await looking.print_artifacts(archive.address, Wanted(workflow="older"), as_json=True)
    assert {info["tags"]["status"] for info in told(capsys)["artifacts"]} == {"published", "advisory"}


async def test_what_differs_is_said_and_mended(
    archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await put(archive)
    await put(archive, artifact="second")
    assert await care.reconcile(archive.address, mend=False, verify=True, as_json=False) == 0
    assert said(capsys) == "2 objects and 2 artifacts compared: all is well\n"
    await looking.show_artifact(archive.address, "", *KEY.values(), as_json=True)
    where = tmp_path / "artifacts" / told(capsys)["location"]
    where.rename(where.with_name("away"))
    assert await care.reconcile(archive.address, mend=False, verify=False, as_json=False) == 1
    shown = said(capsys)
    assert "artifact without its object" in shown
    assert "--mend" in shown
    assert await care.reconcile(archive.address, mend=True, verify=False, as_json=True) == 1
    document = told(capsys)
    assert {one["difference"] for one in document["differences"]} >= {"artifact without its object"}


@pytest.mark.parametrize(
    ("amount", "shown"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (5 * 2**30, "5.0 GiB"), (2**62, "4096.0 PiB")],
)
def test_sizes_are_told_in_the_unit_that_fits(amount: int, shown: str) -> None:
    assert size(amount) == shown


async def test_a_tag_has_a_name(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(InvalidInput, match="KEY=VALUE"):
        await files.put_artifact(
            archive.address, "", "w", "", tmp_path / "a", content_type="", tags=["oops"], as_json=False
        )
