"""Reads a juror's answer as a ballot: tolerant of its form, strict about what it says."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from djp.llm.text import sendable
from djp_judge.model import Marks, points
from djp_judge.prompts import letter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from fractions import Fraction

MAX_REASON_CHARS = 4000
"""Of the contract; what a juror writes beyond it is cut off."""
_MAX_STARTS = 64
"""At so many places of an answer a ballot is looked for: each look may read the rest of it."""
_CRITERIA = ("task_fit", "support", "clarity")
_LABEL_KEYS = ("draft", "label", "draftid", "id", "name")
_THOUGHT_END = "</think>"
"""Ends what some models think aloud before they answer; what they weigh there is not their ballot."""
_OPENING = re.compile(r"\{|\[(?=\s*\{)")  # not the brackets of a citation
_NUMBER = re.compile(r"\s*[0-9]{1,3}(?:\.[0-9]{1,6})?\s*")


class UnreadableBallotError(Exception):
    """The answer is no ballot; the message says why, without a word of the answer."""


def read_ballot(text: str, labels: Sequence[str]) -> dict[str, Marks]:
    """The marks by label, of an answer that scores exactly the drafts with these labels, each once and in the rubric.

    The ballot is a JSON object of scores by label, or an array of scores that name their labels; it may stand in a code
    fence or between other words, under one further key, with numbers written as strings. Nothing is guessed: a score
    that is no plain number, is missing or is outside the rubric makes the ballot unreadable, as do two ballots that
    differ.

    Raises UnreadableBallotError.
    """
    found: list[dict[str, Marks]] = []
    problem = "it holds no JSON object or array"
    for value in _values(text.rpartition(_THOUGHT_END)[2]):
        try:
            ballot = _ballot(value, labels)
        except UnreadableBallotError as error:
            problem = str(error)
            continue
        if ballot not in found:
            found.append(ballot)
    if len(found) > 1:
        raise UnreadableBallotError("it holds several ballots that differ")
    if not found:
        raise UnreadableBallotError(problem)
    return found[0]


class _Doubled(dict[str, Any]):
    """An object that names something twice: which of the two is meant nobody knows."""


def _values(text: str) -> Iterator[Any]:
    """The JSON objects and arrays in a text, the outermost first."""
    decoder = json.JSONDecoder(object_pairs_hook=_object)
    at = starts = 0
    while starts < _MAX_STARTS and (opening := _OPENING.search(text, at)):
        starts += 1
        try:
            value, at = decoder.raw_decode(text, opening.start())
        except (ValueError, RecursionError):  # no JSON, or made to be too deep
            at = opening.end()
        else:
            yield value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    return read if len(read) == len(pairs) else _Doubled(read)


def _ballot(value: Any, labels: Sequence[str]) -> dict[str, Marks]:
    names = {key: label for label in labels for key in (_key(label), _key(letter(label)))}
    for _ in range(2):  # {"ballot": {"scores": ...}}
        if isinstance(value, dict) and len(value) == 1 and _key(next(iter(value))) not in names:
            value = next(iter(value.values()))
    entries = list(_entries(value))
    ballot: dict[str, Marks] = {}
    others = 0
    for key, entry in entries:
        label = names.get(key)
        if label is None:
            others += 1
        elif label in ballot:
            raise UnreadableBallotError("it scores a draft twice")
        else:
            ballot[label] = _marks(entry)
    missing = len(labels) - len(ballot)
    if missing or others:
        raise UnreadableBallotError(f"it does not score the drafts shown: {missing} missing, {others} unknown")
    return ballot


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Each score with what it is called."""
    if isinstance(value, _Doubled):
        raise UnreadableBallotError("it names a draft twice")
    if isinstance(value, dict):
        for key, entry in value.items():
            yield _key(key), entry
    elif isinstance(value, list):
        for entry in value:
            if not isinstance(entry, dict):
                raise UnreadableBallotError("a score is no object")
            named = {_key(key): one for key, one in entry.items()}
            label = next((named[key] for key in _LABEL_KEYS if isinstance(named.get(key), str)), "")
            yield _key(label), entry
    else:
        raise UnreadableBallotError("it is no object of scores")


def _key(name: str) -> str:
    return "".join(char for char in name[:100].casefold() if char.isalnum())


def _marks(entry: Any) -> Marks:
    if not isinstance(entry, dict):
        raise UnreadableBallotError("a score is no object")
    if isinstance(entry, _Doubled):
        raise UnreadableBallotError("a score names something twice")
    fields = {_key(key): value for key, value in entry.items()}
    fit, support, clarity = (_points(fields.get(_key(criterion)), criterion) for criterion in _CRITERIA)
    reason = fields.get("reason")
    marks = Marks(fit, support, clarity, _trimmed(reason) if isinstance(reason, str) else "")
    if not marks.in_rubric:
        raise UnreadableBallotError("it has a score outside the rubric")
    return marks


def _points(value: Any, criterion: str) -> Fraction:
    if value is None:
        raise UnreadableBallotError(f"a draft has no {criterion}")
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1000 < value < 1000:
        raise UnreadableBallotError(f"{criterion} is no number of points")
    return points(value)


def _trimmed(reason: str) -> str:
    """Within the contract, and without lone surrogates, which JSON can hold and protobuf cannot."""
    whole = sendable(reason).strip()
    return whole if len(whole) <= MAX_REASON_CHARS else f"{whole[: MAX_REASON_CHARS - 1]}\u2026"
