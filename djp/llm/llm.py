"""Opens the models: their catalogue, and the asker that calls them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from djp.llm.asking import Asker, Retries
from djp.llm.catalogue import ModelCatalogue
from djp.llm.prices import PriceBook
from djp.llm.providers import Providers, read_providers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from djp.llm.settings import LlmSettings


@dataclass(frozen=True)
class Llm:
    """What debate and judge need of the models."""

    catalogue: ModelCatalogue
    asker: Asker


@asynccontextmanager
async def open_llm(settings: LlmSettings) -> AsyncIterator[Llm]:
    """The models of the settings; on exit every connection is closed.

    Raises:
        FailedPrecondition: a configuration file cannot be read or understood.
    """
    prices, configs = PriceBook.load(settings.prices), read_providers(settings.providers)
    providers = Providers(configs)
    asker = Asker(
        providers,
        max_concurrency={name: config.entry.max_concurrency for name, config in configs.items()},
        retries=Retries(settings.max_retries, settings.retry_backoff_factor),
    )
    try:
        yield Llm(ModelCatalogue(prices, configs, providers), asker)
    finally:
        await providers.close()
