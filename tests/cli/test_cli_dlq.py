"""`djp dlq` and `djp runs approve` in meshes of their own: what one command leaves, the next one takes up."""

from __future__ import annotations

import json
from typing import Any

from djp.cli.dlq import letters_of
from djp.v1 import common_pb2

TASK = ("run", "--task", "How is money reserved?")


async def test_what_a_budget_refused_is_replayed_once_when_there_is_room(djp: Any) -> None:
    limit = ("budgets", "set", "tenant:default", "--reason", "a test")
    assert (await djp(*limit, "--daily-usd", "0.000000001")).code == 0
    assert (await djp(*TASK)).code == 5
    (letter,) = json.loads((await djp("dlq", "list", "--reason", "budget_exceeded", "--json")).out)["dead_letters"]
    assert letter["error"]["reason"] == "ERROR_REASON_BUDGET_EXCEEDED"
    assert (await djp(*limit, "--daily-usd", "5")).code == 0
    replayed = json.loads((await djp("dlq", "replay", "--all", "--json")).out)
    (run,) = replayed["runs"]
    assert (replayed["queued"], replayed["already_replayed"]) == (1, 0)
    assert run["state"] in ("RUN_STATE_PUBLISHED", "RUN_STATE_ADVISORY")
    assert run["replay"]["run_id"] == letter["run_id"]
    again = await djp("dlq", "replay", "--reason", "budget_exceeded")
    assert again.out.splitlines()[0] == "0 queued, 1 replayed before."
    listed = await djp("dlq", "list", "--replayed")
    assert letter["run_id"][:8] in listed.out
    assert run["run_id"][:8] in listed.out
    assert "1 purged" in (await djp("dlq", "purge", letter["run_id"][:8])).out
    assert "There is no dead letter" in (await djp("dlq", "list", "--replayed")).out


async def test_a_text_waits_for_approval_from_one_command_to_the_next(djp: Any) -> None:
    waits = await djp(*TASK, "--require-approval")
    assert waits.code == 8
    assert "djp runs approve" in waits.out
    shown = json.loads((await djp("runs", "show", "latest", "--json")).out)["run"]
    assert shown["state"] == "RUN_STATE_PENDING_APPROVAL"
    approved = await djp("runs", "approve", "latest", "--reason", "read it")
    assert approved.code in (0, 3)  # offline, a text without a corpus is advice
    shown = json.loads((await djp("runs", "show", "latest", "--json")).out)["run"]
    assert shown["approval"]["reason"] == "read it"
    assert (await djp("validate")).code == 0


async def test_which_letters_is_said_in_one_way(djp: Any) -> None:
    refused = await djp("dlq", "purge")
    assert refused.code == 2
    assert "--all" in refused.err
    refused = await djp("dlq", "list", "--reason", "bad_luck")
    assert refused.code == 2
    assert "there is no reason 'bad_luck'" in refused.err
    assert letters_of("budget-exceeded").reason == common_pb2.ERROR_REASON_BUDGET_EXCEEDED
