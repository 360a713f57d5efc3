"""The whole mesh as people run it: one process for one run, seven processes behind a gateway, and either one killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from djp.catalogue_files import validate_against
from djp.mesh.channel import open_channel
from djp.mesh.identity import Identity, identity_scope
from djp.mesh.run_spans import read_spans
from djp.v1 import governance_pb2, governance_pb2_grpc, run_pb2, run_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

DJP = Path(sys.executable).with_name("djp")
DOCS = Path(__file__).parents[2] / "docs"
LEAVES = ("debate", "judge", "redaction", "grounding", "governance", "storage")
DEMO = [
    "run",
    *("--task", "How does DJP Mesh keep a budget from being overdrawn?"),
    *("--grounded-corpus", str(DOCS)),
    *("--grounded-required", "2"),
    *("--seed", "7"),
]
STAGES = ("search", "project", "reserve", "debate", "cite", "judge", "redact", "store", "settle")


class Home:
    """A data folder, and the processes that work on it; what still runs at the end is ended."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self._stack = stack

    def environment(self, **extra: str) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DJP_")}
        return {**inherited, "DJP_HOME": str(self.folder / "home"), "DJP_DRAIN_DELAY_S": "0", **extra}

    def djp(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(DJP), *arguments], env=self.environment(), capture_output=True, text=True, timeout=120, check=False
        )

    def run(self, *arguments: str) -> dict[str, Any]:
        """A published run, as JSON."""
        done = self.djp(*DEMO, "--json", *arguments)
        assert done.returncode == 0, done.stderr
        document: dict[str, Any] = json.loads(done.stdout)["run"]
        return document

    def start(self, *arguments: str, **extra: str) -> subprocess.Popen[str]:
        process = self._stack.enter_context(
            subprocess.Popen(
                [str(DJP), *arguments],
                env=self.environment(**extra),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        self._stack.callback(process.kill)
        return process

    def serve(self, target: str, **extra: str) -> tuple[subprocess.Popen[str], str]:
        """A target that is up, and its address."""
        address = f"unix:{self.folder}/{target}.sock"
        process = self.start("serve", target, "--listen", address, **extra)
        _wait_for_line(process, "listening on")
        return process, address

    def artifact(self, run: dict[str, Any]) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(
            (self.folder / "home/artifacts" / run["result"]["artifact_location"]).read_text()
        )
        return document


@pytest.fixture
def home(short_folder: Path) -> Iterator[Home]:
    with ExitStack() as stack:
        yield Home(short_folder, stack)


def _wait_for_line(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if text in line:
            return
    pytest.fail(f"the process ended without saying {text!r}: {''.join(seen)}")


def _seven(home: Home) -> tuple[dict[str, subprocess.Popen[str]], str]:
    """Seven targets as seven processes; the gateway's address."""
    started = {name: home.serve(name) for name in LEAVES}
    addresses = {f"DJP_{name.upper()}_ADDRESS": address for name, (_, address) in started.items()}
    gateway, address = home.serve("gateway", **addresses)
    return {name: process for name, (process, _) in started.items()} | {"gateway": gateway}, address


async def _nothing_is_held(channel: grpc.aio.Channel) -> None:
    """Every window of the deployment and the tenant gave back what it held."""
    governance = governance_pb2_grpc.GovernanceServiceStub(channel)
    budgets = (await governance.ListBudgets(governance_pb2.ListBudgetsRequest())).budgets
    windows = [window for budget in budgets for window in budget.windows]
    assert {(window.scope, window.period) for window in windows} == {
        (scope, period)
        for scope in ("global", "tenant:default")
        for period in (governance_pb2.BUDGET_PERIOD_DAY, governance_pb2.BUDGET_PERIOD_MONTH)
    }
    assert {(window.reserved_nano_usd, window.reserved_tokens) for window in windows} == {(0, 0)}


def test_one_run_tells_the_same_story_everywhere(home: Home) -> None:
    run = home.run()
    result, artifact = run["result"], home.artifact(run)
    assert validate_against("artifact", artifact) == []
    assert artifact["publish"]["text"] == result["text"]
    assert len(result["citations"]) >= 2
    assert all(f"[{citation['title']}]" in result["text"] for citation in result["citations"])
    charged = sum(call["cost_nano_usd"] for call in artifact["provenance"]["calls"])
    assert charged == artifact["provenance"]["total_cost_nano_usd"] == int(result["total_nano_usd"]) > 0
    assert sum(int(total["cost_nano_usd"]) for total in result["totals"]) == charged
    shown = home.djp("runs", "show", "latest")
    assert result["text"].splitlines()[0][:60] in shown.stdout
    assert home.djp("validate").returncode == 0


def test_one_trace_spans_the_seven_services(home: Home) -> None:
    run = home.run()
    spans = read_spans(home.folder / "home" / "traces", run["run_id"])
    assert {span["service"] for span in spans} == {*LEAVES, "gateway"}
    assert {span["trace_id"] for span in spans} == {run["trace_id"]}
    assert {span["attributes"]["djp.tenant"] for span in spans} == {"default"}
    by_id = {span["span_id"]: span for span in spans}
    parents = {
        span["service"]: by_id[span["parent_id"]]["service"]
        for span in spans
        if "/" in span["name"] and " " not in span["name"]
    }
    assert parents == dict.fromkeys(LEAVES, "gateway")
    assert [span["name"] for span in spans if not span["parent_id"]] == ["run"]
    assert not any(word in json.dumps(spans) for word in ("overdrawn", "reserving"))
    drawn = home.djp("trace", "latest").stdout
    assert all(service in drawn for service in (*LEAVES, "gateway"))


def test_seven_processes_publish_what_one_process_publishes(home: Home) -> None:
    alone = home.run()
    processes, address = _seven(home)
    meshed = home.run("--gateway", address)
    assert meshed["run_id"] != alone["run_id"]
    assert meshed["result"]["text"] == alone["result"]["text"]
    assert meshed["result"]["verdict"] == alone["result"]["verdict"]
    assert meshed["result"]["totals"] == alone["result"]["totals"]
    again = home.run("--gateway", address)
    assert again["result"]["text"] == alone["result"]["text"]
    archive = home.folder / "archive.tar"
    assert home.djp("storage", "export", str(archive), "--gateway", address).returncode == 0
    assert home.djp("storage", "import", str(archive), "--gateway", address).stdout == "3 there already\n"
    assert home.djp("lifecycle", "run", "--live", "--gateway", address).returncode == 0
    for name in ("gateway", *LEAVES):
        processes[name].send_signal(signal.SIGTERM)
        assert processes[name].wait(timeout=60) == 0, name


async def test_every_target_answers_health_checks(home: Home) -> None:
    _, address = home.serve("judge")
    async with open_channel(address) as channel:
        request = health_pb2.HealthCheckRequest(service="djp.v1.JudgeService")
        answer = await health_pb2_grpc.HealthStub(channel).Check(request)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_leaf_that_comes_back_gets_the_artifact_after_all(home: Home) -> None:
    processes, address = _seven(home)
    processes["storage"].kill()
    processes["storage"].wait()
    running = home.start(*DEMO, "--gateway", address)
    _wait_for_line(running, "redact")
    home.serve("storage")
    assert running.wait(timeout=120) == 0
    shown = json.loads(home.djp("runs", "show", "latest", "--gateway", address, "--json").stdout)["run"]
    assert validate_against("artifact", home.artifact(shown)) == []


def test_what_is_hidden_from_models_is_shown_to_who_asks_and_kept_nowhere(home: Home) -> None:
    value, docs = "jane.roe@example.com", home.folder / "documents"
    docs.mkdir()
    (docs / "vault.md").write_text(f"# The vault of {value}\n\nThe vault of the office is opened by {value} at nine.\n")
    run = ("run", "--task", f"Who opens the vault of the office, {value}?", "--grounded-corpus", str(docs))
    hidden = home.djp(*run, "--redact", "all")
    assert hidden.returncode == 0, hidden.stderr
    assert value not in hidden.stdout + hidden.stderr
    assert "EMAIL_1" in hidden.stdout
    assert "[The vault of EMAIL_1] vault.md" in hidden.stdout
    shown = home.djp(*run, "--redact", "all", "--restore-values", "--quiet")
    assert f"[The vault of {value}]" in shown.stdout
    data = home.folder / "home"
    files = [file for file in data.rglob("*") if file.is_file()]
    assert list(data.glob("traces/*.jsonl"))
    holding = {file.relative_to(data).parts[0] for file in files if value.encode() in file.read_bytes()}
    assert holding == {"grounding"}  # which has the documents


def test_redaction_that_is_killed_while_it_redacts_comes_back_and_the_run_is_published(home: Home) -> None:
    processes, address = _seven(home)
    processes["redaction"].send_signal(signal.SIGSTOP)  # its calls are in flight
    running = home.start(*DEMO, "--gateway", address)
    _wait_for_line(running, "judge")
    processes["redaction"].kill()
    processes["redaction"].wait()
    home.serve("redaction")
    rest, _ = running.communicate(timeout=120)
    assert running.returncode == 0, rest
    shown = json.loads(home.djp("runs", "show", "latest", "--gateway", address, "--json").stdout)["run"]
    artifact = home.artifact(shown)
    assert artifact["redaction"]["enabled"]
    assert artifact["publish"]["text"] == shown["result"]["text"]


async def test_a_killed_gateway_takes_up_its_run_when_it_returns(home: Home) -> None:
    started = {name: home.serve(name) for name in LEAVES}
    addresses = {f"DJP_{name.upper()}_ADDRESS": address for name, (_, address) in started.items()}
    gateway, address = home.serve("gateway", **addresses, DJP_EXECUTOR_ID="one")
    started["redaction"][0].send_signal(signal.SIGSTOP)  # the run gets no further
    running = home.start(*DEMO, "--gateway", address)
    _wait_for_line(running, "judge")
    gateway.kill()
    gateway.wait()
    running.kill()
    started["redaction"][0].send_signal(signal.SIGCONT)
    _, address = home.serve("gateway", **addresses, DJP_EXECUTOR_ID="one")
    async with open_channel(address) as channel:
        async with asyncio.timeout(60):
            while True:
                runs = await run_pb2_grpc.RunServiceStub(channel).ListRuns(run_pb2.ListRunsRequest())
                if runs.runs[0].state == run_pb2.RUN_STATE_PUBLISHED:
                    break
        await _nothing_is_held(channel)


@pytest.mark.parametrize("stage", STAGES)
async def test_killing_the_command_at_any_stage_leaves_nothing_held(home: Home, stage: str) -> None:
    running = home.start(*DEMO)
    _wait_for_line(running, stage)
    running.kill()
    running.wait()
    process, address = home.serve("all")
    async with open_channel(address) as channel:
        runs = (await run_pb2_grpc.RunServiceStub(channel).ListRuns(run_pb2.ListRunsRequest())).runs
        assert [run.state for run in runs] in ([run_pb2.RUN_STATE_FAILED], [run_pb2.RUN_STATE_PUBLISHED])
        await _nothing_is_held(channel)
    process.terminate()
    assert process.wait(timeout=60) == 0


def test_a_second_process_on_the_folder_is_told_who_holds_it(home: Home) -> None:
    process, _ = home.serve("all")
    refused = home.djp(*DEMO)
    assert refused.returncode == 7
    assert str(process.pid) in refused.stderr
    assert "DJP_HOME" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_second_gateway_of_the_same_name_does_not_end_the_runs_of_the_first(home: Home) -> None:
    started = {name: home.serve(name) for name in LEAVES}
    addresses = {f"DJP_{name.upper()}_ADDRESS": address for name, (_, address) in started.items()}
    first, address = home.serve("gateway", **addresses, DJP_EXECUTOR_ID="pod/1")
    started["redaction"][0].send_signal(signal.SIGSTOP)  # the run gets no further
    running = home.start(*DEMO, "--gateway", address)
    _wait_for_line(running, "judge")
    second = home.start("serve", "gateway", "--listen", f"{address}2", **addresses, DJP_EXECUTOR_ID="pod/1")
    said, _ = second.communicate(timeout=60)
    assert second.returncode == 1
    assert f"in use by another djp (process {first.pid})" in said
    assert "DJP_EXECUTOR_ID" in said
    third = home.start("serve", "gateway", "--listen", f"{address}3", **addresses, DJP_EXECUTOR_ID="pod/2")
    _wait_for_line(third, "listening on")
    started["redaction"][0].send_signal(signal.SIGCONT)
    rest, _ = running.communicate(timeout=60)
    assert running.returncode == 0, rest


async def test_a_gateway_that_drains_does_not_wait_for_who_watches_events(home: Home) -> None:
    _, governance = home.serve("governance")
    grace_s = 600  # nobody waits that long here: the watch has to be ended
    gateway, address = home.serve("gateway", DJP_GOVERNANCE_ADDRESS=governance, DJP_DRAIN_GRACE_S=str(grace_s))
    async with open_channel(address) as channel:
        stub = governance_pb2_grpc.GovernanceServiceStub(channel)
        request = governance_pb2.SetBudgetRequest(
            request_id="6b0f6c1e-9a2c-4a57-8f0b-0d3f8e7c2a11",
            scope="global",
            budget={"daily_nano_usd": 1_000_000},
            reason="to see an event",
        )
        with identity_scope(Identity(role="operator")):
            watch = stub.WatchEvents(governance_pb2.WatchEventsRequest())
            await stub.SetBudget(request)
            await watch.read()  # it is open: an event came through
        gateway.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            while await watch.read() is not grpc.aio.EOF:
                pass
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "draining" in str(ended.value.details())
    assert await asyncio.to_thread(gateway.wait, grace_s / 10) == 0


def test_ctrl_c_ends_the_run_and_gives_the_money_back(home: Home) -> None:
    running = home.start(*DEMO)
    _wait_for_line(running, "search")
    running.send_signal(signal.SIGINT)
    rest, _ = running.communicate(timeout=60)
    assert running.returncode in (0, 130)  # 0: it had ended before the signal came
    assert "Traceback" not in rest
    states = {run["state"] for run in json.loads(home.djp("runs", "list", "--json").stdout)["runs"]}
    assert states <= {"RUN_STATE_PUBLISHED", "RUN_STATE_CANCELLED"}
