"""`djp doctor`: what is configured here, what is missing, and how to mend it."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import sys
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING
from urllib.parse import quote

from djp.cli.checks import Check
from djp.cli.exits import Exit
from djp.cli.terminal import one_line, out, say
from djp.mesh.errors import DjpError
from djp.mesh.settings import MeshSettings, settings_problems

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOW_DISK_BYTES = 512 * 1024 * 1024
"""Below this a run may fail to store: room for the largest corpus file, its index and the databases' logs."""
OLDEST_SQLITE = (3, 35, 0)
"""The first that answers what it has written (RETURNING)."""
SEAL_KEY_BYTES = 32
"""An AES-256 key, as the gateway makes it."""
GATEWAY_ANSWERS_S = 5.0
"""A gateway that does not answer in this time is as good as down."""

_SAME_RELEASE = "what only one of them knows does not work; take the same release for both"
_EXTRAS = {"pdf": ("pypdf", "PDF files of a corpus are skipped")}
_MARKS = {"ok": ("✓", "green"), "note": ("·", "default"), "warning": ("!", "yellow"), "broken": ("✗", "red")}


async def examine(gateway: str | None, *, as_json: bool) -> int:
    """Look at everything and print it; exits with 1 when something is broken."""
    from djp.cli.doctor_reach import reach

    checks = list(_local_checks())
    if not any(check.name == "settings" for check in checks):  # what cannot be read cannot be followed
        checks += [check async for check in reach()]
    checks.append(await _gateway(gateway))
    if gateway and checks[-1].state != "broken":
        checks += await _queue(gateway)
    broken = sum(check.state == "broken" for check in checks)
    if as_json:
        print(json.dumps({"healthy": not broken, "checks": [asdict(check) for check in checks]}, indent=2))
        return Exit.PROBLEM if broken else Exit.OK
    for check in checks:
        mark, style = _MARKS[check.state]
        say(f"{mark} {check.name:<11} {one_line(check.found)}", style)
        if check.remedy:
            say(f"  {'':<11} → {one_line(check.remedy)}")
    out().print()
    problems = f"{broken} thing{' is' if broken == 1 else 's are'} broken; the arrows say how to mend it."
    out().print(problems if broken else "Everything that djp needs is here.", style="bold")
    return Exit.PROBLEM if broken else Exit.OK


def _local_checks() -> Iterator[Check]:
    yield _versions()
    try:
        settings = MeshSettings()
    except ValueError as error:
        from pydantic import ValidationError

        told = settings_problems(error) if isinstance(error, ValidationError) else [str(error)]
        for problem in told:
            yield Check("settings", "broken", problem, "set or unset the variable that is named")
        return
    for extra, (module, without) in _EXTRAS.items():
        if importlib.util.find_spec(module):
            yield Check(extra, "ok", f"{module} is installed")
        else:
            yield Check(extra, "warning", f"{module} is missing: {without}", f"pip install 'djp-workflow[{extra}]'")
    yield from _home(settings.home)
    yield _catalogue()
    yield _providers()
    yield _budgets()
    yield from _tls(settings)
    endpoint = settings.otlp_endpoint
    yield Check("traces", "note", f"sent to {_without_userinfo(endpoint)}" if endpoint else "kept in the data folder")
    yield _terminal()


def _versions() -> Check:
    import sqlite3

    import grpc

    from djp import __version__

    python = f"{platform.python_version()} at {sys.executable}"
    found = f"djp {__version__}, python {python}, grpcio {grpc.__version__}, SQLite {sqlite3.sqlite_version}"
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE))
        return Check(
            "versions", "broken", found, f"take a Python with SQLite {oldest} or newer, or set Postgres databases"
        )
    return Check("versions", "ok", found)


