"""Debates through the real SDKs, over both wire formats, with a server that answers well, badly, late, or too much."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from djp.llm.settings import LlmSettings
from djp.v1 import debate_pb2, debate_pb2_grpc
from djp_debate.server import open_service
from tests.llm.model_server import Behaviour, ModelServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TEXT = "The baker is paid first.\n\nAll others wait for \u0939\u093f\u0928\u094d\u0926\u0940 \U0001f30a."
JSON = json.dumps({"answer": TEXT, "evidence": ["Rota"], "confidence": 0.75, "safety_flags": ["Legal"]})
PRICE = "price: {input: 1, output: 2}"


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with ModelServer() as server:
        yield server


@pytest.fixture(params=["openai", "anthropic"])
def api(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def stub(
    serving: Any, server: ModelServer, api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Any]:
    monkeypatch.setenv("MAX_RETRIES", "1")
    url = server.openai_url if api == "openai" else server.anthropic_url
    (tmp_path / "providers.yaml").write_text(
        f"providers:\n  local:\n    api: {api}\n    base_url: {url}\n    models:\n"
        f"      m: {{json_schema: true, {PRICE}}}\n      whole: {{json_schema: false, streaming: false, {PRICE}}}\n"
    )
    async with serving(open_service(LlmSettings(providers=tmp_path / "providers.yaml"))) as channel:
        yield debate_pb2_grpc.DebateServiceStub(channel)


async def told(stub: Any, *models: str, max_tokens: int = 200) -> list[debate_pb2.DebateResponse]:
    debaters = [debate_pb2.Debater(debater_id=f"d{n}", model=f"local/{name}") for n, name in enumerate(models)]
    request = debate_pb2.DebateRequest(
        run_id=str(uuid.uuid4()), task="Who is paid first?", debaters=debaters, rounds=1, max_tokens=max_tokens
    )
    return [event async for event in stub.Debate(request)]


async def one(stub: Any, model: str = "m", **more: Any) -> debate_pb2.DebateResponse:
    """How the draft of a debater ended, beside whom another one writes well."""
    events = await told(stub, model, "whole", **more)
    (event,) = [e for e in events if (e.draft.draft.debater_id or e.failed.debater_id) == "d0"]
    return event


def answering(server: ModelServer, behaviour: Behaviour, model: str = "m") -> None:
    server.script = lambda call: behaviour if call.model == model else Behaviour("All others write well.")


@pytest.mark.parametrize("model", ["m", "whole"])
@pytest.mark.parametrize("text", [JSON, f"Here it is:\n```json\n{JSON}\n```\nI hope it helps."])
async def test_a_draft_is_read_streamed_and_whole(stub: Any, server: ModelServer, model: str, text: str) -> None:
    server.script = lambda _: Behaviour(text)
    events = await told(stub, model)
    draft = events[-1].finished.drafts[0]
    assert (draft.text, list(draft.evidence), draft.confidence) == (TEXT, ["Rota"], 0.75)
    assert list(draft.safety_flags) == ["legal"]
    if text == JSON:
        assert "".join(event.delta.text for event in events if event.HasField("delta")) == TEXT
    (call,) = server.calls
    assert call.streamed == (model == "m")
    assert (call.schema is not None) == (model == "m")
    ((_, usage),) = server.billed()
    (paid,) = next(event.draft.calls for event in events if event.HasField("draft"))
    assert paid.cost_nano_usd == 1000 * usage.input_tokens + 2000 * usage.output_tokens <= paid.bound_nano_usd
    assert draft.tokens == usage.output_tokens


async def test_an_answer_without_json_is_a_draft(stub: Any, server: ModelServer) -> None:
    answering(server, Behaviour(TEXT))
    draft = (await one(stub)).draft.draft
    assert (draft.text, draft.HasField("confidence")) == (TEXT, False)


async def test_a_refusal_is_a_failed_draft_that_costs(stub: Any, server: ModelServer) -> None:
    answering(server, Behaviour(refusal="I will not say who.", stop="refusal"))
    failed = (await one(stub)).failed
    assert "refused" in failed.message
    assert "I will not" not in failed.message
    assert [call.usage_unknown for call in failed.calls] == [False]
    assert failed.calls[0].cost_nano_usd > 0


async def test_what_the_limit_cut_off_is_kept_and_flagged(stub: Any, server: ModelServer) -> None:
    answering(server, Behaviour(json.dumps({"answer": "word " * 2000})))
    draft = (await one(stub, max_tokens=50)).draft.draft
    assert draft.text.startswith("word word")
    assert "truncated" in draft.safety_flags


async def test_a_stream_that_breaks_off_twice_fails_at_its_bound_with_its_text(stub: Any, server: ModelServer) -> None:
    answering(server, Behaviour(JSON, fault="cut", after=3))
    failed = (await one(stub)).failed
    assert failed.partial_text.startswith('{"answer": "The')
    assert len(failed.calls) == 2
    assert all(call.usage_unknown and call.cost_nano_usd == call.bound_nano_usd for call in failed.calls)


async def test_a_busy_provider_is_asked_again(stub: Any, server: ModelServer) -> None:
    busy = iter([Behaviour(status=429, headers=(("Retry-After", "0"),))])
    server.script = lambda call: next(busy, Behaviour(JSON)) if call.model == "m" else Behaviour("All well here.")
    draft = (await one(stub)).draft
    assert draft.draft.text == TEXT
    assert [(call.attempt, call.cost_nano_usd > 0) for call in draft.calls] == [(1, False), (2, True)]


@pytest.mark.parametrize("model", ["m", "whole"])
async def test_an_answer_of_ten_megabytes_ends_in_bounds(stub: Any, server: ModelServer, model: str) -> None:
    server.script = lambda _: Behaviour("x" * 10_000_000, obeys_limit=False)
    debaters = [debate_pb2.Debater(debater_id="d0", model=f"local/{model}")]
    debaters.append(debate_pb2.Debater(debater_id="d1", model="offline/lead"))
    request = debate_pb2.DebateRequest(
        run_id=str(uuid.uuid4()), task="Who is paid first?", debaters=debaters, rounds=1, max_tokens=100
    )
    events = [event async for event in stub.Debate(request)]
    assert events[-1].HasField("finished")
    assert max(event.ByteSize() for event in events) < 1 << 19
    ended = [call for event in events for call in (*event.draft.calls, *event.failed.calls) if not call.offline]
    assert ended
    assert all(call.cost_nano_usd <= call.bound_nano_usd for call in ended)


async def test_what_a_failed_draft_shows_is_bounded(stub: Any, server: ModelServer) -> None:
    answering(server, Behaviour('{"reply": "' + "\u0939\u093f" * 200_000 + '"}', obeys_limit=False))
    failed = (await one(stub, max_tokens=50_000)).failed
    assert failed.partial_text.startswith('{"reply"')
    assert len(failed.partial_text.encode()) <= 1 << 18
