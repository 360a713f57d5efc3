"""Placeholders such as `[EMAIL_1]`: what models read in the place of a run's personal data and secrets."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from djp.mesh.errors import ResourceExhausted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

MAX_CHARS = 2 << 20
"""Of a text in which values stand again: it has to fit a message, and a model may name a long value very often."""

_NAME = re.compile(r"(?<!\w)\w+_[0-9]+(?!\w)", re.ASCII)
_BEGINNING = 4
_LONGEST = 256
_LENGTHS = 16
"""Values are looked for word for word, in a time that is bounded: those of 4 to 256 characters, and of those that begin
with the same four the sixteen longest lengths. Longer secrets, such as keys, are found everywhere by their form."""
_START = re.compile(r"(?<!\w)\w|[^\w\s]")  # where a word begins, or a mark stands

_WORD = re.compile(r"\w")

# Of these types the same value is written in several ways: with other separators, or in other cases.
_NUMBERS = frozenset({"CREDIT_CARD", "IBAN", "PHONE", "SSN"})
_CASELESS = frozenset({"EMAIL"})


class Found(NamedTuple):
    """A place in a text where redaction found something: offsets in code points, the end not included."""

    type: str
    start: int
    end: int


class Swapped:
    """A text with other words in the place of some, and where everything else went."""

    def __init__(self, text: str, swaps: Iterable[tuple[int, int, str]]) -> None:
        """`swaps`: start, end and new word of each stretch that is replaced, in order."""
        parts, at, new_at = list[str](), 0, 0
        self._old: list[tuple[int, int]] = []
        self._new: list[tuple[int, int]] = []
        for start, end, word in swaps:
            parts += [text[at:start], word]
            new_start = new_at + start - at
            at, new_at = end, new_start + len(word)
            self._old.append((start, end))
            self._new.append((new_start, new_at))
        self.text = "".join([*parts, text[at:]])

    def place(self, start: int, end: int) -> tuple[int, int] | None:
        """Where in the new text a stretch of the old one stands; None if it begins or ends within what was replaced."""
        return _moved(start, end, self._old, self._new)

    def origin(self, start: int, end: int) -> tuple[int, int] | None:
        """Where in the old text a stretch of the new one stood; None if it begins or ends within what was put in."""
        return _moved(start, end, self._new, self._old)


class Placeholders:
    """A run's hidden values and their names, each value with one name: `EMAIL_1`, in brackets where it stands in prose.

    The names are numbered as their values first appear. What a text calls so already is no placeholder of ours.
    """

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        """`values`: name to value, as an earlier object had them; they keep their names."""
        self.values = dict(values or {})
        """By name, each value as it was first written."""
        self._names = {_key(type_of(name), value): name for name, value in self.values.items()}
        self._forms = {value: name for name, value in self.values.items()}
        """Name by value, in every way the value is written."""
        self._lengths: dict[str, list[int]] = {}
        """How long values are that begin so, the longest first."""
        self._taken: set[str] = set()
        self._numbers = Counter[str]()

    def hide(self, texts: Mapping[str, Sequence[Found]]) -> None:
        """Give a name to every value found in these texts, which come with all their findings, in order."""
        self._taken.update(name for text in texts for name in _NAME.findall(text))
        for text, findings in texts.items():
            for found in findings:
                self._name(found.type, text[found.start : found.end])
        lengths: dict[str, set[int]] = {}
        for form in self._forms:
            if _BEGINNING <= len(form) <= _LONGEST:
                lengths.setdefault(form[:_BEGINNING], set()).add(len(form))
        self._lengths = {beginning: sorted(found)[: -_LENGTHS - 1 : -1] for beginning, found in lengths.items()}

    def named(self, text: str, findings: Sequence[Found]) -> dict[str, str]:
        """The names of what was found in a text, each with its value as it is written there."""
        return {self._name(found.type, value): value for found in findings for value in [text[found.start : found.end]]}

    def covered(self, text: str, findings: Sequence[Found], *, bare: bool = False) -> str:
        """The text with placeholders in the place of what was found in it, and of every hidden value, word for word.

        `bare` leaves the brackets away, for a title, which stands in brackets itself where it is cited.
        """
        taken = [(found.start, found.end, self._name(found.type, text[found.start : found.end])) for found in findings]
        swaps = []
        for start, end, name in sorted([*taken, *self._elsewhere(text, findings)]):
            left = " " if _WORD.match(text, start - 1 if start else len(text)) else ""
            right = " " if _WORD.match(text, end) else ""
            swaps.append((start, end, f"{left}{name}{right}" if bare else f"[{name}]"))
        return Swapped(text, swaps).text

    def _elsewhere(self, text: str, findings: Sequence[Found]) -> Iterator[tuple[int, int, str]]:
        """Where hidden values stand beside what was found in the text, each with its name."""
        at, following = 0, iter([*findings, Found("", len(text), len(text))])
        found = next(following)
        for match in _START.finditer(text):
            start = match.start()
            while found.end <= start < len(text):
                found = next(following)
            if start < at or found.start <= start:
                continue
            for length in self._lengths.get(text[start : start + _BEGINNING], ()):
                end = start + length
                if end <= found.start and (name := self._forms.get(text[start:end])) and not _within_word(text, end):
                    yield start, end, name
                    at = end
                    break

    def names_in(self, text: str) -> Iterator[str]:
        """The names that stand in a text, as often as they do."""
        return (name for name in _NAME.findall(text) if name in self.values)

    def restored(self, text: str, cited: Collection[str] = (), written: Mapping[str, str] | None = None) -> Swapped:
        """The text with the values in the place of their placeholders.

        Brackets go with the placeholder, unless they are a citation's (`cited` has what stands in those) or a link's.
        `written`: values in another way to write them, by name.

        Raises:
            ResourceExhausted: it would be longer than `MAX_CHARS`.
        """
        swaps, at, length = list[tuple[int, int, str]](), 0, len(text)
        for match in _NAME.finditer(text):
            if (name := match[0]) not in self.values:
                continue
            start, end = match.span()
            around, after = text[max(start - 1, at) : start] + text[end : end + 1], text[end + 1 : end + 2]
            if around == "[]" and name not in cited and after != "(":
                start, end = start - 1, end + 1
            value = (written or {}).get(name) or self.values[name]
            length += len(value) - (end - start)
            if length > MAX_CHARS:
                raise ResourceExhausted(f"with its values put back the text has more than {MAX_CHARS} characters")
            swaps.append((start, end, value))
            at = end
        return Swapped(text, swaps)

    def _name(self, type_: str, value: str) -> str:
        key = _key(type_, value)
        if key not in self._names:
            self._names[key] = self._new_name(type_)
            self.values[self._names[key]] = value
        self._forms.setdefault(value, self._names[key])
        return self._names[key]

    def _new_name(self, type_: str) -> str:
        while True:
            self._numbers[type_] += 1
            name = f"{type_}_{self._numbers[type_]}"
            if name not in self._taken and name not in self.values:
                return name


def type_of(name: str) -> str:
    """The type of what a name stands for."""
    return name.rpartition("_")[0]


def _key(type_: str, value: str) -> tuple[str, str]:
    """The type, and what all ways to write a value have in common."""
    plain = unicodedata.normalize("NFKC", value)
    plain = "".join(char for char in plain if unicodedata.category(char) != "Cf")  # what nobody sees
    if type_ in _NUMBERS:
        return type_, "".join(filter(str.isalnum, plain)).casefold()
    return type_, plain.casefold() if type_ in _CASELESS else plain


def _within_word(text: str, at: int) -> bool:
    return bool(_WORD.match(text, at - 1) and _WORD.match(text, at))


def _moved(
    start: int, end: int, old: Sequence[tuple[int, int]], new: Sequence[tuple[int, int]]
) -> tuple[int, int] | None:
    moved = []
    for at in (start, end):
        before = bisect_right(old, at, key=lambda span: span[1])  # spans that have ended here
        if before < len(old) and old[before][0] < at:
            return None
        moved.append(at + new[before - 1][1] - old[before - 1][1] if before else at)
    return moved[0], moved[1]