def _home(home: Path) -> Iterator[Check]:
    if not home.exists():
        above = next(parent for parent in home.absolute().parents if parent.exists())
        if not os.access(above, os.W_OK):
            found = f"{home} cannot be made: {above} is not writable"
            yield Check("data folder", "broken", found, "set DJP_HOME to a folder that you may write")
            return
        yield Check("data folder", "ok", f"{home} (made at the first run)")
    elif not home.is_dir() or not os.access(home, os.R_OK | os.W_OK | os.X_OK):
        yield Check(
            "data folder", "broken", f"{home} is no folder that you may write", f"chmod u+rwx {home}, or set DJP_HOME"
        )
        return
    else:
        above = home
        yield _holder(home)
        yield from _damage(home)
    free = shutil.disk_usage(above).free
    if free < LOW_DISK_BYTES:
        yield Check("disk", "warning", f"{free >> 20} MiB free", "free some space, or set DJP_HOME to another disk")
    else:
        yield Check("disk", "ok", f"{free / 2**30:.1f} GiB free")


def _holder(home: Path) -> Check:
    """Whether another mesh works in the folder; looks at the lock that the mesh itself takes."""
    from filelock import FileLock, Timeout

    if not (home / "lock").exists():
        return Check("data folder", "ok", str(home))
    try:
        with FileLock(home / "lock", blocking=False):
            return Check("data folder", "ok", str(home))
    except Timeout:
        return Check(
            "data folder",
            "warning",
            f"{home} is in use by another djp",
            "give --gateway to use that mesh (`djp serve all` listens on localhost:7100), or wait",
        )
    except OSError as error:
        return Check("data folder", "broken", f"{home}/lock cannot be opened: {error.strerror}", "mend its permissions")


