"""Jurors that are models, over the socket: ballots, money, blindness, recusal, resuming, cancellation."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from djp.llm.calls import Usage
from djp.llm.provider import ProviderError, Reply
from djp.llm.settings import LlmSettings
from djp.mesh.rpc_errors import error_from_rpc
from djp.v1 import common_pb2, debate_pb2, judge_pb2, judge_pb2_grpc
from djp_judge.server import open_service
from tests.judge.judge_scripts import PROVIDERS, ballot_text, drafts_in, fair_ballot, marks_of
from tests.llm.model_server import Behaviour, Call, ModelServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from djp.llm.models import Model
    from djp.llm.provider import Question

A, B, C = "Tides worth 4 3.5 2.", "Neap worth 3 3 1.", "Ebb worth 2 1 1."
RED = judge_pb2.Juror(juror_id="j1", model="red/gpt-r")
BLUE = judge_pb2.Juror(juror_id="j2", model="blue/claude-b")
SMALL = judge_pb2.Juror(juror_id="j3", model="blue/small")


def request_of(opened: Any, texts: Any = (A, B), **fields: Any) -> judge_pb2.JudgeRequest:
    request: judge_pb2.JudgeRequest = opened.judge.request(texts, **{"jurors": [RED], "orders": 2, **fields})
    return request


async def events_of(opened: Any, request: judge_pb2.JudgeRequest) -> list[judge_pb2.JudgeResponse]:
    return [event async for event in opened.judge.stub.Judge(request)]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  a provider rings no bell
        await asyncio.sleep(0.001)


def in_turn(*moods: Any) -> Any:
    """A juror whose answers are these, one after the other and then fair: a text, a Reply's stop, or an error."""
    left = iter(moods)

    def script(model: Model, question: Question) -> Iterator[Any]:
        mood = next(left, None)
        if mood is None:
            yield from fair_ballot(model, question)
        elif isinstance(mood, ProviderError):
            yield "half"
            raise mood
        else:
            yield mood
            yield Reply(Usage(70, output_tokens=7))

    return script


async def test_models_judge_and_every_call_is_told_before_it_is_made(models: Any) -> None:
    async with models() as opened:
        events = await events_of(opened, request_of(opened, (A, B, C), jurors=[RED, SMALL], orders=3))
    kinds = [event.WhichOneof("event") for event in events]
    assert (kinds.count("call_started"), kinds.count("ballot"), kinds[-1]) == (6, 6, "verdict")
    started = {event.call_started.call_id: event.call_started for event in events if event.HasField("call_started")}
    for event in events:
        if event.HasField("ballot"):
            (call,) = event.ballot.calls
            assert started[call.call_id].usage_unknown
            assert started[call.call_id].cost_nano_usd == call.bound_nano_usd
            assert (call.usage.input_tokens, call.usage.output_tokens, call.attempt) == (100, 50, 1)
            assert (call.stage, call.actor_id) == (common_pb2.STAGE_JUDGE, event.ballot.ballot.juror_id)
            assert 0 < call.cost_nano_usd <= call.bound_nano_usd
            assert not call.usage_unknown
            assert [score.reason for score in event.ballot.ballot.scores] == ["so"] * 3
    verdict = events[-1].verdict
    assert [(one.draft_id, one.mean, one.ballots) for one in verdict.ranking] == [
        ("d1-r1", 9.5, 6), ("d2-r1", 7.0, 6), ("d3-r1", 4.0, 6)
    ]  # fmt: skip
    assert (verdict.contested, verdict.agreement, verdict.effective_jurors) == (False, 1, 2)


async def test_each_juror_sees_each_draft_in_each_place(models: Any) -> None:
    async with models() as opened:
        await opened.judge.judge(request_of(opened, (A, B, C), jurors=[RED, SMALL], orders=3))
        for name in ("red/gpt-r", "blue/small"):
            seen = [list(drafts_in(question).values()) for model, question in opened.asked if model.name == name]
            assert all({order[place] for order in seen} == {A, B, C} for place in range(3))


