"""The same 200 calls by gRPC and by REST: the same answers and the same errors, field by field."""

from __future__ import annotations

import uuid
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from google.protobuf import message_factory

from djp.v1 import catalogue_pb2, catalogue_pb2_grpc, redaction_pb2, redaction_pb2_grpc, run_pb2, run_pb2_grpc
from tests.rest.both_ways import by_grpc, by_rest
from tests.rest.djp_up import Up

if TYPE_CHECKING:
    from google.protobuf.message import Message

HTTP = {"OK": 200, "INVALID_ARGUMENT": 400, "NOT_FOUND": 404, "FAILED_PRECONDITION": 400, "ALREADY_EXISTS": 409}
RUNS = (run_pb2.DESCRIPTOR.services_by_name["RunService"], run_pb2_grpc.RunServiceStub)
CATALOGUE = (catalogue_pb2.DESCRIPTOR.services_by_name["CatalogueService"], catalogue_pb2_grpc.CatalogueServiceStub)
REDACTION = (redaction_pb2.DESCRIPTOR.services_by_name["RedactionService"], redaction_pb2_grpc.RedactionServiceStub)
TEXTS = ("", "plain", "mail ada@example.org", "Ünïcode “quotes” \\ / & ? # %41", "🦉\n\t\x00 end", "x" * 20_000)


def calls(runs: list[str]) -> list[tuple[Any, str, Message]]:
    """200 of them, of all kinds; none changes what another one answers."""
    found: list[tuple[Any, str, Message]] = [
        (CATALOGUE, "ListPresets", catalogue_pb2.ListPresetsRequest()),
        (CATALOGUE, "ListPolicies", catalogue_pb2.ListPoliciesRequest()),
        (CATALOGUE, "ListTemplates", catalogue_pb2.ListTemplatesRequest()),
        (REDACTION, "ListRules", redaction_pb2.ListRulesRequest()),
    ]
    for name in ("weekly_report", "nothing", "a b/c", "Ünïcode", "%2e%2e", "x" * 300):
        found.append((CATALOGUE, "GetTemplate", catalogue_pb2.GetTemplateRequest(name=name)))
        rendered = catalogue_pb2.RenderTemplateRequest(name=name)
        rendered.inputs.update({"surprise": [1, 2.5, None, {"deep": "ü"}]})
        found.append((CATALOGUE, "RenderTemplate", rendered))
    for run in (*runs, *(one[:8] for one in runs), "nope", str(uuid.UUID(int=4)), "ab cd/ef", "x" * 40):
        found.append((RUNS, "GetRun", run_pb2.GetRunRequest(run_id=run)))
        found.append((RUNS, "GetRun", run_pb2.GetRunRequest(run_id=run, restore_values=True)))
        cancelled = run_pb2.CancelRunRequest(run_id=run, request_id=str(uuid.uuid4()), reason="ü")
        found.append((RUNS, "CancelRun", cancelled))
        found.append((RUNS, "CancelRun", run_pb2.CancelRunRequest(run_id=run, request_id="no uuid")))
    for size in (-1, 0, 1, 2, 1000, 1001):
        for more in ({}, {"preset": "quick"}, {"workflow": "Ünï"}, {"page_token": "x"}, {"states": [4, 5]}):
            found.append((RUNS, "ListRuns", run_pb2.ListRunsRequest(page_size=size, **more)))
    for text in TEXTS:
        found.append((REDACTION, "Redact", redaction_pb2.RedactRequest(text=text)))
        for more in ({}, {"preset": "quick"}, {"preset": "nothing"}, {"rounds": 9}, {"budget_nano_usd": 2**53 + 1}):
            run = run_pb2.RunRequest(task=text, **more)
            found.append((RUNS, "ProjectRun", run_pb2.ProjectRunRequest(run=run)))
    for number in range(200 - len(found)):
        run = run_pb2.RunRequest(task=TEXTS[number % len(TEXTS)], temperature=number / 10, max_tokens=number)
        found.append((RUNS, "ProjectRun", run_pb2.ProjectRunRequest(run=run)))
    return found


def test_200_calls_are_answered_alike() -> None:
    with ExitStack() as stack:
        up = Up(stack)
        runs = [up.start(preset="quick", task=f"Task {number}")["runId"] for number in range(3)]
        for run in runs:
            assert list(up.watch(run))[-1]["state"]["run"]["runId"] == run
        made, codes = calls(runs), Counter[str]()
        assert len(made) == 200
        for (service, stub), method, request in made:
            code, answer, refusal = by_grpc(stub(up.channel), method, request)
            empty = message_factory.GetMessageClass(service.methods_by_name[method].output_type)()
            status, told, error = by_rest(up.client, service, method, request, empty)
            assert (status, told, error) == (HTTP[code], answer, refusal), f"{method} {str(request)[:200]}"
            codes[code] += 1
    assert all(codes[code] >= 10 for code in ("OK", "INVALID_ARGUMENT", "NOT_FOUND")), codes
