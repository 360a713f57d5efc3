"""What REST calls are refused before they are transcoded, and that every route of the contract is known."""

from __future__ import annotations

import json

import pytest

from djp.mesh.settings import MeshSettings
from djp.rest_check import Refusal, Strict, public_services, routes
from djp.rest_envoy import RestSettings, envoy_config

STRICT = Strict()
ID = "6b0f6c1e-9a2c-4a57-8f0b-0d3f8e7c2a13"


def refusal(method: str, target: str, body: bytes = b"") -> Refusal:
    with pytest.raises(Refusal) as caught:
        STRICT.check(method, target, body)
    return caught.value


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("GET", "/v1/runs", b""),
        ("GET", "/v1/runs?pageSize=5&page_token=x&created.since=2025-01-01T00:00:00Z", b""),
        ("GET", f"/v1/runs/{ID}?restoreValues=true", b""),
        ("GET", f"/v1/runs/{ID}:watch?afterSequence=4", b""),
        ("GET", "/v1/presets", b"  "),
        (
            "POST",
            "/v1/runs",
            json.dumps({"requestId": ID, "run": {"task": "x", "max_tokens": 5}}).encode(),
        ),
        ("POST", "/v1/runs", json.dumps({"request_id": ID, "run": {"inputs": {"any": {"thing": [1]}}}}).encode()),
        ("POST", f"/v1/runs/{ID}:cancel", b""),
        ("POST", "/v1/templates/weekly_report:render", b'{"inputs": {}}'),
        ("GET", "/v1/artifacts/adhoc/a.json:download", b""),
    ],
)
def test_what_the_contract_knows_passes(method: str, target: str, body: bytes) -> None:
    STRICT.check(method, target, body)


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "field", "says"),
    [
        ("GET", "/v1/nothing", b"", 404, "", "there is nothing at /v1/nothing"),
        ("GET", "/", b"", 404, "", "/docs shows what there is"),
        ("GET", "/v1/runs/a/b", b"", 404, "", "there is nothing"),
        ("DELETE", "/v1/runs", b"", 405, "", "it takes GET, POST"),
        ("GET", "/v1/runs?surprise=1", b"", 400, "surprise", "is no parameter"),
        ("GET", "/v1/runs?created.nothing=1", b"", 400, "created.nothing", "is no parameter"),
        ("GET", f"/v1/runs/{ID}?runId=other", b"", 400, "runId", "is no parameter"),
        ("GET", f"/v1/runs/{ID}?run_id=other", b"", 400, "run_id", "is no parameter"),
        ("POST", "/v1/runs?requestId=1", b"{}", 400, "requestId", "is no parameter"),
        ("GET", "/v1/runs", b"{}", 400, "", "takes no body"),
        ("GET", "/v1/runs/%ff", b"", 400, "", "is not UTF-8 text"),
        ("GET", "/v1/runs?preset=%c3", b"", 400, "", "is not UTF-8 text"),
        ("POST", "/v1/runs", b'{"run": {"bogus": 1}, "run": {"task": "x"}}', 400, "run", "stands twice"),
        ("POST", "/v1/runs", b'{"run": {"task": "x", "task": "y"}}', 400, "task", "stands twice"),
        ("POST", "/v1/runs", b'{"a": [' + b"1," * 300_000 + b"1]}", 400, "", "more than 300,000 names and list items"),
        ("POST", "/v1/batches", b'{"runs": [' + b'{"task": ""},' * 400_000 + b"{}]}", 400, "", "send it in pieces"),
        ("POST", "/v1/runs", b'{"a": [' + b"[]," * 300_000 + b"[]]}", 400, "", "send it in pieces"),
        ("POST", "/v1/runs", b"{bad", 400, "", "is not JSON"),
        ("POST", "/v1/runs", b"[]", 400, "", "is not a JSON object"),
        ("POST", "/v1/runs", b"\xff", 400, "", "is not UTF-8"),
        ("POST", "/v1/runs", b"[" * 200_000, 400, "", "nested too deeply"),
        ("POST", "/v1/runs", b'{"a":' * 5_000 + b"1" + b"}" * 5_000, 400, "", ""),
        ("POST", "/v1/runs", b'{"surprise": 1}', 400, "surprise", "there is no such field in StartRunRequest"),
        ("POST", "/v1/runs", b'{"run": {"budgetNanoUSD": 5}}', 400, "run.budgetNanoUSD", "no such field in RunRequest"),
        ("POST", "/v1/runs", b'{"run": {"debaters": [{"modle": "x"}]}}', 400, "run.debaters[0].modle", "no such field"),
        ("POST", "/v1/runs", b'{"run": {"redaction": "MAYBE"}}', 400, "", "MAYBE"),
        ("POST", "/v1/runs", b'{"run": {"maxTokens": 5, "max_tokens": 6}}', 400, "", "max_tokens"),
        ("POST", "/v1/runs", b'{"requestId": 7}', 400, "", "requestId"),
        ("POST", "/v1/runs", b'{"run": {"maxTokens": 1e99}}', 400, "", "maxTokens"),
        ("POST", "/v1/runs", '{"run": {"\u202ename\\"": 1}}'.encode(), 400, 'run.\u202ename"', "no such field"),
    ],
)
def test_what_it_does_not_know_is_refused(
    method: str, target: str, body: bytes, status: int, field: str, says: str
) -> None:
    refused = refusal(method, target, body)
    assert int(refused.status) == status
    assert says in refused.message
    assert refused.field == field
    told = json.loads(refused.body())
    assert told["message"] == refused.message
    assert told["details"][0]["domain"] == "djp"
    assert told["code"] == {404: 5, 405: 12, 400: 3}[status]


def test_every_route_is_known_and_none_hides_another() -> None:
    known = routes()
    assert len(known) >= 50
    assert {service.name for service in public_services()} >= {"RunService", "GovernanceService", "StorageService"}
    for route in known:
        sample = route.path.pattern.replace("[^/]+", "x").replace("\\", "")
        first = next(one for one in known if one.method == route.method and one.path.fullmatch(sample))
        assert first is route, sample


def test_the_configuration_names_who_may_call_for_pages(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("rest")
    settings = RestSettings(cors_origins="https://a.example, https://b.example")
    told = json.dumps(envoy_config("unix:/tmp/x.sock", settings, MeshSettings(), folder))
    assert '"exact": "https://b.example"' in told
    assert '"path": "/tmp/x.sock"' in told
    assert "cors.v3.CorsPolicy" not in json.dumps(envoy_config("h:1", RestSettings(), MeshSettings(), folder))
