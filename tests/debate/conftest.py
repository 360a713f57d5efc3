"""A debate service on a real socket, and requests to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from djp.llm.offline import DEBATER_MODELS
from djp.llm.settings import LlmSettings
from djp.v1 import common_pb2, debate_pb2, debate_pb2_grpc
from djp_debate.server import open_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

BUDGETS = """\
# Budgets

A run is **paid for** before it begins. The ledger keeps a budget from being overdrawn by reserving the most that a run
can cost. It refuses the run when that sum does not fit [see the note][1]. Every charge moves money from reserved to
spent and never needs new room. When a run ends, the ledger gives back what its budget held and did not spend.

## Limits

| limit | value |
|---|---|
| Day | 25. No prose here. |

- **Day.** The daily limit of a budget holds for everybody together, per UTC day.
- Without a price no budget can be held, so the run is refused.

```
print("A budget in code is no prose.")
```
"""
JURY = """\
## The verdict

Jurors never see who wrote a draft, but they see the budget of the run. A draft without citations is disqualified unless
no citations were required.
"""


@pytest.fixture
async def stub(serving: Any) -> AsyncIterator[Any]:
    async with serving(open_service(LlmSettings())) as channel:
        yield debate_pb2_grpc.DebateServiceStub(channel)


@pytest.fixture
def request_for() -> Callable[..., debate_pb2.DebateRequest]:
    """A request with all five debaters; keyword arguments replace its fields."""

    def make(**fields: Any) -> debate_pb2.DebateRequest:
        models = fields.pop("models", DEBATER_MODELS)
        seed = fields.pop("seed", 7)
        whole: dict[str, Any] = {
            "run_id": "0b0f1f0e-6f3c-4f5e-9c55-3a9a7f6f2b11",
            "task": "How does a run keep a budget from being overdrawn?",
            "rounds": 1,
            "max_tokens": 1200,
            "debaters": [
                debate_pb2.Debater(debater_id=f"d{number}", model=model, seed=seed)
                for number, model in enumerate(models, 1)
            ],
            "passages": [
                common_pb2.Passage(passage_id="b:0", document_id="b", title="Budgets & Co.", text=BUDGETS),
                common_pb2.Passage(passage_id="j:3", document_id="j", title="The Jury", text=JURY, start=900),
            ],
        }
        return debate_pb2.DebateRequest(**(whole | fields))

    return make
