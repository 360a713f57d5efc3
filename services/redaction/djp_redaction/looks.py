"""Redacts pieces of one text by the engine, and says what at their end may still become a finding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djp.mesh.errors import ResourceExhausted
from djp_redaction import _engine
from djp_redaction._engine import place_of_seen, visible
from djp_redaction.model import Redacted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djp_redaction.matcher import Matcher
    from djp_redaction.model import Rule
    from djp_redaction.plain_rules import PlainRules
    from djp_redaction.replacements import Replacements

_TOO_MUCH = (
    f"text: a part of it would have to be read more than {_engine.MOST_READS} times for these rules; nothing is "
    "returned; give fewer or shorter custom rules, and let them accept what stands directly beside another finding"
)


class Meter:
    """What may still be done for a block of text."""

    left: tuple[int, int] | None = None
    """Matches of rules without a trigger, and reads; None when nothing was done yet."""


class Looks:
    """Redacts pieces of one text.

    Replacements and kept titles are walls: they come through as they are, and what stands on either side is searched
    as if the text ended there. What a finding stood beside is looked at again without it: a number that a word touched
    is free once the word is gone. So nothing is left for a second redaction to find.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        matcher: Matcher,
        plain: PlainRules | None,
        replacements: Replacements,
        titles: Sequence[str],
        least: int,
    ) -> None:
        """`least`: how many characters the shortest finding has."""
        self._rules = rules
        self._matcher = matcher
        self._plain = plain
        self._replacements = replacements
        self._least = least
        self._titles = _engine.Titles(titles)

    def redact(self, text: str, before: str = "", offset: int = 0, meter: Meter | None = None) -> Redacted:
        """The piece redacted; `before` stands in front of it, and `offset` is where it stands in the whole text.

        `meter` is that of its block, which it may be a part of.

        Raises:
            ResourceExhausted: rules without a trigger find too much, or a part of the text was read too often.
        """
        matcher, plain, replacements = self._matcher.engine, self._plain, self._replacements.engine
        rules, left = plain.engine if plain else None, meter.left if meter else None
        try:
            redacted = _engine.redact(
                matcher, rules, replacements, self._titles, self._least, text, before, offset, left
            )
        except _engine.Exceeded as error:
            if error.args[0] is None:
                raise ResourceExhausted(_TOO_MUCH, field="text", reason="REDACTION_FAILED") from None
            rule = self._rules[error.args[0]].name
            raise ResourceExhausted(
                f"text: rules up to {rule!r} find more than {_engine.MOST_MATCHES} places in a part of it; let the "
                "patterns ask for more",
                field="text",
            ) from None
        result, numbers, starts, ends, own, left = redacted
        if meter:
            meter.left = left
        replaced = list(map(self._replacements.fixed.__getitem__, numbers))
        if own:
            replaced = [one or other for one, other in zip(own, replaced, strict=True)]
        return Redacted(result, list(map(self._rules.__getitem__, numbers)), starts, ends, replaced)

    @property
    def surroundings(self) -> int:
        """How many characters in front of a calm place a rule may ask about: those with a trigger mind none."""
        return 1 if self._plain else 0

    def walls(self, text: str) -> list[tuple[int, int]]:
        """Where replacements and kept titles stand, as disjoint spans in order."""
        return self._replacements.engine.walls(text, self._titles)

    def unfinished(self, text: str, searched: str, end: int, *, unseen: bool) -> int:
        """Where before `end` something begins that may be found, or be a wall, once more text comes; or `end`.

        `searched` is the text prepared, `unseen` whether there may be something in it that nobody sees.
        """
        least = self._begun(searched[:end])
        if unseen:
            seen_text = visible(searched[:end])
            begun = self._begun(seen_text)
            if begun < len(seen_text):
                least = min(least, place_of_seen(searched, begun))
        return min(least, self._titles.unfinished(text[:end]))

    def _begun(self, text: str) -> int:
        """Where in this text the first thing begins that its end does not finish; or its length."""
        data = text.encode()
        endings = [one.unfinished for one in (self._matcher, self._plain, self._replacements) if one]
        begun = min(ending.search(data).start() for ending in endings)
        return begun if len(data) == len(text) else len(data[:begun].decode())
