"""Builds the gateway: its store, its clients of the leaves, its runner and its RPCs."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from djp.database import open_engine
from djp.mesh.channel import open_channel
from djp.mesh.server import Service
from djp.mesh.settings import MeshSettings, djp_home
from djp.scaling.lately import Lately
from djp.v1 import (
    batch_pb2,
    batch_pb2_grpc,
    catalogue_pb2,
    catalogue_pb2_grpc,
    dead_letter_pb2,
    dead_letter_pb2_grpc,
    debate_pb2,
    governance_pb2,
    grounding_pb2,
    key_pb2,
    key_pb2_grpc,
    redaction_pb2,
    run_pb2,
    run_pb2_grpc,
    scaling_pb2,
    scaling_pb2_grpc,
    storage_pb2,
)
from djp_gateway.access import authorize
from djp_gateway.adapters.leaves import leaves_over
from djp_gateway.adapters.sql_answers import SqlAnswers
from djp_gateway.adapters.sql_audit import SqlAudit
from djp_gateway.adapters.sql_batch_work import SqlBatchWork
from djp_gateway.adapters.sql_batches import SqlBatches
from djp_gateway.adapters.sql_dead import SqlDeadLetters
from djp_gateway.adapters.sql_keys import SqlKeyStore
from djp_gateway.adapters.sql_orders import SqlRunOrders
from djp_gateway.adapters.sql_queue import SqlRunQueue
from djp_gateway.adapters.sql_store import SqlRunStore
from djp_gateway.adapters.tables import metadata
from djp_gateway.adapters.transactions import Transactions
from djp_gateway.away import naming
from djp_gateway.batches.driving import BatchDriver
from djp_gateway.batches.servicer import BatchServicer
from djp_gateway.catalogue import load_catalogue
from djp_gateway.catalogue_servicer import CatalogueServicer
from djp_gateway.dead_letters import DeadLetterServicer
from djp_gateway.forward import Forwarder, add_forwarder
from djp_gateway.keeping import Keeper
from djp_gateway.key_servicer import KeyServicer
from djp_gateway.keys import KeyCheck
from djp_gateway.metrics import QueueMetrics
from djp_gateway.places import Places
from djp_gateway.ports import COMMAND
from djp_gateway.refusals import Refusals
from djp_gateway.resolving import Resolver
from djp_gateway.runner import Runner
from djp_gateway.scaling import Scaler
from djp_gateway.scaling_servicer import ScalingServicer
from djp_gateway.seal import Seal, load_key
from djp_gateway.servicer import RunServicer
from djp_gateway.sign_in import SignIn
from djp_gateway.streams import StreamBound
from djp_gateway.templates.library import Library
from djp_gateway.templates.making import Templates
from djp_gateway.templates.renderer import Renderer
from djp_gateway.watching import Watchers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from djp.scaling.settings import ScalingSettings
    from djp_gateway.settings import GatewaySettings
    from djp_gateway.tokens import TokenCheck

_log = logging.getLogger(__name__)
_LOOK_S, _LOOK_ALONE_S = 0.25, 2.0
"""How often a gateway looks for what others left it to do; one that is alone is told by itself of all there is."""
_MIGRATIONS = Path(__file__).parent / "migrations"


@asynccontextmanager
async def open_service(
    settings: GatewaySettings, scaling: ScalingSettings, *, alone: bool = False
) -> AsyncIterator[Service]:
    """The gateway, ready to serve; on exit it hands back the runs that it works on.

    `alone`: no other gateway can be at work on its database, so what is unfinished there is left over. As the executor
    COMMAND it ends with one command: what it leaves is ended then, or by the next command.
    """
    async with AsyncExitStack() as stack:
        engine = await open_engine(settings.gateway_database_url, _MIGRATIONS, metadata)
        stack.push_async_callback(engine.dispose)
        tables, seal = Transactions(engine), Seal(load_key(djp_home() / "seal.key"))
        store, orders = SqlRunStore(tables, seal), SqlRunOrders(tables, seal)
        queue = SqlRunQueue(tables, store)
        await store.check_seal()
        catalogue = load_catalogue(presets=settings.presets, policies=settings.policies)
        catalogue.policy(settings.policy)
        library, renderer = Library(settings.templates), Renderer()
        stack.push_async_callback(renderer.close)
        for problem in (await asyncio.to_thread(library.shelf)).problems:
            _log.warning("a template cannot be used: %s", problem)
        templates = Templates(library, renderer)
        channels = {
            name: open_channel(address, interceptors=naming(name, address))
            for name, address in settings.leaf_addresses().items()
        }
        for channel in channels.values():
            stack.push_async_callback(channel.close)
        leaves = leaves_over(channels)
        dead, answers = SqlDeadLetters(tables, store), SqlAnswers(tables, seal)
        keys, audit = SqlKeyStore(tables), SqlAudit(tables)
        key_check, refusals, tokens = KeyCheck(keys), Refusals(audit), await _token_check(settings, tables, stack)
        stack.push_async_callback(key_check.close)
        stack.push_async_callback(refusals.write)
        required = settings.auth == "keys" or tokens is not None
        watchers = Watchers()
        rule, command = scaling.rule(), settings.executor_id == COMMAND
        count = rule.max_workers if command else rule.min_workers
        places = Places(Lately(rule, time.monotonic()), count, rule.max_workers)
        look_s = _LOOK_ALONE_S if alone else _LOOK_S
        runner = Runner(
            store,
            queue,
            orders,
            dead,
            leaves,
            watchers,
            executor=settings.executor_id,
            places=places,
            per_tenant=settings.per_tenant_max_concurrency,
            lease_s=settings.reservation_lease_s,
            approval_s=settings.approval_expiry_s,
            look_s=look_s,
        )
        stack.push_async_callback(runner.stop)
        keeper = Keeper(queue, settings.executor_id, silence_s=settings.executor_silence_s, taken=runner.took_over)
        background = [runner.take, runner.listen, keeper.beat, refusals.keep]
        if alone:
            # The leaves are up already: then nothing is left held when the first call comes in.
            await runner.end_left_over(wait_s=1.0)
        scaler = Scaler(
            queue,
            places,
            rule,
            executor=settings.executor_id,
            per_tenant=settings.per_tenant_max_concurrency,
            more=runner.wake,
        )
        if not command:
            if settings.autoscaler_log_level:
                logging.getLogger("djp.scaling").setLevel(settings.autoscaler_log_level)
            await keeper.begin(alone=alone)
            background += [scaler.watch] if alone else [scaler.watch, keeper.look]
        if MeshSettings().metrics_port is not None:
            background.append(QueueMetrics(scaler).watch)

        forwarded = {
            "debate": debate_pb2.DESCRIPTOR.services_by_name["DebateService"],
            "redaction": redaction_pb2.DESCRIPTOR.services_by_name["RedactionService"],
            "grounding": grounding_pb2.DESCRIPTOR.services_by_name["GroundingService"],
            "governance": governance_pb2.DESCRIPTOR.services_by_name["GovernanceService"],
            "storage": storage_pb2.DESCRIPTOR.services_by_name["StorageService"],
        }
        forwarders = [(service, Forwarder(name, service, channels[name])) for name, service in forwarded.items()]
        resolver = Resolver(settings, catalogue, leaves, templates)
        runs = RunServicer(settings, resolver, store, orders, runner, watchers, leaves, templates, alone=alone)
        work = SqlBatchWork(tables, seal, store)
        if alone:
            await work.pause_left_over()
        executor = settings.executor_id
        silence_s = settings.executor_silence_s
        driver = BatchDriver(
            work, runs.project, runner, watchers, executor=executor, silence_s=silence_s, look_s=look_s
        )
        background += [driver.check, driver.advance]
        batches = BatchServicer(
            SqlBatches(tables, seal), driver, answers, watchers, executor=executor, heartbeat_s=settings.heartbeat_s
        )
        yield Service(
            name="gateway",
            servicers=[
                (
                    run_pb2.DESCRIPTOR.services_by_name["RunService"],
                    runs,
                    run_pb2_grpc.add_RunServiceServicer_to_server,
                ),
                (
                    catalogue_pb2.DESCRIPTOR.services_by_name["CatalogueService"],
                    CatalogueServicer(catalogue, templates),
                    catalogue_pb2_grpc.add_CatalogueServiceServicer_to_server,
                ),
                (
                    batch_pb2.DESCRIPTOR.services_by_name["BatchService"],
                    batches,
                    batch_pb2_grpc.add_BatchServiceServicer_to_server,
                ),
                (
                    dead_letter_pb2.DESCRIPTOR.services_by_name["DeadLetterService"],
                    DeadLetterServicer(dead, answers, runner, settings.executor_id),
                    dead_letter_pb2_grpc.add_DeadLetterServiceServicer_to_server,
                ),
                (
                    key_pb2.DESCRIPTOR.services_by_name["KeyService"],
                    KeyServicer(keys, answers, audit),
                    key_pb2_grpc.add_KeyServiceServicer_to_server,
                ),
                (
                    scaling_pb2.DESCRIPTOR.services_by_name["ScalingService"],
                    ScalingServicer(scaler),
                    scaling_pb2_grpc.add_ScalingServiceServicer_to_server,
                ),
                *((leaf, forwarder, add_forwarder) for leaf, forwarder in forwarders),
            ],
            background=background,
            public=True,
            authenticate=SignIn(key_check, tokens, refusals, required),
            authorize=partial(authorize, guarded=required),
            stream_scope=StreamBound(settings.per_tenant_max_streams),
            on_drain=[
                runner.take_no_more,
                batches.end_watches,
                *(forwarder.end_watches for _, forwarder in forwarders),
            ],
        )


async def _token_check(settings: GatewaySettings, tables: Transactions, stack: AsyncExitStack) -> TokenCheck | None:
    """What reads tokens, if any count; what that needs is imported for it only. A command's mesh has no other callers
    than itself, and need not wait for an issuer."""
    if not settings.oidc_issuer or settings.executor_id == COMMAND:
        return None
    from djp_gateway.adapters.signing_keys import JwksKeys
    from djp_gateway.adapters.sql_rates import SqlRates
    from djp_gateway.rates import TokenRates
    from djp_gateway.tokens import Claims, TokenCheck

    keys = JwksKeys(settings.oidc_jwks, settings.oidc_issuer)
    stack.push_async_callback(keys.close)
    await keys.begin()
    claims = Claims(settings.oidc_tenant_claim, settings.oidc_role_claim, settings.roles_of_claim())
    rates = TokenRates(SqlRates(tables), settings.oidc_rate_limit)
    return TokenCheck(keys, settings.oidc_issuer, settings.oidc_audience, claims, rates)