async def test_no_name_reaches_the_prompt(models: Any) -> None:
    texts = [
        f"I am Secretmodel-9 of openai/gpt-secret. {A}",
        f"{B}\n\nAnswer by zebra-debater",
        f"{C}\n\n\u2014 \u0421laude",
        f"As a large language model by Anthropic, I say: {C}",
    ]
    async with models() as opened:
        request = request_of(opened, texts, orders=4)
        for number, one in enumerate(request.candidates):
            one.draft.draft_id, one.draft.debater_id = f"zebra-{number}-r1", "zebra-debater"
            one.draft.model = ["openai/gpt-secret", "acme/secretmodel-9", "blue/claude-b", "offline/lead"][number]
            one.draft.safety_flags.append("flagged-secret")
            one.draft.evidence.append("evidence-secret")
        casts, _ = await opened.judge.judge(request)
        assert len(casts) == 4
        assert {score.draft_id for cast in casts for score in cast.ballot.scores} == {f"zebra-{n}-r1" for n in range(4)}
        for _, question in opened.asked:
            told = f"{question.system} {question.user} {json.dumps(question.schema)}".lower()
            for name in (
                "zebra",
                "secret",
                "claude",
                "\u0441laude",
                "anthropic",
                "openai",
                "gpt",
                "blue",
                "red/",
                "offline",
            ):
                assert name not in told
            assert "Spring tides come" in question.user  # the passages


async def test_a_ballot_that_cannot_be_read_is_asked_for_once_more(models: Any) -> None:
    async with models(in_turn("Draft A: 8/10")) as opened:
        events = await events_of(opened, request_of(opened, orders=1))
        assert [event.WhichOneof("event") for event in events] == [
            "call_started", "call_failed", "call_started", "ballot", "verdict"
        ]  # fmt: skip
        assert "could not be read" not in opened.asked[0][1].system
        assert "could not be read" in opened.asked[1][1].system
    first, second = events[3].ballot.calls
    assert first == events[1].call_failed
    assert first.error == "the answer is no ballot: it holds no JSON object or array"
    assert (first.usage.input_tokens, first.usage.output_tokens, first.usage_unknown) == (70, 7, False)
    assert first.call_id == events[0].call_started.call_id != second.call_id == events[2].call_started.call_id
    assert not events[3].ballot.ballot.abstained


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        (("8/10", "{}"), "it does not score the drafts shown: 2 missing, 0 unknown"),
        (("", "I refuse."), "it holds no JSON object or array"),
        (("{}", '{"A": {"task_fit": 9, "support": 1, "clarity": 1}}'), "it has a score outside the rubric"),
    ],
)
async def test_twice_unreadable_is_an_abstention_that_is_paid_for_and_no_number(
    models: Any, answers: tuple[str, str], reason: str
) -> None:
    async with models(in_turn(*answers)) as opened:
        casts, verdict = await opened.judge.judge(request_of(opened, orders=1))
        again, same = await opened.judge.judge(request_of(opened, orders=1, completed_ballots=[casts[0].ballot]))
        assert len(opened.asked) == 2
    assert casts[0].ballot.abstained
    assert casts[0].ballot.abstain_reason == f"no ballot in 2 answers: {reason}"
    assert not casts[0].ballot.scores
    assert [call.usage.input_tokens for call in casts[0].calls] == [70, 70]
    assert (verdict.winner_draft_id, list(verdict.ranking), verdict.abstentions) == ("", [], 1)
    assert (again, same) == ([], verdict)


async def test_an_answer_that_was_cut_off_or_refused_says_so(models: Any) -> None:
    def script(model: Model, question: Question) -> Iterator[Any]:
        cut = "Spring" not in question.user or model.name == "red/gpt-r"
        yield '{"A": {"task_fit": 3' if cut else "no"
        yield Reply(None, "length" if cut else "refusal")

    async with models(script) as opened:
        casts, _ = await opened.judge.judge(request_of(opened, jurors=[RED, SMALL], orders=1))
    assert [cast.ballot.abstain_reason for cast in casts] == [
        "no ballot in 2 answers: it was cut off at its longest",
        "no ballot in 2 answers: the model refused",
    ]
    assert all(call.usage_unknown and call.cost_nano_usd == call.bound_nano_usd for one in casts for call in one.calls)


