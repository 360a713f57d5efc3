"""`djp storage`: its subcommands with their options. What they do is imported when they are called."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path  # noqa: TC003  Typer reads the types
from typing import Annotated

import typer

from djp.cli.options import AsJson, EachTenant, Gateway, Limit, OfTenant, examples
from djp.cli.storing_all import events, export, import_, reconcile

storage_app = typer.Typer(help="Look after artifacts.", no_args_is_help=True, rich_markup_mode=None)


class Tier(StrEnum):
    """The tiers, as people write them."""

    HOT = "hot"
    WARM = "warm"
    COLD = "cold"
    TRASH = "trash"


_Workflow = Annotated[str, typer.Option(metavar="NAME", help="The artifact's workflow.")]
_Artifact = Annotated[str, typer.Option(metavar="NAME", help="The artifact's name, as `djp storage list` shows it.")]
_Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; an event keeps it, with who did it.")]
_OnlyWorkflow = Annotated[str, typer.Option("--workflow", metavar="NAME", help="Only this workflow's.")]
_OnlyTier = Annotated[Tier | None, typer.Option(metavar="TIER", help="Only this tier: hot, warm, cold or trash.")]


@storage_app.command("list", epilog=examples("djp storage list --workflow weekly_report --tier warm"))
def list_artifacts(
    workflow: _OnlyWorkflow = "",
    tier: _OnlyTier = None,
    run: Annotated[str, typer.Option(metavar="RUN", help="Only this run's, by its whole id.")] = "",
    limit: Limit = 100,
    tenant: OfTenant = "",
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """List artifacts, newest first. Those in the trash too, until they are erased.

    The JSON document has `artifacts` and `more` (whether there are more than --limit).
    """
    from djp.cli.session import execute
    from djp.cli.storage import Wanted, print_artifacts

    wanted = Wanted(tenant=tenant, workflow=workflow, tier=tier or "", run=run, limit=limit)
    execute(lambda: print_artifacts(gateway, wanted, as_json=as_json), as_json=as_json)


@storage_app.command(epilog=examples("djp storage largest --limit 5"))
def largest(
    workflow: _OnlyWorkflow = "",
    tier: _OnlyTier = None,
    limit: Limit = 20,
    tenant: OfTenant = "",
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """List the largest artifacts, the largest first. The JSON document is that of `djp storage list`."""
    from djp.cli.session import execute
    from djp.cli.storage import Wanted, print_artifacts

    wanted = Wanted(tenant=tenant, workflow=workflow, tier=tier or "", limit=limit, largest_first=True)
    execute(lambda: print_artifacts(gateway, wanted, as_json=as_json), as_json=as_json)


@storage_app.command(epilog=examples("djp storage stats --by-workflow"))
def stats(
    by_workflow: Annotated[bool, typer.Option("--by-workflow", help="A line for each workflow, too.")] = False,
    tenant: EachTenant = "",
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Print what each tier holds. Artifacts, bytes, and when the oldest was created.

    The JSON document has `stats`, one entry for each tenant, tier and, if asked for, workflow.
    """
    from djp.cli.session import execute
    from djp.cli.storage import print_stats

    execute(lambda: print_stats(gateway, tenant, by_workflow=by_workflow, as_json=as_json), as_json=as_json)


