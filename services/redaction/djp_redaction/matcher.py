"""Finds what the rules describe in a stretch of text: one pass for the triggers, then an exact look at each place."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

import hyperscan
import re2

from djp_redaction.validators import VALIDATORS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from djp_redaction.model import Rule


class RuleRefused(ValueError):  # noqa: N818  named as in djp.mesh.errors
    """An engine refuses a rule; the message names the rule and says what to do."""


class Match(NamedTuple):
    """A place in the bytes that a rule describes; `rule` is its number."""

    start: int
    end: int
    rule: int


class Matcher:
    """The compiled rules; safe to use from several threads.

    Hyperscan reports every place where a trigger starts, in one pass. RE2 then says what stands there, and the rule's
    validation whether it is real. Neither engine backtracks.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        """Raises RuleRefused if an engine refuses a pattern or a trigger."""
        self._patterns = [_compiled(rule) for rule in rules]
        self._groups = [min(pattern.groups, 1) for pattern in self._patterns]
        self._validators = [VALIDATORS.get(rule.validation) for rule in rules]
        self._untriggered = [number for number, rule in enumerate(rules) if not rule.trigger]
        self._triggers = _trigger_database(rules)
        self._scratch = threading.local()

    def matches(self, data: bytes) -> list[Match]:
        """Disjoint matches in order, in valid UTF-8. What overlaps becomes one match, ruled by the first of them."""
        found = [*self._triggered(data), *self._searched(data)]
        if not found:
            return []
        found.sort(key=lambda match: (match.start, -match.end, match.rule))
        disjoint: list[Match] = []
        for match in found:
            if disjoint and match.start < disjoint[-1].end:
                if match.end > disjoint[-1].end:
                    disjoint[-1] = disjoint[-1]._replace(end=match.end)
            else:
                disjoint.append(match)
        return disjoint

    def _triggered(self, data: bytes) -> Iterator[Match]:
        if self._triggers is None or not data:
            return
        places: set[tuple[int, int]] = set()  # one trigger may end at several places
        self._triggers.scan(
            data,
            match_event_handler=lambda rule, start, _end, _flags, _context: places.add((rule, start)),
            scratch=self._own_scratch(),
        )
        current, end = -1, 0
        for rule, place in sorted(places):
            if rule != current:
                current, end = rule, 0
            # A place in the rule's last match stands for what is left behind it, so that no stretch is read twice. The
            # last character of a match may open the next one.
            at = end if place + 1 < end else place
            match = self.checked(rule, self._patterns[rule].match(data, at))
            if match:
                end = match.end
                yield match

    def _searched(self, data: bytes) -> Iterator[Match]:
        for rule in self._untriggered:
            for found in self._patterns[rule].finditer(data):
                match = self.checked(rule, found)
                if match:
                    yield match

    def checked(self, rule: int, found: re2._Match | None) -> Match | None:
        """What of a place that the rule's pattern matches is a finding, if anything is."""
        if found is None:
            return None
        start, end = found.span(self._groups[rule])
        validator = self._validators[rule]
        if validator and start < end:
            end = start + validator(found.string[start:end])
        return Match(start, end, rule) if start < end else None

    def _own_scratch(self) -> hyperscan.Scratch:
        """Hyperscan's working memory, which no two threads may share."""
        scratch: hyperscan.Scratch | None = getattr(self._scratch, "own", None)
        if scratch is None:
            scratch = self._scratch.own = hyperscan.Scratch(self._triggers)
        return scratch


def _compiled(rule: Rule) -> re2._Regexp:
    options = re2.Options()
    options.log_errors = False
    try:
        pattern = re2.compile(rule.pattern.encode(), options)
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else error.args[0]
        raise RuleRefused(f"rule {rule.name!r}: RE2 refuses its pattern ({reason}); rewrite it without that") from error
    if pattern.fullmatch(b""):
        raise RuleRefused(f"rule {rule.name!r}: its pattern matches the empty text; make it ask for something")
    return pattern


def _trigger_database(rules: Sequence[Rule]) -> hyperscan.Database | None:
    triggers = {number: rule.trigger.encode() for number, rule in enumerate(rules) if rule.trigger}
    if not triggers:
        return None
    try:
        return _database(triggers)
    except hyperscan.error:
        for number, trigger in triggers.items():  # the error does not say which one it was
            try:
                _database({number: trigger})
            except hyperscan.error as error:
                raise RuleRefused(
                    f"rule {rules[number].name!r}: Hyperscan refuses its trigger ({error}); "
                    "make it shorter and simpler, or leave it out"
                ) from error
        raise


def _database(triggers: Mapping[int, bytes]) -> hyperscan.Database:
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    database.compile(
        expressions=list(triggers.values()),
        ids=list(triggers),
        elements=len(triggers),
        flags=hyperscan.HS_FLAG_SOM_LEFTMOST | hyperscan.HS_FLAG_UTF8,
    )
    return database
