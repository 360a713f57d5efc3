"""The providers of config/providers.yaml: read and checked, and opened when they are first used."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from djp.catalogue_files import data_dir
from djp.llm.models import Tokenizer  # noqa: TC001  pydantic reads it at run time
from djp.llm.prices import Price, read_price
from djp.llm.tokens import TEMPLATE_TOKENS
from djp.llm.yaml_files import read_yaml
from djp.mesh.errors import FailedPrecondition
from djp.mesh.settings import djp_home

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from djp.llm.provider import Provider

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_MODEL = re.compile(r"[\x21-\x7e]{1,150}")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SECRET = re.compile(r"[\x20-\x7e]+")
_MOST_MS = 3_600_000
_TEXTS = {
    "api_key_env": "must be the name of an environment variable, for example OPENAI_API_KEY, and not the key itself",
    "headers": "must be a map of HTTP header names to lines of printable ASCII characters",
}


def _web_address(url: str) -> str:
    no_address = "is no address; write it as in http://localhost:8000/v1"
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError as error:  # a port or an IPv6 address that cannot be
        raise ValueError(no_address) from error
    if not whole or parts.query or parts.fragment or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(no_address)
    if "@" in parts.netloc:
        raise ValueError("holds a user or a password; name the variable that holds the key with api_key_env")
    return url


def _names_variables(value: str) -> str:
    if "${" in _VARIABLE.sub("", value):
        raise ValueError("names no environment variable; write ${NAME}, of letters, digits and _")
    return value


_Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
_HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
_Text = Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]+$", max_length=1000)]


class ModelEntry(BaseModel):
    """What the file says of a model; see `djp.llm.models.Model`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: _Text | None = None
    family: _Text | None = None
    tokenizer: Tokenizer = "bytes"
    thinking_tokens: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    template_tokens: Annotated[int, Field(ge=16, le=1_000_000)] = TEMPLATE_TOKENS
    temperature: bool = True
    seed: bool | None = None
    json_schema: bool = True
    streaming: bool = True
    max_tokens_field: Literal["max_completion_tokens", "max_tokens"] | None = None
    price: Any = None


class ProviderEntry(BaseModel):
    """What the file says of a provider. `headers` may name environment variables as `${NAME}`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    api: Literal["openai", "anthropic"]
    base_url: Annotated[str, AfterValidator(_web_address)] | None = None
    api_key_env: _Variable | None = None
    headers: dict[_HeaderName, Annotated[_Text, AfterValidator(_names_variables)]] = {}
    max_concurrency: Annotated[int, Field(ge=1, le=10_000)] = 16
    models: dict[str, ModelEntry]

    @model_validator(mode="after")
    def _has_a_key(self) -> ProviderEntry:
        if self.base_url is None and self.api_key_env is None:
            raise ValueError("needs api_key_env, the name of the variable that holds the key, or a base_url of its own")
        return self


@dataclass(frozen=True)
class ProviderConfig:
    """A configured provider: its entry in the file, its models' own prices, and its timeouts in seconds."""

    name: str
    entry: ProviderEntry
    prices: Mapping[str, Price]
    connect_timeout_s: float
    read_timeout_s: float

    def variables(self) -> list[str]:
        """The environment variables that its key and its headers come from."""
        key = [self.entry.api_key_env] if self.entry.api_key_env else []
        return key + [name for value in self.entry.headers.values() for name in _VARIABLE.findall(value)]

    def missing(self) -> str:
        """What the environment lacks before the provider can be called, with the remedy; empty if nothing."""
        for variable in self.variables():
            value = os.environ.get(variable, "").strip()
            if not value:
                return f"{variable} is not set; set it where the debate and judge services run"
            if not _SECRET.fullmatch(value):
                return f"{variable} holds characters that no HTTP header can; set it anew"
        return ""

    def open(self) -> Provider:
        """The provider, ready to be called. Reads the key from the environment; there must be nothing `missing`."""
        if self.entry.api == "openai":
            from djp.llm.openai_provider import OpenAIProvider as Adapter
        else:
            from djp.llm.anthropic_provider import AnthropicProvider as Adapter  # type: ignore[assignment]
        variable = self.entry.api_key_env
        return Adapter(
            self.name,
            api_key=os.environ[variable].strip() if variable else None,
            key_variable=variable,
            base_url=self.entry.base_url,
            headers={
                name: _VARIABLE.sub(lambda found: os.environ[found[1]].strip(), value)
                for name, value in self.entry.headers.items()
            },
            connect_timeout_s=self.connect_timeout_s,
            read_timeout_s=self.read_timeout_s,
        )


