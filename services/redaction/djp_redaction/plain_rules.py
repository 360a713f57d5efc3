"""The rules without a trigger, users' own above all, compiled: the engine searches for each of them everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import re2

from djp_redaction import _engine
from djp_redaction.beginnings import beginnings
from djp_redaction.patterns import RuleRefused, compiled, ending

if TYPE_CHECKING:
    from collections.abc import Mapping

    from djp_redaction.model import Rule

_KIB = _engine.MOST_AUTOMATON // 1024
_REMEDY = (
    "a match may begin inside of another in too many ways; repeat without a count (* or +) what it may begin with, "
    "or begin it with a character that does not occur in what follows"
)


class PlainRules:
    """The compiled rules, each with its number; safe to use from several threads."""

    def __init__(self, rules: Mapping[int, Rule]) -> None:
        """Raises RuleRefused if RE2 or the engine refuses a pattern."""
        for rule in rules.values():  # RE2's syntax is what users know, and its errors tell the remedy
            compiled(rule)
        try:
            self.engine = _engine.PlainRules(
                [(number, rule.pattern, rule.validation) for number, rule in rules.items()]
            )
        except _engine.Refused as error:
            number, construct, reason = error.args
            name = rules[number].name
            if reason == _engine.TOO_LARGE:
                raise RuleRefused(name, f"an automaton of more than {_KIB} KiB", _REMEDY) from None
            remedy = f"the engine refuses it ({reason.splitlines()[-1].strip()}); write it in another way"
            raise RuleRefused(name, construct, remedy) from error
        try:
            self.unfinished = ending([beginnings(rule.pattern) for rule in rules.values()])
            """Finds in a text where what may still become a match begins; at the end of the text if nothing may."""
        except re2.error as error:
            name = next(iter(rules.values())).name
            raise RuleRefused(name, "rules too large together", "give fewer or smaller rules") from error
