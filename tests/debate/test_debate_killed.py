"""A debate whose service is killed again and again ends whole, and no finished draft is paid for twice."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from benchmarks.resume import ANSWER, DEBATERS, PROVIDERS, ROUNDS, Debate, asked_for, until_killed
from tests.llm.model_server import Behaviour, ModelServer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.llm.model_server import Call


async def test_a_killed_debate_goes_on_and_pays_for_no_finished_draft_again(tmp_path: Path) -> None:
    chance, debate = random.Random(4), Debate()
    again = []

    def script(call: Call) -> Behaviour:
        _, debater_id, round_, _ = asked_for(call)
        if (debater_id, round_) in debate.drafts:
            again.append((debater_id, round_))
        return Behaviour(ANSWER, delay_s=chance.uniform(0.02, 0.12))

    async with ModelServer(script) as server:
        (tmp_path / "providers.yaml").write_text(PROVIDERS.format(url=server.openai_url))
        # The first two cuts come before any draft can be there and amid the drafts of a round; then it is left alone.
        kills = [await until_killed(debate, tmp_path, moment) for moment in ((7, 0.0), (14, 0.01), (9, 0.02))]
        while not debate.over:
            await until_killed(debate, tmp_path, None)
    assert kills[0], "the debate was cut in the middle"
    assert again == []
    assert len(debate.drafts) == DEBATERS * ROUNDS
    owed = [call for call_id, call in debate.told.items() if call_id not in debate.ended]
    assert owed
    assert all(call.usage_unknown and call.cost_nano_usd == call.bound_nano_usd > 0 for call in owed)
