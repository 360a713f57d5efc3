"""`djp models`: what is configured, what it costs, and each problem once with its remedy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from djp.cli.doctor import examine
from djp.cli.models import list_models
from djp.mesh.errors import InvalidInput
from djp.mesh.server import MeshServer, Service
from djp.v1 import debate_pb2, debate_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

KEY = "OPENAI_API_KEY is not set; set it where the debate and judge services run"


def model(name: str, **fields: Any) -> debate_pb2.Model:
    prices = {
        "input_nano_usd_per_million": 2_500_000_000,
        "cached_input_nano_usd_per_million": 1_250_000_000,
        "output_nano_usd_per_million": 10_000_000_000,
    }
    return debate_pb2.Model(**{"model": name, "family": "openai", "reachable": True, **prices, **fields})


class FakeDebate(debate_pb2_grpc.DebateServiceServicer):
    """Lists `models`."""

    def __init__(self) -> None:
        self.models = [
            model("acme/good"),
            *(model(f"openai/gpt-{n}", reachable=False, problem=KEY) for n in range(5)),
            debate_pb2.Model(model="acme/new", family="x", reachable=True, problem="acme/new has no price; add it"),
            model("offline/lead", family="offline", offline=True, output_nano_usd_per_million=0),
        ]
        self.asked: list[str] = []
        self.address = ""

    async def ListModels(self, request: Any, context: Any) -> debate_pb2.ListModelsResponse:
        self.asked.append(request.provider)
        if request.provider == "nobody":
            raise InvalidInput("provider: there is no provider 'nobody'; there are: acme", field="provider")
        return debate_pb2.ListModelsResponse(models=self.models)


@pytest.fixture
async def debate(short_folder: Path) -> AsyncIterator[FakeDebate]:
    """A gateway that forwards only this."""
    fake = FakeDebate()
    descriptor = debate_pb2.DESCRIPTOR.services_by_name["DebateService"]
    service = Service("gateway", [(descriptor, fake, debate_pb2_grpc.add_DebateServiceServicer_to_server)])
    async with MeshServer(service, f"unix:{short_folder}/gateway.sock") as server:
        fake.address = server.address
        yield fake


async def test_a_table_with_prices_and_each_problem_once(
    debate: FakeDebate, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await list_models(debate.address, provider="", as_json=False) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["model", "family", "$/M", "in", "cached", "out", "state"]
    assert lines[1] == ["acme/good", "openai", "2.5", "1.25", "10", "ready"]
    assert lines[2] == ["openai/gpt-0", "openai", "2.5", "1.25", "10", "not", "usable"]
    assert lines[7] == ["acme/new", "x", "-", "-", "-", "no", "price"]
    assert lines[8] == ["offline/lead", "offline", "2.5", "1.25", "0", "offline"]
    told = [" ".join(line) for line in lines[9:] if line]
    assert told == [
        "! openai/gpt-0, openai/gpt-1, openai/gpt-2 and 2 more",
        KEY,
        "! acme/new",
        "acme/new has no price; add it",
    ]
    assert debate.asked == [""]


async def test_json_has_everything(debate: FakeDebate, capsys: pytest.CaptureFixture[str]) -> None:
    assert await list_models(debate.address, provider="acme", as_json=True) == 0
    models = {one["model"]: one for one in json.loads(capsys.readouterr().out)["models"]}
    assert models["acme/good"] == {
        "model": "acme/good",
        "family": "openai",
        "offline": False,
        "reachable": True,
        "problem": "",
        "input_nano_usd_per_million": 2_500_000_000,
        "cached_input_nano_usd_per_million": 1_250_000_000,
        "output_nano_usd_per_million": 10_000_000_000,
    }
    assert models["acme/new"]["output_nano_usd_per_million"] is None
    assert models["openai/gpt-0"]["problem"] == KEY
    assert debate.asked == ["acme"]


async def test_a_narrow_terminal_gets_names_and_states(
    debate: FakeDebate, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    await list_models(debate.address, provider="", as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["model", "state"]
    assert all(len(line) <= 40 for line in lines[:9])


async def test_hostile_names_cannot_command_the_terminal(
    debate: FakeDebate, capsys: pytest.CaptureFixture[str]
) -> None:
    debate.models = [model("acme/\x1b[31m[bold]x", family="\x1b]0;", problem="line\n\x1b[2J")]
    await list_models(debate.address, provider="", as_json=False)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "[bold]x" in shown


async def test_an_unknown_provider_is_told_by_its_flag(debate: FakeDebate, djp: Any) -> None:
    with pytest.raises(InvalidInput, match="nobody"):
        await list_models(debate.address, provider="nobody", as_json=False)
    ended = await djp("models", "--provider", "nobody", "--gateway", debate.address)
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err.startswith("error: ")
    assert "--provider" in ended.err


async def test_without_a_gateway_the_mesh_of_this_process_lists_what_is_configured_here(djp: Any) -> None:
    """The whole way, through the gateway and the debate service; the server that is configured is down."""
    djp.home.mkdir()
    (djp.home / "providers.yaml").write_text(
        "providers: {house: {api: openai, base_url: 'http://127.0.0.1:1/v1', "
        "models: {qwen3: {price: {input: 0.1, output: 0.2}}}}}"
    )
    ended = await djp("models", "--json")
    assert ended.code == 0, ended.err
    models = {one["model"]: one for one in json.loads(ended.out)["models"]}
    assert models["offline/lead"]["reachable"]
    house = models["house/qwen3"]
    assert (house["reachable"], house["family"], house["output_nano_usd_per_million"]) == (False, "qwen", 200_000_000)
    assert "house" in house["problem"]


async def test_the_doctor_says_which_providers_have_their_key(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    assert await examine(None, as_json=True) == 0
    (check,) = (one for one in json.loads(capsys.readouterr().out)["checks"] if one["name"] == "models")
    assert check["state"] == "note"
    assert check["remedy"] == "OPENAI_API_KEY is not set; ANTHROPIC_API_KEY is not set"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    assert await examine(None, as_json=True) == 0
    (check,) = (one for one in json.loads(capsys.readouterr().out)["checks"] if one["name"] == "models")
    assert check["state"] == "ok", "one is enough"
    assert check["found"] == "offline models work; openai is configured; anthropic lacks its key"
    assert "secret" not in str(check)


@pytest.mark.parametrize(("variable", "value"), [("DJP_PROVIDERS", "/nowhere.yaml"), ("MAX_RETRIES", "many")])
async def test_the_doctor_finds_broken_settings_of_models(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert await examine(None, as_json=True) == 1
    (check,) = (one for one in json.loads(capsys.readouterr().out)["checks"] if one["name"] == "models")
    assert check["state"] == "broken"
    assert variable in check["found"]
