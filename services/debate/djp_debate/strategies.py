"""The five offline debaters: how each picks statements from the material, and how it puts them in paragraphs."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING

from djp.llm.text import terms
from djp_debate.writing import Plan, by_document, by_passage, one_paragraph

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from djp_debate.material import Material
    from djp_debate.model import Debater
    from djp_debate.statements import Statement

# All of these were set by reading drafts about this project's own documents, and hold for relevances of 0 to 1.
FLOOR = 0.33
"""Statements below this share of the best ones' mean relevance are beside the point."""
_BEST, _PASSAGES = 4, 0.5  # how many are the best ones; the floor of those who choose passages, not sentences
_ON_POINT = 0.6  # of the best statement of its passage: where an opening may start
_ASIDE = 0.5  # what a term of the debater's role, or of a name in the task, counts: a name says where, not what
_AGREED = 0.5  # what a statement gains in relevance when all other drafts hold it
_HELD = 0.8  # a draft holds a statement when it has so many of its terms
_SHARED = 0.2  # of the weight of the task's own words: a statement that holds less is a chance hit
_CANDIDATES = 60  # of each debater: far more than any draft holds
_NEWNESS = 0.8  # the share of its relevance that a statement loses if the draft has all of its words already
_JITTER = 0.2  # at a temperature of 1, chance moves a relevance by so much up or down

