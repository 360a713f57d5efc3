"""The models that a run may name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djp.llm.errors import UnknownModel
from djp.llm.models import Model
from djp.llm.offline import DEBATER_MODELS, JUROR_MODELS

if TYPE_CHECKING:
    from djp.llm.prices import PriceBook


class ModelCatalogue:
    """The offline models and those of config/providers.yaml, by name."""

    def __init__(self, prices: PriceBook) -> None:
        self._prices = prices

    def model(self, name: str, *, field: str = "model") -> Model:
        """The model of that name, ready to be asked; `field` is the request's field that names it.

        Raises:
            UnknownModel: no provider has it.
            UnpricedModel: it has no price.
        """
        known = (*DEBATER_MODELS, *JUROR_MODELS)
        if name not in known:
            raise UnknownModel(name, known, field=field)
        return Model(name, name.partition("/")[2], "offline", self._prices.price(name))
