"""Redacts a text: finds, replaces, and leaves citations and its own labels alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from djp.mesh.errors import Internal
from djp_redaction.matcher import Matcher
from djp_redaction.model import Finding, RuleSet
from djp_redaction.text import fold, gaps, places_of, seen, to_code_points

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# The built-in rules never need a fourth look. Rules that free one finding after the other would take quadratic time.
MAX_LOOKS = 8
_ENDLESS = (
    f"text: after {MAX_LOOKS} looks there is still more to find, because findings of these rules touch each other; "
    "nothing is returned; let the rules of DJP_REDACTION_RULES accept what stands directly beside another finding"
)


@dataclass(frozen=True)
class Redacted:
    """A text without its findings, and the findings in the order of the original text."""

    text: str
    findings: tuple[Finding, ...]

    @property
    def counts(self) -> Mapping[str, int]:
        """How many findings there are of each type."""
        return Counter(finding.rule.type for finding in self.findings)


class Redactor:
    """Redacts by one set of rules; safe to use from several threads."""

    def __init__(self, rule_set: RuleSet) -> None:
        """Raises RuleRefused if an engine refuses a rule."""
        self.rule_set = rule_set
        self._matcher = Matcher(rule_set.rules)
        self._labels = {rule_set.label_of(rule.type) for rule in rule_set.rules}

    def redact(self, text: str, keep_titles: Iterable[str] = ()) -> Redacted:
        """The text with a label in the place of every finding.

        A `[Title]` of `keep_titles` and a label from before come through as they are.

        Raises:
            Internal: the rules free one finding after the other without an end in sight.
        """
        findings = tuple(self._findings(text, keep_titles))
        parts: list[str] = []
        end = 0
        for finding in findings:
            parts += text[end : finding.start], self.rule_set.label_of(finding.rule.type)
            end = finding.end
        return Redacted("".join([*parts, text[end:]]), findings)

    def _findings(self, text: str, keep_titles: Iterable[str]) -> list[Finding]:
        kept = places_of(text, self._labels | {f"[{title}]" for title in keep_titles})
        searched = fold(text)
        findings: list[Finding] = []
        # What a finding stood beside is looked at again without it, until nothing is found: a number that a word
        # touched is free once the word is gone. So nothing is left for a second redaction to find.
        stretches = [(*gap, 1) for gap in gaps(0, len(text), kept)]
        while stretches:
            start, end, look = stretches.pop()
            # An unseen character may hide what it stands in, or part words where no spaces are written.
            visible, places = seen(searched, start, end)
            found = self._search(visible, places)
            if not found and len(visible) < end - start:
                found = self._search(searched[start:end], range(start, end))
            if not found:
                continue
            if look == MAX_LOOKS:
                raise Internal(_ENDLESS, reason="REDACTION_FAILED")
            findings += found
            taken = [(finding.start, finding.end) for finding in found]
            stretches += [(*gap, look + 1) for gap in gaps(start, end, taken)]
        return sorted(findings, key=lambda finding: finding.start)

    def _search(self, stretch: str, places: Sequence[int]) -> list[Finding]:
        """The findings in a stretch whose characters stand at these places of the text."""
        data = stretch.encode()
        matches = self._matcher.matches(data)
        if not matches:
            return []
        edges: Iterable[int] = (edge for match in matches for edge in match[:2])
        if len(data) != len(stretch):
            edges = to_code_points(data, edges)
        points = list(edges)
        rules = self.rule_set.rules
        return [
            Finding(rules[match.rule], places[start], places[end - 1] + 1)
            for match, start, end in zip(matches, points[::2], points[1::2], strict=True)
        ]
