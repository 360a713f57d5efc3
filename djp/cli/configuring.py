"""`djp init` and `djp config`: their options. What they do is imported when they are called."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  Typer reads the types
from typing import Annotated

import typer

from djp.cli.options import AsJson, a_path, examples

config_app = typer.Typer(help="Look at what is set, and by whom.", no_args_is_help=True, rich_markup_mode=None)


@config_app.callback()
def _root() -> None:
    """Look at what is set, and by whom."""


@config_app.command("show", epilog=examples("djp config show", "djp config show --changed"))
def show_config(
    changed: Annotated[bool, typer.Option("--changed", help="Only what is not as it is by default.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print every setting in force, and where it comes from: the environment, the file djp.env, or the default.

    Flags win over the environment, that over the file, and the file over the default. Of secrets it is only told that
    they are set. Ends with 1 if one cannot be used. The JSON document has `file`, `settings`, `problems` and `unread`:
    variables that begin with DJP_ and that nothing reads.
    """
    from djp.cli import config
    from djp.cli.session import execute

    execute(lambda: config.show_config(changed=changed, as_json=as_json), as_json=as_json)


def init(
    folder: Annotated[
        Path | None, typer.Argument(parser=a_path, metavar="FOLDER", help="Where to; default: the data folder.")
    ] = None,
    server: Annotated[
        str, typer.Option(metavar="URL", help="A server of your own that speaks OpenAI's format: its models debate.")
    ] = "",
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="With --server: a model of it; default: all it lists.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a configuration to begin with: settings, budgets, a rule of redaction, a preset, a template.

    Nothing that is there is overwritten. The JSON document has `folder`, `written`, `kept`, and `in_force`: whether
    commands read it as it is.
    """
    from djp.cli.init import init
    from djp.cli.session import execute

    if model and not server:
        raise typer.BadParameter("--model goes with --server")
    execute(lambda: init(folder, server=server, models=model or [], as_json=as_json), as_json=as_json)
