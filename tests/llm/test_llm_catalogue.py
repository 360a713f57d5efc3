"""Configured models are found or refused with the remedy, before anything is called, and listed with their state."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from djp.llm.asking import Answered, Asking
from djp.llm.errors import ProviderNotConfigured, UnknownModel, UnpricedModel
from djp.llm.families import family_of
from djp.llm.llm import Llm, open_llm
from djp.llm.offline import DEBATER_MODELS
from djp.llm.provider import Question
from djp.llm.providers import read_providers
from djp.llm.settings import LlmSettings
from djp.mesh.errors import InvalidInput
from tests.llm.model_server import Behaviour, ModelServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from djp.llm.catalogue import ListedModel

RUN = "0b0f1f0e-6f3c-4f5e-9c55-3a9a7f6f2b11"
LOCAL = """
providers:
  local:
    api: openai
    base_url: http://127.0.0.1:1/v1
    headers: {X-Team: "team ${TEAM_TOKEN}"}
    models:
      meta/Llama-3.3-70B: {id: llama3.3, price: {input: 0.1, output: 0.2}, tokenizer: cl100k_base, seed: "false"}
      gpt-4o:
  openai:
    api: openai
    api_key_env: OPENAI_API_KEY
    models: {gpt-4o: {}, gpt-made-up: {}}
