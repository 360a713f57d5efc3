"""The whole mesh with models of two providers, in both wire formats: two rounds, faults, every cent found."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from djp.catalogue_files import validate_against
from djp.mesh.run_spans import read_spans
from tests.llm.model_server import Behaviour, ModelServer

if TYPE_CHECKING:
    from tests.llm.model_server import Call

DJP = Path(sys.executable).with_name("djp")
KEYS = {"ALPHA_KEY": "sk-alpha-4f9c1d7b22e85a60", "BETA_KEY": "sk-ant-beta-90b3aa51cd7e4f18"}
INPUT_NANO, OUTPUT_NANO = 1_000, 2_000  # a token, at a dollar and two for a million
TASK = "How does a careful team keep a budget?"
DRAFT = re.compile(r"^<<< (\d+) Draft ([A-Z])\n(.*?)\n>>> \1$", re.MULTILINE | re.DOTALL)


def providers(server: ModelServer) -> str:
    price = {"input": INPUT_NANO / 1000, "output": OUTPUT_NANO / 1000}
    models = {name: {"family": family, "price": price} for name, family in (("writer", ""), ("judge", "judges"))}

    def entry(api: str, url: str, key: str, family: str) -> dict[str, Any]:
        of = {name: {**model, "family": f"{family}{model['family']}"} for name, model in models.items()}
        return {"api": api, "base_url": url, "api_key_env": key, "models": of}

    return yaml.safe_dump(
        {
            "providers": {
                "alpha": entry("openai", server.openai_url, "ALPHA_KEY", "alpha"),
                "beta": entry("anthropic", server.anthropic_url, "BETA_KEY", "beta"),
            }
        }
    )


class Script:
    """Writers answer with JSON, jurors prefer beta's text; one call is refused with 429, one is cut in its stream."""

    def __init__(self) -> None:
        self.cut: Call | None = None
        self._refused = False

    def __call__(self, call: Call) -> Behaviour:
        if call.model == "judge":
            drafts = {letter: text for _, letter, text in DRAFT.findall(call.user)}
            assert drafts
            marks = {letter: self._marks("reserve it first" in text) for letter, text in drafts.items()}
            return Behaviour(json.dumps(marks))
        if call.api == "openai" and not self._refused:
            self._refused = True
            return Behaviour(status=429, headers=(("Retry-After", "0"),), error_message=f"slow down, {call.headers}")
        if call.api == "anthropic" and "Spend less." in call.user and self.cut is None:  # it sees the other's draft
            self.cut = call
            return Behaviour(self._draft(call), fault="cut", after=3)
        return Behaviour(self._draft(call))

    @staticmethod
    def _marks(good: bool) -> dict[str, Any]:
        return {"reason": "It is clear.", "task_fit": 4 if good else 1, "support": 3 if good else 1, "clarity": 1.5}

    @staticmethod
    def _draft(call: Call) -> str:
        answer = "Spend less." if call.api == "openai" else "They reserve it first, and write to jane.roe@example.com."
        return json.dumps({"answer": answer, "evidence": [], "confidence": 0.75, "safety_flags": []})


