"""What stands in the place of a finding, by strategy, and how it is known again."""

from __future__ import annotations

import hmac
import re
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from djp.mesh.errors import FailedPrecondition
from djp_redaction.beginnings import beginnings
from djp_redaction.model import Strategy
from djp_redaction.patterns import ending
from djp_redaction.text import visible

if TYPE_CHECKING:
    import re2

    from djp_redaction.model import RuleSet

MASK = "********"
PSEUDONYM_DIGITS = 8
"""Hexadecimal ones: among 1,000 values of one type the chance that two share a name is about 1 in 8,600."""

_SHOWN = re.compile(r"[0-9A-Za-z]{1,2}")
_MASKS = r"\*{8,}"
_PARTIALS = r"[0-9A-Za-z]{0,2}\*\*\*(?:@[0-9A-Za-z]{0,2}\*\*\*|[0-9A-Za-z]{0,2})"


class Replacements:
    """The replacements by one choice of strategies.

    `known` finds every replacement that stands in a text, whoever put it there: a second redaction leaves it alone.
    """

    def __init__(
        self, rule_set: RuleSet, strategy: Strategy, by_type: frozenset[tuple[str, Strategy]], key: bytes | None
    ) -> None:
        """`key` is the tenant's secret for pseudonyms. Raises FailedPrecondition if it is needed and missing."""
        self._rule_set = rule_set
        self._default = strategy
        self._by_type = dict(by_type)
        self._keyed = None if key is None else hmac.new(key, digestmod="sha256")
        types = {rule.type for rule in rule_set.rules}
        used = {self._strategy(type_) for type_ in types}
        self._pseudonyms = {type_ for type_ in types if self._strategy(type_) == Strategy.PSEUDONYM}
        if Strategy.PSEUDONYM in used and key is None:
            raise FailedPrecondition(
                "options.strategy: pseudonyms need a secret; set DJP_REDACTION_PSEUDONYM_KEY for the service, or "
                "choose another strategy",
                field="options.strategy",
            )
        alternatives = [re.escape(rule_set.label_of(type_)) for type_ in sorted(types)]
        if Strategy.PSEUDONYM in used:
            alternatives.append(rf"\[(?:{'|'.join(sorted(types))})_[0-9a-f]{{{PSEUDONYM_DIGITS}}}\]")
        if Strategy.MASK in used:
            alternatives.append(_MASKS)
        if Strategy.PARTIAL in used:
            alternatives.append(_PARTIALS)
        self.fixed = [self._fixed_of(rule.type) for rule in rule_set.rules]
        """Of each rule, where it is the same for every value; or an empty text."""
        self.joining = bool(used & {Strategy.MASK, Strategy.PARTIAL})
        """Whether a replacement may become one with what stands beside it; what is in brackets does not."""
        self.known = re.compile("|".join(alternatives))
        self.marks = _marks(rule_set.label, used)
        """Without one of these a text has no replacement in it."""

    @cached_property
    def unfinished(self) -> re2._Regexp:
        """Finds in a text where what may still become a replacement begins; at the end of the text if nothing may."""
        return _ending(self.known.pattern)

    def _strategy(self, type_: str) -> Strategy:
        return self._by_type.get(type_, self._default)

    def _fixed_of(self, type_: str) -> str:
        strategy = self._strategy(type_)
        return (
            MASK if strategy == Strategy.MASK else self._rule_set.label_of(type_) if strategy == Strategy.LABEL else ""
        )

    def of(self, type_: str, value: str) -> str:
        """The replacement of a value of a type whose replacement is not fixed."""
        if self._keyed is None or type_ not in self._pseudonyms:
            return _partial(value)
        keyed = self._keyed.copy()
        keyed.update(f"{type_}\0{value if value.isascii() else visible(value)}".encode())
        return f"[{type_}_{keyed.hexdigest()[:PSEUDONYM_DIGITS]}]"


def _marks(label: str, used: set[Strategy]) -> tuple[str, ...]:
    marks = {label.partition("{type}")[0]}
    if Strategy.PSEUDONYM in used:
        marks.add("[")
    if used & {Strategy.MASK, Strategy.PARTIAL}:
        marks.add("***")
    return tuple(marks)


@lru_cache(maxsize=64)
def _ending(pattern: str) -> re2._Regexp:
    return ending([beginnings(pattern)])


def pseudonym_key(secret: str, tenant: str) -> bytes:
    """A tenant's own key, so that the names of two tenants tell nothing about each other."""
    return hmac.digest(secret.encode(), f"djp pseudonyms of {tenant}".encode(), "sha256")


def _partial(value: str) -> str:
    """Two characters of an address's name and of its domain, or of both ends; of short ones fewer."""
    name, at, domain = value.rpartition("@")
    if at:
        return f"{_shown(name, len(name) // 2)}***@{_shown(domain, len(domain) // 2)}***"
    return f"{_shown(value, len(value) // 4)}***{_shown(value[::-1], len(value) // 4)[::-1]}"


def _shown(value: str, most: int) -> str:
    """Letters and digits only, and none that a mark may belong to."""
    shown = value[: 2 if most > 2 else most]
    if value[:3].isascii() and shown.isalnum():
        return shown
    match = _SHOWN.match(shown)
    return match[0] if match and value[: len(match[0]) + 1].isascii() else ""
