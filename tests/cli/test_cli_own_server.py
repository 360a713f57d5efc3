"""A new user with a model server of their own: `djp init --server`, then a run in which its models debate and judge."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from djp.mesh.errors import InvalidInput
from tests.llm.model_server import Behaviour, ModelServer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.llm.model_server import Call

DRAFT = re.compile(r"^<<< (\d+) Draft ([A-Z])\n", re.MULTILINE)
ANSWER = "Budgets are kept by reserving the most that a run can cost, and then some more words about it."


def answers(call: Call) -> Behaviour:
    """As a small model would that follows its instructions."""
    letters = [letter for _, letter in DRAFT.findall(call.user)]
    if letters:
        marks = {"reason": "It is clear.", "task_fit": 4, "support": 3, "clarity": 2}
        return Behaviour(json.dumps(dict.fromkeys(letters, marks)))
    return Behaviour(json.dumps({"answer": ANSWER, "evidence": [], "confidence": 0.75, "safety_flags": []}))


async def test_from_init_to_a_published_text_that_was_streamed(djp: Any, home: Path) -> None:
    async with ModelServer(answers) as server:
        server.models = ["tiny-chat", "org/Tiny:8b"]
        begun = await djp("init", "--server", server.openai_url)
        assert begun.code == 0, begun.err
        models = json.loads((await djp("models", "--provider", "local", "--json")).out)["models"]
        run = await djp("run", "--task", "How are budgets kept?", "--stream")
        shown = json.loads((await djp("runs", "show", "latest", "--json")).out)["run"]
        doctor = await djp("doctor")

    assert {one["model"] for one in models} == {"local/tiny-chat", "local/org/Tiny:8b"}
    assert run.code == 0, run.err
    assert run.out.startswith(ANSWER)
    assert "Offline" not in run.out
    assert " │ " in run.err
    assert {draft["model"] for draft in shown["result"]["drafts"]} == {"local/tiny-chat", "local/org/Tiny:8b"}
    assert shown["result"]["total_nano_usd"] == "0"
    assert doctor.code == 0
    assert "local is configured" in doctor.out


async def test_what_is_there_stays_and_the_lines_to_add_are_told(djp: Any, home: Path) -> None:
    await djp("init")
    before = (home / "djp.env").read_text()
    again = await djp("init", "--server", "http://localhost:8000/v1", "--model", "tiny-chat")
    assert (home / "djp.env").read_text() == before
    assert f"    DJP_PROVIDERS={home}/providers.yaml" in again.out.splitlines()
    assert "    DJP_DEBATERS=local/tiny-chat,local/tiny-chat,local/tiny-chat" in again.out.splitlines()


@pytest.mark.parametrize(
    ("behaviour", "told"),
    [
        (Behaviour(status=401), "it answers 401"),
        (Behaviour(status=500), "it answers 500"),
    ],
)
async def test_a_server_that_does_not_say_its_models(behaviour: Behaviour, told: str, djp: Any, home: Path) -> None:
    async with ModelServer(answers) as server:
        server.listing = behaviour
        ended = await djp("init", "--server", server.openai_url)
    assert (ended.code, ended.out) == (2, "")
    assert told in ended.err
    assert "--model" in ended.err
    assert not (home / "djp.env").exists()


@pytest.mark.parametrize(
    "address", ["localhost:8000", "http://me:secret@localhost/v1", "file:///etc/passwd", "http://"]
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    from djp.cli.own_server import models_of

    with pytest.raises(InvalidInput, match="--server: give the address"):
        models_of(address)
