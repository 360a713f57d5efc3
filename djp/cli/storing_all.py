"""Of `djp storage`, what is about more than one artifact: events, archives, and the comparison with the objects."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  Typer reads the types
from typing import Annotated

import typer

from djp.cli.options import AsJson, EachTenant, Gateway, Limit, OfTenant  # noqa: TC001  Typer reads the types


def events(
    since: Annotated[str, typer.Option(metavar="SPAN", help="How far back: 12h, 7d or 4w; default: all.")] = "",
    action: Annotated[str, typer.Option(metavar="NAME", help="Only this action's, such as purged_from_cold.")] = "",
    workflow: Annotated[str, typer.Option(metavar="NAME", help="With --artifact: only of this one.")] = "",
    artifact: Annotated[str, typer.Option(metavar="NAME", help="With --workflow: only of this one.")] = "",
    limit: Limit = 100,
    tenant: EachTenant = "",
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Print what happened, newest first. When, what, by whom and why.

    The JSON document has `events` and `more`.
    """
    from djp.cli.session import execute
    from djp.cli.storage_care import print_events

    if bool(workflow) != bool(artifact):
        raise typer.BadParameter("give --workflow and --artifact, or neither")
    execute(
        lambda: print_events(
            gateway,
            tenant,
            since=since,
            action=action,
            workflow=workflow,
            artifact=artifact,
            limit=limit,
            as_json=as_json,
        ),
        as_json=as_json,
    )


def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The archive, a tar; - is standard output.")],
    tenant: OfTenant = "",
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Write all of a tenant into one archive. Without the trash; `djp storage import` reads it."""
    from djp.cli.session import execute
    from djp.cli.storage_files import export_tenant

    execute(lambda: export_tenant(gateway, tenant, file, as_json=as_json), as_json=as_json)


def import_(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH", help="An archive (- is standard input), or a run of the older system, or a folder of these."
        ),
    ],
    workflow: Annotated[
        str, typer.Option(metavar="NAME", help="Of runs of the older system: the workflow they get.")
    ] = "imported",
    tenant: OfTenant = "",
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Take in an archive of an export. Or run artifacts of schema 1.1 (.json), which are converted.

    What is there already stays as it is: run it again to go on after an interruption. Exits with 1 if some artifacts
    were refused, and says which and why; the others are in.
    """
    from djp.cli.session import execute
    from djp.cli.storage_files import import_path

    execute(lambda: import_path(gateway, tenant, path, workflow=workflow, as_json=as_json), as_json=as_json)


def reconcile(
    mend: Annotated[bool, typer.Option("--mend", help="Mend what differs; without it, only say so.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Read every object and check its hash, too.")] = False,
    forget_lost: Annotated[
        bool, typer.Option("--forget-lost", help="With --mend: take artifacts out whose bytes are nowhere.")
    ] = False,
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Compare catalogue and objects. For operators; --mend mends every difference that can be mended.

    Exits with 1 when a difference is left. The JSON document has `differences` and `summary`.
    """
    from djp.cli.session import execute
    from djp.cli.storage_care import reconcile

    if forget_lost and not mend:
        raise typer.BadParameter("--forget-lost goes with --mend")
    execute(
        lambda: reconcile(gateway, mend=mend, verify=verify, forget_lost=forget_lost, as_json=as_json), as_json=as_json
    )
