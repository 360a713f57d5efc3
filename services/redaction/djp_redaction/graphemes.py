"""Characters that belong together: no finding begins or ends inside of what a reader sees as one character."""

from __future__ import annotations

import re
import unicodedata

_JOINER = "\u200d"
_FLAG = re.compile("[\U0001f1e6-\U0001f1ff]")
# What is none of Unicode's marks (categories M) and goes with the character before it all the same: joiners, vowels and
# final consonants of Hangul, skin tones, tags (UAX 29, Grapheme_Cluster_Break).
_FOLLOWERS = re.compile("[\u200c\u200d\u1160-\u11ff\ud7b0-\ud7ff\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]")


def continues(character: str) -> bool:
    """Whether this character belongs to the one before it, whatever that is."""
    if character.isascii():
        return False
    return unicodedata.category(character)[0] == "M" or _FOLLOWERS.match(character) is not None


def whole(text: str, start: int, end: int, least: int, most: int) -> tuple[int, int]:
    """A span of a text, made longer until it splits no character that a reader sees, between `least` and `most`."""
    while start > least and _together(text[start - 1], text[start]):
        start -= 1
    while end < most and _together(text[end - 1], text[end]):
        end += 1
    return start, end


def _together(one: str, other: str) -> bool:
    """Whether two neighbours may be one for a reader. Of flags any two may, and nothing goes with white space."""
    if one.isascii() and other.isascii():
        return False
    if (continues(other) and not one.isspace()) or one == _JOINER:
        return True
    return _FLAG.match(one) is not None and _FLAG.match(other) is not None
