"""Every public RPC, by gRPC and by REST, tried by a tenant with another's ids: answered as if nobody had them."""

from __future__ import annotations

import json
import re
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.api import annotations_pb2
from google.protobuf import json_format
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2

from djp.mesh.rpc_errors import error_from_rpc
from djp.rest_check import public_services
from djp.v1 import governance_pb2
from djp_gateway.forward import is_public
from tests.gateway.oidc import AUDIENCE, ISSUER, Issuer
from tests.rest.both_ways import http_request
from tests.rest.djp_up import Up

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor import MethodDescriptor

_KNOWN = error_details_pb2.ErrorInfo  # the details of errors are read by their names
METHODS = {
    f"{service.name}.{method.name}": method
    for service in public_services()
    for method in service.methods
    if is_public(method)
}
MARKER = "zyzzyva"
"""Stands in everything that is Ada's."""
FRESH = "fresh"
"""In a request: a new UUID."""
NOT_FOUND, DENIED, INVALID, ALIKE = "NOT_FOUND", "PERMISSION_DENIED", "INVALID_ARGUMENT", "OK"
_KEY = {"workflow": "{workflow}", "artifact": "{artifact}"}
_CHANGE = {"request_id": FRESH, "key": _KEY, "reason": "x"}
_RUN = {"request_id": FRESH, "run_id": "{run}"}
_DECIDE = {"request_id": FRESH, "run_id": "{parked}", "reason": "x"}

