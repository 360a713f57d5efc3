"""A search for slow texts and slow rules: evolution toward more CPU time, then the worst of them at 1 MB.

A text is a recipe (`tests/redaction/hostile_texts.py`): pieces of the rules' examples, and characters, repeated. 64 KB
of it tell how bad it is. The worst of these are told again from 256 KB, where what grows faster than the text counts by
its growth, and the worst of those are run at 1 MB, each in a process of its own that may use 20 seconds of CPU.

For custom rules a pattern is drawn together with what it matches, from the constructs of RE2, and both are changed.
Many may stand beside each other, with a validation, and the pieces of the text may be shuffled, so that automata have
no rhythm to follow. Rules that the service refuses are no candidates; what it takes to refuse them is measured by
patterns that are dear to compile.

The service refuses a text that would be read too often. So that the search sees where this leads, a text may be read
eight times as often here, and its time is scaled down to what the service lets through: as much of it may be so slow.
Streams are searched apart, without and with custom rules: the text comes in pieces of 256 characters.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import random
import resource
import time
from collections import deque
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING
from unittest.mock import patch

from djp.mesh.errors import DjpError, InvalidInput
from djp_redaction import _engine
from djp_redaction.custom import MAX_RULES, Redactors, problems
from djp_redaction.looks import Meter
from djp_redaction.model import Options, Rule, Strategy
from djp_redaction.rule_file import load_rules
from djp_redaction.settings import RedactionSettings
from djp_redaction.stream import AHEAD, BLOCK
from djp_redaction.validators import VALIDATORS
from tests.redaction.hostile_texts import (
    DEAR_TO_COMPILE,
    KNOWN,
    KNOWN_RULES,
    Block,
    Recipe,
    changed,
    draw,
    pieces_of,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from multiprocessing.connection import Connection

    from djp_redaction.redactor import Redactor

SMALL, MIDDLE, LARGE = 2**16, 2**18, 2**20
CPU_LIMIT_S = 20
GOAL_S = 0.5
POPULATION = 16
_KEY = b"the key of a tenant, 32 bytes or more"
_MOST_READS = _engine.MOST_READS * (1 + AHEAD / BLOCK)  # what is behind a block may be read with it, and then again
_TIMES = 8
_MORE = (_engine.MOST_MATCHES, _TIMES * _engine.MOST_READS * (BLOCK + AHEAD))


@dataclass(frozen=True)
class Candidate:
    """A text, the strategy, the custom rules if any, how long a stream's pieces are (0: whole)."""

    recipe: Recipe
    strategy: Strategy = Strategy.LABEL
    patterns: tuple[str, ...] = ()
    piece: int = 0
    shuffled: bool = False
    validation: str = ""


@cache
def _redactors() -> Redactors:
    return Redactors(load_rules(RedactionSettings().rules), {})


def redactor_for(patterns: Sequence[str], validation: str = "") -> Redactor:
    """The built-in rules and these. Raises DjpError if a pattern is not accepted."""
    rules = (Rule(f"custom_{at}", "CUSTOM", pattern, validation=validation) for at, pattern in enumerate(patterns))
    return _redactors().of("", tuple(rules))


def cpu_s(candidate: Candidate, size: int) -> float:
    """CPU seconds of one redaction of so many bytes, scaled down to what the service lets be read.

    A refusal counts by what it cost.
    """
    redactor = redactor_for(candidate.patterns, candidate.validation)
    text = write(candidate.recipe, size, shuffled=candidate.shuffled)
    options = Options(strategy=candidate.strategy)
    before, reads, refused = time.process_time(), _engine.reads(), True
    with contextlib.suppress(DjpError), patch.object(Meter, "left", _MORE):
        if candidate.piece:
            stream = redactor.stream(options, _KEY)
            for at in range(0, len(text), candidate.piece):
                deque(stream.feed(text[at : at + candidate.piece]), maxlen=0)
            deque(stream.finish(), maxlen=0)
        else:
            redactor.redact(text, options, _KEY)
        refused = False
    taken, reads = time.process_time() - before, _engine.reads() - reads
    return taken / _TIMES if refused else taken * min(1.0, _MOST_READS * size / reads)


