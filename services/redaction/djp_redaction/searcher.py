"""Finds what rules without a trigger describe, users' own rules above all: RE2 looks for their patterns everywhere."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import re2

from djp_redaction.beginnings import beginnings, without_assertions
from djp_redaction.patterns import RuleRefused, compiled, ending
from djp_redaction.validators import VALIDATORS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from djp_redaction.model import Rule


_ANYWHERE = re2._re2.RE2.Anchor.UNANCHORED


def _checked(validator: Callable[[bytes], int], value: bytes) -> int:
    """What the validation says; a user's pattern may find what it was not made for, and that is not what it checks."""
    try:
        return validator(value)
    except (ValueError, IndexError):
        return 0


class TooManyMatches(Exception):  # noqa: N818  named as in djp.mesh.errors
    """More matches than wanted; the argument is the name of the rule that went too far."""


class Searcher:
    """The compiled rules, each with its number; safe to use from several threads."""

    def __init__(self, rules: Mapping[int, Rule]) -> None:
        """Raises RuleRefused if RE2 refuses a pattern."""
        self._rules = [
            (number, rule.name, pattern._regexp.Match, min(pattern.groups, 1), VALIDATORS.get(rule.validation))
            for number, rule in rules.items()
            for pattern in [compiled(rule)]
        ]
        self._beginnings = [beginnings(rule.pattern) for rule in rules.values()]
        options = re2.Options()
        options.log_errors = False
        try:
            # Most texts hold nothing of any rule, and one look for all of them says so.
            self._anything = re2.compile("|".join(without_assertions(rule.pattern) for rule in rules.values()), options)
            self.unfinished  # noqa: B018  refused now, not when the first stream comes
        except re2.error as error:
            name = next(iter(rules.values())).name
            raise RuleRefused(name, "rules too large together", "give fewer or smaller rules") from error

    def may_match(self, data: bytes) -> bool:
        """Whether any stretch of the text can hold a match."""
        return self._anything.search(data) is not None

    def matches(self, data: bytes, most: int) -> tuple[list[tuple[int, int, int]], int]:
        """Start, rule number and end of all matches in valid UTF-8, those of one rule disjoint; and how many count.

        Raises:
            TooManyMatches: there are more than `most`, with those in which the group that is the finding has no part.
        """
        found: list[tuple[int, int, int]] = []
        size, empty = len(data), 0
        for number, rule, look, group, validator in self._rules:
            at = 0
            while at < size:
                spans = look(_ANYWHERE, data, at, size)
                (start, end), at = spans[group], spans[0][1]
                if at < 0:
                    break
                if validator is not None and start < end:
                    end = start + _checked(validator, data[start:end])
                if start < end:
                    found.append((start, number, end))
                empty += start < 0
                if len(found) + empty > most:
                    raise TooManyMatches(rule)
        return found, len(found) + empty

    @cached_property
    def unfinished(self) -> re2._Regexp:
        """Finds in a text where what may still become a match begins; at the end of the text if nothing may."""
        return ending(self._beginnings)
