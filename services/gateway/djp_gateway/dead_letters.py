"""The RPCs about dead letters: denied and failed runs, to look at, to replay and to forget."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

import grpc

from djp.mesh.identity import current_identity
from djp.mesh.times import to_timestamp
from djp.v1 import dead_letter_pb2, dead_letter_pb2_grpc

if TYPE_CHECKING:
    from djp_gateway.ports import Answers, DeadLetters, DeadRun
    from djp_gateway.runner import Runner

DEFAULT_PAGE_SIZE = 50
DEFAULT_SHARE = 0.5
"""Of a new window: the other half is for who comes with something new."""
_BATCH = 20  # runs that are queued in one transaction: on SQLite others' wait until it is committed

Context = grpc.aio.ServicerContext[Any, Any]


class DeadLetterServicer(dead_letter_pb2_grpc.DeadLetterServiceServicer):
    """Every tenant has its own."""

    def __init__(self, dead: DeadLetters, answers: Answers, runner: Runner, executor: str) -> None:
        self._dead = dead
        self._answers = answers
        self._runner = runner
        self._executor = executor

    async def ListDeadLetters(
        self, request: dead_letter_pb2.ListDeadLettersRequest, context: Context
    ) -> dead_letter_pb2.ListDeadLettersResponse:
        found, token = await self._dead.list(
            current_identity().tenant,
            request.filter,
            page_size=request.page_size or DEFAULT_PAGE_SIZE,
            page_token=request.page_token,
        )
        return dead_letter_pb2.ListDeadLettersResponse(
            dead_letters=[_message(one) for one in found], next_page_token=token
        )

    async def GetDeadLetter(
        self, request: dead_letter_pb2.GetDeadLetterRequest, context: Context
    ) -> dead_letter_pb2.GetDeadLetterResponse:
        found = await self._dead.get(current_identity().tenant, request.dead_letter_id)
        return dead_letter_pb2.GetDeadLetterResponse(dead_letter=_message(found), run=found.run)

    async def ReplayDeadLetters(
        self, request: dead_letter_pb2.ReplayDeadLettersRequest, context: Context
    ) -> dead_letter_pb2.ReplayDeadLettersResponse:
        tenant, body = current_identity().tenant, _fingerprint("replay", request)
        if (known := await self._answers.earlier(tenant, request.request_id, body)) is not None:
            return dead_letter_pb2.ReplayDeadLettersResponse.FromString(known)
        share = request.window_share if request.HasField("window_share") else DEFAULT_SHARE
        before, queued = await self._dead.replayed(tenant, request.filter), list[str]()
        while made := await self._dead.replay(
            tenant, request.filter, window_share=share, executor=self._executor, at_most=_BATCH
        ):
            queued += made
            self._runner.wake()
        answer = dead_letter_pb2.ReplayDeadLettersResponse(
            queued=len(queued), already_replayed=len(before), run_ids=[*before, *queued]
        )
        kept = await self._answers.keep(tenant, request.request_id, body, answer.SerializeToString())
        return dead_letter_pb2.ReplayDeadLettersResponse.FromString(kept)

    async def PurgeDeadLetters(
        self, request: dead_letter_pb2.PurgeDeadLettersRequest, context: Context
    ) -> dead_letter_pb2.PurgeDeadLettersResponse:
        tenant, body = current_identity().tenant, _fingerprint("purge", request)
        if (known := await self._answers.earlier(tenant, request.request_id, body)) is not None:
            return dead_letter_pb2.PurgeDeadLettersResponse.FromString(known)
        answer = dead_letter_pb2.PurgeDeadLettersResponse(purged=await self._dead.purge(tenant, request.filter))
        kept = await self._answers.keep(tenant, request.request_id, body, answer.SerializeToString())
        return dead_letter_pb2.PurgeDeadLettersResponse.FromString(kept)


def _fingerprint(
    method: str, request: dead_letter_pb2.ReplayDeadLettersRequest | dead_letter_pb2.PurgeDeadLettersRequest
) -> str:
    return sha256(method.encode() + request.SerializeToString(deterministic=True)).hexdigest()


def _message(dead: DeadRun) -> dead_letter_pb2.DeadLetter:
    run = dead.run
    return dead_letter_pb2.DeadLetter(
        dead_letter_id=run.run_id,
        run_id=run.run_id,
        tenant=run.tenant,
        error=run.error,
        created_at=run.finished_at,
        replayed_as=dead.replayed_as,
        replayed_at=None if dead.replayed_at is None else to_timestamp(dead.replayed_at),
    )