@storage_app.command(epilog=examples("djp storage show --workflow letters --artifact letter.pdf"))
def show(
    workflow: _Workflow,
    artifact: _Artifact,
    tenant: OfTenant = "",
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Show an artifact. What is known of it, and what happened to it."""
    from djp.cli.session import execute
    from djp.cli.storage import show_artifact

    execute(lambda: show_artifact(gateway, tenant, workflow, artifact, as_json=as_json), as_json=as_json)


@storage_app.command(epilog=examples("djp storage get --workflow letters --artifact letter.pdf --output letter.pdf"))
def get(
    workflow: _Workflow,
    artifact: _Artifact,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Default: standard output.")] = None,
    tenant: OfTenant = "",
    gateway: Gateway = None,
) -> None:
    """Write an artifact to a file. Or to standard output; a file is there whole and checked, or not at all."""
    from djp.cli.session import execute
    from djp.cli.storage_files import get_artifact

    execute(lambda: get_artifact(gateway, tenant, workflow, artifact, output))


@storage_app.command(epilog=examples("djp storage put letter.pdf --workflow letters --tag customer=acme"))
def put(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What to store.")],
    workflow: _Workflow,
    artifact: Annotated[str, typer.Option(metavar="NAME", help="Default: the file's name.")] = "",
    content_type: Annotated[str, typer.Option(metavar="TYPE", help="Such as text/csv; default: by the name.")] = "",
    tag: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="A label, repeatable.")] = None,
    tenant: OfTenant = "",
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Store a file as an artifact. A name is taken for ever: nothing is overwritten."""
    from djp.cli.session import execute
    from djp.cli.storage_files import put_artifact

    execute(
        lambda: put_artifact(
            gateway, tenant, workflow, artifact, file, content_type=content_type, tags=tag or [], as_json=as_json
        ),
        as_json=as_json,
    )


@storage_app.command(
    epilog=examples(
        "djp storage restore --from-tier warm --list",
        "djp storage restore --workflow letters --artifact letter.pdf --from-tier warm --to-tier hot",
    )
)
def restore(
    workflow: Annotated[str, typer.Option(metavar="NAME", help="The artifact's workflow.")] = "",
    artifact: Annotated[str, typer.Option(metavar="NAME", help="The artifact's name.")] = "",
    from_tier: Annotated[Tier, typer.Option(metavar="TIER", help="Where it is: warm or cold.")] = Tier.WARM,
    to_tier: Annotated[Tier, typer.Option(metavar="TIER", help="Where it is wanted: hot or warm.")] = Tier.HOT,
    list_: Annotated[bool, typer.Option("--list", help="Only list what there is in --from-tier.")] = False,
    limit: Limit = 100,
    reason: _Reason = "",
    tenant: OfTenant = "",
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Bring an artifact to a warmer tier. Its time there begins anew."""
    from djp.cli.session import execute
    from djp.cli.storage import Wanted, print_artifacts
    from djp.cli.storage_care import restore_artifact

    if list_:
        wanted = Wanted(tenant=tenant, workflow=workflow, tier=from_tier, limit=limit)
        execute(lambda: print_artifacts(gateway, wanted, as_json=as_json), as_json=as_json)
    if not workflow or not artifact:
        raise typer.BadParameter("give --workflow and --artifact, or --list to see which there are")
    execute(
        lambda: restore_artifact(
            gateway, tenant, workflow, artifact, from_tier=from_tier, to_tier=to_tier, reason=reason, as_json=as_json
        ),
        as_json=as_json,
    )


@storage_app.command(
    epilog=examples('djp storage purge --workflow letters --artifact letter.pdf --reason "sent by mistake"')
)
def purge(
    workflow: _Workflow,
    artifact: _Artifact,
    reason: _Reason,
    tenant: OfTenant = "",
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Move an artifact to the trash. For as long as it lies there, `djp storage undelete` brings it back."""
    from djp.cli.session import execute
    from djp.cli.storage_care import purge_artifact

    execute(
        lambda: purge_artifact(gateway, tenant, workflow, artifact, reason=reason, as_json=as_json), as_json=as_json
    )


@storage_app.command(epilog=examples("djp storage undelete --workflow letters --artifact letter.pdf"))
def undelete(
    workflow: _Workflow,
    artifact: _Artifact,
    reason: _Reason = "",
    tenant: OfTenant = "",
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Bring an artifact back from the trash. It goes where it came from; `djp storage list --tier trash` lists them."""
    from djp.cli.session import execute
    from djp.cli.storage_care import undelete_artifact

    execute(
        lambda: undelete_artifact(gateway, tenant, workflow, artifact, reason=reason, as_json=as_json), as_json=as_json
    )


@storage_app.command(
    epilog=examples(
        'djp storage hold --workflow letters --artifact letter.pdf --reason "audit"',
        'djp storage hold --lift --reason "the audit is over"',
    )
)
def hold(
    reason: _Reason,
    workflow: Annotated[str, typer.Option(metavar="NAME", help="Default: all of the tenant.")] = "",
    artifact: Annotated[str, typer.Option(metavar="NAME", help="Default: all of the tenant.")] = "",
    lift: Annotated[bool, typer.Option("--lift", help="Lift the hold instead.")] = False,
    tenant: OfTenant = "",
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Keep artifacts from being purged. One, or all of a tenant's, however old they get."""
    from djp.cli.session import execute
    from djp.cli.storage_care import hold_artifact

    if bool(workflow) != bool(artifact):
        raise typer.BadParameter("give --workflow and --artifact, or neither for the whole tenant")
    execute(
        lambda: hold_artifact(gateway, tenant, workflow, artifact, hold=not lift, reason=reason, as_json=as_json),
        as_json=as_json,
    )


storage_app.command(epilog=examples("djp storage events --since 7d --action purged_from_cold"))(events)
storage_app.command(epilog=examples("djp storage export backup.tar"))(export)
storage_app.command(
    "import", epilog=examples("djp storage import backup.tar", "djp storage import ./old-runs --workflow imported")
)(import_)
storage_app.command(epilog=examples("djp storage reconcile", "djp storage reconcile --mend --verify"))(reconcile)