async def test_a_juror_whose_model_fails_is_helped_by_its_fallback(models: Any) -> None:
    refused = ProviderError("refused with 401", passing=False, billed=False)
    juror = judge_pb2.Juror(juror_id="j1", model="red/gpt-r", fallback_models=["blue/small"])
    async with models(in_turn(refused)) as opened:
        events = await events_of(opened, request_of(opened, jurors=[juror], orders=1))
    cast = events[-2].ballot
    assert cast.ballot.model == "blue/small"
    assert [(call.model, call.attempt, call.cost_nano_usd > 0) for call in cast.calls] == [
        ("red/gpt-r", 1, False),
        ("blue/small", 2, True),
    ]
    assert [event.call_failed.error for event in events if event.HasField("call_failed")] == ["refused with 401"]


async def test_a_juror_that_cannot_be_reached_abstains_with_the_reason_and_owes_what_may_be_billed(models: Any) -> None:
    lost = [ProviderError("the connection was lost", passing=True, billed=True) for _ in range(2)]
    async with models(in_turn(*lost)) as opened:
        casts, verdict = await opened.judge.judge(request_of(opened, jurors=[RED], orders=1))
    (cast,) = casts
    assert "the connection was lost" in cast.ballot.abstain_reason
    assert [(call.usage_unknown, call.cost_nano_usd == call.bound_nano_usd) for call in cast.calls] == [
        (True, True)
    ] * 2
    assert verdict.reason.startswith("no juror voted: red/gpt-r")


async def test_a_juror_leaves_drafts_of_its_family_to_others(models: Any) -> None:
    async with models() as opened:
        request = request_of(opened, (A, B, C), jurors=[RED, BLUE, SMALL], orders=2)
        for one, model in zip(request.candidates, ("openai/gpt-9", "blue/claude-b", "offline/lead"), strict=True):
            one.draft.model = model
        casts, verdict = await opened.judge.judge(request)
    assert [list(cast.ballot.recused_draft_ids) for cast in casts] == [["d1-r1"]] * 2 + [["d2-r1"]] * 2 + [[]] * 2
    assert [sorted(cast.ballot.order) for cast in casts[::2]] == [
        ["d2-r1", "d3-r1"], ["d1-r1", "d3-r1"], ["d1-r1", "d2-r1", "d3-r1"]
    ]  # fmt: skip
    assert [(one.draft_id, one.ballots) for one in verdict.ranking] == [("d1-r1", 4), ("d2-r1", 4), ("d3-r1", 6)]
    assert not verdict.contested


async def test_a_fallback_has_a_family_too(models: Any) -> None:
    juror = judge_pb2.Juror(juror_id="j1", model="red/gpt-r", fallback_models=["blue/claude-b"])
    async with models() as opened:
        request = request_of(opened, jurors=[juror, SMALL], orders=1)
        request.candidates[1].draft.model = "anthropic/claude-next"
        casts, _ = await opened.judge.judge(request)
    assert [list(cast.ballot.recused_draft_ids) for cast in casts] == [["d2-r1"], []]


async def test_offline_jurors_and_models_judge_together(models: Any) -> None:
    offline = judge_pb2.Juror(juror_id="j1", model="offline/rubric")
    async with models() as opened:
        casts, verdict = await opened.judge.judge(request_of(opened, jurors=[offline, SMALL], orders=1))
    assert [(cast.ballot.model, cast.calls[0].offline) for cast in casts] == [
        ("offline/rubric", True),
        ("blue/small", False),
    ]
    assert verdict.effective_jurors == 2
    assert not any(cast.ballot.recused_draft_ids for cast in casts)


