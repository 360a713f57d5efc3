"""JudgeService over its socket."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from djp.llm.settings import LlmSettings
from djp.mesh.errors import FailedPrecondition
from djp.mesh.rpc_errors import error_from_rpc
from djp.v1 import common_pb2, debate_pb2, judge_pb2
from djp_judge.server import open_service
from tests.judge.judge_scripts import FAIR, GOOD

JUROR = judge_pb2.Juror(juror_id="j1", model="offline/rubric")


def candidate(draft_id: str, text: str = "Spring tides come at new moon.", **fields: Any) -> judge_pb2.Candidate:
    resolved = fields.pop("resolved_citations", 0)
    return judge_pb2.Candidate(
        draft=debate_pb2.Draft(draft_id=draft_id, round=1, text=text, **fields), resolved_citations=resolved
    )


async def refusal(call: Any) -> Any:
    """The error of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    return error_from_rpc(caught.value)


async def test_a_judgement_streams_its_ballots_and_ends_with_the_verdict(service: Any) -> None:
    casts, verdict = await service.judge(service.request(orders=2, seed=3))
    assert [cast.ballot.ballot_id for cast in casts] == ["j1-o1", "j1-o2"]
    assert [sorted(cast.ballot.order) for cast in casts] == [["d1-r1", "d2-r1"]] * 2
    for cast in casts:
        assert [score.draft_id for score in cast.ballot.scores] == list(cast.ballot.order)
        assert all(
            score.total == pytest.approx(score.task_fit + score.support + score.clarity) and score.reason
            for score in cast.ballot.scores
        )
        (call,) = cast.calls
        assert (call.stage, call.model, call.actor_id, call.attempt) == (
            common_pb2.STAGE_JUDGE,
            "offline/rubric",
            "j1",
            1,
        )
        assert call.offline
        assert not call.usage_unknown
        assert 0 < call.cost_nano_usd <= call.bound_nano_usd
    assert verdict.winner_draft_id == "d1-r1"
    assert [entry.draft_id for entry in verdict.ranking] == ["d1-r1", "d2-r1"]
    assert verdict.ranking[0].mean > verdict.ranking[1].mean
    assert [entry.ballots for entry in verdict.ranking] == [2, 2]
    assert (verdict.agreement, verdict.contested, verdict.valid_ballots, verdict.reason) == (1, False, 2, "")
    assert dict(verdict.winner_by_ballot) == {"j1-o1": "d1-r1", "j1-o2": "d1-r1"}


async def test_the_same_request_gets_the_same_ballots_call_ids_and_verdict(service: Any) -> None:
    request = service.request(orders=3, jurors=[JUROR, judge_pb2.Juror(juror_id="j2", model="offline/rubric")])
    first, again = await service.judge(request), await service.judge(request)
    assert [cast.ballot for cast in first[0]] == [cast.ballot for cast in again[0]]
    assert [cast.calls[0].call_id for cast in first[0]] == [cast.calls[0].call_id for cast in again[0]]
    assert first[1] == again[1]
    request.run_id = "00000000-0000-0000-0000-000000000008"
    other = await service.judge(request)
    assert {cast.calls[0].call_id for cast in other[0]}.isdisjoint(cast.calls[0].call_id for cast in first[0])


async def test_who_wrote_a_draft_changes_nothing(service: Any) -> None:
    plain = service.request()
    dressed = service.request()
    for one in dressed.candidates:
        one.draft.model, one.draft.debater_id, one.draft.confidence = "openai/gpt-best", "champion", 1
        one.draft.evidence.append("trust me")
    assert await verdict_and_scores(service, plain) == await verdict_and_scores(service, dressed)


async def verdict_and_scores(service: Any, request: judge_pb2.JudgeRequest) -> Any:
    casts, verdict = await service.judge(request)
    return verdict, [cast.ballot for cast in casts]


async def test_sixteen_drafts_sixteen_jurors_and_sixteen_orders(service: Any) -> None:
    request = service.request(
        [f"Spring tides come at new moon and at full moon, {number} times [Tides]." for number in range(16)],
        jurors=[judge_pb2.Juror(juror_id=f"j{number}", model="offline/rubric") for number in range(16)],
        orders=16,
    )
    casts, verdict = await service.judge(request)
    assert len(casts) == verdict.valid_ballots == 256
    assert len({cast.calls[0].call_id for cast in casts}) == 256
    for place in range(16):
        assert len({cast.ballot.order[place] for cast in casts}) == 16
    resumed, again = await service.judge(with_completed(request, [cast.ballot for cast in casts]))
    assert (resumed, again) == ([], verdict)


def with_completed(request: judge_pb2.JudgeRequest, ballots: list[judge_pb2.Ballot]) -> judge_pb2.JudgeRequest:
    request.completed_ballots.extend(ballots)
    return request