"""


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "TEAM_TOKEN", "DJP_PROVIDERS", "DJP_PRICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DJP_HOME", str(tmp_path / "home"))


def file_with(folder: Path, text: str) -> Path:
    path = folder / "providers.yaml"
    path.write_text(text)
    return path


@pytest.fixture
async def llm(tmp_path: Path) -> AsyncIterator[Llm]:
    async with open_llm(LlmSettings(providers=file_with(tmp_path, LOCAL))) as opened:
        yield opened


async def test_a_configured_model_is_as_the_file_says(llm: Llm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_TOKEN", "t")
    model = llm.catalogue.model("local/meta/Llama-3.3-70B")
    assert (model.remote_id, model.family, model.provider) == ("llama3.3", "meta", "local")
    assert (model.tokenizer, model.seed, model.temperature) == ("cl100k_base", False, True)
    assert (model.price.input, model.price.cached_input, model.price.output) == (
        Decimal("0.1"),
        Decimal("0.1"),
        Decimal("0.2"),
    )
    assert model.max_tokens_field == "max_tokens"
    assert llm.catalogue.model(model.name) is model


async def test_openai_itself_gets_its_published_price_and_the_limit_that_thinking_models_take(
    llm: Llm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    model = llm.catalogue.model("openai/gpt-4o")
    assert model.price.input == Decimal("2.5")
    assert model.max_tokens_field == "max_completion_tokens"


async def test_a_local_server_never_costs_what_another_ones_model_of_the_same_name_costs(llm: Llm) -> None:
    with pytest.raises(UnpricedModel, match="local/gpt-4o") as refused:
        llm.catalogue.model("local/gpt-4o")
    assert "prices.yaml" in refused.value.message


async def test_a_provider_called_openai_that_is_elsewhere_is_not_openai(tmp_path: Path) -> None:
    path = file_with(
        tmp_path, "providers: {openai: {api: openai, base_url: 'http://127.0.0.1:1/v1', models: {gpt-4o: {}}}}"
    )
    async with open_llm(LlmSettings(providers=path)) as llm:
        with pytest.raises(UnpricedModel):
            llm.catalogue.model("openai/gpt-4o")


async def test_a_models_own_price_is_above_the_price_file_and_that_above_the_published_one(tmp_path: Path) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("models: {openai/gpt-4o: {input: 7, output: 8}, openai/gpt-4.1: {input: 7, output: 8}}")
    path = file_with(
        tmp_path,
        "providers: {openai: {api: openai, api_key_env: HOME, "
        "models: {gpt-4o: {price: {input: 5, output: 6}}, gpt-4.1: {}, gpt-4.1-mini: {}}}}",
    )
    async with open_llm(LlmSettings(providers=path, prices=prices)) as llm:
        found = [llm.catalogue.model(f"openai/{name}").price.input for name in ("gpt-4o", "gpt-4.1", "gpt-4.1-mini")]
    assert found == [5, 7, Decimal("0.4")]


async def test_an_unknown_model_names_the_field_and_the_nearest(llm: Llm) -> None:
    for name in ("openai/gpt-4", "local/", "openai", "", "nobody/gpt-4o", "x" * 10_000, "offline/nobody"):
        with pytest.raises(UnknownModel) as refused:
            llm.catalogue.model(name, field="debaters[0].model")
        assert refused.value.field == "debaters[0].model"
        assert len(refused.value.message) < 700
    with pytest.raises(UnknownModel, match="did you mean openai/gpt-4o"):
        llm.catalogue.model("openai/gpt-4")


@pytest.mark.parametrize("key", [None, "", " \n", "sk-\u00e9", "sk-1\r\nX-Evil: 1"])
async def test_a_missing_or_broken_key_is_refused_by_its_variable_and_never_shown(
    llm: Llm, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    if key is not None:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(ProviderNotConfigured, match="OPENAI_API_KEY") as refused:
        llm.catalogue.model("openai/gpt-4o")
    assert (refused.value.code, refused.value.reason) == ("FAILED_PRECONDITION", "PROVIDER_NOT_CONFIGURED")
    assert "sk-" not in refused.value.message


async def test_a_secret_in_a_header_is_needed_too(llm: Llm) -> None:
    with pytest.raises(ProviderNotConfigured, match="TEAM_TOKEN"):
        llm.catalogue.model("local/meta/Llama-3.3-70B")


async def test_offline_models_need_no_provider(llm: Llm) -> None:
    assert llm.catalogue.model(DEBATER_MODELS[0]).family == "offline"


async def test_the_shipped_file_is_right_and_every_model_in_it_has_a_price(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-2")
    configs = read_providers()
    assert set(configs) == {"openai", "anthropic"}
    async with open_llm(LlmSettings()) as llm:
        for provider, config in configs.items():
            for name in config.entry.models:
                model = llm.catalogue.model(f"{provider}/{name}")
                assert model.family == provider
                assert model.price.output > model.price.input > 0


@pytest.mark.parametrize(
    ("provider", "model", "family"),
    [
        ("openai", "gpt-4o", "openai"),
        ("local", "ft:gpt-4o:acme", "openai"),
        ("openrouter", "anthropic/claude-sonnet-4.5", "anthropic"),
        ("openrouter", "meta-llama/Llama-3.3-70B-Instruct", "meta"),
        ("ollama", "llama3.2:3b", "meta"),
        ("vllm", "Qwen/Qwen3-8B", "qwen"),
        ("vllm", "mistralai/Mixtral-8x7B", "mistral"),
        ("gateway", "google/gemma-3", "google"),
        ("vllm", "deepseek-ai/DeepSeek-V3", "deepseek"),
        ("acme", "house-model", "acme"),
        ("acme", "", "acme"),
    ],
)
def test_families_are_makers_and_not_gateways(provider: str, model: str, family: str) -> None:
    assert family_of(provider, model) == family


def listing(url: str, *, second: str = "") -> str:
    return (
        f"providers: {{acme: {{api: openai, base_url: '{url}', api_key_env: ACME_KEY, models: {{"
        "gpt-4o-mini: {price: {input: 1, output: 2}}, claude-sonnet-4: {price: {input: 1, output: 2}}, "
        f"other: {{}}}}}}{second}}}"
    )


async def listed(path: Path, provider: str = "") -> dict[str, ListedModel]:
    async with open_llm(LlmSettings(providers=path)) as llm:
        return {model.name: model for model in await llm.catalogue.list(provider)}


async def test_the_list_says_what_is_reachable_and_priced(
    tmp_path: Path, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_KEY", "k")
    model_server.models = ["gpt-4o-mini", "claude-sonnet-4-20250929"]
    models = await listed(file_with(tmp_path, listing(model_server.openai_url)))
    good, dated, other = (models[f"acme/{name}"] for name in ("gpt-4o-mini", "claude-sonnet-4", "other"))
    assert (good.reachable, good.problem, good.family, good.offline) == (True, "", "openai", False)
    assert dated.reachable  # the list has only the snapshot's name
    assert (other.reachable, other.price) == (False, None)
    assert "does not offer other" in other.problem
    assert models[DEBATER_MODELS[0]].offline
    assert models[DEBATER_MODELS[0]].reachable
    assert not model_server.calls  # nothing was asked for


async def test_the_list_of_one_provider(tmp_path: Path, model_server: ModelServer) -> None:
    path = file_with(tmp_path, listing(model_server.openai_url))
    assert set(await listed(path, "offline")) == {name for name in await listed(path) if name.startswith("offline/")}
    models = await listed(path, "acme")
    assert len(models) == 3
    assert "ACME_KEY is not set" in models["acme/gpt-4o-mini"].problem
    with pytest.raises(InvalidInput, match=r"provider: there is no provider 'acne'.*acme, offline"):
        await listed(path, "acne")


async def test_a_provider_that_is_down_or_silent_keeps_no_other_from_being_listed(
    tmp_path: Path, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_KEY", "k")
    monkeypatch.setattr("djp.llm.catalogue.REACHABLE_WITHIN_S", 0.2)
    async with ModelServer() as silent:
        silent.listing = Behaviour(fault="hang", after=-1)
        down = ", down: {api: openai, base_url: 'http://127.0.0.1:1/v1', models: {m: {price: {input: 1, output: 1}}}}"
        hush = down.replace("down", "hush").replace("http://127.0.0.1:1/v1", silent.openai_url)
        models = await listed(file_with(tmp_path, listing(model_server.openai_url, second=down + hush)))
    assert models["acme/gpt-4o-mini"].reachable
    assert not models["down/m"].reachable
    assert "hush" in models["hush/m"].problem


@pytest.mark.parametrize(("remembered_s", "believed"), [(3600, True), (0, False)])
async def test_what_a_provider_listed_is_believed_for_a_while(
    tmp_path: Path, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch, remembered_s: float, believed: bool
) -> None:
    monkeypatch.setenv("ACME_KEY", "k")
    monkeypatch.setattr("djp.llm.catalogue.REMEMBERED_S", remembered_s)
    async with open_llm(LlmSettings(providers=file_with(tmp_path, listing(model_server.openai_url)))) as llm:
        await llm.catalogue.list("acme")
        model_server.models = []
        assert any(model.reachable for model in await llm.catalogue.list("acme")) is believed


async def test_a_key_that_is_refused_is_told_without_the_key(
    tmp_path: Path, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_KEY", "wrong-secret-key")
    model_server.key = "right"
    models = await listed(file_with(tmp_path, listing(model_server.openai_url)))
    assert not models["acme/gpt-4o-mini"].reachable
    assert "ACME_KEY" in models["acme/gpt-4o-mini"].problem
    assert "wrong-secret-key" not in str(models)


async def test_lists_at_once_do_not_disturb_each_other(
    tmp_path: Path, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_KEY", "k")
    async with open_llm(LlmSettings(providers=file_with(tmp_path, listing(model_server.openai_url)))) as llm:
        lists = await asyncio.gather(*(llm.catalogue.list() for _ in range(5)))
    assert all(models == lists[0] for models in lists)


def test_opening_and_asking_for_offline_models_imports_nothing_heavy() -> None:
    code = (
        "import asyncio, sys\n"
        "from djp.llm.llm import open_llm\n"
        "from djp.llm.settings import LlmSettings\n"
        "async def main():\n"
        "    async with open_llm(LlmSettings()) as llm:\n"
        f"        llm.catalogue.model({DEBATER_MODELS[0]!r})\n"
        "        await llm.catalogue.list('offline')\n"
        "asyncio.run(main())\n"
        "print({'openai', 'anthropic', 'genai_prices', 'bpe_openai', 'httpx2'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


async def test_calls_go_out_as_the_file_and_the_environment_say(
    tmp_path: Path, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_KEY", " sk-1\n")
    monkeypatch.setenv("TEAM_TOKEN", "t-2")
    monkeypatch.setenv("MAX_RETRIES", "1")
    path = file_with(
        tmp_path,
        f"providers: {{acme: {{api: openai, base_url: '{model_server.openai_url}', api_key_env: ACME_KEY, "
        "headers: {X-Team: 'team ${TEAM_TOKEN}'}, "
        "models: {m: {id: acme/m-1, thinking_tokens: 50, price: {input: 1, output: 1}}}}}",
    )
    question = Question("", "?", 100)
    async with open_llm(LlmSettings(providers=path)) as llm:
        model = llm.catalogue.model("acme/m")
        assert llm.asker.bound([model], question).calls == 2
        answer = await llm.asker.ask([model], question, Asking(RUN, "DEBATE", "d1", ()), lambda _: None)
    assert isinstance(answer, Answered)
    call = model_server.calls[0]
    assert (call.model, call.limit) == ("acme/m-1", 150)
    assert call.headers["x-team"] == "team t-2"
    assert call.headers["authorization"] == "Bearer sk-1"
