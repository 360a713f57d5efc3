"""config/budgets.yaml: limits by scope and by workflow, read again when the file changes."""

from __future__ import annotations

import stat
from hashlib import sha256
from typing import TYPE_CHECKING

import yaml

from djp.edited_file import EditedFile
from djp.mesh.errors import FailedPrecondition, InvalidInput
from djp.mesh.settings import djp_home
from djp.money import parse_usd
from djp.strict_yaml import load_yaml
from djp_governance.events import NewEvent
from djp_governance.limits import Budget, Limits, RunRule, check_scope, workflow_key
from djp_governance.model import MAX_SUM, RunLimits

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from djp_governance.settings import GovernanceSettings

_MAX_BYTES = 1_000_000
_DOLLARS = ("daily", "monthly")
_TOKENS = ("daily_tokens", "monthly_tokens")


def open_budgets_file(settings: GovernanceSettings) -> BudgetsFile:
    """The file that DJP_BUDGETS names, else budgets.yaml in DJP_HOME, which need not be there.

    Raises InvalidInput for a limit of the environment that cannot be used, FailedPrecondition for a broken file.
    """
    named = settings.budgets_file
    return BudgetsFile(named or djp_home() / "budgets.yaml", settings.limits(), needed=named is not None)


class BudgetsFile:
    """The limits as of the last good version of the file. `needed`: it is there because somebody named it."""

    def __init__(self, path: Path, configured: Limits, *, needed: bool) -> None:
        """Reads the file. Raises FailedPrecondition where it is broken: there is no older version to keep to."""
        self._path = path
        self._configured = configured
        self._needed = needed
        self._digest = ""
        self._file = EditedFile(path)
        try:
            self.limits = self._read()
        except InvalidInput as error:
            raise FailedPrecondition(f"budgets file {error.message}; mend it and start again") from error

    def poll(self, now: datetime) -> NewEvent | None:
        """Read the file if it has changed, once it has rested since the last poll: nobody sees half of an edit.

        A broken file changes nothing; the event says what is wrong with it.
        """
        if not self._file.changed():
            return None
        try:
            self.limits = self._read()
        except InvalidInput as error:
            message = f"budgets file {error.message}; the limits of before still count"
            content = f"{now:%Y-%m-%d}|{self._digest}|{message}"  # the same on every replica that reads it
            key = f"config_rejected|{sha256(content.encode()).hexdigest()}"
            return NewEvent("config_rejected", now, key, "global", message)
        return None

    def _read(self) -> Limits:
        try:
            found = self._path.stat()
            if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_BYTES:
                raise self._refused("", f"is no file of at most {_MAX_BYTES:,} bytes")
            content = self._path.read_bytes()
            self._digest = sha256(content).hexdigest()
            text = content.decode()
        except FileNotFoundError:
            if self._needed:
                raise self._refused("", "is not there; DJP_BUDGETS names it") from None
            return self._configured
        except OSError as error:
            raise self._refused("", f"cannot be read ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise self._refused("", "is not UTF-8") from error
        try:
            document = load_yaml(text)
        except yaml.YAMLError as error:
            raise self._refused("", f"is not YAML: {' '.join(str(error).split())[:300]}") from error
        except RecursionError as error:
            raise self._refused("", "is nested too deep") from error
        return self._limits(document)

    def _limits(self, document: object) -> Limits:
        base = self._configured
        parts = self._mapping(document, "", ("global", "tenants", "workflows"))
        named = {"global": base.everybody.with_file(self._budget(parts.get("global"), "global"))}
        for tenant, limits in self._mapping(parts.get("tenants"), "tenants").items():
            scope = self._scope(f"tenant:{tenant}", f"tenants.{tenant}")
            named[scope] = base.tenant.with_file(self._budget(limits, f"tenants.{tenant}"))
        runs = dict(base.runs)
        for workflow, limits in self._mapping(parts.get("workflows"), "workflows").items():
            field = f"workflows.{workflow}"
            scope = self._scope(f"workflow:{workflow}", field)
            amounts = self._mapping(limits, field, (*_DOLLARS, *_TOKENS, "run", "run_tokens"))
            of_run = {name: amounts.pop(name) for name in ("run", "run_tokens") if name in amounts}
            named[scope] = Budget().with_file(self._budget(amounts, field))
            if of_run:
                before = runs.get(workflow_key(workflow))
                given = before.limits if before else RunLimits()
                dollars, tokens = (
                    self._amount(of_run[name], f"{field}.{name}", dollars=name == "run") if name in of_run else old
                    for name, old in (("run", given.nano_usd), ("run_tokens", given.tokens))
                )
                runs[workflow_key(workflow)] = RunRule(RunLimits(dollars, tokens), workflow, self._path.name)
        return Limits(
            everybody=base.everybody,
            tenant=base.tenant,
            named=named,
            runs=runs,
            soft_threshold=base.soft_threshold,
            hard_threshold=base.hard_threshold,
        )

    def _budget(self, given: object, field: str) -> dict[str, int | None]:
        amounts = self._mapping(given, field, (*_DOLLARS, *_TOKENS))
        return {
            name: self._amount(value, f"{field}.{name}", dollars=name in _DOLLARS) for name, value in amounts.items()
        }

    def _amount(self, given: object, field: str, *, dollars: bool) -> int | None:
        if not isinstance(given, str) or not given:
            raise self._refused(field, "give a number, or none for no limit")
        if given == "none":
            return None
        if dollars:
            try:
                return parse_usd(given, field=field)
            except InvalidInput as error:
                raise self._refused("", error.message) from None
        if not (given.isascii() and given.isdigit() and len(given) < 20 and int(given) <= MAX_SUM):
            raise self._refused(field, f"{given[:40]!r} is no number of tokens; write digits only")
        return int(given)

    def _mapping(self, given: object, field: str, names: tuple[str, ...] = ()) -> dict[str, object]:
        if given is None or given == "":
            return {}
        if not isinstance(given, dict):
            raise self._refused(field, "give names with values below them")
        for name in given:
            if not isinstance(name, str) or (names and name not in names):
                inner = f"{field}.{str(name)[:80]}" if field else str(name)[:80]
                raise self._refused(inner, f"is unknown here; there are: {', '.join(names)}")
        return dict(given)

    def _scope(self, scope: str, field: str) -> str:
        try:
            return check_scope(scope, "")
        except InvalidInput as error:
            raise self._refused(field[:100], error.message.removeprefix("scope: ")) from None

    def _refused(self, field: str, why: str) -> InvalidInput:
        return InvalidInput(f"{self._path}: {field}{': ' if field else ''}{why}")
