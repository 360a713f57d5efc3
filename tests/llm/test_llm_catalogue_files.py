"""A provider file is found in its place, and a bad one is one line that names file, provider, model, key and remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from djp.llm.providers import read_providers
from djp.llm.settings import LlmSettings
from djp.mesh.errors import FailedPrecondition

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DJP_PROVIDERS", raising=False)
    monkeypatch.setenv("DJP_HOME", str(tmp_path / "home"))


def file_with(folder: Path, text: str | bytes) -> Path:
    path = folder / "providers.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_file_in_the_data_folder_is_taken_and_one_that_is_named_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    file_with(home, "providers: {mine: {api: openai, base_url: 'http://h/v1', models: {m: {}}}}")
    assert set(read_providers()) == {"mine"}
    named = file_with(tmp_path, "providers: {}")
    monkeypatch.setenv("DJP_PROVIDERS", str(named))
    assert read_providers(LlmSettings().providers) == {}


def one(entry: str) -> str:
    return "providers: {acme: {api: openai, base_url: 'http://h/v1', models: {m: {" + entry + "}}}}"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "'providers'"),
        ("[]", "'providers'"),
        ("providers: 3", "'providers'"),
        ("providers: {}\nmodels: {}", "'providers'"),
        ("providers: {acme: 3}", "acme"),
        ("providers: {Acme: {}}", "'Acme': not a name"),
        ("providers: {offline: {}}", "'offline'"),
        ("providers: {'a/b': {}}", "not a name"),
        ("providers: {acme: {api: openai, api_key_env: K}}", "acme': needs 'models'"),
        ("providers: {acme: {api: open, api_key_env: K, models: {}}}", "acme', api"),
        ("providers: {acme: {api: openai, models: {}}}", "needs api_key_env"),
        ("providers: {acme: {api: openai, api_key_env: 'sk-1 2', models: {}}}", "acme', api_key_env"),
        ("providers: {acme: {api: openai, base_url: 'localhost:8000', models: {}}}", "acme', base_url: is no address"),
        ("providers: {acme: {api: openai, base_url: 'file:///etc/passwd', models: {}}}", "base_url: is no address"),
        *(
            (f"providers: {{acme: {{api: openai, base_url: '{url}', models: {{}}}}}}", "acme', base_url: is no address")
            for url in (
                "http://h:99999/v1",
                "http://h:0/v1",
                "http://h:x/v1",
                "http://[::1/v1",
                "http:///v1",
                "http://h /v1",
                "http://h/v1?key=1",
                "http://h\u00e9/v1",
            )
        ),
        ("providers: {acme: {api: openai, base_url: 'http://me:pw@h/v1', models: {}}}", "holds a user or a password"),
        ("providers: {acme: {api: openai, api_key_env: K, max_concurrency: 0, models: {}}}", "max_concurrency"),
        ("providers: {acme: {api: openai, api_key_env: K, header: {}, models: {}}}", "did you mean headers"),
        ("providers: {acme: {api: openai, api_key_env: K, headers: {'a b': c}, models: {}}}", "headers"),
        ('providers: {acme: {api: openai, api_key_env: K, headers: {a: "b\\r\\nc: d"}, models: {}}}', "headers"),
        ("providers: {acme: {api: openai, api_key_env: K, headers: {a: '${A-B}'}, models: {}}}", "write ${NAME}"),
        ("providers: {acme: {api: openai, api_key_env: K, models: {'a b': {}}}}", "'a b': not an id"),
        ("providers: {acme: {api: openai, api_key_env: K, models: [m]}}", "acme', models"),
        ("providers: {acme: {api: openai, api_key_env: K, models: {m: 3}}}", "model 'm'"),
        (one("tokeniser: bytes"), "model 'm': 'tokeniser' is no key; did you mean tokenizer"),
        (one("xyz: 1"), "model 'm': 'xyz' is no key; there are id"),
        (one("tokenizer: gpt2"), "model 'm', tokenizer"),
        (one("thinking_tokens: -1"), "model 'm', thinking_tokens"),
        (one("thinking_tokens: many"), "model 'm', thinking_tokens"),
        (one("template_tokens: 1e99"), "model 'm', template_tokens"),
        (one("temperature: maybe"), "model 'm', temperature"),
        (one("max_tokens_field: limit"), "model 'm', max_tokens_field"),
        (one("price: {input: 1}"), "model 'm', price needs"),
        (one("price: {input: 1, output: 1e3}"), "model 'm', price, output"),
        (one("price: 3"), "model 'm', price needs"),
        (one("id: a, id: b"), "'id' is there twice"),
        ("providers: {", "not YAML"),
        ("[" * 500, "not YAML"),
        (b"providers: \xff", "not YAML"),
    ],
)
def test_a_bad_file_is_one_line_that_names_file_provider_model_and_key(
    tmp_path: Path, text: str | bytes, named: str
) -> None:
    path = file_with(tmp_path, text)
    with pytest.raises(FailedPrecondition) as refused:
        read_providers(path)
    assert str(path) in refused.value.message
    assert named in refused.value.message
    assert "\n" not in refused.value.message
    assert "pw" not in refused.value.message.replace(str(path), "")


def test_a_file_that_is_missing_is_named_with_its_variable(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match=r"cannot be read .*DJP_PROVIDERS"):
        read_providers(tmp_path / "none.yaml")


def test_timeouts_are_read_in_milliseconds_by_the_providers_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file_with(tmp_path, one("").replace("acme", "my-acme"))
    assert read_providers(path)["my-acme"].connect_timeout_s == 15
    assert read_providers(path)["my-acme"].read_timeout_s == 120
    monkeypatch.setenv("MY_ACME_READ_TIMEOUT_MS", "2500")
    assert read_providers(path)["my-acme"].read_timeout_s == 2.5
    for bad in ("0", "-1", "2.5", "soon", "9" * 100, "\u0663"):
        monkeypatch.setenv("MY_ACME_CONNECT_TIMEOUT_MS", bad)
        with pytest.raises(FailedPrecondition, match="MY_ACME_CONNECT_TIMEOUT_MS"):
            read_providers(path)
