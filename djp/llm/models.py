"""A model that a run may name, with what is known about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from djp.llm.tokens import TEMPLATE_TOKENS

if TYPE_CHECKING:
    from djp.llm.prices import Price

Tokenizer = Literal["o200k_base", "cl100k_base", "bytes"]
"""How the tokens of a prompt are bounded: counted in that vocabulary, or one for each byte."""


@dataclass(frozen=True)
class Model:
    """A model of config/providers.yaml. `name` is "provider/model", `remote_id` what the provider calls it.

    Models of one `family` are of one maker. `thinking_tokens` is what it may think on top of an answer's `max_tokens`.
    The flags say what the provider takes for this model: a temperature, a seed, a JSON schema, a streamed answer;
    `max_tokens_field` is the name that the OpenAI format gives the limit. `template_tokens` is the most that the
    provider puts around the texts of a question: role marks, a system text of its own, words about the schema.
    """

    name: str
    remote_id: str
    family: str
    price: Price
    tokenizer: Tokenizer = "bytes"
    thinking_tokens: int = 0
    temperature: bool = True
    seed: bool = True
    json_schema: bool = True
    streaming: bool = True
    max_tokens_field: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"
    template_tokens: int = TEMPLATE_TOKENS

    @property
    def provider(self) -> str:
        """The provider's name: what stands before the first slash."""
        return self.name.partition("/")[0]

    @property
    def offline(self) -> bool:
        """Whether no model is called."""
        return self.provider == "offline"
