"""Calibrates the threshold at which a debate ends early: how alike drafts are that say the same, and that do not.

For each sample task (agreement.yaml) there are three answers that say the same in other words, and three that say
something else, some of them in nearly the same words. Long drafts are made of one answer to every task; of two of them
only one answer says something else. A pair that says something else and reaches the threshold is a false stop: a
debate that ends although there was something to debate. The threshold of the preset `quick` must have none, so it ends
on near copies only. Beside it: the agreement of the first round's drafts of the offline debaters over docs/.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import combinations, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from djp.llm.models import Model
from djp.llm.offline import DEBATER_MODELS
from djp.llm.prices import PriceBook
from djp_debate.agreement import agreement
from djp_debate.compose import compose
from djp_debate.material import Material
from djp_debate.model import Brief, Debater, Passage
from djp_debate.ports import Work

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
TASKS = (
    "How does DJP Mesh keep a budget from being overdrawn?",
    "How are citations checked?",
    "When is a verdict contested?",
    "Who may publish a draft?",
)


def main() -> int:
    """Print the distributions and the shares by threshold; the exit code is 1 if there are false stops."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the same: it takes a second or two")
    parser.parse_args()
    chosen = json.loads((ROOT / "presets" / "quick.json").read_text())["agreement_threshold"]
    samples = yaml.safe_load((Path(__file__).parent / "agreement.yaml").read_text())
    same, other = [], []
    for sample in samples:
        same += [agreement(pair) for pair in combinations(sample["same"], 2)]
        other += [agreement(pair) for pair in product(sample["same"], sample["other"])]
        other += [agreement(pair) for pair in combinations(sample["other"], 2)]
    long = [agreement(pair) for pair in long_pairs(samples)]
    offline = [agreement(offline_drafts(task)) for task in TASKS]

    print(f"pairs that say the same: {spread(same)}")
    print(f"pairs that do not:       {spread(other)}")
    print(f"one answer differs:      {spread(long)}")
    print(f"offline debaters:        {spread(offline)}")
    other += long
    print("threshold  ends early when they say the same  when they do not")
    for threshold in sorted({0.5, 0.6, 0.7, 0.8, 0.9, 0.95, chosen}):
        mark = "  <- preset quick" if threshold == chosen else ""
        print(f"{threshold:9.2f}  {share(same, threshold):33.0%}  {share(other, threshold):16.0%}{mark}")
    figures = {
        "threshold": chosen,
        "same_pairs": len(same),
        "other_pairs": len(other),
        "stops_of_same": round(share(same, chosen), 3),
        "false_stops": sum(value >= chosen for value in other),
        "nearest_false": round(max(other), 3),
        "nearest_false_long": round(max(long), 3),
        "offline_most": round(max(offline), 3),
    }
    print(json.dumps({"benchmark": "agreement", "figures": figures}))
    return 1 if figures["false_stops"] else 0


def long_pairs(samples: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Drafts that give one answer to every task, each beside one of which a single answer says something else."""
    answers = [sample["same"][0] for sample in samples]
    for place, sample in enumerate(samples):
        for other in sample["other"]:
            yield "\n\n".join(answers), "\n\n".join([*answers[:place], other, *answers[place + 1 :]])


def spread(values: list[float]) -> str:
    """The least, the median and the most of some values."""
    ranked = sorted(values)
    return f"{ranked[0]:.2f} to {ranked[-1]:.2f}, median {ranked[len(ranked) // 2]:.2f} ({len(ranked)})"


def share(values: list[float], threshold: float) -> float:
    """How many of the values reach the threshold."""
    return sum(value >= threshold for value in values) / len(values)


def offline_drafts(task: str) -> list[str]:
    """What the offline debaters write about the project's own documents."""
    passages = tuple(
        Passage(f"{path.stem}:{number}", path.stem, path.stem, section, number)
        for path in sorted((ROOT / "docs").glob("*.md"))
        for number, section in enumerate(path.read_text().split("\n## "))
    )
    prices, brief = PriceBook.load(), Brief("", task, (), 800, passages)
    material = Material(passages)
    debaters = [
        Debater(f"d{number}", (Model(name, name, "offline", prices.price(name)),))
        for number, name in enumerate(DEBATER_MODELS)
    ]
    return [compose(brief, debater, material, Work(1)).text for debater in debaters]


if __name__ == "__main__":
    sys.exit(main())
