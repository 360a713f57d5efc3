"""Templates: a form of each one's inputs, the task that they make, what it would cost, and a run of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from djp.cli.show import state_name
from djp.mesh.errors import DjpError, InvalidInput, Unavailable
from djp.money import format_usd, parse_usd
from djp.run_states import TERMINAL_STATES
from djp.v1 import common_pb2, run_pb2
from djp_dashboards.inputs import ask
from djp_dashboards.one_run import draw_run
from djp_dashboards.page import chosen, name_of, show, table, tell, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from djp.sync_client import SyncDjpClient
    from djp.v1 import catalogue_pb2

_FIELD = "inputs."


def draw(client: SyncDjpClient) -> None:
    listed = client.list_templates()
    if listed.problems:
        st.warning("These files are no templates that can be used:", icon=":material/warning:")
        rows = ({"file": one.path, "line": one.line, "field": one.field, "why": one.message} for one in listed.problems)
        table(rows, nothing="")
    templates = {one.name: one for one in listed.templates}
    name = chosen("Template", list(templates), {one.name: one.title for one in listed.templates}, key="template")
    if name is None:
        st.caption("There is none; `djp templates new` writes one to begin with.")
        return
    template = templates[name]
    text(f"{template.description}\n{template.context}, version {template.version}")
    inputs, task = _ask_for_all(client, template)
    with st.expander("Settings of the run"):
        request = _settings(client, template, inputs)
    wrong = task is None or request is None
    with st.container(horizontal=True):
        start = st.button("Run", type="primary", disabled=wrong)
        project = st.button("What would it cost?", disabled=wrong)
        preview = st.button("Preview", disabled=wrong)
    if task is None or request is None:
        return
    if preview:
        st.subheader("The task")
        text(task)
    if project:
        _project(client, request)
    if start:
        _run(client, request)


def _ask_for_all(client: SyncDjpClient, template: catalogue_pb2.Template) -> tuple[dict[str, Any], str | None]:
    """What is given, and the task that it makes; None while something is wrong, which stands at its input."""
    given, places = {}, {}
    for one in template.inputs:
        value = ask(one, f"input {template.name} {template.version}")
        places[one.id] = st.container()
        if value is not None:
            given[one.id] = value
    st.caption("Fields with * must be given.")
    try:
        return given, client.render_template(template.name, given)
    except InvalidInput as error:
        for violation in error.violations:
            place = places.get(violation.field.removeprefix(_FIELD), st.container())
            with place:
                text(f"✗ {violation.description}")
        return given, None


def _settings(
    client: SyncDjpClient, template: catalogue_pb2.Template, inputs: Mapping[str, Any]
) -> run_pb2.RunRequest | None:
    """The run that is asked for; None while a setting is wrong."""
    request = run_pb2.RunRequest(template=template.name)
    request.inputs.update(inputs)
    left, right = st.columns(2)
    with left:
        presets = [one.name for one in client.list_presets()]
        request.preset = st.selectbox("Preset", presets, index=None, placeholder="The template's, or none") or ""
        corpora = [one.corpus for one in client.corpora.list()]
        request.corpus = st.selectbox("Corpus", corpora, index=None, placeholder="None") or ""
        if request.corpus:
            request.grounded_required = int(st.number_input("Citations required", 0, 100, 1))
    with right:
        request.require_approval = st.checkbox("Require approval")
        budget = st.text_input("Budget in dollars", placeholder="No limit but those of the mesh").strip()
    if budget:
        try:
            request.budget_nano_usd = parse_usd(budget, field="Budget")
        except InvalidInput as error:
            tell(error)
            return None
    return request


def _project(client: SyncDjpClient, request: run_pb2.RunRequest) -> None:
    try:
        projection = client.project_run(request).projection
    except Unavailable:
        raise
    except DjpError as error:
        tell(error)
        return
    total = projection.total
    text(f"At most {format_usd(total.cost_nano_usd)} for {total.calls} calls and {total.tokens:,} tokens.")
    for warning in projection.warnings:
        text(f"Warning: {warning}")


def _run(client: SyncDjpClient, request: run_pb2.RunRequest) -> None:
    """Start it and follow it to its end. Who leaves the page stops following; the run goes on at the gateway."""
    try:
        run_id = client.start_run(request).run_id
    except Unavailable:
        raise
    except DjpError as error:
        tell(error)
        return
    with st.status(f"Run {run_id[:8]} goes on", expanded=True) as status:
        for event in client.watch(run_id):
            kind = event.WhichOneof("event")
            if kind == "stage_started":
                st.text(f"{name_of(common_pb2.Stage, event.stage_started.stage)} …")
            elif kind == "warning":
                st.text(event.warning)
            elif kind == "state" and event.state.state == run_pb2.RUN_STATE_PENDING_APPROVAL:
                break
        run = client.get_run(run_id)
        ended = run.state in TERMINAL_STATES
        status.update(label=f"Run {run_id[:8]}: {state_name(run.state)}", state="complete", expanded=not ended)
    draw_run(client, run)


show("Templates", draw)
