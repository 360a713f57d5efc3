"""The words of redaction: a rule, the rules in force, a strategy, a finding."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Strategy(StrEnum):
    """What stands in the place of a finding."""

    LABEL = "label"  # [REDACTED:EMAIL]
    MASK = "mask"  # ********
    PARTIAL = "partial"  # ad***@co***
    PSEUDONYM = "pseudonym"  # [EMAIL_7f3a9c01]


@dataclass(frozen=True)
class Rule:
    """One kind of thing to find.

    `pattern` is in RE2 syntax; what its first group holds is the finding, or the whole match if it has no group.
    `trigger` is the beginning of the pattern, short enough to look for everywhere; without one the pattern itself is
    looked for. With a `reach` the trigger is a part from the middle, and a match begins at most so many bytes before
    it; a rule that is `solid` has no blank inside of its matches. `validation` names a check in `validators.py`. Every
    one of `examples` holds a finding of the rule, and none of `counter_examples` does.
    """

    name: str
    type: str
    pattern: str
    description: str = ""
    trigger: str = ""
    reach: int = 0
    solid: bool = False
    validation: str = ""
    examples: tuple[str, ...] = ()
    counter_examples: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True)
class RuleSet:
    """The rules in force, the first the strongest, and what replaces what they find unless a request says otherwise."""

    rules: tuple[Rule, ...]
    label: str = "[REDACTED:{type}]"
    strategy: Strategy = Strategy.LABEL

    def label_of(self, type_: str) -> str:
        """What the strategy `label` puts in the place of a finding of that type."""
        return self.label.replace("{type}", type_)

    @cached_property
    def version(self) -> str:
        """The same for the same rules, and for no others."""
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Options:
    """How one text is redacted; `strategy` None means that of the rules, each `[Title]` of `titles` is left alone."""

    strategy: Strategy | None = None
    strategy_by_type: Mapping[str, Strategy] = field(default_factory=dict)
    titles: tuple[str, ...] = ()


class Finding(NamedTuple):
    """A place that is replaced: offsets in the original text, in Unicode code points, the end not included."""

    rule: Rule
    start: int
    end: int
    replacement: str


class Redacted(NamedTuple):
    """A text with its findings replaced, and these in the order of the original text, column by column.

    One object for each of a hundred thousand findings would cost more than to find them.
    """

    text: str
    rules: Sequence[Rule] = ()
    starts: Sequence[int] = ()
    ends: Sequence[int] = ()
    replacements: Sequence[str] = ()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Row by row, made anew each time."""
        return tuple(map(Finding, self.rules, self.starts, self.ends, self.replacements))

    @property
    def counts(self) -> Mapping[str, int]:
        """How many findings there are of each type."""
        return Counter(rule.type for rule in self.rules)