async def test_the_first_slot_cannot_win_silently(models: Any) -> None:
    def biased(_model: Model, question: Question) -> Iterator[Any]:
        yield ballot_text(question, lambda draft, place: (marks_of(draft)[0] - 1 + 2 * (place == 0), 2, 1))
        yield Reply(Usage(10, output_tokens=5))

    texts = ("Tides worth 2 2 1.", "Neap worth 1.5 2 1.")
    async with models(biased) as opened:
        one, alone = await opened.judge.judge(request_of(opened, texts))
        _, two = await opened.judge.judge(request_of(opened, texts, jurors=[RED, SMALL]))
    assert set(alone.winner_by_ballot.values()) == {"d1-r1", "d2-r1"}
    assert (alone.winner_draft_id, alone.contested, len(one)) == ("d1-r1", True, 2)
    assert (two.winner_draft_id, two.contested) == ("d1-r1", False)


async def test_a_run_tried_again_makes_calls_of_its_own(models: Any) -> None:
    async with models() as opened:
        ids = []
        for attempt in (0, 1, 2):
            casts, _ = await opened.judge.judge(request_of(opened, attempt=attempt))
            ids.append([cast.calls[0].call_id for cast in casts])
    assert ids[0] == ids[1]
    assert len({*ids[1], *ids[2]}) == 4


async def test_a_stream_cut_anywhere_is_resumed_without_asking_again(models: Any) -> None:
    jurors = [RED, SMALL]
    async with models() as opened:
        whole, expected = await opened.judge.judge(request_of(opened, (A, B, C), jurors=jurors, orders=3))
        for kept in itertools.chain.from_iterable(itertools.combinations(range(6), size) for size in (0, 1, 3, 6)):
            before = len(opened.asked)
            ballots = [whole[number].ballot for number in kept]
            casts, verdict = await opened.judge.judge(
                request_of(opened, (A, B, C), jurors=jurors, orders=3, completed_ballots=ballots, attempt=2)
            )
            assert len(opened.asked) - before == len(casts) == 6 - len(kept)
            assert [cast.ballot for cast in casts] == [one.ballot for at, one in enumerate(whole) if at not in kept]
            assert verdict == expected


async def test_a_judgement_cut_after_any_event_pays_no_ballot_twice(models: Any) -> None:
    """Whatever came is resumed with; no call id comes twice, and no call is told that was not started."""
    unreadable = itertools.cycle([False, True, False])

    def script(model: Model, question: Question) -> Iterator[Any]:
        if next(unreadable) and "could not be read" not in question.system:
            yield "8/10"
            yield Reply(Usage(70, output_tokens=7))
        else:
            yield from fair_ballot(model, question)

    async with models(script) as opened:
        for cut in range(1, 14):
            ballots: dict[str, judge_pb2.Ballot] = {}
            started: set[str] = set()
            told: set[str] = set()
            for attempt in (1, 2):
                call = opened.judge.stub.Judge(
                    request_of(
                        opened,
                        (A, B, C),
                        jurors=[RED, SMALL],
                        completed_ballots=list(ballots.values()),
                        attempt=attempt,
                    )
                )
                number = 0
                async for event in call:
                    number += 1
                    if event.HasField("call_started"):
                        assert event.call_started.call_id not in started
                        started.add(event.call_started.call_id)
                    elif event.HasField("ballot"):
                        assert event.ballot.ballot.ballot_id not in ballots
                        ballots[event.ballot.ballot.ballot_id] = event.ballot.ballot
                        told |= {one.call_id for one in event.ballot.calls}
                    if attempt == 1 and number == cut:
                        call.cancel()
                        break
                await until(lambda: opened.provider.open == 0)
            assert event.HasField("verdict")
            assert sorted(ballots) == ["j1-o1", "j1-o2", "j3-o1", "j3-o2"]
            assert told <= started


