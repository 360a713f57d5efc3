"""A model server that the SDKs call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from djp.llm.models import Model
from djp.llm.offline import DEBATER_MODELS
from djp.llm.prices import PriceBook
from tests.llm.model_server import ModelServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def model_server() -> AsyncIterator[ModelServer]:
    """A model server that answers as its `script` says."""
    async with ModelServer() as server:
        yield server


@pytest.fixture
def model() -> Model:
    """A model that takes everything, at some price."""
    return Model("maker/some-model", "some-model", "maker", PriceBook.load().price(DEBATER_MODELS[0]))
