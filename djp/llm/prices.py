"""What models cost: exact decimal prices from config/prices.yaml, costs in whole nano-dollars."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Self

import yaml

from djp.catalogue_files import data_dir
from djp.llm.errors import UnpricedModel
from djp.mesh.errors import FailedPrecondition

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from djp.llm.calls import Usage

_NANO_USD_PER_TOKEN = 1000  # of a price of one dollar per million tokens
_AMOUNT = re.compile(r"[0-9]{1,6}(\.[0-9]{1,9})?")
_KEYS = ("input", "cached_input", "output")


@dataclass(frozen=True)
class Price:
    """Of one model, in US dollars per million tokens. Reasoning tokens cost what output tokens cost."""

    input: Decimal
    cached_input: Decimal
    output: Decimal

    def cost(self, usage: Usage) -> int:
        """What a call of this usage costs in nano-dollars, exact and rounded up once."""
        fresh = usage.input_tokens - usage.cached_input_tokens
        dollars = (
            Fraction(self.input) * fresh
            + Fraction(self.cached_input) * usage.cached_input_tokens
            + Fraction(self.output) * usage.output_tokens
        )
        return math.ceil(dollars * _NANO_USD_PER_TOKEN)

    def highest_cost(self, input_tokens: int, output_tokens: int) -> int:
        """The most that a call of so many tokens can cost in nano-dollars, whatever share of the input is cached."""
        dollars = Fraction(max(self.input, self.cached_input)) * input_tokens + Fraction(self.output) * output_tokens
        return math.ceil(dollars * _NANO_USD_PER_TOKEN)


class PriceBook:
    """The prices of all models that have one."""

    def __init__(self, prices: Mapping[str, Price], source: str = "config/prices.yaml") -> None:
        self._prices = dict(prices)
        self._source = source

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """The prices in a file; without a path those that the project ships.

        Raises FailedPrecondition, naming the file, the entry and the remedy, if the file cannot be read or understood.
        """
        path = path or data_dir() / "config" / "prices.yaml"
        try:
            document = yaml.load(path.read_text(encoding="utf-8"), Loader=_Literal)  # noqa: S506  makes strings only
        except OSError as error:
            raise FailedPrecondition(
                f"price file {path} cannot be read ({error.strerror}); mend it, or name another one with DJP_PRICES"
            ) from error
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            raise FailedPrecondition(f"price file {path} is not YAML in UTF-8; mend it: {_one_line(error)}") from error
        models = document.get("models") if isinstance(document, dict) else None
        if not isinstance(models, dict) or set(document) != {"models"}:
            raise FailedPrecondition(f"price file {path}: needs 'models', a map of model names to prices, and no more")
        return cls(
            {name: _price(f"price file {path}: model {name!r}", entry) for name, entry in models.items()}, str(path)
        )

    def price(self, model: str) -> Price:
        """The price of a "provider/model". Raises UnpricedModel if it has none."""
        if model not in self._prices:
            raise UnpricedModel(model, self._source)
        return self._prices[model]


class _Literal(yaml.BaseLoader):
    """Reads every scalar as the text that it is: no price is ever a float. Refuses a key that comes twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"{twice!r} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _price(place: str, entry: object) -> Price:
    if not isinstance(entry, dict) or not {"input", "output"} <= set(entry) <= set(_KEYS):
        raise FailedPrecondition(f"{place} needs 'input' and 'output', may have 'cached_input', and nothing else")
    for key, amount in entry.items():
        if not isinstance(amount, str) or not _AMOUNT.fullmatch(amount):
            raise FailedPrecondition(
                f"{place}, {key}: not a price; write dollars per million tokens, for example 0.15, with at most 6 "
                "digits and 9 decimals"
            )
    return Price(
        input=Decimal(entry["input"]),
        cached_input=Decimal(entry["cached_input"] if "cached_input" in entry else entry["input"]),
        output=Decimal(entry["output"]),
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