def artifact_of(home: Path, result: dict[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((home / "artifacts" / result["artifact_location"]).read_text())
    return document


def contents(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


async def djp(home: Path, *arguments: str) -> tuple[int, str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DJP_")}
    environment |= {"DJP_HOME": str(home), "DJP_PROVIDERS": str(home.parent / "providers.yaml"), **KEYS}
    process = await asyncio.create_subprocess_exec(
        DJP, *arguments, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


VOICES = [
    *("--debater", "alpha/writer", "--debater", "beta/writer"),
    *("--juror", "alpha/judge", "--juror", "beta/judge"),
    *("--rounds", "2"),
]


async def test_two_providers_two_rounds_and_two_faults(home: Path) -> None:
    script = Script()
    async with ModelServer(script) as server:
        (home.parent / "providers.yaml").write_text(providers(server))
        code, out, err = await djp(home, "run", "--task", TASK, *VOICES, "--json")
        assert code == 0, out + err
        run = json.loads(out)["run"]
        shown = await djp(home, "runs", "show", "latest")
        traced = await djp(home, "trace", "latest")
        calls = server.calls

    # What was published: the winner's text, redacted, after two rounds.
    result = run["result"]
    assert result["text"] == "They reserve it first, and write to [REDACTED:EMAIL]."
    assert result["model"] == "beta/writer"
    assert result["rounds"] == 2
    assert [draft["round"] for draft in result["drafts"]] == [2, 2]

    # Every attempt, in the artifact and in the ledger, at what the provider billed; the cut one at its bound.
    artifact = artifact_of(home, result)
    assert validate_against("artifact", artifact) == []
    told = artifact["provenance"]["calls"]
    assert len(told) == len(calls) == 2 * 2 + 2 * 2 + 2  # drafts, ballots in two orders, faults
    (unknown,) = (call for call in told if call["usage_unknown"])
    assert script.cut is not None
    assert unknown["model"] == "beta/writer"
    assert unknown["cost_nano_usd"] == unknown["bound_nano_usd"] > _cost(script.cut)
    billed = sum(_cost(call) for call in calls if call is not script.cut)
    total = int(result["total_nano_usd"])
    assert total == billed + unknown["bound_nano_usd"] == artifact["provenance"]["total_cost_nano_usd"]
    assert sum(int(one["cost_nano_usd"]) for one in result["totals"]) == total
    assert all(call["cost_nano_usd"] <= call["bound_nano_usd"] for call in told)
    (refused,) = (call for call in told if call["error"] and call is not unknown)
    assert (refused["model"], refused["cost_nano_usd"]) == ("alpha/writer", 0)
    assert "429" in refused["error"]
    assert artifact["debate"]["drafts"][0]["confidence"] == 0.75

    # One trace, with a span for every attempt.
    spans = read_spans(home / "traces", run["run_id"])
    assert {span["trace_id"] for span in spans} == {run["trace_id"]}
    asked = sorted(span["name"] for span in spans if span["name"].startswith("chat "))
    assert asked == sorted(f"chat {call['model']}" for call in told)

    # What people see of it.
    assert shown[0] == traced[0] == 0
    assert "On the way" in shown[1]
    assert "1 call's usage unknown, charged at its bound" in shown[1]

    # No key anywhere.
    everything = [text.encode() for one in (shown, traced) for text in one[1:]] + [out.encode(), err.encode()]
    everything += contents(home)
    assert len(everything) > 10
    for key in KEYS.values():
        assert not any(key.encode() in content for content in everything)


def _cost(call: Call) -> int:
    """What the provider bills for a call, in nano-dollars."""
    used = call.billed
    return used.input_tokens * INPUT_NANO + used.output_tokens * OUTPUT_NANO if used else 0


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--debater", "alpha/writr"), "did you mean alpha/writer?"),
        (("--juror", "gamma/judge"), "--juror: there is no model 'gamma/judge'"),
        (("--debater", "delta/writer"), "DELTA_KEY"),
        (("--debater", "alpha/free"), "has no price"),
    ],
)
async def test_a_model_that_cannot_be_called_is_refused_before_anything_is_stored(
    home: Path, flags: tuple[str, ...], says: str
) -> None:
    async with ModelServer() as server:
        config = yaml.safe_load(providers(server))
        config["providers"]["alpha"]["models"]["free"] = {}
        config["providers"]["delta"] = {**config["providers"]["beta"], "api_key_env": "DELTA_KEY"}
        (home.parent / "providers.yaml").write_text(yaml.safe_dump(config))
        code, out, err = await djp(home, "run", "--task", TASK, *flags)
        assert code == 2, out + err
        assert says in err
        assert len(err.splitlines()) <= 2
        assert not server.calls
    listed = await djp(home, "runs", "list", "--json")
    assert json.loads(listed[1])["runs"] == []


async def test_models_from_the_environment_take_part(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with ModelServer(Script()) as server:
        (home.parent / "providers.yaml").write_text(providers(server))
        environment = {"DJP_DEBATERS": "alpha/writer,beta/writer", "DJP_JURORS": "beta/judge", "MAX_RETRIES": "0"}
        process = await asyncio.create_subprocess_exec(
            DJP, "run", "--task", TASK, "--quiet",
            env={**os.environ, **KEYS, **environment, "DJP_HOME": str(home),
                 "DJP_PROVIDERS": str(home.parent / "providers.yaml")},
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await process.communicate()
        # Alpha's only attempt is refused: its debater fails, and the run goes on with the other.
        assert out.decode() == "They reserve it first, and write to [REDACTED:EMAIL].\n"
        assert process.returncode == 0
        assert len(server.calls) == 2 + 1


async def test_drafts_that_agree_are_not_debated_again(home: Path) -> None:
    """The fast path of the preset `quick`: there is no second round, and the artifact says why."""
    answer = {"answer": "Reserve the most it can cost first.", "evidence": [], "confidence": 1, "safety_flags": []}

    def script(call: Call) -> Behaviour:
        if call.model == "writer":
            return Behaviour(json.dumps(answer))
        letters = [letter for _, letter, _ in DRAFT.findall(call.user)]
        return Behaviour(json.dumps(dict.fromkeys(letters, Script._marks(good=True))))

    async with ModelServer(script) as server:
        (home.parent / "providers.yaml").write_text(providers(server))
        code, out, err = await djp(home, "run", "--task", TASK, "--preset", "quick", *VOICES[:-2], "--json")
        assert code in (0, 3), out + err
        assert len([call for call in server.calls if call.model == "writer"]) == 2
    result = json.loads(out)["run"]["result"]
    assert (result["rounds"], result["stopped_early"], result["agreement"]) == (1, True, 1.0)
    artifact = artifact_of(home, result)
    assert validate_against("artifact", artifact) == []
    debate = artifact["debate"]
    assert (debate["rounds"], debate["stopped_early"], debate["agreement"]) == (1, True, 1.0)
    assert artifact["judge"]["verdict"]["fast_path"] is result["verdict"]["fast_path"]
