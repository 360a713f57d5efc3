"""The rules with a trigger, compiled: the engine finds what they describe, and RE2 what may still become a match."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from djp_redaction import _engine
from djp_redaction.beginnings import beginnings, most_length
from djp_redaction.patterns import RuleRefused, compiled, ending

if TYPE_CHECKING:
    from collections.abc import Mapping

    import re2

    from djp_redaction.model import Rule

_WINDOW = 512  # bytes: a rule whose matches are longer is searched up to the end of the text


class Matcher:
    """The compiled rules, each with its number; safe to use from several threads."""

    def __init__(self, rules: Mapping[int, Rule]) -> None:
        """Raises RuleRefused if RE2 or the engine refuses a pattern, or the engine a trigger."""
        self._rules = rules
        try:
            self.engine = _engine.Matcher([_for_engine(number, rule) for number, rule in rules.items()])
        except _engine.Refused as error:
            number, construct, reason = error.args
            remedy = f"the engine refuses it ({reason.splitlines()[-1].strip()}); make it shorter and simpler"
            raise RuleRefused(rules[number].name, construct, remedy) from error

    @cached_property
    def unfinished(self) -> re2._Regexp:
        """Finds in a text where what may still become a match begins; at the end of the text if nothing may."""
        return ending([beginnings(rule.pattern, edges_apart=True) for rule in self._rules.values()])


def _for_engine(number: int, rule: Rule) -> tuple[int, str, str, str, int, bool, int]:
    for pattern in (rule.pattern, rule.trigger):  # RE2's syntax is what users know, and its errors tell the remedy
        compiled(replace(rule, pattern=pattern))
    longest = 4 * most_length(rule.pattern) + 1
    window = int(longest) if longest <= _WINDOW else 0
    return number, rule.pattern, rule.trigger, rule.validation, rule.reach, rule.solid, window
