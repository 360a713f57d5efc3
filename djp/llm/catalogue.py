"""The models that a run may name."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from djp.llm.errors import ProviderNotConfigured, UnknownModel, UnpricedModel
from djp.llm.families import family_of
from djp.llm.models import Model
from djp.llm.offline import DEBATER_MODELS, JUROR_MODELS
from djp.llm.provider import ProviderError
from djp.mesh.errors import DjpError, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from djp.llm.prices import Price, PriceBook
    from djp.llm.provider import Provider
    from djp.llm.providers import ProviderConfig

REACHABLE_WITHIN_S = 5.0
"""A provider that does not list its models in this time is told as not reachable."""
REMEMBERED_S = 30.0
"""How long what a provider listed is believed."""

_OFFLINE = (*DEBATER_MODELS, *JUROR_MODELS)
_SNAPSHOT = re.compile(r"([-@]20[0-9]{2}-?[0-9]{2}-?[0-9]{2}|:latest|-latest)$")


@dataclass(frozen=True)
class ListedModel:
    """A model as `djp models` shows it. `problem` says why it cannot be used now, with the remedy; empty if it can."""

    name: str
    family: str
    offline: bool
    reachable: bool
    problem: str
    price: Price | None


class ModelCatalogue:
    """The offline models and those of config/providers.yaml, by name."""

    def __init__(
        self,
        prices: PriceBook,
        configs: Mapping[str, ProviderConfig] | None = None,
        providers: Mapping[str, Provider] | None = None,
    ) -> None:
        self._prices = prices
        self._configs = configs or {}
        self._providers = providers or {}
        self._models: dict[str, Model] = {}
        self._listed: dict[str, tuple[float, frozenset[str] | str]] = {}

    def model(self, name: str, *, field: str = "model") -> Model:
        """The model of that name, ready to be asked; `field` is the request's field that names it.

        Raises:
            UnknownModel: no provider has it.
            UnpricedModel: it has no price.
            ProviderNotConfigured: its provider's key, or another secret, is not set.
        """
        model = self._known(name, field)
        config = self._configs.get(model.provider)
        if config and (missing := config.missing()):
            raise ProviderNotConfigured(name, missing)
        return model

    def _known(self, name: str, field: str) -> Model:
        if name not in self._models:
            provider, _, own = name.partition("/")
            config = self._configs.get(provider)
            if name in _OFFLINE:
                self._models[name] = Model(name, own, "offline", self._prices.price(name))
            elif config and own in config.entry.models:
                self._models[name] = self._configured(name, own, config)
            else:
                raise UnknownModel(name, self._names(), field=field)
        return self._models[name]

    def _names(self) -> list[str]:
        configured = (f"{name}/{model}" for name, config in self._configs.items() for model in config.entry.models)
        return [*configured, *_OFFLINE]

    def _configured(self, name: str, own: str, config: ProviderConfig) -> Model:
        from djp.llm.published_prices import ANTHROPIC_URL, OPENAI_URL, published_price

        api, entry = config.entry.api, config.entry.models[own]
        remote_id = entry.id or own
        makers_own = OPENAI_URL if api == "openai" else ANTHROPIC_URL
        price = (
            config.prices.get(own)
            or self._prices.find(name)
            # Anthropic writes to its cache when it is asked to, which we never do; others may do so by themselves.
            or published_price(config.entry.base_url or makers_own, remote_id, writes_cache=api != "anthropic")
        )
        if price is None:
            raise UnpricedModel(name, self._prices.source)
        # Every server of the OpenAI format knows max_tokens; OpenAI itself refuses it for models that think.
        limit = entry.max_tokens_field or ("max_tokens" if config.entry.base_url else "max_completion_tokens")
        return Model(
            name=name,
            remote_id=remote_id,
            family=entry.family or family_of(config.name, remote_id),
            price=price,
            tokenizer=entry.tokenizer,
            thinking_tokens=entry.thinking_tokens,
            temperature=entry.temperature,
            seed=api == "openai" if entry.seed is None else entry.seed,
            json_schema=entry.json_schema,
            streaming=entry.streaming,
            max_tokens_field=limit,
            template_tokens=entry.template_tokens,
        )

    async def list(self, provider: str = "", *, field: str = "provider") -> list[ListedModel]:
        """Every model, or those of one provider, and what keeps each from being used; asks the providers.

        Raises InvalidInput, naming `field`, if there is no such provider.
        """
        chosen = {name: config for name, config in self._configs.items() if provider in ("", name)}
        if not chosen and provider not in ("", "offline"):
            known = ", ".join((*self._configs, "offline"))
            raise InvalidInput(f"{field}: there is no provider {provider[:80]!r}; there are: {known}", field=field)
        offers = await asyncio.gather(*(self._offered(config) for config in chosen.values()))
        listed = [
            self._listing(config, own, offered)
            for config, offered in zip(chosen.values(), offers, strict=True)
            for own in config.entry.models
        ]
        return listed + [self._offline_listing(name) for name in _OFFLINE if provider in ("", "offline")]

    async def _offered(self, config: ProviderConfig) -> frozenset[str] | str:
        """The ids that a provider lists now, or why it cannot be asked."""
        if missing := config.missing():
            return missing
        until, offered = self._listed.get(config.name, (0.0, ""))
        if time.monotonic() >= until:
            try:
                async with asyncio.timeout(REACHABLE_WITHIN_S):
                    offered = await self._providers[config.name].reachable()
            except ProviderError as error:
                offered = error.message
            except TimeoutError:
                offered = f"{config.name} does not answer within {REACHABLE_WITHIN_S:g} s; check its base_url"
            self._listed[config.name] = (time.monotonic() + REMEMBERED_S, offered)
        return offered

    def _listing(self, config: ProviderConfig, own: str, offered: frozenset[str] | str) -> ListedModel:
        name = f"{config.name}/{own}"
        remote_id = config.entry.models[own].id or own
        reachable = not isinstance(offered, str) and (
            remote_id in offered or remote_id in {_SNAPSHOT.sub("", one) for one in offered}
        )
        if isinstance(offered, str):
            problem = offered
        else:
            problem = "" if reachable else f"{config.name} does not offer {remote_id}; look at the id in its list"
        try:
            model = self._known(name, "model")
        except DjpError as error:  # no price
            family = config.entry.models[own].family or family_of(config.name, remote_id)
            return ListedModel(name, family, False, reachable, problem or error.message, None)
        return ListedModel(name, model.family, False, reachable, problem, model.price)

    def _offline_listing(self, name: str) -> ListedModel:
        price = self._prices.find(name)
        problem = "" if price else UnpricedModel(name, self._prices.source).message
        return ListedModel(name, "offline", True, True, problem, price)
