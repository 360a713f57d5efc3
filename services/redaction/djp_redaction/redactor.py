"""Redacts by one set of rules: whole texts and streams."""

from __future__ import annotations

from functools import cached_property, lru_cache, partial
from itertools import chain
from typing import TYPE_CHECKING

from djp_redaction import stream
from djp_redaction.beginnings import least_length
from djp_redaction.looks import Looks
from djp_redaction.matcher import Matcher
from djp_redaction.model import Options, Redacted
from djp_redaction.plain_rules import PlainRules
from djp_redaction.replacements import Replacements

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djp_redaction.model import RuleSet, Strategy

_DEFAULT = Options()
_NONE: frozenset[tuple[str, Strategy]] = frozenset()


class Redactor:
    """The compiled rules; safe to use from several threads."""

    def __init__(self, rule_set: RuleSet, matcher: Matcher | None = None) -> None:
        """`matcher`: one that was made of the same rules with triggers. Raises RuleRefused if an engine refuses one."""
        self.rule_set = rule_set
        numbered = dict(enumerate(rule_set.rules))
        self.matcher = matcher or Matcher({number: rule for number, rule in numbered.items() if rule.trigger})
        plain = {number: rule for number, rule in numbered.items() if not rule.trigger}
        self._plain = PlainRules(plain) if plain else None
        self._least = min(least_length(rule.pattern) for rule in rule_set.rules)
        self._replacements = lru_cache(maxsize=64)(partial(Replacements, rule_set))
        self._shared = lru_cache(maxsize=64)(self._looks_by)

    def redact(self, text: str, options: Options | None = None, key: bytes | None = None) -> Redacted:
        """The text with a replacement in the place of every finding.

        A `[Title]` of `options.titles` and a replacement from before come through as they are. `key` is the tenant's
        secret for pseudonyms.

        Raises:
            ResourceExhausted: custom rules find too much, or a part of the text was read too often.
            FailedPrecondition: pseudonyms are asked for without a key.
        """
        if len(text) <= stream.BLOCK:
            looks = self._by_default if options is None and key is None else self._looks(options or _DEFAULT, key)
            return looks.redact(text)
        pieces = list(self.stream(options, key).feed(text, last=True))
        columns = [[*chain(*column)] for column in zip(*(piece[1:] for piece in pieces), strict=True)]
        return Redacted("".join(piece.text for piece in pieces), *columns)

    def stream(self, options: Options | None = None, key: bytes | None = None) -> stream.RedactionStream:
        """Redacts a text that comes piece by piece. Raises FailedPrecondition as `redact` does."""
        return stream.RedactionStream(self._looks(options or _DEFAULT, key))

    @cached_property
    def _by_default(self) -> Looks:
        return self._looks(_DEFAULT, None)

    def _looks(self, options: Options, key: bytes | None) -> Looks:
        by_type = frozenset(options.strategy_by_type.items()) if options.strategy_by_type else _NONE
        if options.titles:
            return self._looks_by(options.strategy, by_type, key, options.titles)
        return self._shared(options.strategy, by_type, key)

    def _looks_by(
        self,
        strategy: Strategy | None,
        by_type: frozenset[tuple[str, Strategy]],
        key: bytes | None,
        titles: Sequence[str] = (),
    ) -> Looks:
        replacements = self._replacements(strategy or self.rule_set.strategy, by_type, key)
        return Looks(self.rule_set.rules, self.matcher, self._plain, replacements, titles, self._least)
