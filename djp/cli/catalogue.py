"""`djp templates`, `djp presets`, `djp policies`: their subcommands with their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from djp.cli.options import AsJson, Gateway, examples

templates_app = typer.Typer(help="Make tasks of templates.", no_args_is_help=True, rich_markup_mode=None)
presets_app = typer.Typer(help="Look at named settings of runs.", no_args_is_help=True, rich_markup_mode=None)
policies_app = typer.Typer(help="Look at who may publish.", no_args_is_help=True, rich_markup_mode=None)

_Name = Annotated[str, typer.Argument(metavar="NAME", help="As `list` shows it.")]
_Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="The files to check.")]


@templates_app.command("list", epilog=examples("djp templates list"))
def list_templates(gateway: Gateway = None, as_json: AsJson = False) -> None:
    """List the templates that a run may name, and the files that cannot be read as one.

    The JSON document has `templates`, as in the contract, and `problems` with file, line, field and message.
    """
    from djp.cli import templates
    from djp.cli.session import execute

    execute(lambda: templates.list_templates(gateway, as_json=as_json), as_json=as_json)


@templates_app.command(
    "show",
    epilog=examples("djp templates show weekly_report", "djp templates show weekly_report --example > inputs.json"),
)
def show_template(
    name: _Name,
    example: Annotated[
        bool, typer.Option("--example", help="Only inputs to try it with, as JSON that --inputs takes.")
    ] = False,
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Show a template: its inputs, its parameters and its body.

    \b
      djp templates show weekly_report --example > inputs.json
      djp run --template weekly_report --inputs @inputs.json
    """
    from djp.cli import templates
    from djp.cli.session import execute

    execute(
        lambda: templates.show_template(gateway, name, example_only=example, as_json=as_json),
        as_json=as_json or example,
    )


@templates_app.command(
    "render",
    epilog=examples(
        "djp templates render weekly_report --inputs @inputs.json", "djp templates render templates/custom/letter.yaml"
    ),
)
def render_template(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE.yaml", help="As `list` shows it, or a file.")],
    inputs: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="@FILE reads JSON or YAML, - is standard input; default: the example."),
    ] = None,
    gateway: Gateway = None,
    as_json: AsJson = False,
) -> None:
    """Print the task that a template makes of its inputs. Starts nothing and costs nothing."""
    from djp.cli import templates
    from djp.cli.session import execute

    execute(lambda: templates.render_template(gateway, name, inputs, as_json=as_json), as_json=as_json)


@templates_app.command("validate", epilog=examples("djp templates validate templates/custom/letter.yaml"))
def validate_templates(files: _Files, as_json: AsJson = False) -> None:
    """Check template files; what is wrong is told with line and field. Ends with 1 if anything is."""
    from djp.cli import templates
    from djp.cli.session import execute

    execute(lambda: templates.validate_templates(files, as_json=as_json), as_json=as_json)


@templates_app.command("new", epilog=examples("djp templates new templates/custom/letter.yaml"))
def new_template(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="The file to write; it must not exist.")],
) -> None:
    """Write a template to begin with, explained line by line."""
    from djp.cli import templates
    from djp.cli.session import execute

    execute(lambda: templates.new_template(file))


@presets_app.command("list", epilog=examples("djp presets list"))
def list_presets(gateway: Gateway = None, as_json: AsJson = False) -> None:
    """List the presets that a run may name, with their settings."""
    from djp.cli.presets import show_presets
    from djp.cli.session import execute

    execute(lambda: show_presets(gateway, as_json=as_json), as_json=as_json)


@presets_app.command("show", epilog=examples("djp presets show thorough"))
def show_preset(name: _Name, gateway: Gateway = None, as_json: AsJson = False) -> None:
    """Show one preset."""
    from djp.cli.presets import show_presets
    from djp.cli.session import execute

    execute(lambda: show_presets(gateway, only=name, as_json=as_json), as_json=as_json)


@policies_app.command("list", epilog=examples("djp policies list"))
def list_policies(gateway: Gateway = None, as_json: AsJson = False) -> None:
    """List the policies that a run may name: which models may publish."""
    from djp.cli.presets import show_policies
    from djp.cli.session import execute

    execute(lambda: show_policies(gateway, as_json=as_json), as_json=as_json)


@policies_app.command("show", epilog=examples("djp policies show openai_only"))
def show_policy(name: _Name, gateway: Gateway = None, as_json: AsJson = False) -> None:
    """Show one policy."""
    from djp.cli.presets import show_policies
    from djp.cli.session import execute

    execute(lambda: show_policies(gateway, only=name, as_json=as_json), as_json=as_json)


@policies_app.command("validate", epilog=examples("djp policies validate house.json"))
def validate_policies(files: _Files, as_json: AsJson = False) -> None:
    """Check policy files against their schema. Ends with 1 if anything is wrong."""
    from djp.cli.session import execute
    from djp.cli.validate import validate_files

    execute(lambda: validate_files(files, kind="policy", as_json=as_json), as_json=as_json)
