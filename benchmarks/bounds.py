"""How far a call's bound is above what it costs: 10,000 generated calls, none of which may cost more than its bound.

Prompts are those of debaters and jurors: a task, passages of docs/, and a schema; one in ten is of other scripts, code,
or made to be hard. What a call "used" is counted by the rule that OpenAI documents for chats: three tokens and a role
for each message, three for the begin of the answer, and the texts in the vocabulary of the model; answers use 20 to
100 % of their limit. Models without a published tokenizer are bounded by bytes; cl100k_base stands in for what they
count. Claude's tokenizers count a little more, so that the ratio shown for them is higher than the true one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

from djp.llm.asking import Answered, Asker, Asking
from djp.llm.calls import Usage
from djp.llm.fake import FakeProvider
from djp.llm.models import Model
from djp.llm.provider import Question, Reply
from djp.llm.published_prices import ANTHROPIC_URL, OPENAI_URL, published_price
from djp.llm.tokens import prompt_bound

if TYPE_CHECKING:
    from djp.llm.models import Tokenizer
    from djp.llm.prices import Price

ROOT = Path(__file__).resolve().parent.parent
RUN = "00000000-0000-4000-8000-000000000000"
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string"}, "evidence": {"type": "array", "items": {"type": "string"}}},
    "required": ["answer", "evidence"],
    "additionalProperties": False,
}
RARE = [
    "d\u00e9j\u00e0 vu \u2026 \u00bd \ufb01n ",
    "\u4e2d\u6587\u7684\u95ee\u9898\uff0c\u5982\u4f55\uff1f",
    "\ud55c\uad6d\uc5b4 \ubb38\uc7a5\uc785\ub2c8\ub2e4. ",
    "\u0939\u093f\u0928\u094d\u0926\u0940 ",
    "\ufdfa",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 ",
    "<|endoftext|><|im_start|>",
    "a\u0301\u0323",
    "def f(x):\n    return {**x, 'y': [0x1f, 3.14e-9]}\n",
    "aaaaaaaa",
    " \n\t ",
]


def price_of(url: str, model: str) -> Price:
    """The published price."""
    price = published_price(url, model, writes_cache=False)
    if price is None:
        raise SystemExit(f"{model} has no published price")
    return price


def models() -> dict[str, tuple[Model, Tokenizer]]:
    """The two ways to bound a prompt, each with the vocabulary that counts what was used."""
    mini, sonnet = price_of(OPENAI_URL, "gpt-4o-mini"), price_of(ANTHROPIC_URL, "claude-sonnet-4-5")
    return {
        "tokenized": (Model("a/m", "m", "a", mini, tokenizer="o200k_base", template_tokens=64), "o200k_base"),
        "bytes": (Model("b/m", "m", "b", sonnet), "cl100k_base"),
    }


def question(chance: random.Random, passages: list[str]) -> Question:
    """A debater's or a juror's question."""
    if chance.random() < 0.1:
        user = "".join(chance.choice(RARE) * chance.randint(1, 20) for _ in range(chance.randint(0, 20)))
    else:
        shown = chance.sample(passages, chance.randint(0, 8))
        user = "\n\n".join(["How does a budget stay whole when a service dies in the middle of a run?", *shown])
    system = "You are one of several debaters. Answer the task from the passages and cite them as [Title]. " * 3
    return Question(
        system, user, chance.choice([300, 600, 1200, 2000]), schema=SCHEMA if chance.random() < 0.5 else None
    )


def used(chance: random.Random, asked: Question, vocabulary: Tokenizer) -> Usage:
    """What the provider counts."""
    return Usage(prompt_bound(vocabulary, asked, 2 * (3 + 1) + 3), 0, round(asked.max_tokens * chance.uniform(0.2, 1)))


async def measure(calls: int, seed: int = 7) -> dict[str, list[tuple[float, float]]]:
    """Bound to actual, of the input tokens and of the whole cost, for each call. Raises SystemExit at a cost above."""
    chance = random.Random(seed)
    passages = [
        part
        for path in sorted((ROOT / "docs").glob("*.md"))
        for part in path.read_text().split("\n\n")
        if len(part) > 200
    ]
    ratios: dict[str, list[tuple[float, float]]] = {}
    for name, (model, vocabulary) in models().items():
        counts: list[Usage] = []
        provider = FakeProvider(lambda *_, counts=counts: ["yes", Reply(counts[-1])])
        asker = Asker({model.provider: provider}, max_concurrency={})
        ratios[name] = []
        for number in range(calls // 2):
            asked = question(chance, passages)
            counts.append(usage := used(chance, asked, vocabulary))
            outcome = await asker.ask([model], asked, Asking(RUN, "DEBATE", "d1", (number,)), lambda _: None)
            if not isinstance(outcome, Answered):
                raise SystemExit(f"{name}: {outcome.message}")
            (call,) = outcome.calls
            bounded = prompt_bound(model.tokenizer, asked, model.template_tokens)
            if call.cost_nano_usd > call.bound_nano_usd or usage.input_tokens > bounded:
                raise SystemExit(f"{name}: call {number} used {usage} and its bound was {bounded} tokens")
            ratios[name].append((bounded / usage.input_tokens, call.bound_nano_usd / call.cost_nano_usd))
    return ratios


def main() -> None:
    """Measure, print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2,000 calls instead of 10,000")
    calls = 2_000 if parser.parse_args().quick else 10_000
    began = time.process_time()
    ratios = asyncio.run(measure(calls))
    took = time.process_time() - began
    figures: dict[str, float] = {"calls": calls, "above_bound": 0}
    print(f"{'bound / actual, median (95th percentile)':<44}{'input':>16}{'whole cost':>16}")
    for name, pairs in ratios.items():
        told = f"{name:<44}"
        for part, values in (("input", [pair[0] for pair in pairs]), ("cost", [pair[1] for pair in pairs])):
            median, high = statistics.median(values), statistics.quantiles(values, n=20)[-1]
            told += f"{median:>8.2f} ({high:.2f})"
            figures[f"{name}_{part}_median"] = round(median, 3)
        print(told)
    print(f"{calls} calls, none above its bound, {1000 * took / calls:.2f} ms CPU a call")
    print(json.dumps({"benchmark": "bounds", "figures": figures}))


if __name__ == "__main__":
    main()
