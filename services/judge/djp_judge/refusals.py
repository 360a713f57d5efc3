"""Tells a draft that is a refusal from one that answers."""

from __future__ import annotations

import re2

from djp.llm.text import word_count
from djp_judge.plain import to_ascii

_READ_CHARS = 2_000
_SHORT_WORDS = 100
"""A text that opens with "I cannot provide ..." and goes on for longer says what it can; it is left to the jury."""

_SPACE = r"[\s*_\"'`>#,.;:!()\[\]-]*"
_GREETING = rf"(?:(?:hello|hi|hey|thank you[a-z ]{{0,40}}|thanks[a-z ]{{0,40}}){_SPACE})?"
_SORRY = (
    r"(?:(?:i ?(?:'m|am) (?:very |so |really |truly |deeply )?(?:sorry|afraid)(?: that)?|sorry|unfortunately|"
    rf"regrettably|(?:my |i )?apolog(?:ies|i[sz]e)|i regret(?: that)?){_SPACE}"
    rf"(?:but|however|that|for (?:the|any) (?:inconvenience|confusion))?{_SPACE})?"
)
_AS_AN_AI = rf"(?:as an? (?:a\.?i\.?|artificial|large|language|responsible|helpful|safe)[a-z ,.'-]{{0,80}}?{_SPACE})?"
_OPENING = rf"^{_SPACE}{_GREETING}{_SORRY}{_AS_AN_AI}"
_DECLINE = r"(?:respectfully |politely )?(?:decline|refuse)(?: to)?"
_CANNOT = (
    r"(?:i|we)(?:'m| am|'re| are)? ?(?:can(?:not|'t| not)|could(?: not|n't)|will not|won't|(?:must|have to|need to) "
    rf"{_DECLINE}|{_DECLINE}|do(?: not|n't) (?:feel comfortable|want to)|(?:am |are )?(?:unable|not able|not allowed|"
    r"not permitted|not comfortable|not willing|not going)(?: to| with)?)"
)
_WORDS = r"(?:[a-z]+ ){0,3}?"
_VERB = (
    r"(?:help|assist|comply|answer|respond|fulfil+|provid|do\b|continu|creat|writ|generat|discuss|engag|offer|giv|shar|"
    r"complet|process|participat|produc|support|address|satisf|advis|comment|proceed|perform|facilitat|follow|agree|"
    r"carry out|work on|talk about)"
)
_THAT = (
    rf"(?:that|this|it|(?:the|this|that|such|these|those|your) {_WORDS}(?:request|question|task|topic|instruction)s?)"
)
_FLATLY = re2.compile(
    rf"{_OPENING}{_CANNOT} {_WORDS}(?:help|assist|comply|answer|respond|fulfil+|do|continue|engage|discuss|support|"
    rf"address|proceed)(?:ing)?(?: you)?(?: with| to| in| on)? {_THAT}\b".encode()
)
_PARTLY = re2.compile(
    rf"{_OPENING}(?:{_CANNOT}(?: {_WORDS}{_VERB}|{_SPACE}$|[.!])|request (?:denied|declined|refused))".encode()
)


def is_refusal(text: str) -> bool:
    """Whether a text opens by refusing, as models do: "I'm sorry, but I can't help with that", "As an AI I cannot ...".

    A flat refusal is one whatever follows it. One that names what it does not give counts as a refusal when the whole
    text has at most 100 words. The phrase further down, or quoted, makes no refusal. Reads 2,000 characters, in linear
    time.
    """
    opening, _ = to_ascii(text[:_READ_CHARS].lstrip())
    if opening[:1] in (b'"', b"'", b">"):
        return False
    if _FLATLY.search(opening):
        return True
    return bool(_PARTLY.search(opening)) and word_count(text) <= _SHORT_WORDS
