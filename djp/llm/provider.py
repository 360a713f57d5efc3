"""The port to a model provider: a question goes out, the answer's text comes back in pieces, and last what it used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from djp.llm.calls import Usage
    from djp.llm.models import Model

Stop = Literal["end", "length", "refusal"]
"""Why an answer ended: the model was done, it reached `max_tokens`, or model or provider refused."""


@dataclass(frozen=True)
class Question:
    """What a model is asked. `max_tokens` bounds the answer; what a model thinks beforehand comes on top.

    `schema` is the JSON schema that the answer is to keep to, under the name `schema_name`; None: free text. A model
    that knows no schemas gets the question without it, so `system` says in words what is wanted.
    """

    system: str
    user: str
    max_tokens: int
    temperature: float | None = None
    seed: int | None = None
    schema: Mapping[str, Any] | None = None
    schema_name: str = "answer"


@dataclass(frozen=True)
class Reply:
    """How an answer ended, and its exact usage; None where the provider told none."""

    usage: Usage | None
    stop: Stop = "end"


class ProviderError(Exception):
    """A call that gave no whole answer. The message has no key in it, and 300 characters of the provider's at most.

    `passing`: the same call may succeed later (a timeout, a lost connection, 429, 500, 502, 503, 504, 529).
    `billed`: the provider may charge for it, because the question was sent and no refusal came back.
    `retry_after_s`: how long the provider asks to wait; None where it said nothing.
    """

    def __init__(self, message: str, *, passing: bool, billed: bool, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.passing = passing
        self.billed = billed
        self.retry_after_s = retry_after_s


class Provider(Protocol):
    """One provider of models, over whatever wire format it speaks. Makes every call once: retries are the asker's."""

    def ask(self, model: Model, question: Question) -> AsyncGenerator[str | Reply]:
        """Pieces of the answer's text as they come, none of them empty, and last exactly one Reply.

        Closing the generator, or cancelling the task that reads it, closes the connection of the call.

        Raises:
            ProviderError: there is no whole answer.
        """
        ...

    async def reachable(self) -> frozenset[str]:
        """The ids of the models that the provider offers now, within a few seconds.

        Raises:
            ProviderError: it cannot be reached, refuses the key, or cannot list its models.
        """
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...
