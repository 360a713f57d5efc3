"""The options that many commands of `djp` have, and what their help ends with."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from djp.cli.exits import MEANINGS

if TYPE_CHECKING:
    from collections.abc import Callable

Gateway = Annotated[
    str | None,
    typer.Option(envvar="DJP_GATEWAY", metavar="ADDRESS", help="A gateway, host:port; without one a mesh starts here."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
OfTenant = Annotated[str, typer.Option(metavar="NAME", help="Another tenant than your own; for operators.")]
EachTenant = Annotated[str, typer.Option(metavar="NAME", help="Only this tenant's; default: all that you may see.")]

Limit = Annotated[int, typer.Option(metavar="N", min=1, help="How many at most.")]


def _shipped(folder: str, ending: str) -> Callable[[str], list[str]]:
    """Completes the names of files in a folder of the installation."""

    def names(beginning: str) -> list[str]:
        from djp.catalogue_files import data_dir

        return sorted(path.stem for path in (data_dir() / folder).glob(f"{beginning}*{ending}"))

    return names


preset_names, policy_names = _shipped("presets", ".json"), _shipped("policies", ".json")
template_names = _shipped("templates/examples", ".yaml")

RunId = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's id, 8 or more of its first characters, or `latest`.")
]
Verbose = Annotated[
    bool, typer.Option("--verbose", help="Show what the services log: little, unless something is wrong.")
]


def a_path(given: str) -> Path:
    """What an option was given, as a path."""
    if not given:  # of a script whose variable is empty; as a path it would be the current folder
        raise typer.BadParameter("is empty; name a path")
    return Path(given)


class Redact(StrEnum):
    """What of a run is redacted."""

    ON = "on"
    OFF = "off"
    ALL = "all"


EXIT_CODES = "Exit codes:\n\n\b\n" + "\n".join(f"  {int(code):>3}  {meaning}" for code, meaning in MEANINGS.items())


def examples(*lines: str) -> str:
    """The end of a command's help: command lines to begin with, as they are."""
    return "Examples:\n\n\b\n" + "\n".join(f"  {line}" for line in lines)
