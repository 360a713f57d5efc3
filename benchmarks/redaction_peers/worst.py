"""A search for slow texts and slow rules: evolution toward more CPU time, then the worst of them at 1 MB.

A text is a recipe (`tests/redaction/hostile_texts.py`): pieces of the rules' examples, and characters, repeated. Its
badness is what 1 MB of it would take, told from 16 KB and 64 KB: what grows faster than the text counts by its growth.
The worst of these are told again from 256 KB, and the worst of those are run at 1 MB, each in a process of its own that
may use 20 seconds of CPU.

For custom rules a pattern is drawn together with what it matches, from the constructs of RE2, and both are changed.
What the service refuses is no candidate.
"""

from __future__ import annotations

import contextlib
import json
import math
import multiprocessing
import random
import resource
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from djp.mesh.errors import DjpError
from djp_redaction.matcher import RuleRefused
from djp_redaction.redactor import Redactor
from djp_redaction.rule_file import load_rules
from djp_redaction.settings import RedactionSettings
from tests.redaction.hostile_texts import KNOWN, Recipe, changed, draw, pieces_of, write

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from multiprocessing.connection import Connection

SMALL, MIDDLE, HALFWAY, LARGE = 2**14, 2**16, 2**18, 2**20
CPU_LIMIT_S = 20
GOAL_S = 0.5
POPULATION = 16
MANY_RULES = 200  # as many as a request may bring
_STEEP_FROM_S = 0.004  # below, what the clock and the caches do hides the growth


@dataclass(frozen=True)
class Candidate:
    """A text, and the patterns of custom rules if these are sought; without any, the built-in rules are in force."""

    recipe: Recipe
    patterns: tuple[str, ...] = ()


def redactor_for(patterns: Sequence[str]) -> Redactor:
    """Raises RuleRefused or DjpError if a pattern is not accepted."""
    if not patterns:
        return Redactor(load_rules(RedactionSettings().rules))
    rules = [{"name": f"rule_{at}", "type": "CUSTOM", "pattern": pattern} for at, pattern in enumerate(patterns)]
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump({"rules": rules}, file)
        file.flush()
        return Redactor(load_rules(Path(file.name)))


def cpu_s(redactor: Redactor, text: str) -> float:
    """CPU seconds of one redaction; a refusal counts by what it cost."""
    before = time.process_time()
    with contextlib.suppress(DjpError):
        redactor.redact(text)
    return time.process_time() - before


def expected_s(redactor: Redactor, recipe: Recipe) -> float:
    """What 1 MB would take. Where 16 KB do not hold all of the recipe, the growth from there tells nothing."""
    small, middle = (cpu_s(redactor, write(recipe, size)) for size in (SMALL, MIDDLE))
    growth = 1.0
    if small > 0 and middle > _STEEP_FROM_S and sum(len(piece) * times for piece, times in recipe) < SMALL / 4:
        growth = min(max(math.log(middle / small, MIDDLE / SMALL), 1.0), 2.0)
    return float(middle * (LARGE / MIDDLE) ** growth)


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
    redactor = redactor_for(candidate.patterns)
    cpu_s(redactor, write(candidate.recipe, SMALL))
    used = int(time.process_time()) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (used + CPU_LIMIT_S, used + CPU_LIMIT_S))
    answer.send(cpu_s(redactor, write(candidate.recipe, LARGE)))


def search(seed: int, seconds: float, most: int, *, custom: bool) -> list[Candidate]:
    """The `most` worst candidates of that many seconds, all different."""
    source = random.Random(seed)
    pieces = pieces_of(RedactionSettings().rules)
    built_in = redactor_for(())
    scored: dict[Candidate, float] = {}

    def judge(candidate: Candidate) -> None:
        if candidate not in scored:
            try:
                redactor = redactor_for(candidate.patterns) if custom else built_in
            except (RuleRefused, DjpError):
                return
            scored[candidate] = expected_s(redactor, candidate.recipe)

    ends = time.monotonic() + seconds
    if not custom:
        for recipe in KNOWN.values():
            judge(Candidate(recipe))
    while time.monotonic() < ends:
        best = sorted(scored, key=lambda candidate: -scored[candidate])[:POPULATION]
        if len(best) < POPULATION or source.random() < 0.15:
            judge(_drawn_rule(source) if custom else Candidate(draw(source, pieces)))
            continue
        parent = min(source.choice(range(len(best))) for _ in range(2))
        candidate = best[parent]
        if custom and source.random() < 0.5:
            pattern, sample = _pattern(source, 2)
            joined = source.choice((f"{candidate.patterns[0]}|{pattern}", candidate.patterns[0] + pattern, pattern))
            recipe = changed(candidate.recipe, source, [sample or "a", "a", "b", "ab", "\n", "0", "é"])
            judge(Candidate(recipe, (joined,)))
        else:
            judge(replace(candidate, recipe=changed(candidate.recipe, source, pieces)))
    promising = _different(sorted(scored, key=lambda candidate: -scored[candidate]))[: 4 * most]
    told = {one: cpu_s(redactor_for(one.patterns), write(one.recipe, HALFWAY)) for one in promising}
    return sorted(promising, key=lambda candidate: -told[candidate])[:most]


def _drawn_rule(source: random.Random) -> Candidate:
    pattern, sample = _pattern(source, 3)
    recipe = draw(source, [sample or "a", sample[:-1] or "b", "a", "b", "ab", "\n", "0", "é"])
    return Candidate(recipe, (source.choice(("", "(?s)", "(?i)")) + pattern,))


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
    many = Candidate(KNOWN["prose"], tuple(rf"\bcustom-{at}-[0-9]{{4,8}}\b" for at in range(MANY_RULES)))
    figures: dict[str, float] = {}
    for group, candidates in (
        ("built_in", search(1, seconds, most, custom=False)),
        ("custom", [*search(2, seconds, most, custom=True), many]),
    ):
        print(f"{group}: CPU seconds of 1 MB, the worst first")
        rows = sorted(((measured_s(one), _shown(one, names)) for one in candidates), reverse=True)
        for took, shown in rows:
            print(f"  {f'> {CPU_LIMIT_S}' if took == math.inf else f'{took:.3f}':>8}  {shown}", flush=True)
        figures[f"worst_{group}_s"] = round(min(rows[0][0], CPU_LIMIT_S), 3)
    print(f"goal: at most {GOAL_S} s")
    return figures


def _different(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The first that differ in more than how often a piece is repeated."""
    chosen: dict[object, Candidate] = {}
    for candidate in candidates:
        chosen.setdefault(candidate.patterns or frozenset(piece for piece, _ in candidate.recipe), candidate)
    return list(chosen.values())


def _shown(candidate: Candidate, names: Mapping[Recipe, str]) -> str:
    text = " + ".join(f"{piece!r}" + (f" x {times}" if times > 1 else "") for piece, times in candidate.recipe)
    rules = f"{len(candidate.patterns)} rules" if len(candidate.patterns) > 1 else "".join(candidate.patterns)
    return f"{rules}  {names.get(candidate.recipe) or text}".strip()[:200]
