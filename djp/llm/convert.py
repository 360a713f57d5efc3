"""Model calls, prices and bounds as protobuf messages: the only module here that knows protobuf."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration

from djp.mesh.times import to_timestamp
from djp.money import NANO_PER_USD
from djp.v1 import common_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

    from djp.llm.bounds import Bound
    from djp.llm.calls import ModelCall
    from djp.llm.models import Model


def to_proto(call: ModelCall) -> common_pb2.ModelCall:
    """The call as it goes over the wire."""
    duration = Duration()
    duration.FromTimedelta(call.duration)
    return common_pb2.ModelCall(
        call_id=call.call_id,
        stage=common_pb2.Stage.Value(f"STAGE_{call.stage}"),
        model=call.model,
        usage=common_pb2.TokenUsage(
            input_tokens=call.usage.input_tokens,
            cached_input_tokens=call.usage.cached_input_tokens,
            output_tokens=call.usage.output_tokens,
            reasoning_tokens=call.usage.reasoning_tokens,
        ),
        cost_nano_usd=call.cost_nano_usd,
        bound_nano_usd=call.bound_nano_usd,
        usage_unknown=call.usage_unknown,
        attempt=call.attempt,
        started_at=to_timestamp(call.started_at),
        duration=duration,
        offline=call.offline,
        error=call.error,
        actor_id=call.actor_id,
    )


def prices_to_proto(models: Iterable[Model]) -> list[common_pb2.ModelPrice]:
    """What each of the models costs, by name."""
    named = {model.name: model.price for model in models}
    return [
        common_pb2.ModelPrice(
            model=name,
            input_nano_usd_per_million=int(price.input * NANO_PER_USD),
            cached_input_nano_usd_per_million=int(price.cached_input * NANO_PER_USD),
            output_nano_usd_per_million=int(price.output * NANO_PER_USD),
        )
        for name, price in sorted(named.items())
    ]


def bound_to_proto(bound: Bound) -> common_pb2.CostBound:
    """The bound as it goes over the wire."""
    return common_pb2.CostBound(cost_nano_usd=bound.nano_usd, tokens=bound.tokens, calls=bound.calls)