def _damage(home: Path) -> Iterator[Check]:
    """Databases that cannot be read, and a seal key that is none; silent when all is well."""
    import sqlite3

    for database in sorted(home.glob("*.db")):
        try:
            with closing(sqlite3.connect(f"file:{quote(str(database))}?mode=ro", uri=True)) as connection:
                (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.Error as error:
            answer = str(error)
        if answer != "ok":
            found = f"{database} is damaged or cannot be read: {answer}"
            yield Check("database", "broken", found, "restore it from a backup, or move it and its -wal and -shm away")
    key = home / "seal.key"
    if key.exists() and (size := key.stat().st_size) != SEAL_KEY_BYTES:
        found = f"{key} has {size} bytes and is no seal key of {SEAL_KEY_BYTES}"
        yield Check("seal key", "broken", found, "restore it from a backup: without it stored runs cannot be read")


def _catalogue() -> Check:
    from djp.cli.validate import check_everything

    findings = list(check_everything())
    bad = [f"{found.what}: {found.problem}" for found in findings if found.problem]
    if bad:
        return Check("files", "broken", bad[0], f"{len(bad)} problems in all; `djp validate` lists them")
    return Check("files", "ok", "schemas, policies, presets and stored artifacts are valid")


def _providers() -> Check:
    """Which providers of models have what they need; says nothing of whether they answer, which `djp models` does."""
    from pydantic import ValidationError

    from djp.llm.providers import read_providers
    from djp.llm.settings import LlmSettings

    try:
        configs = read_providers(LlmSettings().providers)
    except ValidationError as error:
        return Check("models", "broken", settings_problems(error)[0], "set or unset the variable that is named")
    except DjpError as error:
        return Check("models", "broken", error.message, "docs/models.md says what a provider file holds")
    missing = {name: config.missing() for name, config in configs.items()}
    told = [f"{name} {'lacks its key' if lacks else 'is configured'}" for name, lacks in missing.items()]
    found = "; ".join(["offline models work", *told])
    if not all(missing.values()):  # one is enough, and a key of every other is no remedy
        return Check("models", "ok", found)
    return Check("models", "note", found, "; ".join(lacks.partition(";")[0] for lacks in missing.values()))


def _budgets() -> Check:
    """Whether governance can start with the limits that are configured; says nothing of what is left of them."""
    from pydantic import ValidationError

    from djp_governance.adapters.budgets_file import open_budgets_file
    from djp_governance.settings import GovernanceSettings
    from djp_governance.windows import zone_of

    try:
        settings = GovernanceSettings()
        zone_of(settings.zone)
        settings.anomaly_rules()
        open_budgets_file(settings)
    except ValidationError as error:
        return Check("budgets", "broken", settings_problems(error)[0], "set or unset the variable that is named")
    except DjpError as error:
        return Check("budgets", "broken", error.message, "docs/budgets.md says what limits can be")
    return Check("budgets", "ok", "what is configured is valid; `djp budgets list` says what is left")


def _tls(settings: MeshSettings) -> Iterator[Check]:
    files = settings.tls
    if files is None:
        yield Check("tls", "note", "off; needed only between machines (DJP_TLS_CERT, DJP_TLS_KEY, DJP_TLS_CA)")
        return
    for variable, path in (("DJP_TLS_CERT", files.cert), ("DJP_TLS_KEY", files.key), ("DJP_TLS_CA", files.ca)):
        try:
            pem = path.read_bytes()
        except OSError as error:
            yield Check("tls", "broken", f"{variable}: {path}: {error.strerror}", "give a file that can be read")
            continue
        if b"-----BEGIN " not in pem:
            yield Check("tls", "broken", f"{variable}: {path} is not PEM", "give a PEM file")
        else:
            yield Check("tls", "ok", f"{variable}: {path}")


def _terminal() -> Check:
    encoding = (sys.stdout.encoding or "unknown").lower()
    if "utf" not in encoding:
        return Check("terminal", "warning", f"{encoding}: some characters become ?", "set LANG to a UTF-8 locale")
    colour = "colour" if out().color_system and not out().no_color else "no colour"
    return Check("terminal", "ok", f"{out().width} columns, {encoding}, {colour}")


async def _gateway(gateway: str | None) -> Check:
    """Whether it answers, which release it is, and as whom it takes us."""
    if not gateway:
        return Check("gateway", "note", "none is set: every command starts a mesh of its own (--gateway, DJP_GATEWAY)")
    import asyncio

    from djp import __version__
    from djp.cli.session import connected
    from djp.v1 import key_pb2

    try:
        async with asyncio.timeout(GATEWAY_ANSWERS_S), connected(gateway) as client:
            caller = await client.get_caller()
    except TimeoutError:
        found = f"{gateway} does not answer within {GATEWAY_ANSWERS_S:g} s"
        return Check("gateway", "broken", found, "check the address and the network")
    except DjpError as error:
        if error.reason == "UNIMPLEMENTED":
            found = f"{gateway} answers, and is older than this command, which is djp {__version__}"
            return Check("gateway", "warning", found, _SAME_RELEASE)
        return Check("gateway", "broken", error.message)
    role = key_pb2.Role.Name(caller.role).removeprefix("ROLE_").lower()
    named = f", by {caller.name}" if caller.name else ""
    found = f"{gateway} is djp {caller.djp_version}; you are tenant {caller.tenant} there in the role {role}{named}"
    if caller.djp_version == __version__:
        return Check("gateway", "ok", found)
    return Check("gateway", "warning", f"{found}; this command is djp {__version__}", _SAME_RELEASE)


async def _queue(gateway: str) -> list[Check]:
    """Whether runs wait there that nobody can take; nothing where we may not ask."""
    import asyncio

    from djp.cli.session import connected

    try:
        async with asyncio.timeout(GATEWAY_ANSWERS_S), connected(gateway) as client:
            scaling = await client.get_scaling()
    except (TimeoutError, DjpError):
        return []
    if not scaling.waiting_for_newer:
        return []
    found = f"{scaling.waiting_for_newer:,} runs wait for a gateway of a newer release than {gateway}"
    return [Check("queue", "warning", found, "start that release again, or cancel them: djp runs list --state queued")]


def _without_userinfo(url: str) -> str:
    """An address without a user and a password in it."""
    scheme, separator, rest = url.rpartition("://")
    return scheme + separator + rest.rpartition("@")[2]
