"""Opens the models: their catalogue, and the asker that calls them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from djp.llm.asking import Asker, Retries
from djp.llm.catalogue import ModelCatalogue
from djp.llm.prices import PriceBook

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
    retries = Retries(settings.max_retries, settings.retry_backoff_factor)
    yield Llm(ModelCatalogue(PriceBook.load(settings.prices)), Asker({}, max_concurrency={}, retries=retries))