NAMED: list[tuple[str, dict[str, Any], str]] = [
    ("RunService.GetRun", {"run_id": "{run}"}, NOT_FOUND),
    ("RunService.GetRun", {"run_id": "{beginning}", "restore_values": True}, NOT_FOUND),
    ("RunService.WatchRun", {"run_id": "{run}"}, NOT_FOUND),
    ("RunService.WatchRun", {"run_id": "{run}", "after_sequence": 3, "deltas": True}, NOT_FOUND),
    ("RunService.CancelRun", _RUN, NOT_FOUND),
    ("RunService.ReplayRun", _RUN, NOT_FOUND),
    ("RunService.ReplayRun", {**_RUN, "dry_run": True}, NOT_FOUND),
    ("RunService.ApproveRun", _DECIDE, NOT_FOUND),
    ("RunService.RejectRun", _DECIDE, NOT_FOUND),
    ("RunService.StartRun", {"request_id": FRESH, "run": {"task": "x", "corpus": "{corpus}"}}, NOT_FOUND),
    ("RunService.StartRun", {"request_id": FRESH, "run": {"template": "{template}"}}, INVALID),
    ("RunService.ProjectRun", {"run": {"task": "x", "corpus": "{corpus}"}}, NOT_FOUND),
    ("RunService.ProjectRun", {"run": {"template": "{template}"}}, INVALID),
    ("RunService.ListRuns", {"workflow": "{workflow}", "page_token": "{page}"}, ALIKE),
    ("BatchService.GetBatch", {"batch_id": "{batch}"}, NOT_FOUND),
    ("BatchService.ListBatchRows", {"batch_id": "{batch}"}, NOT_FOUND),
    ("BatchService.WatchBatch", {"batch_id": "{batch}"}, NOT_FOUND),
    ("BatchService.PauseBatch", {"request_id": FRESH, "batch_id": "{batch}"}, NOT_FOUND),
    ("BatchService.ResumeBatch", {"request_id": FRESH, "batch_id": "{batch}", "concurrency": 2}, NOT_FOUND),
    ("BatchService.CancelBatch", {"request_id": FRESH, "batch_id": "{batch}"}, NOT_FOUND),
    ("CatalogueService.GetTemplate", {"name": "{template}"}, NOT_FOUND),
    ("CatalogueService.RenderTemplate", {"name": "{template}"}, NOT_FOUND),
    ("DeadLetterService.GetDeadLetter", {"dead_letter_id": "{letter}"}, NOT_FOUND),
    ("DeadLetterService.ListDeadLetters", {"filter": {"dead_letter_ids": ["{letter}"]}}, ALIKE),
    ("DeadLetterService.ReplayDeadLetters", {"request_id": FRESH, "filter": {"dead_letter_ids": ["{letter}"]}}, ALIKE),
    ("DeadLetterService.PurgeDeadLetters", {"request_id": FRESH, "filter": {"dead_letter_ids": ["{letter}"]}}, ALIKE),
    ("GovernanceService.GetBudget", {"scope": "tenant:{tenant}"}, NOT_FOUND),
    ("GovernanceService.SetBudget", {"request_id": FRESH, "scope": "tenant:{tenant}", "budget": {}}, DENIED),
    ("GovernanceService.DeleteBudget", {"request_id": FRESH, "scope": "tenant:{tenant}"}, DENIED),
    ("GovernanceService.Report", {"tenant": "{tenant}"}, NOT_FOUND),
    ("GovernanceService.ListEvents", {"tenant": "{tenant}"}, NOT_FOUND),
    ("GovernanceService.ListAnomalies", {"tenant": "{tenant}"}, NOT_FOUND),
    ("GroundingService.GetCorpus", {"corpus": "{corpus}"}, NOT_FOUND),
    ("GroundingService.GetCorpus", {"corpus": "{corpus}", "version": "{version}"}, NOT_FOUND),
    ("GroundingService.GetCorpus", {"corpus": "own", "version": "{version}"}, NOT_FOUND),
    ("GroundingService.ListCorpusVersions", {"corpus": "{corpus}"}, NOT_FOUND),
    ("GroundingService.RollbackCorpus", {"request_id": FRESH, "corpus": "{corpus}", "version": "{version}"}, NOT_FOUND),
    ("GroundingService.RollbackCorpus", {"request_id": FRESH, "corpus": "own", "version": "{version}"}, NOT_FOUND),
    ("GroundingService.DeleteCorpus", {"request_id": FRESH, "corpus": "{corpus}"}, NOT_FOUND),
    ("GroundingService.Search", {"corpus": "{corpus}", "query": "x"}, NOT_FOUND),
    ("GroundingService.Search", {"corpus": "own", "query": "x", "version": "{version}"}, NOT_FOUND),
    ("GroundingService.VerifyCitations", {"corpus": "{corpus}", "text": "x [y]"}, NOT_FOUND),
    (
        "GroundingService.ImportCorpus",
        {"request_id": FRESH, "corpus": "{corpus}", "prefix": "x"},
        "FAILED_PRECONDITION",
    ),
    ("KeyService.CreateKey", {"request_id": FRESH, "tenant": "{tenant}", "role": "ROLE_TENANT"}, DENIED),
    ("KeyService.ListKeys", {"tenant": "{tenant}"}, DENIED),
    ("KeyService.RevokeKey", {"request_id": FRESH, "key_id": "{key}"}, DENIED),
    ("KeyService.ListAuditEvents", {"tenant": "{tenant}"}, NOT_FOUND),
    ("StorageService.GetArtifact", {"key": _KEY}, NOT_FOUND),
    ("StorageService.StatArtifact", {"key": _KEY}, NOT_FOUND),
    ("StorageService.RestoreArtifact", {**_CHANGE, "to_tier": "TIER_HOT"}, NOT_FOUND),
    ("StorageService.PurgeArtifact", _CHANGE, NOT_FOUND),
    ("StorageService.UndeleteArtifact", {**_CHANGE, "key": {**_KEY, "artifact": "{trash}"}}, NOT_FOUND),
    ("StorageService.SetLegalHold", {**_CHANGE, "hold": True}, NOT_FOUND),
    ("StorageService.ListArtifacts", {"workflow": "{workflow}", "run_id": "{run}"}, ALIKE),
    ("StorageService.GetStorageStats", {"tenant": "{tenant}"}, NOT_FOUND),
    ("StorageService.RunLifecycle", {"request_id": FRESH, "tenant": "{tenant}", "live": True}, NOT_FOUND),
    ("StorageService.GetLifecycleStatus", {"tenant": "{tenant}"}, NOT_FOUND),
    ("ScalingService.GetScaling", {}, DENIED),
    ("StorageService.Reconcile", {"request_id": FRESH}, DENIED),
    ("StorageService.ExportTenant", {"tenant": "{tenant}"}, NOT_FOUND),
    ("StorageService.ListStorageEvents", {"tenant": "{tenant}"}, NOT_FOUND),
    ("StorageService.ListStorageEvents", {"key": _KEY}, ALIKE),
]
"""RPCs with names that are Ada's, and what is said to them; in the place of `{…}` stand Ada's and made-up ones."""
LISTS = (
    *("RunService.ListRuns", "BatchService.ListBatches", "DeadLetterService.ListDeadLetters"),
    *("CatalogueService.ListPresets", "CatalogueService.ListPolicies", "CatalogueService.ListTemplates"),
    *("DebateService.ListModels", "RedactionService.ListRules", "GovernanceService.ListBudgets"),
    *("GovernanceService.Report", "GovernanceService.ListEvents", "GovernanceService.ListAnomalies"),
    *("GroundingService.ListCorpora", "KeyService.ListAuditEvents", "StorageService.ListArtifacts"),
    *("StorageService.GetStorageStats", "StorageService.GetLifecycleStatus", "StorageService.ListStorageEvents"),
)
"""What these show to a tenant that names nothing has nothing of Ada's."""
OWN = {
    "BatchService.StartBatch": "its batch is the caller's, and its rows are runs",
    "GovernanceService.WatchEvents": "tried below, for it does not end",
    "KeyService.GetCaller": "tells the caller of itself",
    "GroundingService.CreateCorpus": "tried below, for Ada's name makes another corpus",
    "RedactionService.Redact": "nothing is stored",
    "RedactionService.RedactStream": "nothing is stored",
    "RedactionService.ValidateRules": "nothing is stored",
    "StorageService.PutArtifact": "tried below, for Ada's key makes another artifact",
    "StorageService.ImportTenant": "what it brings is the caller's",
}