async def test_ballots_are_cast_side_by_side_and_stream_as_they_come(models: Any) -> None:
    gates = [asyncio.Event() for _ in range(4)]
    left = iter(gates)

    def script(model: Model, question: Question) -> Iterator[Any]:
        yield next(left)
        yield from fair_ballot(model, question)

    async with models(script) as opened:
        call = opened.judge.stub.Judge(request_of(opened, jurors=[RED, SMALL]))
        kinds = [(await call.read()).WhichOneof("event") for _ in range(4)]
        assert kinds == ["call_started"] * 4  # all wait at once
        gates[2].set()
        first = await call.read()
        assert first.HasField("ballot")
        for gate in gates:
            gate.set()
        rest = [event.WhichOneof("event") async for event in call]
        assert rest == ["ballot"] * 3 + ["verdict"]


async def test_with_a_fast_path_jurors_take_turns_and_are_skipped_once_it_is_clear(models: Any) -> None:
    async with models() as opened:
        jurors = [RED, SMALL, BLUE]
        casts, verdict = await opened.judge.judge(request_of(opened, jurors=jurors, fast_path_margin=2))
        assert ([cast.ballot.juror_id for cast in casts], verdict.fast_path) == (["j1", "j1"], True)
        casts, verdict = await opened.judge.judge(request_of(opened, jurors=jurors, fast_path_margin=3))
        assert (len(casts), verdict.fast_path) == (6, False)
        asked = [model.name for model, _ in opened.asked[2:]]
        assert asked == ["red/gpt-r"] * 2 + ["blue/small"] * 2 + ["blue/claude-b"] * 2


async def test_closing_the_stream_cancels_every_call(models: Any) -> None:
    never = asyncio.Event()

    def script(_model: Model, _question: Question) -> Iterator[Any]:
        yield never

    async with models(script) as opened:
        call = opened.judge.stub.Judge(request_of(opened, jurors=[RED, SMALL]))
        for _ in range(4):
            await call.read()
        await until(lambda: opened.provider.open == 4)
        call.cancel()
        await until(lambda: opened.provider.open == 0)
        assert len(opened.asked) == 4