async def test_a_stream_that_was_cut_is_resumed_with_what_came(service: Any) -> None:
    texts = (GOOD, FAIR, "Ships wait.")
    whole, expected = await service.judge(service.request(texts, orders=3))
    got = []
    call = service.stub.Judge(service.request(texts, orders=3))
    async for event in call:
        got.append(event.ballot.ballot)
        if len(got) == 2:
            break
    call.cancel()
    casts, verdict = await service.judge(with_completed(service.request(texts, orders=3), got))
    assert [cast.ballot.ballot_id for cast in casts] == ["j1-o3"]
    assert casts[0].calls[0].call_id == whole[2].calls[0].call_id
    assert verdict == expected


@pytest.mark.parametrize(
    "spoil",
    [
        lambda ballot: setattr(ballot.scores[0], "total", 9.5),
        lambda ballot: setattr(ballot.scores[0], "draft_id", "ghost"),
        lambda ballot: setattr(ballot.scores[0], "draft_id", ballot.scores[1].draft_id),
        lambda ballot: ballot.scores.pop(),
        lambda ballot: setattr(ballot, "abstained", True),
    ],
    ids=["wrong total", "unknown draft", "scored twice", "draft missing", "abstained"],
)
async def test_a_completed_ballot_that_cannot_be_counted_is_an_abstention_and_not_cast_again(
    service: Any, spoil: Any
) -> None:
    casts, _ = await service.judge(service.request(orders=2))
    ballots = [cast.ballot for cast in casts]
    spoil(ballots[0])
    casts, verdict = await service.judge(with_completed(service.request(orders=2), ballots))
    assert casts == []
    assert (verdict.valid_ballots, verdict.abstentions) == (1, 1)
    assert verdict.winner_draft_id == "d1-r1"


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        (lambda ballot: setattr(ballot, "ballot_id", "j9-o1"), "completed_ballots[0].ballot_id"),
        (lambda ballot: setattr(ballot, "ballot_id", "j1-o3"), "completed_ballots[0].ballot_id"),
        (lambda ballot: setattr(ballot, "ballot_id", "j1-o2"), "completed_ballots[1].ballot_id"),
        (lambda ballot: setattr(ballot, "juror_id", "j2"), "completed_ballots[0].ballot_id"),
        (lambda ballot: setattr(ballot.scores[0], "support", 4.5), "completed_ballots[0].scores[0].support"),
        (lambda ballot: setattr(ballot.scores[0], "clarity", float("nan")), "completed_ballots[0].scores[0].clarity"),
    ],
)
async def test_ballots_of_another_jury_are_refused(service: Any, spoil: Any, field: str) -> None:
    casts, _ = await service.judge(service.request(orders=2))
    ballots = [cast.ballot for cast in casts]
    spoil(ballots[0])
    error = await refusal(service.stub.Judge(with_completed(service.request(orders=2), ballots)))
    assert (error.code, error.reason, error.field) == ("INVALID_ARGUMENT", "INVALID_INPUT", field)


async def test_every_rule_stops_a_draft_and_the_verdict_says_why(service: Any) -> None:
    request = service.request(
        candidates=[
            candidate("empty", " \n "),
            candidate("uncited", resolved_citations=1),
            candidate("flagged", resolved_citations=2, safety_flags=["violence"]),
            candidate("short", "Too short.", resolved_citations=2),
            candidate("long", "moon " * 21, resolved_citations=2),
            candidate("good", resolved_citations=2),
        ],
        required_citations=2,
        blocking_safety_flags=["violence"],
        min_words=3,
        max_words=20,
    )
    casts, verdict = await service.judge(request)
    assert {one.draft_id: one.rule for one in verdict.disqualified} == {
        "empty": "empty_text",
        "uncited": "too_few_citations",
        "flagged": "blocked_safety_flag",
        "short": "too_short",
        "long": "too_long",
    }
    assert verdict.disqualified[1].reason == "1 resolved citation, 2 required"
    assert [list(cast.ballot.order) for cast in casts] == [["good"]]
    assert (verdict.winner_draft_id, len(verdict.ranking)) == ("good", 1)


async def test_without_a_draft_left_nobody_is_asked_and_nothing_is_paid(service: Any) -> None:
    casts, verdict = await service.judge(service.request(required_citations=1))
    assert casts == []
    assert (verdict.winner_draft_id, list(verdict.ranking)) == ("", [])
    assert verdict.reason == "no draft is left: the rules disqualified all 2"


async def test_the_fast_path_skips_jurors_and_says_so(service: Any) -> None:
    jurors = [judge_pb2.Juror(juror_id=f"j{number}", model="offline/rubric") for number in range(3)]
    casts, verdict = await service.judge(service.request(jurors=jurors, fast_path_margin=0.5))
    assert (len(casts), verdict.fast_path) == (1, True)
    casts, verdict = await service.judge(service.request(jurors=jurors, fast_path_margin=10))
    assert (len(casts), verdict.fast_path) == (3, False)


