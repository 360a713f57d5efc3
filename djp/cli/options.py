"""The options that many commands of `djp` have."""

from __future__ import annotations

from typing import Annotated

import typer

Gateway = Annotated[
    str | None,
    typer.Option(envvar="DJP_GATEWAY", metavar="ADDRESS", help="A gateway, host:port; without one a mesh starts here."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
EachTenant = Annotated[str, typer.Option(metavar="NAME", help="Only this tenant's; default: all that you may see.")]