def test_every_public_rpc_is_tried() -> None:
    assert {name for name, *_ in NAMED} | {*LISTS} | {*OWN} == set(METHODS), "a new RPC needs its place above"


@dataclass
class Tenants:
    """A mesh in which Ada has everything and Grace asks."""

    up: Up
    grace_key: str
    adas: dict[str, str]
    nobodys: dict[str, str]

    def by_grpc(self, name: str, fields: dict[str, Any], tenant: str = "grace") -> tuple[str, list[dict[str, Any]]]:
        """The code, and the answers or the error."""
        method = METHODS[name]
        request = json_format.ParseDict(_fresh(fields), GetMessageClass(method.input_type)())
        answer = self.call(name, iter([request]) if method.client_streaming else request, tenant)
        try:
            told = list(answer(timeout=60)) if method.server_streaming else [answer(timeout=60)]
        except grpc.RpcError as error:
            refused = error_from_rpc(error)
            said = {"message": refused.message, "reason": refused.reason, "metadata": refused.metadata}
            return refused.code, [{**said, "violations": str(refused.violations)}]
        return "OK", [json_format.MessageToDict(one) for one in told]

    def call(self, name: str, request: Any, tenant: str) -> Any:
        """A call under a tenant's name, at the socket, to be made."""
        method = METHODS[name]
        kind = "_".join("stream" if many else "unary" for many in (method.client_streaming, method.server_streaming))
        make = getattr(self.up.channel, kind)(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=GetMessageClass(method.input_type).SerializeToString,
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        role = "operator" if tenant == "ops" else "tenant"
        return lambda timeout=None: make(
            request, metadata=(("djp-tenant", tenant), ("djp-role", role)), timeout=timeout
        )

    def by_rest(self, name: str, fields: dict[str, Any]) -> tuple[int, str]:
        """The HTTP status and the answer."""
        headers = {"authorization": f"Bearer {self.grace_key}", "djp-tenant": "ada", "djp-role": "admin"}
        answer = self.up.client.request(**http_request(METHODS[name], _fresh(fields)), headers=headers)
        return answer.status_code, answer.text

    def told(self, answer: Any) -> str:
        """As it would be about what nobody has."""
        text = json.dumps(answer, ensure_ascii=False)
        for name, value in self.adas.items():
            text = text.replace(value, self.nobodys[name])
        return text


def _fresh(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: str(uuid.uuid4()) if value == FRESH else value for name, value in fields.items()}


def _filled(fields: Any, names: dict[str, str]) -> Any:
    if isinstance(fields, dict):
        return {name: _filled(value, names) for name, value in fields.items()}
    if isinstance(fields, list):
        return [_filled(value, names) for value in fields]
    return fields.format(**names) if isinstance(fields, str) else fields


def _has_route(method: MethodDescriptor) -> bool:
    return method.GetOptions().HasExtension(annotations_pb2.http)


TEMPLATE = f"""\
name: Reports
version: "1.0"
description: {MARKER}
context: markdown
inputs:
  - {{id: who, label: Who, type: string}}
rendering:
  body: |
    A report of {MARKER}
"""


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    issuer = Issuer()
    issuer.add("one", "RS256")
    return issuer


@pytest.fixture(scope="module")
def tenants(issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    jwks = tmp_path_factory.mktemp("issuer") / "jwks.json"
    jwks.write_text(json.dumps(issuer.jwks()))
    oidc = {"DJP_OIDC_ISSUER": ISSUER, "DJP_OIDC_AUDIENCE": AUDIENCE, "DJP_OIDC_JWKS": str(jwks)}
    with ExitStack() as stack:
        up = Up(stack, "unix:{}/gateway.sock", DJP_AUTH="keys", DJP_TEMPLATES="{}/templates", **oidc)
        yield _furnished(up)


def _furnished(up: Up) -> Tenants:
    flow = f"{MARKER}-flow"
    nobody = str(uuid.uuid4())
    made = Tenants(up, "", {}, {})

    def ask(name: str, tenant: str = "ada", **fields: Any) -> dict[str, Any]:
        code, answers = made.by_grpc(name, fields, tenant)
        assert code == "OK", (name, answers)
        return answers[-1]

    folder = up.folder / "templates" / "tenants" / "ada"
    folder.mkdir(parents=True)
    (folder / f"{MARKER}.yaml").write_text(TEMPLATE)
    for tenant, corpus in (("ada", f"{MARKER}-papers"), ("grace", "own")):
        _upload(made, tenant, corpus)
    version = ask("GroundingService.GetCorpus", corpus=f"{MARKER}-papers")["version"]["version"]

    def run(**fields: Any) -> str:
        fields = {"task": f"What is {MARKER}?", "workflow": flow, "preset": "quick", **fields}
        started: str = ask("RunService.StartRun", request_id=FRESH, run=fields)["run"]["runId"]
        for _ in made.call("RunService.WatchRun", _message("RunService.WatchRun", run_id=started), "ada")():
            if ask("RunService.GetRun", run_id=started)["run"]["state"] == "RUN_STATE_PENDING_APPROVAL":
                break
        return started

    done, letter, parked = run(), run(budget_nano_usd=1), run(require_approval=True)
    assert ask("DeadLetterService.GetDeadLetter", dead_letter_id=letter)
    rows = [{"task": f"What is {MARKER}?", "workflow": flow, "preset": "quick"}]
    ask("BatchService.StartBatch", request_id=FRESH, batch_id=f"{MARKER}-b", runs=rows)
    for artifact in ("note", "trash"):
        _put(made, "ada", flow, f"{MARKER}-{artifact}")
    trash = {"workflow": flow, "artifact": f"{MARKER}-trash"}
    ask("StorageService.PurgeArtifact", request_id=FRESH, key=trash, reason="x")
    key = _key(made, "ada")
    made.grace_key = _key(made, "grace")[1]
    for tenant in ("ada", "grace"):
        budget = {"daily_nano_usd": 10**9}
        scope = f"tenant:{tenant}"
        ask(
            "GovernanceService.SetBudget",
            "ops",
            request_id=FRESH,
            scope=scope,
            budget=budget,
            reason=MARKER if tenant == "ada" else "x",
        )
    page = ask("RunService.ListRuns", page_size=1)["nextPageToken"]
    made.adas |= {
        "run": done,
        "letter": letter,
        "parked": parked,
        "beginning": done[:13],
        "key": key[0],
        "corpus": f"{MARKER}-papers",
        "version": version,
        "template": MARKER,
        "page": page,
        "workflow": flow,
        "artifact": f"{MARKER}-note",
        "trash": f"{MARKER}-trash",
        "tenant": "ada",
        "batch": f"{MARKER}-b",
    }
    made.nobodys |= {
        "run": nobody,
        "letter": nobody,
        "parked": nobody,
        "beginning": nobody[:13],
        "key": nobody,
        "page": "",
        "corpus": "qwx-papers",
        "version": "0" * len(version),
        "template": "qwx",
        "workflow": "qwx-flow",
        "artifact": "qwx-note",
        "trash": "qwx-trash",
        "tenant": "bob",
        "batch": "qwx-b",
    }
    return made


def _message(name: str, **fields: Any) -> Any:
    return json_format.ParseDict(fields, GetMessageClass(METHODS[name].input_type)())


def _upload(tenants: Tenants, tenant: str, corpus: str) -> None:
    name = "GroundingService.CreateCorpus"
    header = _message(name, header={"request_id": str(uuid.uuid4()), "corpus": corpus})
    file = GetMessageClass(METHODS[name].input_type)()
    file.file.path, file.file.content = (
        "a.md",
        f"# Words of {tenant}\n\n{MARKER * (tenant == 'ada')} is a word.".encode(),
    )
    tenants.call(name, iter([header, file]), tenant)(timeout=60)


def _put(tenants: Tenants, tenant: str, workflow: str, artifact: str) -> None:
    name, key = "StorageService.PutArtifact", {"workflow": workflow, "artifact": artifact}
    header = _message(name, header={"request_id": str(uuid.uuid4()), "key": key})
    chunk = GetMessageClass(METHODS[name].input_type)(chunk=tenant.encode())
    tenants.call(name, iter([header, chunk]), tenant)(timeout=60)


def _key(tenants: Tenants, tenant: str, role: str = "TENANT", **fields: Any) -> tuple[str, str]:
    fields |= {"request_id": str(uuid.uuid4()), "tenant": tenant, "role": f"ROLE_{role}"}
    request = _message("KeyService.CreateKey", **fields)
    path = "/djp.v1.KeyService/CreateKey"
    method = METHODS["KeyService.CreateKey"]
    made = tenants.up.channel.unary_unary(
        path,
        request_serializer=GetMessageClass(method.input_type).SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )(request, metadata=(("djp-role", "admin"),), timeout=60)
    return made.key.key_id, made.secret


@pytest.mark.parametrize(("name", "fields", "expected"), NAMED, ids=[f"{n}-{i}" for i, (n, *_) in enumerate(NAMED)])
def test_what_is_another_tenants_is_nobodys(tenants: Tenants, name: str, fields: Any, expected: str) -> None:
    theirs, made_up = _filled(fields, tenants.adas), _filled(fields, tenants.nobodys)
    code, answer = tenants.by_grpc(name, theirs)
    assert code == expected, answer
    assert (code, tenants.told(answer)) == (code, tenants.told(tenants.by_grpc(name, made_up)[1]))
    if _has_route(METHODS[name]):
        status, body = tenants.by_rest(name, theirs)
        assert (status == 200) == (expected == ALIKE), body
        assert (status, tenants.told(body)) == (
            tenants.by_rest(name, made_up)[0],
            tenants.told(tenants.by_rest(name, made_up)[1]),
        )


READS = [(name, fields) for name, fields, _ in NAMED if re.search(r"\.(Get|List|Stat|Search|Verify|Re[np]|Proj)", name)]


@pytest.mark.parametrize(("name", "fields"), READS, ids=[f"{name}-{i}" for i, (name, _) in enumerate(READS)])
def test_their_owner_finds_them(tenants: Tenants, name: str, fields: Any) -> None:
    """Else it would be no wonder that nobody else does."""
    nobodys = name in ("KeyService.ListKeys", "ScalingService.GetScaling")
    if fields.get("corpus") == "own" or nobodys:
        return
    code, answer = tenants.by_grpc(name, _filled(fields, tenants.adas), "ada")
    assert code == ("FAILED_PRECONDITION" if "restore_values" in fields else "OK"), answer  # nothing was hidden in it


@pytest.mark.parametrize("name", LISTS)
def test_lists_have_nothing_of_another_tenants(tenants: Tenants, name: str) -> None:
    code, answer = tenants.by_grpc(name, {})
    assert code == "OK", answer
    body = tenants.by_rest(name, {})[1]
    for told in (json.dumps(answer), body):
        assert MARKER not in told
        assert '"ada"' not in told
        assert "tenant:ada" not in told
        assert not [value for value in tenants.adas.values() if len(value) > 10 and value in told]


def test_the_same_request_id_of_another_tenant_is_another_request(tenants: Tenants) -> None:
    request_id = str(uuid.uuid4())
    for tenant in ("ada", "grace"):
        code, (answer,) = tenants.by_grpc(
            "RunService.StartRun",
            {"request_id": request_id, "run": {"task": f"For {tenant}", "preset": "quick"}},
            tenant,
        )
        assert (code, answer["run"]["tenant"]) == ("OK", tenant)


def test_the_same_names_are_other_things(tenants: Tenants) -> None:
    """After all that was tried, Ada's are as they were."""
    _upload(tenants, "grace", tenants.adas["corpus"])
    _put(tenants, "grace", tenants.adas["workflow"], tenants.adas["artifact"])
    corpus = {"corpus": tenants.adas["corpus"]}
    versions = {
        tenant: tenants.by_grpc("GroundingService.GetCorpus", corpus, tenant)[1][0]["version"]["version"]
        for tenant in ("ada", "grace")
    }
    assert versions["ada"] == tenants.adas["version"] != versions["grace"]
    key = {"key": {"workflow": tenants.adas["workflow"], "artifact": tenants.adas["artifact"]}}
    for tenant in ("ada", "grace"):
        code, answers = tenants.by_grpc("StorageService.GetArtifact", key, tenant)
        assert code == "OK"
        assert answers[0]["info"]["size"] == str(len(tenant))
    parked = tenants.by_grpc("RunService.GetRun", {"run_id": tenants.adas["parked"]}, "ada")[1][0]["run"]
    assert parked["state"] == "RUN_STATE_PENDING_APPROVAL"
    letter = {"dead_letter_id": tenants.adas["letter"]}
    assert tenants.by_grpc("DeadLetterService.GetDeadLetter", letter, "ada")[0] == "OK"


def test_events_are_watched_by_whom_they_are_about(tenants: Tenants) -> None:
    watched = tenants.call("GovernanceService.WatchEvents", _message("GovernanceService.WatchEvents"), "grace")()
    for answer in watched:
        assert MARKER not in answer.event.message
        assert answer.event.scope in ("global", "tenant:grace")
        if answer.event.kind == governance_pb2.GOVERNANCE_EVENT_KIND_BUDGET_SET:
            break  # Ada's was set before
    watched.cancel()


def test_without_a_key_nobody_gets_in_by_rest_though_the_gateway_has_a_socket(tenants: Tenants) -> None:
    for headers in (
        {},
        {"djp-tenant": "ada"},
        {"djp-role": "admin"},
        {"djp-outside": ""},
        {"authorization": "Bearer x"},
    ):
        answer = tenants.up.client.get("/v1/runs", headers=headers)
        assert answer.status_code == 401
        assert answer.json()["details"][0]["reason"] == "UNAUTHENTICATED"


def test_tokens_roles_and_limits_by_rest(tenants: Tenants, issuer: Issuer) -> None:
    def ask(credential: str, method: str = "GET", url: str = "/v1/runs", **more: Any) -> Any:
        headers = {"authorization": f"Bearer {credential}", **more.pop("headers", {})}
        return tenants.up.client.request(method, url, headers=headers, **more)

    body = {"requestId": str(uuid.uuid4()), "run": {"task": "x", "preset": "quick"}}
    started = ask(issuer.token("one", djp_tenant="grace"), "POST", json=body)
    assert started.json()["run"]["tenant"] == "grace"
    assert ask(issuer.token("one", exp=1)).status_code == 401
    assert ask(issuer.token("one") + "x").status_code == 401
    reader = _key(tenants, "grace", "READER")[1]
    assert ask(reader).status_code == 200
    refused = ask(reader, "POST", json={**body, "requestId": str(uuid.uuid4())})
    assert refused.status_code == 403
    assert refused.json()["details"][0]["reason"] == "PERMISSION_DENIED"
    operator, runs = _key(tenants, "ops", "OPERATOR")[1], f"/v1/runs/{tenants.adas['run']}"
    assert ask(operator, url=runs).status_code == 404
    assert ask(operator, url=runs, headers={"djp-tenant": "ada"}).json()["run"]["tenant"] == "ada"
    slow = _key(tenants, "grace", rate_limit=1)[1]
    assert ask(slow).status_code == 200
    limited = ask(slow)
    assert limited.status_code == 429
    details = {detail["@type"].rpartition(".")[2]: detail for detail in limited.json()["details"]}
    assert details["ErrorInfo"]["reason"] == "RATE_LIMITED"
    asked = float(details["RetryInfo"]["retryDelay"].removesuffix("s"))
    assert 0 < asked <= int(limited.headers["retry-after"]) < asked + 1
