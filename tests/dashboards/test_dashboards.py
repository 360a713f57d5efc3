"""The dashboard before a real mesh: what it shows, what it does, and what it makes of trouble and of hostile texts."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import yaml

from djp.client import corpus_name
from djp.run_states import TERMINAL_STATES
from djp.sync_client import connect
from djp.v1 import batch_pb2, common_pb2, dead_letter_pb2, run_pb2
from tests.dashboards.conftest import DJP, PAGES, Dashboard, click, served, shown
from tests.rest.djp_up import free_port

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from streamlit.testing.v1 import AppTest

    from djp.sync_client import SyncDjpClient

MARK = "EVIL"
HOSTILE = (
    f"{MARK} **b** <img src=x onerror=alert(1)> ![p](http://evil.example/x.png) [l](javascript:alert(1)) $x$ $y$ "
    f":red[{MARK}] :material/home: http://evil.example/ `c` | a | \u202e{MARK}\x1b[31m"
)


def run_to_its_end(client: SyncDjpClient, **asked: Any) -> run_pb2.Run:
    """Started and ended, or waiting for approval."""
    started = client.start_run(run_pb2.RunRequest(**asked))
    for event in client.watch(started.run_id):
        if event.state.state == run_pb2.RUN_STATE_PENDING_APPROVAL:
            break
    return client.get_run(started.run_id)


def metrics(app: AppTest) -> dict[str, str]:
    return {one.label: one.value for one in app.metric}


def test_an_empty_mesh_has_every_page(mesh: Any) -> None:
    mesh()
    dashboard = Dashboard()
    for name in PAGES:
        app = dashboard.open(name)
        assert not app.error, name
    app = dashboard.open("runs")
    assert metrics(app)["Runs"] == "0"
    assert metrics(app)["Success rate"] == "0%"


def test_a_gateway_that_is_away_is_said_on_every_page_and_looked_for_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"localhost:{free_port()}"
    monkeypatch.setenv("DJP_GATEWAY", address)
    dashboard = Dashboard()
    for name in PAGES:
        app = dashboard.open(name)
        assert "does not answer" in app.error[0].value
        assert address in app.code[0].value
    with served(address, home):
        assert not click(app, "Try again").error


def test_without_its_key_or_with_a_wrong_one_nothing_is_shown_and_a_reader_decides_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = f"localhost:{free_port()}"
    monkeypatch.setenv("DJP_GATEWAY", port)
    reader, tenant = (key_of(home, role) for role in ("reader", "tenant"))
    with served(port, home, DJP_AUTH="keys"), connect(port, api_key=tenant) as client:
        waiting = run_to_its_end(client, task="Say it", require_approval=True)
        dashboard = Dashboard()
        for key in ("", "djp_" + "x" * 43):
            monkeypatch.setenv("DJP_API_KEY", key)
            for name in PAGES:
                app = dashboard.open(name)
                assert "refused" in app.error[0].value
                assert not app.dataframe
                assert not key or key not in shown(app)
        monkeypatch.setenv("DJP_API_KEY", reader)
        assert "may only look" in shown(click(dashboard.open("approvals"), "Approve"))
        monkeypatch.setenv("DJP_API_KEY", tenant)
        app = dashboard.open("approvals")
        assert waiting.run_id[:8] in shown(app)
        assert "is approved" in click(app, "Approve").success[0].value
        assert client.get_run(waiting.run_id).approval.approved
        assert "operator" in shown(dashboard.open("workers"))  # it tells how much there is to do for all tenants


def key_of(home: Path, role: str) -> str:
    """A new key, made where the gateway's database is."""
    command = [str(DJP), "keys", "create", "--role", role, "--name", role, "--json"]
    told = subprocess.run(command, env={"DJP_HOME": str(home), "PATH": ""}, capture_output=True, check=True)
    return str(json.loads(told.stdout)["secret"])