def expected_s(candidate: Candidate, small_s: float) -> float:
    """What 1 MB would take, from what 64 KB took, which is more than one block of a text, and what 256 KB take."""
    middle_s = cpu_s(candidate, MIDDLE)
    growth = math.log(max(middle_s / small_s, 1.0), MIDDLE / SMALL)
    return float(middle_s * (LARGE / MIDDLE) ** min(max(growth, 1.0), 2.0))


def measured_s(candidate: Candidate) -> float:
    """CPU seconds of 1 MB, in a process of its own; infinite if it used up its limit."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_measure, args=(candidate, theirs))
    process.start()
    theirs.close()
    try:
        return float(ours.recv())
    except EOFError:
        return math.inf
    finally:
        process.join()


def _measure(candidate: Candidate, answer: Connection) -> None:
    cpu_s(candidate, SMALL)
    used = int(time.process_time()) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (used + CPU_LIMIT_S, used + CPU_LIMIT_S))
    answer.send(cpu_s(candidate, LARGE))


def search(seed: int, seconds: float, most: int, *, custom: bool = False, piece: int = 0) -> list[Candidate]:
    """The `most` worst candidates of that many seconds, all different."""
    source = random.Random(seed)
    pieces = pieces_of(RedactionSettings().rules)
    scored: dict[Candidate, float] = {}

    def judge(candidate: Candidate) -> None:
        candidate = replace(candidate, piece=piece)
        if candidate not in scored:
            with contextlib.suppress(InvalidInput):
                redactor_for(candidate.patterns, candidate.validation)
                scored[candidate] = cpu_s(candidate, SMALL)

    ends = time.monotonic() + seconds
    if custom:
        for pattern, dear in KNOWN_RULES.items():
            for strategy in (Strategy.LABEL, Strategy.PARTIAL):
                judge(Candidate((Block(dear, 1),), strategy, (pattern,)))
            letters = tuple(Block(letter, 1) for letter in dear)
            judge(Candidate(letters, patterns=(pattern,), shuffled=True))
    else:
        for recipe in KNOWN.values():
            judge(Candidate(recipe))
    while time.monotonic() < ends:
        best = sorted(scored, key=lambda candidate: -scored[candidate])[:POPULATION]
        if len(best) < POPULATION or source.random() < 0.15:
            judge(_drawn_rule(source) if custom else Candidate(draw(source, pieces)))
            continue
        candidate = best[min(source.choice(range(len(best))) for _ in range(2))]
        if custom and source.random() < 0.5:
            pattern, sample = _pattern(source, 2)
            joined = source.choice((f"{candidate.patterns[0]}|{pattern}", candidate.patterns[0] + pattern, pattern))
            recipe = changed(candidate.recipe, source, [sample or "a", "a", "b", "ab", "\n", "0", "é"])
            judge(replace(candidate, recipe=recipe, patterns=(joined, *candidate.patterns[1:])))
        elif custom and source.random() < 0.3:
            judge(_rules_changed(candidate, source))
        elif source.random() < 0.2:
            judge(replace(candidate, strategy=source.choice(list(Strategy))))
        else:
            judge(replace(candidate, recipe=changed(candidate.recipe, source, pieces)))
    promising = _different(sorted(scored, key=lambda candidate: -scored[candidate]))[: 4 * most]
    told = {candidate: expected_s(candidate, scored[candidate]) for candidate in promising}
    return sorted(promising, key=lambda candidate: -told[candidate])[:most]


def _rules_changed(candidate: Candidate, source: random.Random) -> Candidate:
    """Other rules beside the first, another validation, or the text in another order."""
    first = candidate.patterns[0]
    match source.randrange(4):
        case 0:
            return replace(candidate, patterns=tuple(f"{first}{at}" for at in range(source.choice((4, 20, MAX_RULES)))))
        case 1:
            return replace(candidate, patterns=(*candidate.patterns, _pattern(source, 2)[0])[-MAX_RULES:])
        case 2:
            return replace(candidate, validation=source.choice(["", *VALIDATORS]))
        case _:
            return replace(candidate, shuffled=not candidate.shuffled)


def _drawn_rule(source: random.Random) -> Candidate:
    pattern, sample = _pattern(source, 3)
    recipe = draw(source, [sample or "a", sample[:-1] or "b", "a", "b", "ab", "\n", "0", "é"])
    return Candidate(recipe, patterns=(source.choice(("", "(?s)", "(?i)")) + pattern,))


_ATOMS = (("a", "a"), ("b", "b"), (".", "x"), ("[a-z]", "q"), ("[^b]", "a"), (r"\d", "0"), (r"\w", "k"), (r"\s", " "))
_ATOMS += ((r"\pL", "é"), (r"[^\x00-\x7f]", "é"), (r"\b", ""), ("^", ""), ("$", ""), ("ab", "ab"), ("(?:a|ab)", "ab"))
_REPEATS = (("*", 3), ("+", 3), ("?", 1), ("*?", 3), ("{1,50}", 9), ("{30}", 30), ("{0,200}", 20), ("{2,}", 4))


def _pattern(source: random.Random, depth: int) -> tuple[str, str]:
    """A pattern, and a text that it matches."""
    if depth == 0:
        return source.choice(_ATOMS)
    match source.randrange(4):
        case 0:
            parts = [_pattern(source, depth - 1) for _ in range(source.randint(2, 3))]
            return "".join(pattern for pattern, _ in parts), "".join(sample for _, sample in parts)
        case 1:
            one, other = _pattern(source, depth - 1), _pattern(source, depth - 1)
            return f"(?:{one[0]}|{other[0]})", source.choice((one[1], other[1]))
        case 2:
            inner, sample = _pattern(source, depth - 1)
            repeat, times = source.choice(_REPEATS)
            return f"(?:{inner}){repeat}", (sample * times)[:300]
        case _:
            return _pattern(source, depth - 1)


def measure_worst(seconds: float, most: int) -> dict[str, float]:
    """What each search of so many seconds finds, its `most` worst at 1 MB; a table for people on the way."""
    names = {recipe: name for name, recipe in KNOWN.items()}
    many = Candidate(KNOWN["prose"], patterns=tuple(rf"\bcustom-{at}-[0-9]{{4,8}}\b" for at in range(MAX_RULES)))
    figures: dict[str, float] = {}
    for group, candidates in (
        ("built_in", search(1, seconds, most)),
        ("stream", search(3, seconds, most, piece=256)),
        ("custom", [*search(2, seconds, most, custom=True), many]),
        ("custom_stream", search(4, seconds, most, custom=True, piece=256)),
    ):
        print(f"{group}: CPU seconds of 1 MB, the worst first")
        rows = sorted(((measured_s(one), one) for one in candidates), key=lambda row: -row[0])
        for took, one in rows:
            print(f"  {f'> {CPU_LIMIT_S}' if took == math.inf else f'{took:.3f}':>8}  {_shown(one, names)}")
        print(f"  whole, the worst is {rows[0][1]!r}", flush=True)
        figures[f"worst_{group}_s"] = round(min(rows[0][0], CPU_LIMIT_S), 3)
    compiling = {pattern: _compiling_s(pattern) for pattern in DEAR_TO_COMPILE}
    worst = max(compiling, key=lambda pattern: compiling[pattern])
    print(f"{MAX_RULES} custom rules taken or refused: {compiling[worst]:.3f} s, the worst: {worst[:60]!r}")
    figures["worst_compiling_s"] = round(compiling[worst], 3)
    print(f"goal: at most {GOAL_S} s")
    return figures


def _compiling_s(pattern: str) -> float:
    rules = [Rule(name=f"custom_{at}", type="CUSTOM", pattern=f"{pattern}{at}") for at in range(MAX_RULES)]
    before = time.process_time()
    problems(rules)
    return time.process_time() - before


def _different(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The first that differ in more than how often a piece is repeated."""
    chosen: dict[object, Candidate] = {}
    for candidate in candidates:
        chosen.setdefault(candidate.patterns or frozenset(piece for piece, _ in candidate.recipe), candidate)
    return list(chosen.values())


def _shown(candidate: Candidate, names: Mapping[Recipe, str]) -> str:
    text = " + ".join(f"{piece!r}" + (f" x {times}" if times > 1 else "") for piece, times in candidate.recipe)
    rules = f"{len(candidate.patterns)} rules" if len(candidate.patterns) > 1 else "".join(candidate.patterns)
    how = "" if candidate.strategy is Strategy.LABEL else f"{candidate.strategy}: "
    how += f"{candidate.validation}: " * bool(candidate.validation) + "shuffled: " * candidate.shuffled
    return f"{rules}  {how}{names.get(candidate.recipe) or text}".strip()[:200]
