"""The compiled part of redaction, built from services/redaction/engine: what is done with every text."""

from collections.abc import Sequence

MOST_AUTOMATON: int
MOST_MATCHES: int
MOST_READS: int
PSEUDONYM_DIGITS: int
TOO_LARGE: str
VALIDATIONS: list[str]

class Refused(ValueError):  # noqa: N818
    """A rule that cannot be compiled: its number, what is at fault, and why."""

class Exceeded(ValueError):  # noqa: N818
    """Too many matches of rules without a trigger: the number of the rule. Or too many reads: None."""

class Matcher:
    """The compiled rules with a trigger: number, pattern, trigger, validation, reach, solid, window."""

    def __init__(self, rules: Sequence[tuple[int, str, str, str, int, bool, int]]) -> None: ...

class PlainRules:
    """The compiled rules without a trigger: number, pattern, validation."""

    bytes: int
    tried: int

    def __init__(self, rules: Sequence[tuple[int, str, str]]) -> None: ...

class Titles:
    """Titles that come through as they are, each in its brackets."""

    def __init__(self, titles: Sequence[str]) -> None: ...
    def unfinished(self, text: str, /) -> int: ...

class Replacements:
    """The replacements by one choice of strategies: of every rule ("fixed", text), ("partial", "") or a pseudonym."""

    def __init__(
        self,
        of_rules: Sequence[tuple[str, str]],
        key: bytes | None,
        known: str,
        marks: Sequence[str],
        joining: bool,
    ) -> None: ...
    def walls(self, text: str, titles: Titles) -> list[tuple[int, int]]: ...

def redact(
    matcher: Matcher,
    plain: PlainRules | None,
    replacements: Replacements,
    titles: Titles,
    least: int,
    text: str,
    before: str,
    offset: int,
    left: tuple[int, int] | None,
) -> tuple[str, list[int], list[int], list[int], list[str | None] | None, tuple[int, int]]: ...
def reads() -> int: ...
def validate(name: str, value: bytes, /) -> int: ...
def prepared(text: str, /) -> tuple[str, bool]: ...
def visible(text: str, /) -> str: ...
def place_of_seen(text: str, at: int, /) -> int: ...
def continues(character: str, /) -> bool: ...