_NAME = re.compile(r"(?<=[\w,;:)] )[A-Z][\w-]*")  # capital letters inside a sentence
_LIMITS = re.compile(
    r"\b(?:but|only|unless|except|without|never|not|no|none|nothing|nobody|neither|cannot|refus\w+|den(?:y|ies|ied)|"
    r"fail\w*|however|although|though|until|at (?:most|least)|more than|fewer than|instead|otherwise|limit\w*|"
    r"disqualif\w+|reject\w*|if|when|left out|must|too)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class View:
    """The material as one debater sees it: its statements by relevance, the best first."""

    statements: tuple[Statement, ...]
    relevance: Mapping[Statement, float]
    wanted: frozenset[str]
    subject: Mapping[str, float]

    def near(self, floor: float = FLOOR) -> list[Statement]:
        """Those that are to the point, best first."""
        best = self.statements[:_BEST]
        least = floor * sum(self.relevance[one] for one in best) / len(best)
        near = [one for one in self.statements if self.relevance[one] >= least and self._shares(one)]
        return near[:_CANDIDATES] or [*best]

    def _shares(self, one: Statement) -> bool:
        """Whether a statement has enough of what the task is about itself; its headings are those of others too."""
        held = sum(self.subject[term] for term in sorted(one.terms & self.subject.keys()))
        return held > 0 and held >= _SHARED * sum(self.subject.values())


def view(material: Material, task: str, debater: Debater, *, others: Sequence[frozenset[str]] = ()) -> View:
    """How `debater` sees the material. Its seed breaks ties; the higher its temperature, the more the seed may move.

    `others` are the terms of each of the other drafts before this one: what they hold weighs more.
    """
    wanted = frozenset(terms(task))
    names = frozenset(terms(" ".join(_NAME.findall(task)))) if len(wanted) > 1 else frozenset()
    lesser = dict.fromkeys(terms(debater.role), _ASIDE)
    plain = material.relevance(lesser | {term: _ASIDE if term in names else 1.0 for term in sorted(wanted)})
    usable = [statement for statement in material.statements if statement.with_needed]
    salt = f"{debater.seed} {debater.debater_id} {debater.model} ".encode()

    def chance(statement: Statement) -> float:
        """From 0 to 1, the same for the same seed, debater and statement."""
        return int.from_bytes(sha256(salt + statement.text.encode()).digest()[:6]) / 2**48

    def backing(statement: Statement) -> float:
        """The share of the other drafts that hold it."""
        return sum(_share(statement, said) >= _HELD for said in others) / (len(others) or 1)

    spread = _JITTER * debater.temperature
    moved = {
        one: plain[one] * (1 + spread * (2 * chance(one) - 1)) * (1 + _AGREED * backing(one))
        for one in usable or material.statements
    }
    ranked = sorted(moved, key=lambda one: (-moved[one], chance(one), one.rank, one.order))
    return View(tuple(ranked), moved, wanted, material.subject(wanted - names))


def _lead(seen: View) -> Plan:
    """What the best passages open with: up to three statements in a row, from where a passage is first to the point."""
    best: defaultdict[int, float] = defaultdict(float)
    near = dict.fromkeys(seen.near(_PASSAGES))
    for statement in near:
        best[statement.rank] = max(best[statement.rank], seen.relevance[statement])
    passages = sorted(best, key=lambda rank: (-best[rank], rank))[:4]
    openings: list[list[Statement]] = []
    for rank in passages:
        inside = sorted((one for one in seen.statements if one.rank == rank), key=lambda one: one.order)
        least = _ON_POINT * best[rank]
        first = next(at for at, one in enumerate(inside) if seen.relevance[one] >= least and one in near)
        openings.append(inside[first : first + 3])
    # First the first statement of every passage's opening, then the second ones, so that a short draft has them all.
    return Plan([opening[turn] for turn in range(3) for opening in openings if turn < len(opening)], by_passage, 190)


def _focus(seen: View) -> Plan:
    """The statements nearest to the task, each chosen for saying something that those before it did not."""
    return Plan(list(_unlike(seen, seen.near())), by_document, 120)


def _unlike(seen: View, pool: list[Statement]) -> Iterator[Statement]:
    """Maximal marginal relevance: the more a statement has in common with those taken before, the less it counts."""
    said: set[str] = set()
    left = list(pool)
    while left:
        taken = max(left, key=lambda one: seen.relevance[one] * (1 - _NEWNESS * _share(one, said)))
        left.remove(taken)
        said |= taken.terms
        yield taken


def _share(statement: Statement, said: AbstractSet[str]) -> float:
    return len(statement.terms & said) / (len(statement.terms) or 1)


def _survey(seen: View) -> Plan:
    """A list of what each passage says nearest to the task, at most two passages of a document, the best first."""
    passages: dict[int, list[Statement]] = {}
    per_document: Counter[str] = Counter()
    for one in seen.near(_PASSAGES):
        if one.rank not in passages:
            per_document[one.document] += 1
        if one.rank in passages or per_document[one.document] <= 2:
            passages.setdefault(one.rank, []).append(one)
    turns = [ones[turn] for turn in range(2) for ones in passages.values() if turn < len(ones)]
    return Plan(turns, by_passage, 150, bullets=True)


def _brief(seen: View) -> Plan:
    """Two or three short statements that together cover the task's words."""
    chosen: list[Statement] = []
    covered: set[str] = set()
    pool = [one for one in seen.near(0.5) if sum(part.words for part in one.with_needed or (one,)) <= 40] or seen.near()

    def worth(one: Statement) -> float:
        new = (one.terms & seen.wanted) - covered
        return seen.relevance[one] * (1 + len(new)) / (1 + one.words / 40)

    while pool and len(chosen) < 3:
        taken = max(pool, key=worth)
        chosen.append(taken)
        pool = [one for one in pool if one is not taken and not one.repeats(taken)]
        covered |= taken.terms
    return Plan(chosen, one_paragraph, 75)


def _contrast(seen: View) -> Plan:
    """The main statement, then what limits it: conditions, exceptions, refusals; where nothing does, what is next."""
    main, *others = seen.near()
    limited = {one: seen.relevance[one] * min(len(_LIMITS.findall(one.text)), 3) / 3 for one in others}
    bounds = sorted((one for one in others if limited[one]), key=lambda one: -limited[one])
    following = _unlike(replace(seen, relevance=limited), bounds) if bounds else _unlike(seen, others)
    return Plan([main, *following], by_document, 150, opening=len(main.with_needed or (main,)))


STRATEGIES: Mapping[str, Callable[[View], Plan]] = {
    "offline/lead": _lead,
    "offline/focus": _focus,
    "offline/survey": _survey,
    "offline/brief": _brief,
    "offline/contrast": _contrast,
}
