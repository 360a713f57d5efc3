"""`djp keys`: its subcommands with their options. What they do is imported when they are called."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from djp.cli.options import AsJson, EachTenant, Gateway, examples

keys_app = typer.Typer(help="Hand out API keys.", no_args_is_help=True, rich_markup_mode=None)


class Role(StrEnum):
    """What a key may do."""

    READER = "reader"
    TENANT = "tenant"
    OPERATOR = "operator"
    ADMIN = "admin"


@keys_app.command(
    "create",
    epilog=examples('djp keys create --tenant team-a --name "report script" --days 90', "djp keys create --role admin"),
)
def create_key(
    tenant: Annotated[str, typer.Option(metavar="NAME", help="Whose runs and money it is for.")] = "default",
    role: Annotated[
        Role,
        typer.Option(help="reader: sees its own; tenant: uses it; operator: every tenant's; admin: keys as well."),
    ] = Role.TENANT,
    name: Annotated[str, typer.Option(metavar="TEXT", help="What people call it.")] = "",
    days: Annotated[int | None, typer.Option(metavar="N", min=1, max=3660, help="How long it is valid.")] = None,
    rate_limit: Annotated[int, typer.Option(metavar="N", min=0, help="Calls a minute, wherever; 0: no limit.")] = 0,
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Make a key, and print its secret on standard output: once, for only a hash of it is kept."""
    from djp.cli import keys
    from djp.cli.session import execute

    execute(
        lambda: keys.create_key(
            gateway, tenant=tenant, role=role.value, name=name, days=days, rate_limit=rate_limit, as_json=as_json
        ),
        as_json=as_json,
    )


@keys_app.command("list", epilog=examples("djp keys list --tenant team-a"))
def list_keys(
    tenant: Annotated[str, typer.Option(metavar="NAME", help="Only this tenant's.")] = "",
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """List keys: whose they are, what they may do, whether they still work."""
    from djp.cli import keys
    from djp.cli.session import execute

    execute(lambda: keys.list_keys(gateway, tenant=tenant, as_json=as_json), as_json=as_json)


@keys_app.command("revoke", epilog=examples("djp keys revoke 3f2b8c1e"))
def revoke_key(
    key: Annotated[str, typer.Argument(metavar="KEY", help="A key's id, or its beginning.")],
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Let a key work no more: at every gateway, within a second."""
    from djp.cli import keys
    from djp.cli.session import execute

    execute(lambda: keys.revoke_key(gateway, key, as_json=as_json), as_json=as_json)


@keys_app.command("audit", epilog=examples("djp keys audit --limit 20", "djp keys audit --tenant team-a --json"))
def audit_events(
    tenant: EachTenant = "",
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="The newest N.")] = 50,
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Show who made and revoked keys, who approved and rejected runs, and which sign-ins were refused."""
    from djp.cli import keys
    from djp.cli.session import execute

    execute(lambda: keys.audit_events(gateway, tenant=tenant, limit=limit, as_json=as_json), as_json=as_json)
