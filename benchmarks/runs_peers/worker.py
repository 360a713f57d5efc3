"""The process of the peer: our debate as a LangGraph graph with its SQLite checkpointer; models answer at once.

Usage: worker.py FOLDER DEBATERS ROUNDS BALLOTS TEXT. Reads lines of JSON, {"runs": n, "at_once": n}, and answers each
with the seconds of every run, of all together, and of CPU. As many model calls as a run of ours has; then the winner's
text is rid of mail addresses and written to a file with fsync. Every superstep is on the disk before the next one
begins (durability "sync"), as a run of ours keeps what it has paid for.
"""

from __future__ import annotations

import asyncio
import json
import operator
import os
import re
import sys
import time
import uuid
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

_MAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+")


class State(TypedDict):
    """What a debate knows."""

    task: str
    round: int
    drafts: Annotated[list[dict[str, Any]], operator.add]
    ballots: Annotated[list[dict[str, Any]], operator.add]
    result: str


def graph(folder: Path, debaters: int, rounds: int, ballots: int, text: str) -> StateGraph[Any]:
    """Drafts in parallel, round by round; then ballots in parallel; then the winner is published."""

    async def draft(state: dict[str, Any]) -> dict[str, Any]:
        return {"drafts": [{"debater": state["debater"], "round": state["round"], "text": text, "tokens": 100}]}

    def more_drafts(state: State) -> list[Send] | str:
        if state["round"] >= rounds:
            return [Send("judge", {"order": order, "drafts": state["drafts"]}) for order in range(ballots)]
        return [Send("draft", {"debater": one, "round": state["round"]}) for one in range(debaters)]

    async def next_round(state: State) -> dict[str, Any]:
        return {"round": state["round"] + 1}

    async def judge(state: dict[str, Any]) -> dict[str, Any]:
        scores = [{"debater": one["debater"], "score": 5.0 + one["debater"] / 10} for one in state["drafts"]]
        return {"ballots": [{"order": state["order"], "scores": scores}]}

    async def publish(state: State) -> dict[str, Any]:
        totals: dict[int, float] = {}
        for ballot in state["ballots"]:
            for score in ballot["scores"]:
                totals[score["debater"]] = totals.get(score["debater"], 0.0) + score["score"]
        winner = max(totals, key=lambda one: totals[one])
        published = _MAIL.sub("[EMAIL]", next(one["text"] for one in state["drafts"] if one["debater"] == winner))
        artifact = {"text": published, "drafts": state["drafts"], "ballots": state["ballots"]}
        await asyncio.to_thread(write, folder / f"{uuid.uuid4()}.json", json.dumps(artifact, indent=2))
        return {"result": published}

    built = StateGraph(State)
    for name, node in (("draft", draft), ("next_round", next_round), ("judge", judge), ("publish", publish)):
        built.add_node(name, node)
    built.add_conditional_edges(START, more_drafts, ["draft", "judge"])
    built.add_edge("draft", "next_round")
    built.add_conditional_edges("next_round", more_drafts, ["draft", "judge"])
    built.add_edge("judge", "publish")
    built.add_edge("publish", END)
    return built


def write(path: Path, content: str) -> None:
    """Put a file on the disk."""
    with path.open("w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


async def main() -> None:
    """Answer until there is no more to do."""
    folder, (debaters, rounds, ballots), text = Path(sys.argv[1]), map(int, sys.argv[2:5]), sys.argv[5]
    async with AsyncSqliteSaver.from_conn_string(str(folder / "checkpoints.db")) as saver:
        app = graph(folder, debaters, rounds, ballots, text).compile(checkpointer=saver)

        async def one(room: asyncio.Semaphore) -> float:
            async with room:
                began = time.perf_counter()
                begun = {"task": "Why do blind juries judge better?", "round": 0, "drafts": [], "ballots": []}
                config = {"configurable": {"thread_id": str(uuid.uuid4())}}
                ended = await app.ainvoke(begun, config, durability="sync")
                assert ended["result"]
                assert len(ended["drafts"]) == debaters * rounds
                return time.perf_counter() - began

        while line := await asyncio.to_thread(sys.stdin.readline):
            order = json.loads(line)
            room = asyncio.Semaphore(order["at_once"])
            cpu, began = time.process_time(), time.perf_counter()
            took = await asyncio.gather(*(one(room) for _ in range(order["runs"])))
            wall = time.perf_counter() - began
            print(json.dumps({"took": took, "wall": wall, "cpu": time.process_time() - cpu}), flush=True)


asyncio.run(main())
