"""`djp batches`: its subcommands with their options. What they do is imported when they are called."""

from __future__ import annotations

from typing import Annotated

import typer

from djp.cli.options import AsJson, Gateway, Limit, examples

batches_app = typer.Typer(
    help="Look at batches; pause them, go on with them, cancel them.", no_args_is_help=True, rich_markup_mode=None
)
_Batch = Annotated[str, typer.Argument(metavar="BATCH", help="A batch's name, or `latest`.")]


@batches_app.command("list", epilog=examples("djp batches list --gateway localhost:7100"))
def list_batches(limit: Limit = 20, gateway: Gateway = None, as_json: AsJson = False) -> None:
    """List batches, newest first."""
    from djp.cli import batches
    from djp.cli.session import execute

    execute(lambda: batches.list_batches(gateway, limit=limit, as_json=as_json), as_json=as_json)


@batches_app.command("show", epilog=examples("djp batches show latest", "djp batches show monday --json"))
def show_batch(batch: _Batch, limit: Limit = 20, gateway: Gateway = None, as_json: AsJson = False) -> None:
    """Show how a batch stands, and which rows are bad, under way, or ended without a text.

    The JSON document has `batch` and all its `rows`.
    """
    from djp.cli import batches
    from djp.cli.session import execute

    execute(lambda: batches.show_batch(gateway, batch, limit=limit, as_json=as_json), as_json=as_json)


@batches_app.command("pause", epilog=examples("djp batches pause monday --gateway localhost:7100"))
def pause_batch(batch: _Batch, gateway: Gateway = None, as_json: AsJson = False) -> None:
    """Let a batch take no further row for now; rows under way go on to their end."""
    from djp.cli import batches
    from djp.cli.session import execute

    execute(lambda: batches.stop_batch(gateway, batch, "pause", as_json=as_json), as_json=as_json)


@batches_app.command("resume", epilog=examples("djp batches resume monday --max-cost 1.50"))
def resume_batch(
    batch: _Batch,
    max_cost: Annotated[
        str | None, typer.Option(metavar="DOLLARS", help="The cap from now on; default: as it was.")
    ] = None,
    concurrency: Annotated[
        int, typer.Option(metavar="N", min=0, max=100, help="Rows that run at once; 0: as many as before.")
    ] = 0,
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Go on with a batch that was paused or capped.

    Without a gateway the command waits until the batch rests again, and ends with 0 when every row is published, 3 when
    some are advisory, 5 at the cap, and 6 when a row has no text. Texts and summary.csv are written by the `djp batch`
    command that started it, called again.
    """
    from djp.cli import batches
    from djp.cli.session import execute

    execute(
        lambda: batches.resume_batch(gateway, batch, max_cost=max_cost, concurrency=concurrency, as_json=as_json),
        as_json=as_json,
    )


@batches_app.command("cancel", epilog=examples("djp batches cancel monday"))
def cancel_batch(batch: _Batch, gateway: Gateway = None, as_json: AsJson = False) -> None:
    """Let a batch take no further row; rows under way go on to their end. `djp batch` can take it up again."""
    from djp.cli import batches
    from djp.cli.session import execute

    execute(lambda: batches.stop_batch(gateway, batch, "cancel", as_json=as_json), as_json=as_json)
