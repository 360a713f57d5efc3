"""Turns a pattern into one of its beginnings: what a text may end with while a match of the pattern may still come."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import inf

MAX_DEPTH = 40
"""Groups inside groups. RE2 takes 1000; a pattern that a person wrote needs a handful."""

_COUNTED = re.compile(r"\{([0-9]+)(,([0-9]*))?\}")
# A longer repeat of one character counts as one without end: to count is costly when a match may begin at every place.
_COUNTED_MOST = 8
_FLAGS = re.compile(r"\(\?([imsU]*)(?:-([imsU]*))?([:)])")
_NAMED = re.compile(r"\(\?P?<\w+>")
_ESCAPE = re.compile(r"\\(?:x\{[0-9A-Fa-f]*\}|x[0-9A-Fa-f]{2}|[pP]\{[^}]*\}|[pP].|[0-7]{1,3}|.)", re.DOTALL)
_ASSERTIONS = frozenset({r"\A", r"\z", r"\b", r"\B"})
_LOOKS = _ASSERTIONS | {"^", "$"}


class Unreadable(ValueError):  # noqa: N818  named as in djp.mesh.errors
    """A pattern that RE2 may take and this module does not; `construct` is the part, `remedy` what to do."""

    def __init__(self, construct: str, remedy: str) -> None:
        super().__init__(f"{construct}: {remedy}")
        self.construct = construct
        self.remedy = remedy


@dataclass(frozen=True)
class _Part:
    """A part of a pattern: itself without its assertions, and all its beginnings, the empty and the whole one too."""

    whole: str
    begun: str
    least: int = 0  # characters
    most: float = 0  # characters, infinity if there is no limit
    single: bool = False  # one character


_NOTHING = _Part("", "")


def beginnings(pattern: str, *, edges_apart: bool = False) -> str:
    """A pattern of all beginnings of what `pattern`, which RE2 takes, matches.

    What looks at the surroundings (`^`, `$`, `\\b`) counts as fulfilled, so the result may match more, and never less.
    With `edges_apart` so does a choice between such a look and characters, as in `(?:^|[^0-9])`.

    Raises:
        Unreadable: groups are nested too deeply, or the pattern asks for single bytes.
    """
    return _Parser(pattern, edges_apart).alternatives().begun


def least_length(pattern: str) -> int:
    """How many characters the first group has at least, or the whole match if there is none. Raises as above."""
    parser = _Parser(pattern, edges_apart=False)
    whole = parser.alternatives()
    return (parser.first_group or whole).least


def most_length(pattern: str) -> float:
    """How many characters a match has at most, with what is outside of the group, or infinity. Raises as above."""
    return _Parser(pattern, edges_apart=False).alternatives().most


def without_assertions(pattern: str) -> str:
    """The pattern as if all that looks at the surroundings were fulfilled. Raises as `beginnings` does."""
    return _Parser(pattern, edges_apart=False).alternatives().whole


def _sequence(parts: list[_Part]) -> _Part:
    """One after the other; a long sequence is halved, so that the depth of the result stays small."""
    if len(parts) > 16:
        parts = [_sequence(parts[: len(parts) // 2]), _sequence(parts[len(parts) // 2 :])]
    joined = _NOTHING
    for part in reversed(parts):
        if part.single and joined.begun:
            begun = f"(?:{part.whole}{joined.begun})?"
        elif joined.begun:
            begun = f"(?:{part.begun}|{part.whole}{joined.begun})"
        else:
            begun = part.begun
        joined = _Part(part.whole + joined.whole, begun, part.least + joined.least, part.most + joined.most)
    return parts[0] if len(parts) == 1 else joined


def _repeated(part: _Part, least: int, most: int | None) -> _Part:
    counted = f"{{{least},{'' if most is None else most}}}"
    whole = f"(?:{part.whole}){counted}" if part.whole else ""
    if not part.whole or most == 0:
        return _Part(whole, "")
    if part.single:
        few = most is not None and most <= _COUNTED_MOST
        begun = f"(?:{part.whole}){f'{{0,{most}}}' if few else '*'}"
    else:
        begun = f"(?:{part.whole}){'*' if most is None else f'{{0,{most - 1}}}'}{part.begun}"
    return _Part(whole, begun, least * part.least, inf if most is None else most * part.most)


class _Parser:
    """Reads the syntax of https://github.com/google/re2/wiki/Syntax as far as a valid pattern must be split."""

    def __init__(self, pattern: str, edges_apart: bool) -> None:
        self._text = pattern
        self._edges_apart = edges_apart
        self._at = 0
        self._depth = 0
        self._groups = 0
        self.first_group: _Part | None = None
        self._flags = frozenset[str]()

    def alternatives(self) -> _Part:
        """All up to the end, or to the bracket that closes the group."""
        flags = self._flags
        branches: list[_Part] = []
        looks = False
        while not branches or self._next("|"):
            start = self._at
            branches.append(self._branch())
            looks = looks or self._text[start : self._at] in _LOOKS
        self._flags = flags
        if len(branches) == 1:
            return branches[0]
        if looks and self._edges_apart:
            return _NOTHING
        whole, begun = "|".join(part.whole for part in branches), "|".join(part.begun for part in branches)
        least, most = min(part.least for part in branches), max(part.most for part in branches)
        return _Part(f"(?:{whole})", f"(?:{begun})", least, most)

    def _branch(self) -> _Part:
        parts: list[_Part] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            part = self._quantified(self._atom())
            if part.whole or part.begun:
                parts.append(part)
        return _sequence(parts)

    def _atom(self) -> _Part:
        mark = self._text[self._at]
        if mark == "(":
            return self._group()
        if mark == "[":
            return self._character(self._class())
        if mark == "\\":
            return self._escaped()
        self._at += 1
        return _NOTHING if mark in "^$" else self._character(re.escape(mark) if mark != "." else mark)

    def _quantified(self, part: _Part) -> _Part:
        counted = _COUNTED.match(self._text, self._at)
        if counted:
            self._at = counted.end()
            least = int(counted[1])
            most = (int(counted[3]) if counted[3] else None) if counted[2] else least
        elif self._next("*"):
            least, most = 0, None
        elif self._next("+"):
            least, most = 1, None
        elif self._next("?"):
            least, most = 0, 1
        else:
            return part
        self._next("?")
        return _repeated(part, least, most)

    def _group(self) -> _Part:
        flags = _FLAGS.match(self._text, self._at)
        named = _NAMED.match(self._text, self._at)
        before = self._flags
        if flags:
            self._at = flags.end()
            self._flags = (before | frozenset(flags[1])) - frozenset(flags[2] or "")
            if flags[3] == ")":
                return _NOTHING
        else:
            self._at = named.end() if named else self._at + 1
        number, self._groups = self._groups, self._groups + (flags is None)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Unreadable("(", f"nest at most {MAX_DEPTH} groups in each other")
        inner = self.alternatives()
        self._depth -= 1
        self._at += 1
        self._flags = before
        part = _Part(f"(?:{inner.whole})" if inner.whole else "", inner.begun, inner.least, inner.most)
        if number == 0 and not flags:
            self.first_group = part
        return part

    def _class(self) -> str:
        start = self._at
        self._at += 1
        self._next("^")
        self._next("]")
        while not self._next("]"):
            if self._text.startswith("[:", self._at) and ":]" in self._text[self._at :]:
                self._at = self._text.index(":]", self._at) + 2
            else:
                self._at += 2 if self._text[self._at] == "\\" else 1
        return self._text[start : self._at]

    def _escaped(self) -> _Part:
        if self._text.startswith(r"\Q", self._at):
            end = self._text.find(r"\E", self._at)
            literal = self._text[self._at + 2 : end if end >= 0 else len(self._text)]
            self._at = end + 2 if end >= 0 else len(self._text)
            return _sequence([self._character(re.escape(character)) for character in literal])
        match = _ESCAPE.match(self._text, self._at)
        if match is None or match[0] == r"\C":
            raise Unreadable(r"\C", "match characters, not bytes: use . or a class")
        self._at = match.end()
        return _NOTHING if match[0] in _ASSERTIONS else self._character(match[0])

    def _character(self, text: str) -> _Part:
        flags = "".join(sorted(self._flags & {"i", "s"}))
        text = f"(?{flags}:{text})" if flags else text
        return _Part(text, f"(?:{text})?", 1, 1, single=True)

    def _next(self, mark: str) -> bool:
        found = self._text.startswith(mark, self._at)
        self._at += len(mark) if found else 0
        return found
