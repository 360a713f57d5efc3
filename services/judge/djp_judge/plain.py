"""Texts as names and phrases are looked for in them: in lower-case ASCII, whatever they are dressed in."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

OTHER = "\x01"
"""Stands for every character that neither is in ASCII nor looks like one that is."""
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_UNSEEN = frozenset({"Cf", "Mn", "Me", "Cc"})  # zero-width spaces, joiners, marks of direction, accents, controls
_UNSEEN_LETTERS = "\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"  # by category something else, but drawn as nothing
# Letters that are drawn like ASCII ones, after Unicode's confusables.txt (UTS 39); those of full width and of
# mathematics, ligatures and accents are left to NFKD.
_LOOK_ALIKES = {
    char: plain
    for plain, chars in {
        "a": "\u0430\u03b1\u0251\u0250",
        "b": "\u0432\u03b2\u042c\u044c\u0184\u0185",
        "c": "\u0441\u03f2\u1d04\u0186",
        "d": "\u0501\u0257\u0111",
        "e": "\u0435\u0454\u03b5\u04bd\u0258",
        "f": "\u0192\u03dd",
        "g": "\u0261\u0581\u0260",
        "h": "\u043d\u04bb\u03b7\u04a3\u0570",
        "i": "\u0456\u03b9\u0131\u0269\u04cf\u01c0",
        "j": "\u0458\u03f3",
        "k": "\u043a\u03ba\u049b",
        "l": "\u217c\u0142\u0627",
        "m": "\u043c\u217f\u1d0d",
        "n": "\u0578\u0274\u03bd\u057c\u0438",
        "o": "\u043e\u03bf\u0585\u03c3\u0e50\u00f8",
        "p": "\u0440\u03c1\u03f1",
        "q": "\u051b\u0566",
        "r": "\u0433\u0280\u1d26",
        "s": "\u0455\ua731\u01bd",
        "t": "\u0442\u03c4\u1d1b",
        "u": "\u0446\u03c5\u057d\u1d1c",
        "v": "\u0475\u1d20",
        "w": "\u0461\u03c9\u051d\u1d21",
        "x": "\u0445\u03c7\u1d6a",
        "y": "\u0443\u03b3\u04af\u028f",
        "z": "\u1d22\u01b6",
        "'": "\u2018\u2019\u201a\u201b\u2032\u02bc",
        '"': "\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033",
        "-": "\u2010\u2011\u2012\u2212\u30fc",
        "--": "\u2013\u2014\u2015",
    }.items()
    for char in chars
}


def to_ascii(text: str) -> tuple[bytes, Sequence[int]]:
    """The text as plain lower-case ASCII, and for each of its bytes the place of the character that it came from.

    White space of any kind but line ends is a space, and what nobody sees is not there. Takes linear time.
    """
    if text.isascii() and not _CONTROLS.search(text):
        return text.lower().encode(), range(len(text))
    known: dict[str, str] = {}
    pieces: list[str] = []
    places: list[int] = []
    for place, char in enumerate(text):
        plain = known.get(char)
        if plain is None:
            plain = known[char] = _plain(char)
        if plain:
            pieces.append(plain)
            places.extend([place] * len(plain) if len(plain) > 1 else (place,))
    return "".join(pieces).encode(), places


def _plain(char: str) -> str:
    if char in "\n\r\u2028\u2029\x85\x0b\x0c":
        return "\n"
    if char.isspace():
        return " "
    if char in _UNSEEN_LETTERS:
        return ""
    shown = [one for one in unicodedata.normalize("NFKD", char) if unicodedata.category(one) not in _UNSEEN]
    return "".join(_ascii(one) for one in "".join(shown).casefold())


def _ascii(char: str) -> str:
    return _LOOK_ALIKES.get(char) or (" " if char.isspace() else char if char.isascii() else OTHER)
