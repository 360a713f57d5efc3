"""What stands in the place of a finding, by strategy, and how it is known again."""

from __future__ import annotations

import hmac
import re
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from djp.mesh.errors import FailedPrecondition
from djp_redaction import _engine
from djp_redaction.beginnings import beginnings
from djp_redaction.model import Strategy
from djp_redaction.patterns import ending

if TYPE_CHECKING:
    import re2

    from djp_redaction.model import RuleSet

MASK = "********"
_MASKS = r"\*{8,}"
_PARTIALS = r"[0-9A-Za-z]{0,2}\*\*\*(?:@[0-9A-Za-z]{0,2}\*\*\*|[0-9A-Za-z]{0,2})"


class Replacements:
    """The replacements by one choice of strategies: made by the engine, and known again, whoever put them into a text.

    A second redaction leaves them alone.
    """

    def __init__(
        self, rule_set: RuleSet, strategy: Strategy, by_type: frozenset[tuple[str, Strategy]], key: bytes | None
    ) -> None:
        """`key` is the tenant's secret for pseudonyms. Raises FailedPrecondition if it is needed and missing."""
        self._rule_set = rule_set
        self._default = strategy
        self._by_type = dict(by_type)
        types = {rule.type for rule in rule_set.rules}
        used = {self._strategy(type_) for type_ in types}
        if Strategy.PSEUDONYM in used and key is None:
            raise FailedPrecondition(
                "options.strategy: pseudonyms need a secret; set DJP_REDACTION_PSEUDONYM_KEY for the service, or "
                "choose another strategy",
                field="options.strategy",
            )
        alternatives = [re.escape(rule_set.label_of(type_)) for type_ in sorted(types)]
        if Strategy.PSEUDONYM in used:
            alternatives.append(rf"\[(?:{'|'.join(sorted(types))})_[0-9a-f]{{{_engine.PSEUDONYM_DIGITS}}}\]")
        if Strategy.MASK in used:
            alternatives.append(_MASKS)
        if Strategy.PARTIAL in used:
            alternatives.append(_PARTIALS)
        of_rules = [self._of_type(rule.type) for rule in rule_set.rules]
        self.fixed = [what if how == "fixed" else "" for how, what in of_rules]
        """Of each rule, where it is the same for every value; or an empty text."""
        self._known = "|".join(alternatives)
        joining = bool(used & {Strategy.MASK, Strategy.PARTIAL})
        self.engine = _engine.Replacements(of_rules, key, self._known, _marks(rule_set.label, used), joining)

    @cached_property
    def unfinished(self) -> re2._Regexp:
        """Finds in a text where what may still become a replacement begins; at the end of the text if nothing may."""
        return _ending(self._known)

    def _strategy(self, type_: str) -> Strategy:
        return self._by_type.get(type_, self._default)

    def _of_type(self, type_: str) -> tuple[str, str]:
        match self._strategy(type_):
            case Strategy.LABEL:
                return "fixed", self._rule_set.label_of(type_)
            case Strategy.MASK:
                return "fixed", MASK
            case Strategy.PARTIAL:
                return "partial", ""
            case Strategy.PSEUDONYM:
                return "pseudonym", type_


def _marks(label: str, used: set[Strategy]) -> list[str]:
    """Without one of these a text has no replacement in it."""
    marks = {label.partition("{type}")[0]}
    if Strategy.PSEUDONYM in used:
        marks.add("[")
    if used & {Strategy.MASK, Strategy.PARTIAL}:
        marks.add("***")
    return sorted(marks)


@lru_cache(maxsize=64)
def _ending(pattern: str) -> re2._Regexp:
    return ending([beginnings(pattern)])


def pseudonym_key(secret: str, tenant: str) -> bytes:
    """A tenant's own key, so that the names of two tenants tell nothing about each other."""
    return hmac.digest(secret.encode(), f"djp pseudonyms of {tenant}".encode(), "sha256")
