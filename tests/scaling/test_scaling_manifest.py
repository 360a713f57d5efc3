"""The rule as a manifest: valid by Kubernetes' own schema, and with the rule's figures."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema_rs
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from djp.cli.scale import print_hpa
from djp.mesh.errors import InvalidInput
from djp.scaling.manifest import hpa_manifest
from djp.scaling.rule import Rule, Tuning
from djp.scaling.settings import TUNINGS
from tests.scaling.test_scaling_rule import rules

SCHEMA = jsonschema_rs.validator_for(json.loads(Path(__file__).with_name("kubernetes_hpa.json").read_text()))
SHIPPED = Path(__file__).parents[2] / "deploy" / "gateway-hpa.yaml"


@given(rules(), st.integers(1, 100))
def test_every_rule_makes_a_manifest_that_kubernetes_takes(rule: Rule, per_pod: int) -> None:
    spec = hpa_manifest(rule, name="djp-gateway", per_pod=per_pod)
    SCHEMA.validate(spec)
    found = spec["spec"]
    assert 1 <= found["minReplicas"] <= found["maxReplicas"]
    for way in found["behavior"].values():
        assert 0 <= way["stabilizationWindowSeconds"] <= 3600
        (policy,) = way["policies"]
        assert policy["value"] >= 1
        assert 1 <= policy["periodSeconds"] <= 1800


def test_the_schema_refuses_what_kubernetes_would() -> None:
    manifest = hpa_manifest(TUNINGS[Tuning.BALANCED], name="x", per_pod=1)
    manifest["spec"]["minReplica"] = 1
    assert not SCHEMA.is_valid(manifest)


def test_the_figures_are_the_rules() -> None:
    spec = hpa_manifest(TUNINGS[Tuning.LATENCY], name="gate", per_pod=4)["spec"]
    assert spec["scaleTargetRef"]["name"] == "gate"
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 8)  # 5 to 30 workers
    targets = {one["pods"]["metric"]["name"]: one["pods"]["target"]["averageValue"] for one in spec["metrics"]}
    assert targets == {
        "djp_runs_working": "2800m",
        "djp_queue_depth": "10000m",
        "djp_queue_wait_p95_seconds": "500m",
    }
    up, down = spec["behavior"]["scaleUp"], spec["behavior"]["scaleDown"]
    assert (up["stabilizationWindowSeconds"], up["policies"][0]["value"]) == (0, 2)
    assert (down["stabilizationWindowSeconds"], down["policies"][0]["value"]) == (60, 1)


def test_the_shipped_manifest_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_hpa(None, name="djp-gateway", per_pod=4) == 0
    printed = capsys.readouterr().out
    assert SHIPPED.read_text() == printed
    SCHEMA.validate(yaml.safe_load(printed))


@pytest.mark.parametrize("name", ["", "Gateway", "a\nb: c", "-a", "a" * 254, "ä"])
def test_a_name_that_kubernetes_would_refuse_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        print_hpa(None, name=name, per_pod=1)
    assert [one.field for one in caught.value.violations] == ["deployment"]
