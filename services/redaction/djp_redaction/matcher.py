"""Finds what rules with a trigger describe: one pass for the triggers, then an exact look at each place."""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING

import hyperscan
import re2

from djp_redaction.beginnings import beginnings, most_length
from djp_redaction.patterns import RuleRefused, compiled, ending
from djp_redaction.validators import VALIDATORS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from djp_redaction.model import Rule

    _Spans = list[tuple[int, int]]
    _Look = Callable[[object, bytes, int, int], _Spans]

_HERE = re2._re2.RE2.Anchor.ANCHOR_START
_ANYWHERE = re2._re2.RE2.Anchor.UNANCHORED
_WINDOW = 512
_INTRODUCTION = 64  # bytes: what says what a finding is, `secret key:`, is shorter
_SHIFT = 16  # a place and a rule's number as one number, which sorts faster
_RULE = (1 << _SHIFT) - 1
_NOTHING = [(-1, -1), (-1, -1)]


class Matcher:
    """The compiled rules, each with its number; safe to use from several threads.

    Hyperscan reports every place where a trigger starts, in one pass. RE2 then says what stands there, and the rule's
    validation whether it is real. Neither engine backtracks.
    """

    def __init__(self, rules: Mapping[int, Rule]) -> None:
        """Raises RuleRefused if an engine refuses a pattern or a trigger."""
        self._rules = rules
        self._looks = {}
        for number, rule in rules.items():
            pattern = compiled(rule)
            # The wrapper's `match` makes a generator and an object, which cost more than the match itself.
            group, validator = min(pattern.groups, 1), VALIDATORS.get(rule.validation)
            # A look that goes no further than the longest match: RE2 then needs one pass less.
            longest = 4 * most_length(rule.pattern) + 1
            window = int(longest) if longest <= _WINDOW else 0
            self._looks[number] = (pattern._regexp.Match, group, validator, rule.reach, rule.solid, window)
        self._triggers = _trigger_database(rules)
        self._scratch = threading.local()

    def matches(self, data: bytes) -> list[tuple[int, int, int]]:
        """Start, rule number and end of all matches in valid UTF-8; those of one rule are disjoint."""
        if self._triggers is None or not data:
            return []
        try:
            scratch = self._scratch.own
        except AttributeError:  # Hyperscan's working memory, which no two threads may share
            scratch = self._scratch.own = hyperscan.Scratch(self._triggers)
        places: list[int] = []
        note = places.append
        self._triggers.scan(
            data,
            match_event_handler=lambda rule, start, _end, _flags, _context: note(start << _SHIFT | rule),
            scratch=scratch,
        )
        if not places:
            return []
        places.sort()
        found: list[tuple[int, int, int]] = []
        ends: dict[int, int] = {}  # of the last match of each rule
        clear: dict[int, int] = {}  # no match of the rule begins before
        ahead: dict[int, _Spans] = {}  # the match that begins there
        looks, size = self._looks, len(data)
        first = known = by = -1  # what reaches furthest of all that is found: start, end, rule
        last = -1  # the trigger before
        for mark in places:
            if mark == last:  # one trigger may end at several places
                continue
            last, place, rule = mark, mark >> _SHIFT, mark & _RULE
            look, group, validator, reach, solid, window = looks[rule]
            if reach:
                # What is found already hides its middle: the host of an address is found with the address.
                if (first <= place < known and by <= rule) or place < clear.get(rule, 0):
                    continue
                begin = max(ends.get(rule, 0), place - reach)
                spans = ahead.get(rule, _NOTHING)
                if spans[0][0] < begin or spans[0][1] <= place:
                    spans, clear[rule] = _around(look, data, begin, place, solid, window)
                    if spans[0][0] > place:
                        ahead[rule] = spans
                        continue
                start, stop = spans[group]
            elif place >= known or place >= (end := ends.get(rule, 0)):
                limit = place + window if window and place + window < size else size
                start, stop = look(_HERE, data, place, limit)[group]
            else:
                # A place in the rule's last match stands for what is left behind it, so that no stretch is read again
                # and again. What introduces a finding may stand in the last one, as may its first character.
                start, stop = look(_HERE, data, place, size)[group] if place >= end - _INTRODUCTION else (-1, -1)
                if start < end:
                    start, stop = look(_HERE, data, end, size)[group]
            if start < 0:
                continue
            if validator is not None:
                stop = start + validator(data[start:stop])
            if start < stop:
                ends[rule] = stop
                if stop > known:
                    first, known, by = start, stop, rule
                found.append((start, rule, stop))
        return found

    @cached_property
    def unfinished(self) -> re2._Regexp:
        """Finds in a text where what may still become a match begins; at the end of the text if nothing may."""
        return ending([beginnings(rule.pattern, edges_apart=True) for rule in self._rules.values()])


def _around(look: _Look, data: bytes, first: int, place: int, solid: bool, window: int) -> tuple[_Spans, int]:
    """The match around a place that begins at `first` or behind it, and up to where none begins that is not told here.

    Where nothing stands around the place: the next match behind it, if this look reaches far enough to tell its end.
    """
    size = limit = len(data)
    if window:
        limit = min(size, place + 2 * window)
    whole = limit == size
    if solid:
        first = max(first, data.rfind(b" ", first, place))
        blank = data.find(b" ", place, limit)
        if blank >= 0:
            limit, whole = blank + 1, True
    while True:
        spans = look(_ANYWHERE, data, first, limit)
        start, stop = spans[0]
        if start < 0:  # nothing that would be finished before the limit
            return _NOTHING, limit - 1 if whole else limit - window
        if start > place:
            return spans if whole or start + window <= limit else _NOTHING, start
        if stop > place:
            return spans, 0
        first = max(first + 1, stop - 1)  # the last character of a match may open the next one


def _trigger_database(rules: Mapping[int, Rule]) -> hyperscan.Database | None:
    triggers = {number: rule.trigger.encode() for number, rule in rules.items()}
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
                    rules[number].name,
                    rules[number].trigger,
                    f"Hyperscan refuses the trigger ({error}); make it shorter and simpler, or leave it out",
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
