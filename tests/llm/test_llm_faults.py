"""Through the real SDKs and every fault, what is charged is what was billed, or stands at its bound and says so."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import pytest

from djp.llm.asking import Answered, Asker, Asking, Retries
from djp.llm.calls import Usage
from djp.llm.catalogue import ModelCatalogue
from djp.llm.llm import Llm
from djp.llm.prices import PriceBook
from djp.llm.provider import Question
from djp.llm.providers import Providers, read_providers
from tests.llm.model_server import Behaviour, Call, ModelServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from djp.llm.calls import ModelCall

RUN = "0b0f1f0e-6f3c-4f5e-9c55-3a9a7f6f2b11"
PRICE = "price: {input: 0.123456789, cached_input: 0.0123, output: 7.000000001}"


@pytest.fixture
async def llm(model_server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Llm]:
    """Both formats, streamed and not, and a server that is down."""
    path = tmp_path / "providers.yaml"
    models = f"{{streamed: {{{PRICE}}}, unary: {{{PRICE}, streaming: false}}}}"
    path.write_text(
        "providers:\n"
        f"  o: {{api: openai, base_url: '{model_server.openai_url}', models: {models}}}\n"
        f"  a: {{api: anthropic, base_url: '{model_server.anthropic_url}', models: {models}}}\n"
        f"  down: {{api: openai, base_url: 'http://127.0.0.1:1/v1', models: {models}}}\n"
    )
    for name in "OA":
        monkeypatch.setenv(f"{name}_READ_TIMEOUT_MS", "2000")
    configs = read_providers(path)
    providers = Providers(configs)
    asker = Asker(providers, max_concurrency={}, retries=Retries(2, first_wait_s=0))
    yield Llm(ModelCatalogue(PriceBook({}), configs, providers), asker)
    await providers.close()


def usage(chance: random.Random) -> Usage:
    """Any usage within the bounds of a short question with 400 tokens for its answer."""
    used, said = chance.randint(1, 500), chance.randint(0, 400)
    cached = chance.randint(0, used)
    return Usage(used, cached, said, chance.randint(0, said), chance.randint(0, used - cached))


def behaviour(chance: random.Random) -> Behaviour:
    """A good answer half of the time, else any fault."""
    good = Behaviour(text="word " * chance.randint(1, 60), usage=usage(chance))
    fault = chance.choice(
        [
            {"tells_usage": False},
            {"usage_json": '{"prompt_tokens": -1, "completion_tokens": 1, "input_tokens": -1, "output_tokens": 1}'},
            {"fault": "cut", "after": chance.choice([-1, 0, 1, 5])},
            {"fault": "error", "after": chance.choice([0, 2]), "error_type": "overloaded_error"},
            {"fault": "garbage", "after": chance.choice([0, 3])},
            {"fault": "hang", "after": chance.choice([-1, 1])}
            if chance.random() < 0.1
            else {"fault": "cut", "after": 2},
            {"status": 429, "headers": (("Retry-After", "0"),)},
            {"status": chance.choice([500, 502, 503, 504, 529]), "billed": chance.choice([True, False])},
            {"status": chance.choice([400, 401, 403, 404, 413, 422])},
            {"raw": b'{"choices": ['},
            {"content_type": "text/html"},
            {"refusal": "I will not."},
            {"stop": "length"},
            {"text": ""},
        ]
    )
    told = {} if chance.random() < 0.5 else fault
    if told.get("status", 200) in (503, 529):  # these say that nothing was done
        told["billed"] = False
    return Behaviour(**{"text": good.text, "usage": good.usage} | told)


async def test_a_thousand_runs_with_random_faults_are_charged_what_was_billed(
    llm: Llm, model_server: ModelServer
) -> None:
    chance = random.Random(20)
    of_run: dict[str, list[Call]] = defaultdict(list)

    def script(call: Call) -> Behaviour:
        of_run[call.user].append(call)
        return behaviour(random.Random(f"{call.user} {len(of_run[call.user])}"))

    model_server.script = script
    names = [f"{provider}/{way}" for provider in ("o", "a") for way in ("streamed", "unary")] + ["down/streamed"]
    known, unknown, billed = 0, 0, 0
    outcomes: Counter[str] = Counter()
    at_once = asyncio.Semaphore(16)

    async def run(number: int) -> None:
        nonlocal known, unknown, billed
        models = [llm.catalogue.model(name) for name in chance.sample(names, 2)]
        question = Question("Answer.", f"run {number}", max_tokens=400)
        asking = Asking(RUN, "DEBATE", "d1", (number,))
        started: dict[str, ModelCall] = {}

        def tell(event: object) -> None:
            call = getattr(event, "call", None)
            if call is not None:
                started.setdefault(call.call_id, call)

        async with at_once:
            outcome = await llm.asker.ask(models, question, asking, tell)
        outcomes[type(outcome).__name__] += 1
        bound = llm.asker.bound(models, question)
        assert sum(call.cost_nano_usd for call in outcome.calls) <= bound.nano_usd
        assert len(outcome.calls) <= bound.calls
        assert [call.call_id for call in outcome.calls] == list(started)
        assert all(call.usage_unknown for call in started.values())  # each was told at its bound first
        sent = [call for call in outcome.calls if not call.model.startswith("down/")]
        assert all(call.cost_nano_usd == 0 for call in outcome.calls if call not in sent)
        price = models[0].price
        for ours, theirs in zip(sent, of_run[question.user], strict=True):
            owed = price.cost(theirs.billed) if theirs.billed else 0
            assert owed <= ours.bound_nano_usd
            if ours.usage_unknown:
                assert ours.cost_nano_usd == ours.bound_nano_usd
                unknown += 1
            else:
                assert ours.cost_nano_usd == owed, (ours, theirs.behaviour)
                known += ours.cost_nano_usd
                billed += owed

    await asyncio.gather(*(run(number) for number in range(1000)))
    assert known == billed > 0
    assert unknown > 100
    assert outcomes["Answered"] > 500
    assert outcomes["GaveUp"] > 10


@pytest.mark.parametrize("provider", ["o", "a"])
async def test_the_same_answer_costs_the_same_streamed_and_unary(
    llm: Llm, model_server: ModelServer, provider: str
) -> None:
    chance = random.Random(5)
    for number in range(50):
        answer = Behaviour(text="word " * chance.randint(1, 50), usage=usage(chance))
        model_server.script = lambda _, answer=answer: answer
        calls = []
        for way in ("streamed", "unary"):
            model = llm.catalogue.model(f"{provider}/{way}")
            outcome = await llm.asker.ask(
                [model], Question("", "Say it.", 400), Asking(RUN, "JUDGE", "j1", (number, way)), lambda _: None
            )
            assert isinstance(outcome, Answered)
            assert outcome.text == answer.text
            calls.append(outcome.calls[0])
        streamed, unary = calls
        assert streamed.usage == unary.usage == answer.usage
        assert streamed.cost_nano_usd == unary.cost_nano_usd == model.price.cost(unary.usage)
        assert not streamed.usage_unknown
        assert not unary.usage_unknown


async def test_a_cancelled_ask_closes_the_providers_socket_and_stays_at_its_bound(
    llm: Llm, model_server: ModelServer
) -> None:
    model_server.script = [Behaviour(gap_s=0.05, text="word " * 200)]
    told: list[object] = []
    asking = asyncio.create_task(
        llm.asker.ask(
            [llm.catalogue.model("o/streamed")], Question("", "?", 400), Asking(RUN, "DEBATE", "d1", ()), told.append
        )
    )
    await model_server.arrived.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    async with asyncio.timeout(10):
        await model_server.calls[0].closed_by_client.wait()
    (started,) = (event.call for event in told if hasattr(event, "call"))
    assert started.usage_unknown
    assert started.cost_nano_usd >= llm.catalogue.model("o/streamed").price.cost(model_server.billed()[0][1])


async def test_an_answer_of_ten_megabytes_is_stopped_early(llm: Llm, model_server: ModelServer) -> None:
    model_server.script = lambda _: Behaviour(
        text="word " * 2_000_000, obeys_limit=False, usage=Usage(5, 0, 10), max_pieces=2000
    )
    for name in ("o/streamed", "a/streamed", "o/unary"):
        outcome = await llm.asker.ask(
            [llm.catalogue.model(name)], Question("", "?", 400), Asking(RUN, "DEBATE", "d1", (name,)), lambda _: None
        )
        assert not isinstance(outcome, Answered)
        assert len(outcome.partial_text) < 200_000
        assert all(call.usage_unknown for call in outcome.calls)