def test_figures_filters_and_one_run_in_full(mesh: Any, tmp_path: Path) -> None:
    client, corpus = mesh(), tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "budgets.md").write_text(
        "# Budgets\n\nA budget is reserved before a model is called. It is never overdrawn."
    )
    client.create_corpus(corpus)
    grounded = run_to_its_end(
        client, task="How is a budget reserved?", corpus=corpus_name(corpus), grounded_required=1, preset="quick"
    )
    unmet = run_to_its_end(client, task="How is a budget reserved?", corpus=corpus_name(corpus), grounded_required=90)
    redacted = run_to_its_end(client, task="Write to jane.roe@example.com about budgets.")
    denied = run_to_its_end(client, task="Too dear", budget_nano_usd=1)
    assert denied.state == run_pb2.RUN_STATE_DENIED
    assert redacted.result.redaction_counts

    dashboard = Dashboard()
    app = dashboard.open("runs")
    told = metrics(app)
    assert told["Runs"] == "4"
    assert told["Grounded Runs"] == "2 (50%)"
    cited = [one.status for run in (grounded, unmet) for one in run.result.citations]
    assert told["Avg Citations/Run"] == f"{cited.count(common_pb2.CITATION_STATUS_RESOLVED) / 2:.1f}"
    assert told["Redacted Runs"].startswith("1 ")
    assert told["Redaction Events"] == str(sum(redacted.result.redaction_counts.values()))
    assert unmet.state == run_pb2.RUN_STATE_NO_RESULT
    assert told["Failed"] == "2"
    assert "jane.roe" not in _text_of(app)
    assert told["Grounded, too few"] == "1"

    next(one for one in app.checkbox if one.label == "Grounded Only").check().run()
    assert metrics(dashboard.ran())["Runs"] == "2"
    next(one for one in app.multiselect if one.label == "Preset").select("quick").run()
    assert metrics(dashboard.ran())["Runs"] == "1"
    app = dashboard.ran()
    whole = shown(app)
    assert grounded.run_id in whole
    assert grounded.result.text.splitlines()[0] in whole
    assert "debate" in whole  # of the stages

    report = shown(dashboard.open("costs"))
    assert "tenant:default" in report
    assert "global" in report  # a socket of its owner's shows all that an operator sees
    letters = dashboard.open("dead_letters")
    assert denied.run_id[:8] in shown(letters)
    letters.multiselect[0].select(denied.run_id).run()
    assert "Queued again: 1" in click(letters, "Replay them").success[0].value
    left = client.list_dead_letters(dead_letter_pb2.DeadLetterFilter(include_replayed=True)).dead_letters
    assert next(one.replayed_as for one in left if one.run_id == denied.run_id)
    tiers = metrics(dashboard.open("storage"))
    assert tiers["Hot"] == str(sum(bool(run.result.artifact_name) for run in (grounded, unmet, redacted, denied)))


def _text_of(app: AppTest) -> str:
    """The published texts on a page: the second of its fields, below the task."""
    return app.code[1].value if len(app.code) > 1 else ""


def test_a_text_is_rejected_only_with_a_reason_and_what_it_says_is_done(mesh: Any) -> None:
    client = mesh()
    waiting = run_to_its_end(client, task="Say it", require_approval=True)
    dashboard = Dashboard()
    app = dashboard.open("approvals")
    reject = next(one for one in app.button if one.label == "Reject")
    assert reject.disabled
    app.text_input[0].input("not true").run()
    app = click(app, "Reject")
    assert "is rejected" in app.success[0].value
    ended = client.get_run(waiting.run_id)
    assert ended.state == run_pb2.RUN_STATE_REJECTED
    assert ended.approval.reason == "not true"
    assert "No run waits" in app.caption[0].value

    again = run_to_its_end(client, task="Say it again", require_approval=True)
    app = dashboard.open("approvals")
    client.reject_run(again.run_id, reason="somebody else was faster")
    assert "No run waits" in click(app, "Approve").caption[0].value
    assert client.get_run(again.run_id).state == run_pb2.RUN_STATE_REJECTED


def _input(identity: str, kind: str, **fields: Any) -> dict[str, Any]:
    return {"id": identity, "label": identity.upper(), "type": kind, **fields}


ALL_TYPES = {
    "name": HOSTILE[:60],
    "version": "1.0",
    "description": HOSTILE,
    "context": "markdown",
    "inputs": [
        _input("a", "string", required=True, help=HOSTILE, placeholder=HOSTILE) | {"label": HOSTILE},
        _input("b", "text", default="some"),
        _input("c", "int", default="4", validators={"min": 1, "max": 9}),
        _input("d", "float", default=0.5, validators={"min": -1e300}),
        _input("e", "bool", default="yes"),
        _input("f", "enum", default=HOSTILE, validators={"choices": ["low", HOSTILE]}),
        _input("g", "date", default="2025-10-01"),
        _input("h", "email"),
        _input("i", "url"),
        _input("j", "multiselect", default="x,y", validators={"choices": ["x", "y", "z"]}),
    ],
    "rendering": {"body": "Write {{ a }} {{ b }} {{ c }} {{ d }} {{ e }} {{ f }} {{ g }} {{ j | join('+') }}"},
}


