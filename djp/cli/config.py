"""`djp config show`: every setting in force, with where it comes from; secrets are told to be set, and no more."""

from __future__ import annotations

import importlib
import json
import os
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings
from rich.text import Text

from djp.cli.env_file import VARIABLE, env_file, taken
from djp.cli.exits import Exit
from djp.cli.terminal import fail, one_line, out, say
from djp.mesh.errors import DjpError
from djp.mesh.settings import settings_problems
from djp.scaling.settings import ScalingSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MODULES = {
    "every target": "djp.mesh.settings",
    "gateway": "djp_gateway.settings",
    "models": "djp.llm.settings",
    "budgets": "djp_governance.settings",
    "redaction": "djp_redaction.settings",
    "grounding": "djp_grounding.settings",
    "storage": "djp_storage.settings",
    "scaling": "djp.scaling.settings",
    "rest": "djp.rest_envoy",
}
_SECRET = re.compile(r"(_|^)(KEY|SECRET|TOKEN|PASSWORD|WEBHOOK)(_|$)")
_NAMES_A_FILE = re.compile(r"_(FILE|CA|CERT)$|^DJP_TLS_KEY$")
_RUN_BUDGET = re.compile(r"BUDGET_[A-Z0-9_]+_(USD|TOKENS)")
_HIDDEN = "set, hidden"
DEFAULT = "default"


@dataclass(frozen=True)
class Setting:
    """A variable as it counts now. `origin` is `environment`, `default`, or the file and line that it stands in."""

    group: str
    variable: str
    value: str | None
    origin: str


async def show_config(*, changed: bool, as_json: bool) -> int:
    """Print every setting, or with `changed` those that somebody set; exits with 1 when one cannot be used."""
    problems: list[str] = []
    known: dict[str, Setting] = {}
    for one in _settings(problems):
        known.setdefault(one.variable, one)
    found = list(known.values())
    unread = sorted(name for name in os.environ if name.startswith("DJP_") and name not in known)
    if changed:
        found = [one for one in found if os.environ.get(one.variable)]
    if as_json:
        told = {"file": str(env_file()), "settings": [asdict(one) for one in found]}
        print(json.dumps({**told, "problems": problems, "unread": unread}, indent=2))
    else:
        _print(found, changed)
    for name in unread:
        fail(f"{name} is set, but nothing reads it; is it misspelt?")
    for problem in problems:
        fail(problem)
    return Exit.PROBLEM if problems else Exit.OK


def _print(found: list[Setting], changed: bool) -> None:
    file = env_file()
    say(f"File: {file}" if file.is_file() else f"File: {file} is not there; `djp init` makes one", "dim")
    group = ""
    for one in found:
        if one.group != group:
            group = one.group
            out().print()
            say(group, "bold")
        line = Text(f"  {one.variable} = {one_line(one.value) if one.value is not None else '(none)'}")
        if one.origin != DEFAULT:
            line.append(f"  ← {one_line(one.origin)}", style="cyan")
        say(line)
    if changed and not found:
        say("Everything is as it is by default.")


def _settings(problems: list[str]) -> Iterator[Setting]:
    yield _of_the_environment("command", VARIABLE, str(env_file()))
    yield _of_the_environment("command", "DJP_GATEWAY")
    yield _of_the_environment("command", "DJP_API_KEY")
    yield _of_the_environment("command", "WEBHOOK_URL")
    for group, name in _MODULES.items():
        module = importlib.import_module(name)
        for cls in vars(module).values():
            if isinstance(cls, type) and issubclass(cls, BaseSettings) and cls.__module__ == name:
                yield from _of_class(group, cls, problems)
    for variable in sorted(os.environ):
        if _RUN_BUDGET.fullmatch(variable):
            yield _of_the_environment("budgets", variable)
    yield from _of_providers(problems)


def _of_class(group: str, cls: type[BaseSettings], problems: list[str]) -> Iterator[Setting]:
    settings: BaseSettings | None = None
    try:
        settings = cls()
    except ValidationError as error:
        problems += settings_problems(error)
    for name, field in cls.model_fields.items():
        alias = field.validation_alias
        variable = alias if isinstance(alias, str) else f"{cls.model_config.get('env_prefix', '')}{name}".upper()
        if isinstance(settings, ScalingSettings) and getattr(settings, name) is None:
            yield Setting(group, variable, str(getattr(settings.rule(), name)), settings.origins()[variable])
        elif settings is None:  # what is wrong may be a secret
            yield Setting(group, variable, "see below" if os.environ.get(variable) else None, origin_of(variable))
        else:
            yield Setting(group, variable, shown(variable, getattr(settings, name)), origin_of(variable))


def _of_providers(problems: list[str]) -> Iterator[Setting]:
    """The files in force, and the variables that they name."""
    from djp.llm.providers import provider_file, read_providers
    from djp.llm.settings import LlmSettings

    try:
        settings = LlmSettings()
        providers = read_providers(settings.providers)
    except ValidationError:  # told already
        return
    except DjpError as error:
        problems.append(error.message)
        return
    yield _named("DJP_PROVIDERS", provider_file(settings.providers))
    for name, config in providers.items():
        for variable in config.variables():
            value = _HIDDEN if os.environ.get(variable) else None  # of whatever it holds
            yield Setting("models", variable, value, origin_of(variable))
        for kind, seconds in (("CONNECT", config.connect_timeout_s), ("READ", config.read_timeout_s)):
            variable = f"{name.upper().replace('-', '_')}_{kind}_TIMEOUT_MS"
            yield Setting("models", variable, f"{seconds * 1000:.0f}", origin_of(variable))


def _named(variable: str, path: Path) -> Setting:
    return Setting("models", variable, str(path), origin_of(variable))


def _of_the_environment(group: str, variable: str, default: str | None = None) -> Setting:
    return Setting(group, variable, shown(variable, os.environ.get(variable) or default), origin_of(variable))


def origin_of(variable: str) -> str:
    """Where the variable's value comes from."""
    if not os.environ.get(variable):
        return DEFAULT
    return taken().get(variable, "environment")


def shown(variable: str, value: Any) -> str | None:
    """A value for people's eyes; of a secret only that there is one, of an address no password."""
    from djp.database import shown as shown_database

    if isinstance(value, SecretStr):
        value = value.get_secret_value()
        return _HIDDEN if value else None
    if value is None or value == "":
        return None
    if _SECRET.search(variable) and not _NAMES_A_FILE.search(variable):
        return _HIDDEN
    if variable.endswith("_DATABASE_URL"):
        return shown_database(value)
    text = str(value)
    scheme, separator, rest = text.rpartition("://")
    return scheme + separator + rest.rpartition("@")[2] if separator else text