@pytest.mark.parametrize(
    ("juror", "field", "reason"),
    [
        ({"model": "red/gpt-9"}, "jurors[0].model", "UNKNOWN_MODEL"),
        ({"model": "green/gpt-r"}, "jurors[0].model", "UNKNOWN_MODEL"),
        ({"model": "offline/lead"}, "jurors[0].model", "UNKNOWN_MODEL"),
        ({"model": "red/gpt-r", "fallback_models": ["no/no"]}, "jurors[0].fallback_models[0]", "UNKNOWN_MODEL"),
        ({"model": "red/gpt-r", "fallback_models": ["offline/rubric"]}, "jurors[0].fallback_models", "INVALID_INPUT"),
        ({"model": "offline/rubric", "fallback_models": ["red/gpt-r"]}, "jurors[0].fallback_models", "INVALID_INPUT"),
        ({"model": "red/cold", "temperature": 0.5}, "jurors[0].temperature", "INVALID_INPUT"),
        (
            {"model": "red/gpt-r", "fallback_models": ["red/cold"], "temperature": 0.5},
            "jurors[0].temperature",
            "INVALID_INPUT",
        ),
        ({"model": "offline/rubric", "temperature": 0.5}, "jurors[0].temperature", "INVALID_INPUT"),
    ],
)  # fmt: skip
async def test_a_juror_that_cannot_be_is_refused_before_any_call(
    models: Any, juror: dict[str, Any], field: str, reason: str
) -> None:
    async with models() as opened:
        jurors = [judge_pb2.Juror(juror_id="j1", **juror)]
        projecting = judge_pb2.ProjectJudgeRequest(jurors=jurors, task="x", drafts=2, draft_max_tokens=16, orders=1)
        for call in (opened.judge.judge(request_of(opened, jurors=jurors)), opened.judge.stub.ProjectJudge(projecting)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            error = error_from_rpc(caught.value)
            assert (error.reason, error.field) == (reason, field)
        assert not opened.asked


async def test_temperature_is_zero_unless_it_is_given(models: Any) -> None:
    async with models() as opened:
        warm = judge_pb2.Juror(juror_id="j2", model="blue/small", temperature=0.75)
        await opened.judge.judge(request_of(opened, jurors=[RED, warm], orders=1))
        assert {model.name: question.temperature for model, question in opened.asked} == {
            "red/gpt-r": 0.0,
            "blue/small": 0.75,
        }


def on_the_wire(call: Call) -> Behaviour:
    """A juror behind a real wire format: fair, but its first answer under "moody" is no ballot."""
    shown = drafts_in(call)  # type: ignore[arg-type]
    scores = {
        letter: dict(zip(("task_fit", "support", "clarity"), marks_of(text), strict=True)) | {"reason": "so"}
        for letter, text in shown.items()
    }
    if call.model == "moody" and "could not be read" not in call.system:
        return Behaviour(text="A: 8/10")
    return Behaviour(text=f"```json\n{json.dumps(scores)}\n```" if call.model == "moody" else json.dumps(scores))


async def test_the_real_sdks_carry_ballots_of_both_wire_formats(serving: Any, tmp_path: Path, monkeypatch: Any) -> None:
    async with ModelServer(on_the_wire) as server:
        path = tmp_path / "providers.yaml"
        path.write_text(
            "providers:\n"
            f"  red: {{api: openai, base_url: {server.openai_url}, api_key_env: RED_KEY, models: {{\n"
            "    steady: {price: {input: 3, output: 15}},\n"
            "    moody: {price: {input: 3, output: 15}, json_schema: false}}}\n"
            f"  blue: {{api: anthropic, base_url: {server.anthropic_url}, api_key_env: RED_KEY, models: {{\n"
            "    careful: {price: {input: 3, output: 15}}}}\n"
        )
        monkeypatch.setenv("RED_KEY", "sk-secret-key")
        jurors = [
            judge_pb2.Juror(juror_id="j1", model="red/steady"),
            judge_pb2.Juror(juror_id="j2", model="red/moody"),
            judge_pb2.Juror(juror_id="j3", model="blue/careful"),
        ]
        async with serving(open_service(LlmSettings(providers=path))) as channel:
            stub: Any = judge_pb2_grpc.JudgeServiceStub(channel)
            request = judge_pb2.JudgeRequest(
                run_id="00000000-0000-0000-0000-000000000007", task="When do tides come?", jurors=jurors, orders=2
            )
            for number, text in enumerate((A, B), 1):
                request.candidates.add(draft=debate_pb2.Draft(draft_id=f"d{number}", round=1, text=text))
            events = [event async for event in stub.Judge(request)]
        casts = [event.ballot for event in events if event.HasField("ballot")]
        assert [cast.ballot.abstain_reason for cast in casts] == [""] * 6
        assert sorted(len(cast.calls) for cast in casts) == [1, 1, 1, 1, 2, 2]
        charged = sum(call.cost_nano_usd for cast in casts for call in cast.calls)
        billed = sum((3000 * usage.input_tokens + 15000 * usage.output_tokens) for _, usage in server.billed())
        assert charged == billed > 0
        assert {bool(call.schema) for call in server.calls if call.model in ("steady", "careful")} == {True}
        assert {bool(call.schema) for call in server.calls if call.model == "moody"} == {False}
    verdict = events[-1].verdict
    assert (verdict.winner_draft_id, verdict.contested, verdict.effective_jurors) == ("d1", False, 3)
    assert "sk-secret-key" not in str(events)


async def test_a_provider_without_its_key_is_refused_before_any_call(serving: Any, tmp_path: Path) -> None:
    path = tmp_path / "providers.yaml"
    path.write_text(PROVIDERS.replace("    api: openai\n", "    api: openai\n    api_key_env: NO_SUCH_KEY_IS_SET\n", 1))
    async with serving(open_service(LlmSettings(providers=path))) as channel:
        stub: Any = judge_pb2_grpc.JudgeServiceStub(channel)
        projecting = judge_pb2.ProjectJudgeRequest(jurors=[RED], task="x", drafts=2, draft_max_tokens=16, orders=1)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ProjectJudge(projecting)
        error = error_from_rpc(caught.value)
        assert error.reason == "PROVIDER_NOT_CONFIGURED"
        assert "NO_SUCH_KEY_IS_SET" in error.message
