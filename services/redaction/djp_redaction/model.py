"""The words of redaction: a rule, the rules in force, a finding."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256


@dataclass(frozen=True)
class Rule:
    """One kind of thing to find.

    `pattern` is in RE2 syntax; what its first group holds is the finding, or the whole match if it has no group.
    `trigger` is the beginning of the pattern, short enough to look for everywhere; without one the pattern itself is
    looked for. `validation` names a check in `validators.py`. Every one of `examples` holds a
    finding of the rule, and none of `counter_examples` does.
    """

    name: str
    type: str
    pattern: str
    description: str = ""
    trigger: str = ""
    validation: str = ""
    examples: tuple[str, ...] = ()
    counter_examples: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True)
class RuleSet:
    """The rules in force, the first the strongest, and the label that replaces what they find."""

    rules: tuple[Rule, ...]
    label: str

    def label_of(self, type_: str) -> str:
        """What stands in the place of a finding of that type."""
        return self.label.replace("{type}", type_)

    @cached_property
    def version(self) -> str:
        """The same for the same rules, and for no others."""
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Finding:
    """A place to replace: offsets in the original text, in Unicode code points, the end not included."""

    rule: Rule
    start: int
    end: int
