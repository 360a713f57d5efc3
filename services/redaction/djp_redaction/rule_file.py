"""Reads the rules in force from their JSON file and says plainly what is wrong with it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from djp.mesh.errors import FailedPrecondition
from djp_redaction.model import Rule, RuleSet, Strategy
from djp_redaction.validators import VALIDATORS

if TYPE_CHECKING:
    from pathlib import Path

MAX_FILE_BYTES = 4 * 2**20
MAX_RULES = 500
MAX_REACH = 1024

_TEXTS = ("name", "type", "pattern", "description", "trigger", "validation", "source")
_LISTS = ("examples", "counter_examples")
_NEEDED = ("name", "type", "pattern")
_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")
_LABEL = re.compile(r"\[[^\[\]{}]*\{type\}[^\[\]{}]*\]")


def load_rules(path: Path, setting: str = "DJP_REDACTION_RULES") -> RuleSet:
    """The rules of a file that a setting names.

    Raises:
        FailedPrecondition: the file cannot be read or used; the message names it, the rule, and what to do.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise FailedPrecondition(
            f"{setting}: {path} cannot be read ({error.strerror}); name a readable file, or unset the "
            "variable to use the built-in rules"
        ) from error
    if len(content) > MAX_FILE_BYTES:
        raise FailedPrecondition(f"{path}: larger than {MAX_FILE_BYTES >> 20} MiB; keep fewer or shorter rules")
    try:
        return _rule_set(json.loads(content))
    except (ValueError, RecursionError) as error:
        raise FailedPrecondition(f"{path}: {error}") from error


def load_tenants(folder: Path, base: RuleSet) -> dict[str, RuleSet]:
    """The rules of every tenant that has a file `TENANT.json` in the folder: those in force and its own.

    Raises:
        FailedPrecondition: the folder or a file cannot be used; the message names it, the rule, and what to do.
    """
    from djp_redaction.custom import problems  # with it come the engines

    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".json")
    except OSError as error:
        raise FailedPrecondition(
            f"DJP_REDACTION_TENANT_RULES: {folder} cannot be read ({error.strerror}); name a folder that can, or unset "
            "the variable"
        ) from error
    of_tenants = {}
    for path in paths:
        own = load_rules(path, "DJP_REDACTION_TENANT_RULES")
        refused = problems(own.rules, base.rules)
        if refused:
            raise FailedPrecondition(f"{path}: {refused[0]}")
        of_tenants[path.stem] = replace(own, rules=(*base.rules, *own.rules))
    return of_tenants


def _rule_set(document: object) -> RuleSet:
    if not isinstance(document, dict) or not isinstance(document.get("rules"), list) or not document["rules"]:
        raise ValueError('give an object with a list "rules" that holds at least one rule')
    unknown = set(document) - {"rules", "strategies", "default_strategy"}
    if unknown:
        raise ValueError(f"unknown key {min(unknown)!r}; remove it")
    if len(document["rules"]) > MAX_RULES:
        raise ValueError(f"{len(document['rules'])} rules; at most {MAX_RULES} are taken")
    rules = tuple(_rule(entry, number) for number, entry in enumerate(document["rules"], 1))
    seen: set[str] = set()
    for rule in rules:
        if rule.name in seen:
            raise ValueError(f"rule {rule.name!r}: the name is taken by a rule before it; choose another")
        seen.add(rule.name)
    return RuleSet(rules, _label(document), _strategy(document))


def _strategy(document: dict[str, object]) -> Strategy:
    try:
        return Strategy(str(document.get("default_strategy", Strategy.LABEL)))
    except ValueError:
        raise ValueError(f"default_strategy: choose one of {', '.join(Strategy)}") from None


def _label(document: dict[str, object]) -> str:
    strategies = document.get("strategies", {})
    if isinstance(strategies, dict):
        for name, settings in strategies.items():
            known = {"replacement"} if name == Strategy.LABEL else set()
            if name not in set(Strategy) or not isinstance(settings, dict) or set(settings) - known:
                raise ValueError(f"strategies.{name}: only strategies.label.replacement can be set; remove the rest")
    label = strategies.get("label", {}) if isinstance(strategies, dict) else None
    replacement = label.get("replacement", "[REDACTED:{type}]") if isinstance(label, dict) else None
    if not isinstance(replacement, str) or not _LABEL.fullmatch(replacement):
        raise ValueError('strategies.label.replacement: give a text in brackets that holds {type}, "[REDACTED:{type}]"')
    return replacement


def _rule(entry: object, number: int) -> Rule:
    if not isinstance(entry, dict):
        raise ValueError(f"rule {number}: give an object with {', '.join(_NEEDED)}")  # noqa: TRY004  one kind of error
    name = f"rule {entry.get('name') or number!r}"
    unknown = set(entry) - {*_TEXTS, *_LISTS, "reach", "solid"}
    if unknown:
        raise ValueError(f"{name}: unknown key {min(unknown)!r}; remove it")
    for key in _TEXTS:
        if not isinstance(entry.get(key, ""), str) or (key in _NEEDED and not entry.get(key)):
            raise ValueError(f"{name}: {key} is missing or not a text; give it as a text")
    for key in _LISTS:
        texts = entry.get(key, [])
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{name}: {key} is not a list of texts; give it as one")
    reach = entry.get("reach", 0)
    if not isinstance(reach, int) or not 0 <= reach <= MAX_REACH or (reach and not entry.get("trigger")):
        raise ValueError(f"{name}: reach is not a number of bytes up to {MAX_REACH} of a rule with a trigger; mend it")
    if not isinstance(entry.get("solid", False), bool) or ("solid" in entry and not reach):
        raise ValueError(f"{name}: solid is not true or false, of a rule with a reach; mend it or leave it out")
    if not _TYPE.fullmatch(entry["type"]):
        raise ValueError(f"{name}: type {entry['type']!r} is not a word; use letters, digits and _, as in EMAIL")
    if entry.get("validation") and entry["validation"] not in VALIDATORS:
        raise ValueError(
            f"{name}: there is no validation {entry['validation']!r}; there are: {', '.join(sorted(VALIDATORS))}"
        )
    values: dict[str, Any] = {**entry, **{key: tuple(entry.get(key, ())) for key in _LISTS}}
    return Rule(**values)
