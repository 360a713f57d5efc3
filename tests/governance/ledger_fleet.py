"""Processes around one ledger on Postgres: servers to be killed, crews of clients to be killed, and an observer.

Servers are `djp serve governance`, forked off a process that has imported it already, so that one is soon back.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import threading
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import grpc
import sqlalchemy as sa

from djp.v1 import governance_pb2, governance_pb2_grpc
from tests.governance.ledger_clients import CHANNEL, RPC_S, channel_target, crew
from tests.governance.ledger_observer import observe

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from multiprocessing.connection import Connection

    from tests.governance.ledger_observer import Seen

SERVER = "a server of the fleet"
"""The application_name of its connections to Postgres."""

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["djp.cli.serve", "djp.standalone", "djp_governance.server", __name__])


def free_ports(many: int) -> list[int]:
    """Ports of loopback that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(many)]
        return [one.getsockname()[1] for one in sockets]


def zone_of_noon() -> str:
    """A time zone in which it is about noon, so that no budget window ends while we are at it."""
    ahead = 12 - datetime.now(UTC).hour
    return f"Etc/GMT{-ahead:+d}"


class Member:
    """A process of the fleet and the pipe to it. It ends with us, however we end."""

    def __init__(self, work: Any, *arguments: Any) -> None:
        self.pipe, theirs = FORKED.Pipe()
        self._process = FORKED.Process(target=_work, args=(work, theirs, *arguments), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid or 0

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self._process.kill()
        self._process.join()
        self.pipe.close()


def _work(work: Any, *arguments: Any) -> None:
    def end_with_the_fleet() -> None:
        if fleet := multiprocessing.parent_process():
            fleet.join()
            os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=end_with_the_fleet, daemon=True).start()
    work(*arguments)


def serve(_pipe: Connection, port: int, environment: dict[str, str]) -> None:
    """`djp serve governance` on a port."""
    from djp.cli.serve import run_service

    os.environ.update(environment)
    run_service("governance", f"127.0.0.1:{port}")


def _named(url: str) -> str:
    """The same database, whose connections are then told from others."""
    named = sa.make_url(url).update_query_dict({"application_name": SERVER})
    return named.render_as_string(hide_password=False)


class Fleet:
    """Servers, crews and an observer of one ledger. A change of `environment` counts for servers that start later."""

    def __init__(self, url: str, folder: str, servers: int, crews: int) -> None:
        self._ports = ports = free_ports(servers)
        self.environment = {
            "DJP_HOME": folder,
            "DJP_GOVERNANCE_DATABASE_URL": _named(url),
            "DJP_LOG_LEVEL": "ERROR",
            "DJP_BUDGET_ZONE": zone_of_noon(),
            "GLOBAL_BUDGET_DAILY": "1000000",
            "GLOBAL_BUDGET_MONTHLY": "1000000",
            "TENANT_BUDGET_DAILY_DEFAULT": "1000000",
            "TENANT_BUDGET_MONTHLY_DEFAULT": "1000000",
        }
        self.servers = [self._server(port) for port in ports]
        self.channel = grpc.insecure_channel(channel_target(ports), options=CHANNEL)
        self.stub = governance_pb2_grpc.GovernanceServiceStub(self.channel)
        self.stub.ListBudgets(governance_pb2.ListBudgetsRequest(), wait_for_ready=True, timeout=RPC_S)
        self.crews = [Member(crew, ports) for _ in range(crews)]
        self.observer = Member(observe, url)

    def _server(self, port: int) -> Member:
        return Member(serve, port, self.environment)

    def watch(self, scopes: Collection[str]) -> Seen:
        """Have these scopes observed from now on; what was seen until now."""
        self.observer.pipe.send(list(scopes))
        seen: Seen = self.observer.pipe.recv()
        return seen

    def set_budget(self, scope: str, **limits: Any) -> None:
        """As an operator; all limits of the scope, of which those that are not given are none."""
        request = governance_pb2.SetBudgetRequest(
            request_id=str(uuid.uuid4()), scope=scope, budget=governance_pb2.Budget(**limits), reason="a trial"
        )
        who = (("djp-tenant", "operations"), ("djp-role", "operator"))
        while True:
            try:
                self.stub.SetBudget(request, metadata=who, wait_for_ready=True, timeout=RPC_S)
                return
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise

    def kill_server(self, place: int) -> None:
        """And start another in its place."""
        self.servers[place].kill()
        self.servers[place] = self._server(self._ports[place])

    def restart(self, over: Callable[[], None]) -> None:
        """Kill all servers, and start others once `over` has seen that nothing goes on of what the old ones did."""
        for server in self.servers:
            server.kill()
        over()
        self.servers = [self._server(port) for port in self._ports]

    def kill_crew(self, place: int) -> None:
        """And hire another, which knows nothing of what the dead one held."""
        self.crews[place].kill()
        self.crews[place] = Member(crew, self._ports)

    def close(self) -> None:
        """End them all."""
        self.channel.close()
        for member in (*self.crews, self.observer, *self.servers):
            member.kill()
