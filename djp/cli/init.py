"""`djp init`: files to begin with, each explained, in the data folder or in a folder of your own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from djp.cli.env_file import NAME, VARIABLE, data_folder
from djp.cli.exits import Exit
from djp.cli.terminal import command_name, one_line, out, say
from djp.data_folder import make_data_folder
from djp.mesh.errors import FailedPrecondition

if TYPE_CHECKING:
    from collections.abc import Sequence

_ENV = """\
# Settings of djp, for every command and every service that is started on this machine with `djp serve` or `djp up`.
# A line is NAME=value. What the environment says wins over it, and a flag over both; `djp config show` says where each
# value comes from. Keep this file to yourself: it may hold keys.

# Keys of providers. Without any, the offline debaters answer.
#OPENAI_API_KEY=
#ANTHROPIC_API_KEY=

# Providers and their models; `djp init --server URL` writes a file with a server of your own.
{models}

# A mesh that is up already; without it every command starts one of its own.
#DJP_GATEWAY=localhost:7100
#DJP_API_KEY=

# Limits in dollars; {folder}/budgets.yaml has those of single tenants and workflows.
#GLOBAL_BUDGET_DAILY=25.0
#GLOBAL_BUDGET_MONTHLY=500.0
#TENANT_BUDGET_DAILY_DEFAULT=5.0
#TENANT_BUDGET_MONTHLY_DEFAULT=100.0
#BUDGET_WEEKLY_REPORT_USD=0.01
DJP_BUDGETS={budgets}

# Rules of redaction beside those in force: default.json is for the tenant `default`.
DJP_REDACTION_TENANT_RULES={redaction}

# Presets and templates beside those that are shipped.
DJP_PRESETS={presets}
DJP_TEMPLATES={templates}

# How long artifacts stay in each tier, in days.
#HOT_RETENTION_DAYS=7
#WARM_RETENTION_DAYS=30
#COLD_RETENTION_DAYS=90

# How many runs are in work at once, and of one tenant.
#MAX_WORKERS=12
#PER_TENANT_MAX_CONCURRENCY=5

# What the services log: DEBUG, INFO, WARNING or ERROR.
#DJP_LOG_LEVEL=INFO
"""

_NO_MODELS = """\
#DJP_PROVIDERS={folder}/providers.yaml

# The models of runs that name none; `djp models` lists those that can be named.
#DJP_DEBATERS=openai/gpt-4o,anthropic/claude-sonnet-4-5
#DJP_JURORS=openai/gpt-4o-mini"""

_RULES = {
    "rules": [
        {
            "name": "custom_pattern",
            "type": "custom_id",
            "description": "An example: a number of your own, as CUSTOM-123456. Patterns are RE2.",
            "pattern": "CUSTOM-[0-9]{6}",
        }
    ]
}

_PRESET = {
    "name": "house",
    "description": "An example: a preset of your own; `djp presets list` shows what else it can say.",
    "max_tokens": 1000,
    "temperature": 0.3,
    "max_debaters": 3,
    "timeout_s": 300,
}


async def init(folder: Path | None, *, server: str, models: Sequence[str], as_json: bool) -> int:
    """Write what is not there yet; nothing is overwritten. With a `server` also how its models are reached.

    Raises FailedPrecondition for a folder that cannot be, InvalidInput for a server that does not say its models.
    """
    if server and not models:
        from djp.cli.own_server import models_of

        models = await asyncio.to_thread(models_of, server)
    usual = Path(os.path.abspath(data_folder()))  # noqa: ASYNC240  nothing is looked up
    folder = Path(os.path.abspath(folder)) if folder else usual  # noqa: ASYNC240
    make_data_folder(folder, "DJP_HOME" if folder == usual else "FOLDER")
    written, kept = [], []
    lines = model_lines(folder, models) if server else ""
    for name, text in _files(folder, lines, server, models).items():
        path = folder / name
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # some will hold keys
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            kept.append(name)
        except OSError as error:
            raise FailedPrecondition(f"{path} cannot be written: {error.strerror}; mend its permissions") from error
        else:
            written.append(name)
    found = os.environ.get(VARIABLE) == str(folder / NAME) or folder == usual
    if as_json:
        told = {"folder": str(folder), "written": written, "kept": kept, "in_force": found}
        print(json.dumps(told, indent=2))
        return Exit.OK
    say(one_line(str(folder)), "bold")
    for name in written:
        say(f"  ✓ {name}", "green")
    for name in kept:
        say(f"  · {name} was there already and stays as it is", "dim")
    djp = command_name()
    out().print()
    say("Next:")
    if server and NAME in kept:
        say(f"  add to {NAME}:")
        for line in lines.splitlines():
            say(f"    {line}")
    if not found:
        say(f"  export {VARIABLE}={shlex.quote(str(folder / NAME))}    # so that every command reads it")
    say(f"  edit {NAME}: keys, models, limits")
    say(f"  {djp} config show --changed    # what is in force, and why")
    say(f"  {djp} doctor                   # is anything missing?")
    say(f'  {djp} run --task "What can you do?" --preset house --dry-run')
    return Exit.OK


def model_lines(folder: Path, models: Sequence[str]) -> str:
    """The settings that make a server's models those of runs that name none: three debaters, and up to two jurors."""
    names = [f"local/{model}" for model in models]
    debaters = ",".join(names[number % len(names)] for number in range(3))
    return (
        f"DJP_PROVIDERS={_value(folder / 'providers.yaml')}\nDJP_DEBATERS={debaters}\nDJP_JURORS={','.join(names[:2])}"
    )


def _files(folder: Path, lines: str, server: str, models: Sequence[str]) -> dict[str, str]:
    from djp.catalogue_files import data_dir
    from djp.cli.templates import STARTER

    config = data_dir() / "config"
    providers = {}
    if server:
        from djp.cli.own_server import provider_entry

        shipped = (config / "providers.yaml").read_text(encoding="utf-8")
        providers = {"providers.yaml": shipped + provider_entry(server, models)}
    return providers | {
        NAME: _ENV.format(
            folder=folder,
            models=lines or _NO_MODELS.format(folder=folder),
            budgets=_value(folder / "budgets.yaml"),
            redaction=_value(folder / "redaction"),
            presets=_value(folder / "presets"),
            templates=_value(folder / "templates"),
        ),
        "budgets.yaml": (config / "budgets.yaml").read_text(encoding="utf-8"),
        "redaction/default.json": json.dumps(_RULES, indent=2) + "\n",
        "presets/house.json": json.dumps(_PRESET, indent=2) + "\n",
        "templates/letter.yaml": STARTER.format(name="letter", title="Letter"),
    }


def _value(path: Path) -> str:
    """A path as such a file takes it: quoted where it holds what could mean something."""
    text = str(path)
    if re.fullmatch(r"[\w./+-]+", text):
        return text
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
