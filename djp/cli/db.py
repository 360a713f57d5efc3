"""`djp db upgrade`: the services' databases, brought up to this release, or only looked at."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from djp.cli.options import AsJson, examples

if TYPE_CHECKING:
    from collections.abc import Iterator

db_app = typer.Typer(help="Look after the databases.", no_args_is_help=True, rich_markup_mode=None)

_OWNERS = ("gateway", "governance", "storage")


@db_app.callback()
def _root() -> None:
    """Look after the databases."""


@db_app.command(epilog=examples("djp db upgrade --check", "djp db upgrade"))
def upgrade(
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 if a database is not up to date.")] = (
        False
    ),
    as_json: AsJson = False,
) -> None:
    """Bring the databases of the gateway, governance and storage up to this release.

    They are those of DJP_GATEWAY_DATABASE_URL, DJP_GOVERNANCE_DATABASE_URL and DJP_STORAGE_DATABASE_URL, else the files
    in DJP_HOME. Every service does the same when it starts; before a rolling update it is done once, here.
    """
    from djp.cli.session import execute

    execute(lambda: _upgrade(check=check, as_json=as_json), as_json=as_json)


async def _upgrade(*, check: bool, as_json: bool) -> int:
    from djp.cli.exits import Exit
    from djp.cli.terminal import one_line, say
    from djp.database import open_engine, revision_of, shown

    found, behind = [], False
    for service, url, migrations in databases():
        before, newest = await revision_of(url, migrations)
        if before != newest and not check:
            await (await open_engine(url, migrations)).dispose()
        behind = behind or (check and before != newest)
        found.append({"service": service, "database": shown(url), "revision": before, "newest": newest})
        if not as_json:
            told = "is up to date" if before == newest else "is to be upgraded" if check else "is upgraded"
            say(f"{service:<11} {one_line(shown(url))} {told} ({before or 'new'} → {newest})")
    if as_json:
        print(json.dumps({"changed": not check, "databases": found}, indent=2), file=sys.stdout)
    return Exit.PROBLEM if behind else Exit.OK


def databases() -> Iterator[tuple[str, str, Path]]:
    """Each service that has one, its database's URL, and the folder of its migrations."""
    for service in _OWNERS:
        settings = importlib.import_module(f"djp_{service}.settings")
        migrations = Path(str(importlib.import_module(f"djp_{service}").__file__)).parent / "migrations"
        if service == "gateway":
            yield service, settings.GatewaySettings().gateway_database_url, migrations
        else:
            yield service, getattr(settings, f"{service.capitalize()}Settings")().database_url, migrations
