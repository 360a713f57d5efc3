"""`djp lifecycle`: what is due moves, or is only told; the check; the drill; Ctrl-C; and the whole command."""

from __future__ import annotations

import json
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

from djp.cli import lifecycle
from djp.cli.lifecycle_drill import drill
from djp.mesh.errors import NotFound, PermissionDenied
from tests.cli.test_cli_storage import put

if TYPE_CHECKING:
    from tests.cli.conftest import Archive, Command

NOTHING: dict[str, Any] = {"live": False, "confirm": False, "verbose": False, "as_json": False}


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


async def test_a_dry_run_says_what_is_due_and_a_live_one_moves_it(
    archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    for tenant in ("default", "acme"):
        for number in range(3):
            await put(archive, b"x" * 1000, tenant=tenant, artifact=f"a{number}")
    assert await lifecycle.run(archive.address, "", **NOTHING) == 0
    assert said(capsys) == "Dry run, nothing was moved: nothing due\n"
    archive.clock.turn(days=8)
    assert await lifecycle.run(archive.address, "", **{**NOTHING, "verbose": True}) == 0
    lines = said(capsys).splitlines()
    assert len(lines) == 7
    assert "to warm   acme reports/a0  1000 bytes" in lines
    assert lines[-1] == "Dry run, nothing was moved: 6 to warm due, 5.9 KiB"
    assert await lifecycle.run(archive.address, "acme", **{**NOTHING, "live": True}) == 0
    assert said(capsys) == "Done: 3 to warm moved, 2.9 KiB\n"
    assert await lifecycle.run(archive.address, "", **{**NOTHING, "live": True, "verbose": True, "as_json": True}) == 0
    told = json.loads(said(capsys))
    assert told["summary"]["to_warm"] == "3"
    assert {one["artifact"]["tenant"] for one in told["artifacts"]} == {"default"}


async def test_too_much_at_once_is_not_purged_unless_confirmed(
    archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(12):
        await put(archive, artifact=f"a{number}")
    for days in (8, 31):
        archive.clock.turn(days=days)
        await lifecycle.run(archive.address, "", **{**NOTHING, "live": True})
    archive.clock.turn(days=91)
    said(capsys)
    assert await lifecycle.run(archive.address, "", **{**NOTHING, "live": True}) == 6
    shown = said(capsys)
    assert shown.startswith("FAILED")
    assert "--confirm" in shown
    assert await lifecycle.check(archive.address, "", as_json=False) == 1
    assert "error" in said(capsys)
    assert await lifecycle.run(archive.address, "", **{**NOTHING, "live": True, "confirm": True}) == 0
    assert "12 to trash moved" in said(capsys)
    assert await lifecycle.check(archive.address, "", as_json=False) == 0


async def test_the_check_wants_a_live_run_every_26_hours(archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    assert await lifecycle.check(archive.address, "", as_json=True) == 1
    told = json.loads(said(capsys))
    assert told["last"] is None
    assert told["problem"]
    await lifecycle.run(archive.address, "", **NOTHING)
    assert await lifecycle.check(archive.address, "", as_json=False) == 1
    await lifecycle.run(archive.address, "", **{**NOTHING, "live": True})
    assert await lifecycle.check(archive.address, "", as_json=False) == 0
    said(capsys)
    archive.clock.turn(hours=27)
    assert await lifecycle.check(archive.address, "", as_json=False) == 1
    assert "26" in said(capsys)
    assert await lifecycle.print_status(archive.address, "", as_json=False) == 0
    assert said(capsys).startswith("Last live run: ")


async def test_the_drill_rehearses_it_all_and_leaves_nothing(
    archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    await put(archive)
    for count in (3, 7):
        assert await drill(archive.address, count=count, as_json=True) == 0
        told = json.loads(said(capsys))
        assert [step for step in told["steps"] if not step["ok"]] == []
        assert await lifecycle.print_status(archive.address, told["tenant"], as_json=True) == 0
        assert json.loads(said(capsys))["stats"] == []
    assert await drill(archive.address, count=4, as_json=False) == 0
    lines = said(capsys).splitlines()
    assert [line.split()[0] for line in lines[:-1]] == ["ok"] * 10
    assert await lifecycle.print_status(archive.address, "", as_json=True) == 0
    told = json.loads(said(capsys))
    assert [one["tenant"] for one in told["stats"]] == ["default"]
    assert told["last"] is None  # a drill is no nightly run


async def test_a_drill_finds_what_does_not_work(archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    archive.store.refuses_copies = True
    assert await drill(archive.address, count=3, as_json=False) == 1
    shown = said(capsys)
    assert "FAILED" in shown
    assert "steps failed" in shown


async def test_no_tenant_ages_its_artifacts_by_decree(archive: Archive) -> None:
    with pytest.raises((PermissionDenied, NotFound)):
        await drill(archive.port, count=3, as_json=True)
    with pytest.raises(NotFound):
        await lifecycle.run(archive.port, "acme", **NOTHING)


async def test_ctrl_c_ends_a_run_and_says_what_was_done(archive: Archive, djp: Command) -> None:
    for number in range(4):
        await put(archive, artifact=f"a{number}")
    archive.clock.turn(days=8)
    archive.store.copies_left = 1
    process = await djp.start("lifecycle", "run", "--live", "--verbose", "--gateway", archive.address)
    assert process.stdout is not None
    first = (await process.stdout.readline()).decode()
    assert first.startswith("to warm")
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    assert process.returncode == 130
    assert re.search(r"Stopped; the next run goes on: 1 to warm moved", out.decode()), (out, err)
    archive.store.copies_left = None
    archive.store.goes_on.set()
    ended = await djp("lifecycle", "run", "--live", "--json", "--gateway", archive.address)
    assert ended.code == 0
    ended = await djp("storage", "stats", "--json", "--gateway", archive.address)
    assert [(one["tier"], one["count"]) for one in json.loads(ended.out)["stats"]] == [("TIER_WARM", "4")]


@pytest.mark.parametrize(
    "arguments",
    [
        ("lifecycle", "run"),
        ("lifecycle", "run", "--live", "--dry-run"),
        ("lifecycle", "run", "--summary", "--live"),
        ("storage", "restore", "--workflow", "w"),
        ("storage", "restore", "--from-tier", "lukewarm", "--list"),
        ("storage", "hold", "--reason", "x", "--artifact", "a"),
        ("storage", "events", "--workflow", "w"),
        ("storage", "purge", "--workflow", "w", "--artifact", "a"),
    ],
)
async def test_a_command_line_that_makes_no_sense_is_refused(djp: Command, arguments: tuple[str, ...]) -> None:
    assert (await djp(*arguments)).code == 2


async def test_the_commands_work_without_a_gateway(djp: Command) -> None:
    ended = await djp("storage", "put", "--workflow", "w", "--artifact", "a", "-", stdin=b"text")
    assert ended.code == 2
    source = djp.home.parent / "source.txt"
    source.write_bytes(b"text")
    assert (await djp("storage", "put", str(source), "--workflow", "w")).code == 0
    ended = await djp("storage", "get", "--workflow", "w", "--artifact", "source.txt")
    assert (ended.code, ended.out) == (0, "text")
    assert (await djp("lifecycle", "check")).code == 1
    assert (await djp("lifecycle", "run", "--live")).code == 0
    assert (await djp("lifecycle", "check", "--json")).code == 0
    ended = await djp("lifecycle", "run", "--summary")
    assert "All is well." in ended.out
    ended = await djp("storage", "restore", "--tenant", "acme", "--from_tier", "warm", "--list")
    assert (
        ended.out
        == 'There are no artifacts like these. Fewer filters show more; a run stores one: djp run --task "…"\n'
    )
