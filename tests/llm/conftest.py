"""A model server that the SDKs call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.llm.model_server import ModelServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def model_server() -> AsyncIterator[ModelServer]:
    """A model server that answers as its `script` says."""
    async with ModelServer() as server:
        yield server
