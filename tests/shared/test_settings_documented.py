"""Every variable that can be set stands in docs/operations.md or in a page that it links, and none that cannot be."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

from pydantic_settings import BaseSettings

ROOT = Path(__file__).parents[2]
OPERATIONS = ROOT / "docs" / "operations.md"

SERVICES = ("debate", "gateway", "governance", "grounding", "judge", "redaction", "storage")

ELSEWHERE = {"DJP_GATEWAY", "DJP_API_KEY", "DJP_ENV_FILE"}
"""Read by the command's own options, not by a settings class."""


def settings_variables() -> set[str]:
    """The variables of all settings classes, by the rule that pydantic-settings has for their names."""
    for package in ("djp.mesh", "djp.llm", "djp.scaling", *(f"djp_{service}" for service in SERVICES)):
        folder = importlib.import_module(package).__path__
        if "settings" in {module.name for module in pkgutil.iter_modules(folder)}:
            importlib.import_module(f"{package}.settings")
    importlib.import_module("djp.rest_envoy")
    found = set[str]()
    for cls in BaseSettings.__subclasses__():
        if not cls.__module__.startswith("djp"):
            continue
        for name, field in cls.model_fields.items():
            alias = field.validation_alias
            assert alias is None or isinstance(alias, str), f"{cls.__name__}.{name} has more than one name"
            found.add(alias or f"{cls.model_config.get('env_prefix', '')}{name}".upper())
    return found


def pages() -> list[Path]:
    """docs/operations.md and the pages that it links."""
    links = re.findall(r"\]\(([^)#]+\.md)", OPERATIONS.read_text())
    return [OPERATIONS, *{(OPERATIONS.parent / link).resolve() for link in links}]


def documented(page: Path) -> set[str]:
    """The names of variables that a page has as code, alone or before `=`."""
    return set(re.findall(r"`([A-Z][A-Z0-9_]+)(?:=[^`]*)?`", page.read_text()))


def test_every_setting_is_documented() -> None:
    settings = settings_variables()
    assert {"DJP_HOME", "DJP_BUDGET_ZONE", "ANOMALY_SIGMA", "MAX_RETRIES", "DJP_STORAGE_IDLE_S"} <= settings
    told = set[str]().union(*map(documented, pages()))
    missing = sorted(settings - told)
    assert not missing, f"add to docs/operations.md, or to the README that it links: {', '.join(missing)}"


def test_no_variable_is_documented_that_nobody_reads() -> None:
    known = settings_variables() | ELSEWHERE
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("services/*/README.md")]:
        unknown = sorted(name for name in documented(page) - known if name.startswith("DJP_"))
        assert not unknown, f"{page} names what no settings class has: {', '.join(unknown)}"