@pytest.mark.parametrize(
    ("fields", "field", "reason"),
    [
        ({"jurors": [judge_pb2.Juror(juror_id="j1", model="offline/rubic")]}, "jurors[0].model", "UNKNOWN_MODEL"),
        ({"jurors": [JUROR, JUROR]}, "jurors[1].juror_id", "INVALID_INPUT"),
        (
            {"jurors": [judge_pb2.Juror(juror_id="j1", model="offline/rubric", fallback_models=["a/b"])]},
            "jurors[0].fallback_models",
            "INVALID_INPUT",
        ),
        (
            {"jurors": [judge_pb2.Juror(juror_id="j1", model="offline/rubric", temperature=0.7)]},
            "jurors[0].temperature",
            "INVALID_INPUT",
        ),
        ({"candidates": [candidate("d"), candidate("d")]}, "candidates[1].draft.draft_id", "INVALID_INPUT"),
        ({"candidates": [candidate("")]}, "candidates[0].draft.draft_id", "INVALID_INPUT"),
        ({"candidates": []}, "candidates", "INVALID_INPUT"),
        ({"jurors": []}, "jurors", "INVALID_INPUT"),
        ({"min_words": 9, "max_words": 8}, "min_words", "INVALID_INPUT"),
        ({"orders": 0}, "orders", "INVALID_INPUT"),
        ({"orders": 17}, "orders", "INVALID_INPUT"),
        ({"task": ""}, "task", "INVALID_INPUT"),
        ({"task": "x" * 262_145}, "task", "INVALID_INPUT"),
        ({"run_id": "run-1"}, "run_id", "INVALID_INPUT"),
        ({"fast_path_margin": float("nan")}, "fast_path_margin", "INVALID_INPUT"),
    ],
)
async def test_a_bad_field_is_named_and_nothing_is_cast(service: Any, fields: Any, field: str, reason: str) -> None:
    error = await refusal(service.stub.Judge(service.request(**fields)))
    assert (error.code, error.reason, error.field) == ("INVALID_ARGUMENT", reason, field)
    assert field in error.message


async def test_an_unknown_model_is_told_what_exists(service: Any) -> None:
    jurors = [judge_pb2.Juror(juror_id="j1", model="offline/rubic")]
    judged = await refusal(service.stub.Judge(service.request(jurors=jurors)))
    projected = await refusal(
        service.stub.ProjectJudge(
            judge_pb2.ProjectJudgeRequest(task="x", jurors=jurors, drafts=1, draft_max_tokens=16, orders=1)
        )
    )
    for error in (judged, projected):
        assert error.reason == "UNKNOWN_MODEL"
        assert "offline/rubric" in error.message


async def test_a_model_without_a_price_is_refused_before_anything_is_called(tmp_path: Any) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text('models:\n  other/model: {input: "1", output: "1"}\n')
    async with open_service(LlmSettings(prices=prices)) as opened:
        (_, servicer, _) = opened.servicers[0]
        with pytest.raises(FailedPrecondition, match="offline/rubric") as caught:
            await servicer.ProjectJudge(
                judge_pb2.ProjectJudgeRequest(task="x", jurors=[JUROR], drafts=1, draft_max_tokens=16, orders=1), None
            )
        assert caught.value.reason == "UNPRICED_MODEL"


async def test_a_price_file_that_is_missing_is_named(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("DJP_PRICES", str(tmp_path / "none.yaml"))
    with pytest.raises(FailedPrecondition, match=r"none\.yaml"):
        async with open_service(LlmSettings()):
            pass


async def test_the_projection_holds_over_the_socket(service: Any) -> None:
    request = service.request(orders=2)
    projected = await service.stub.ProjectJudge(
        judge_pb2.ProjectJudgeRequest(
            jurors=request.jurors,
            task=request.task,
            drafts=2,
            draft_max_tokens=100,
            passages=request.passages,
            orders=2,
        )
    )
    casts, _ = await service.judge(request)
    calls = [call for cast in casts for call in cast.calls]
    assert len(calls) == projected.bound.calls
    assert 0 < sum(call.cost_nano_usd for call in calls) <= projected.bound.cost_nano_usd
    assert sum(call.usage.input_tokens + call.usage.output_tokens for call in calls) <= projected.bound.tokens


async def test_a_huge_judgement_leaves_the_server_free_for_others(service: Any) -> None:
    sentence = "The moon \u263d pulls the water of the sea and of {} seas more [Tides]. "
    huge = service.request(
        ["".join(sentence.format(number + start) for number in range(50_000)) for start in (0, 7)],
        passages=[common_pb2.Passage(title=f"Tides {number}", text=(sentence * 1000)[:60_000]) for number in range(20)],
        min_words=1,
    )
    judging = asyncio.ensure_future(service.judge(huge))
    answered = 0
    while not judging.done():
        await service.judge(service.request())
        answered += 1
    casts, verdict = await judging
    assert answered > 2
    assert (len(casts), verdict.valid_ballots) == (1, 1)
    assert all("characters were read" in score.reason for score in casts[0].ballot.scores)