class Providers(Mapping[str, "Provider"]):
    """The configured providers by name, each opened once, when it is first used."""

    def __init__(self, configs: Mapping[str, ProviderConfig]) -> None:
        self._configs = configs
        self._open: dict[str, Provider] = {}
        self._closing = AsyncExitStack()

    def __getitem__(self, name: str) -> Provider:
        """The open provider of that name."""
        if name not in self._open:
            provider = self._open[name] = self._configs[name].open()
            self._closing.push_async_callback(provider.close)
        return self._open[name]

    def __iter__(self) -> Iterator[str]:
        """The names of all."""
        return iter(self._configs)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._configs)

    async def close(self) -> None:
        """Close the connections of those that were opened."""
        self._open.clear()
        await self._closing.aclose()


def provider_file(path: Path | None) -> Path:
    """The file that is read: the one that is given, else providers.yaml in DJP_HOME, else the one that is shipped."""
    own = djp_home() / "providers.yaml"
    return path or (own if own.is_file() else data_dir() / "config" / "providers.yaml")


def read_providers(path: Path | None = None) -> dict[str, ProviderConfig]:
    """The providers of a file, by name.

    Raises FailedPrecondition, naming the file, the provider, the model, the key and the remedy, if the file cannot be
    read or understood, or a timeout's variable is no number.
    """
    path = provider_file(path)
    document = read_yaml(path, "provider file", "DJP_PROVIDERS")
    place = f"provider file {path}"
    providers = document.get("providers")
    if set(document) != {"providers"} or not isinstance(providers, dict):
        raise FailedPrecondition(f"{place}: needs 'providers', a map of names to providers (or {{}}), and no more")
    return {name: _provider(place, name, entry) for name, entry in providers.items()}


def _provider(place: str, name: str, document: object) -> ProviderConfig:
    place = f"{place}: provider {name[:80]!r}"
    if not _NAME.fullmatch(name) or name == "offline":
        raise FailedPrecondition(
            f"{place}: not a name; take at most 40 small letters, digits, _ and -, and not 'offline', which is built in"
        )
    if isinstance(document, dict) and isinstance(document.get("models"), dict):
        models = {model: {} if entry == "" else entry for model, entry in document["models"].items()}
        document = {**document, "models": models}
    try:
        entry = ProviderEntry.model_validate(document)
    except ValidationError as error:
        raise FailedPrecondition(_first_problem(place, error)) from None
    bad = next((model for model in entry.models if not _MODEL.fullmatch(model)), None)
    if bad is not None:
        raise FailedPrecondition(f"{place}, model {bad[:80]!r}: not an id; take at most 150 characters without spaces")
    return ProviderConfig(
        name=name,
        entry=entry,
        prices={
            model: read_price(f"{place}, model {model!r}, price", one.price)
            for model, one in entry.models.items()
            if one.price is not None
        },
        connect_timeout_s=_timeout_s(name, "CONNECT", 15_000),
        read_timeout_s=_timeout_s(name, "READ", 120_000),
    )


def _first_problem(place: str, error: ValidationError) -> str:
    """The first thing that is wrong: where it is, why, and what it could have been."""
    problem = error.errors(include_url=False, include_context=False)[0]
    where = [str(part) for part in problem["loc"]]
    schema: type[BaseModel] = ProviderEntry
    if where[:1] == ["models"] and len(where) > 1:
        place, where, schema = f"{place}, model {where[1][:80]!r}", where[2:], ModelEntry
    key = where[0][:80] if where else ""
    told = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, schema.model_fields, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(schema.model_fields)}"
        return f"{place}: {key!r} is no key; {hint}"
    if problem["type"] == "missing":
        return f"{place}: needs {key!r}"
    if problem["type"] in ("dict_type", "model_type"):
        told = "must be a map of keys to values"
    elif problem["type"].startswith("string_"):
        told = _TEXTS.get(key, "must be a line of at most 1000 printable ASCII characters")
    return f"{place}, {key}: {told}" if key else f"{place}: {told}"


def _timeout_s(provider: str, kind: str, default_ms: int) -> float:
    """A timeout in seconds from the guide's variable, for example OPENAI_CONNECT_TIMEOUT_MS."""
    variable = f"{provider.upper().replace('-', '_')}_{kind}_TIMEOUT_MS"
    told = os.environ.get(variable, "").strip() or str(default_ms)
    if not (told.isascii() and told.isdecimal() and 1 <= int(told[:9]) <= _MOST_MS):
        raise FailedPrecondition(f"{variable}: not a time; give whole milliseconds from 1 to {_MOST_MS}")
    return int(told) / 1000