def test_a_form_has_a_widget_for_each_type_tells_what_is_wrong_and_starts_a_run(mesh: Any, tmp_path: Path) -> None:
    folder = tmp_path / "templates"
    folder.mkdir()
    (folder / "all_types.yaml").write_text(yaml.safe_dump(ALL_TYPES))
    (folder / "broken.yaml").write_text(f"name: {MARK}\n")
    client = mesh(DJP_TEMPLATES=str(folder))
    dashboard = Dashboard()
    app = dashboard.open("templates")
    app.selectbox(key="template").select("all_types").run()
    app = dashboard.ran()
    kinds = [(one.label, one.type) for one in _widgets(app) if len(one.label) == 1]
    assert sorted(kinds) == [
        ("a", "text_input"),
        ("b", "text_area"),
        ("c", "number_input"),
        ("d", "number_input"),
        ("e", "checkbox"),
        ("f", "selectbox"),
        ("g", "date_input"),
        ("h", "text_input"),
        ("i", "text_input"),
        ("j", "multiselect"),
    ]
    assert "broken.yaml" in shown(app)
    assert "✗ is missing" in shown(app)
    assert all(one.disabled for one in app.button)

    fields = {one.label: one for one in app.text_input}
    fields["a"].input(f"{HOSTILE} now")
    fields["h"].input("nobody")
    app.run()
    assert all(one.disabled for one in app.button)
    next(one for one in app.text_input if one.label == "h").input("jane@example.com").run()
    assert "✗" not in shown(dashboard.ran())
    assert "4 0.5 True" in app_task(click(app, "Preview"))
    assert "At most $" in shown(click(app, "What would it cost?"))
    assert not client.list_runs(run_pb2.ListRunsRequest()).runs, "looking has started something"
    click(app, "Run")
    (run,) = client.list_runs(run_pb2.ListRunsRequest()).runs
    assert run.state in TERMINAL_STATES
    assert run.spec.template == "all_types"
    assert dict(run.spec.inputs)["h"] == "jane@example.com"
    assert run.run_id in shown(app)

    for name in PAGES:
        _shows_hostile_texts_as_texts(dashboard.open(name))


def app_task(app: AppTest) -> str:
    """The task that the template makes, the last field."""
    return str(app.code[-1].value)


def _widgets(app: AppTest) -> list[Any]:
    kinds = ("text_input", "text_area", "number_input", "checkbox", "selectbox", "date_input", "multiselect")
    return [one for kind in kinds for one in app.get(kind)]


_SHOW_EVERY_CHARACTER = {"code", "text", "arrow_data_frame", "arrow_vega_lite_chart"}


def _shows_hostile_texts_as_texts(app: AppTest) -> None:
    """Whatever else Streamlit draws takes its text for Markdown: labels, help, boxes, headings, captions, figures."""
    for block in (app.main, app.sidebar):
        for element in block:
            proto: Any = getattr(element, "proto", None)
            if element.type in _SHOW_EVERY_CHARACTER or proto is None:
                continue
            drawn = {f"{name}": getattr(proto, name, "") for name in ("label", "help", "body", "value", "text")}
            assert MARK not in str({k: v for k, v in drawn.items() if isinstance(v, str)}), (element.type, drawn)


def test_batches_are_shown_with_their_rows_and_are_stopped_and_go_on(mesh: Any) -> None:
    client = mesh()
    rows = [run_pb2.RunRequest(task=f"{HOSTILE} {number}", require_approval=True) for number in range(4)]
    client.batches.start(rows, batch_id="weekly", concurrency=1)
    for answer in client.batches.watch("weekly"):
        if answer.batch.running:
            break
    dashboard = Dashboard()
    app = dashboard.open("batches")
    assert "weekly" in shown(app)
    assert "takes no further rows" in click(app, "Pause").success[0].value
    assert "goes on" in click(app, "Resume").success[0].value
    assert "takes no further rows" in click(app, "Cancel").success[0].value
    assert client.batches.get("weekly").state == batch_pb2.BATCH_STATE_CANCELLED
    assert all(one.disabled for one in app.button)
    _shows_hostile_texts_as_texts(app)
