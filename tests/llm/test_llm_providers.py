"""What the port promises, kept by both SDKs over the wire, streamed and whole, and by the scripted provider."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from djp.llm.anthropic_provider import AnthropicProvider
from djp.llm.calls import Usage
from djp.llm.fake import FakeProvider
from djp.llm.openai_provider import OpenAIProvider
from djp.llm.provider import ProviderError, Question, Reply
from tests.llm.model_wire import Behaviour, words

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from djp.llm.models import Model
    from djp.llm.provider import Provider, Stop
    from tests.llm.model_server import ModelServer

QUESTION = Question("You answer.", "What is a budget?", 100)
USAGE = Usage(120, 20, 80, 30, 10)


@dataclass
class Peer:
    """A provider, and the server behind it, if there is one."""

    provider: Provider
    model: Model
    server: ModelServer | None = None

    async def ask(self) -> tuple[str, Reply]:
        """The whole answer."""
        async with aclosing(self.provider.ask(self.model, QUESTION)) as answer:
            *pieces, reply = [piece async for piece in answer]
        assert all(isinstance(piece, str) and piece for piece in pieces)
        assert isinstance(reply, Reply)
        return "".join(str(piece) for piece in pieces), reply

    def will(self, behaviour: Behaviour) -> None:
        """How the next calls are answered."""
        if self.server is not None:
            self.server.script = lambda _: behaviour
            return

        def script(_: Model, question: Question) -> Iterator[str | Reply | ProviderError]:
            error = ProviderError(behaviour.error_message, passing=True, billed=True)
            said = words(behaviour.text)[: question.max_tokens]
            if behaviour.fault:
                yield from said[: behaviour.after]
                yield error
            yield from said
            yield Reply(behaviour.usage if behaviour.tells_usage else None, behaviour.stop)

        self.provider._script = script  # type: ignore[attr-defined]

    async def nothing_is_open(self) -> None:
        """Returns when no call is open any more."""
        if self.server is None:
            assert isinstance(self.provider, FakeProvider)
            assert self.provider.open == 0
            return
        async with asyncio.timeout(30):
            for call in self.server.calls:
                await call.ended.wait()


@pytest.fixture(params=["openai", "openai whole", "anthropic", "anthropic whole", "fake"])
async def peer(request: pytest.FixtureRequest, model: Model, model_server: ModelServer) -> AsyncIterator[Peer]:
    """Each way to reach a model."""
    kind, _, whole = request.param.partition(" ")
    model = replace(model, streaming=not whole)
    if kind == "fake":
        yield Peer(FakeProvider(lambda _model, _question: ()), model)
        return
    provider: Provider
    if kind == "openai":
        provider = OpenAIProvider("maker", api_key="key", base_url=model_server.openai_url, read_timeout_s=60)
    else:
        provider = AnthropicProvider("maker", api_key="key", base_url=model_server.anthropic_url, read_timeout_s=60)
    yield Peer(provider, model, model_server)
    await provider.close()


@pytest.mark.parametrize("stop", ["end", "length", "refusal"])
async def test_an_answer_is_its_pieces_and_last_one_reply(peer: Peer, stop: Stop) -> None:
    peer.will(Behaviour(text="Money is held ☃ before it is spent.", usage=USAGE, stop=stop))
    assert await peer.ask() == ("Money is held ☃ before it is spent.", Reply(USAGE, stop))
    await peer.nothing_is_open()


async def test_an_empty_answer_has_no_pieces(peer: Peer) -> None:
    peer.will(Behaviour(text="", usage=USAGE))
    assert await peer.ask() == ("", Reply(USAGE, "end"))


async def test_a_usage_that_is_not_told_is_unknown(peer: Peer) -> None:
    peer.will(Behaviour(tells_usage=False))
    _, reply = await peer.ask()
    assert reply.usage is None


@pytest.mark.parametrize("after", [0, 3])
async def test_an_answer_that_breaks_off_may_be_billed_and_may_come_next_time(peer: Peer, after: int) -> None:
    peer.will(Behaviour(fault="cut", after=after))
    with pytest.raises(ProviderError) as failure:
        await peer.ask()
    assert failure.value.passing
    assert failure.value.billed
    await peer.nothing_is_open()


async def test_a_reader_who_had_enough_closes_the_call(peer: Peer) -> None:
    peer.will(Behaviour(text="a " * 1000, obeys_limit=False, gap_s=0.001 if peer.model.streaming else 0))
    async with aclosing(peer.provider.ask(peer.model, QUESTION)) as pieces:
        async for piece in pieces:
            assert piece
            break
    await peer.nothing_is_open()


async def test_calls_at_the_same_time_do_not_mix(peer: Peer) -> None:
    peer.will(Behaviour(text="one two three four five", usage=USAGE))
    answers = await asyncio.gather(*(peer.ask() for _ in range(30)))
    assert set(answers) == {("one two three four five", Reply(USAGE, "end"))}
