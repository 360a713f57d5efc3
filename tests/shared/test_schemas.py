"""The schemas are tight and right, and the files in presets/ and policies/ fit them and say what the guide says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from djp.catalogue_files import data_dir, load_schema, schema_problem, validate_against

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMAS = ("artifact", "policy", "preset", "template")


def objects(node: Any, path: str = "$") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema of an object with properties, leaving out the conditions (if, then, else)."""
    if isinstance(node, dict):
        if node.get("type") == "object":
            yield path, node
        for key, child in node.items():
            if key not in ("if", "then", "else"):
                yield from objects(child, f"{path}.{key}")
    elif isinstance(node, list):
        for place, child in enumerate(node):
            yield from objects(child, f"{path}[{place}]")


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_valid_and_closed(name: str) -> None:
    schema = load_schema(name)
    assert schema_problem(schema) == ""
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for path, node in objects(schema):
        assert "additionalProperties" in node, path
        assert set(node.get("required", ())) <= set(node.get("properties", {})), path
        for field, of in node.get("properties", {}).items():
            assert of.get("description") or "const" in of, f"{path}.{field} has no description"


def test_every_field_of_an_artifact_is_required() -> None:
    """Of the present version: what it added is required by a condition, so that older documents stay valid."""
    schema = load_schema("artifact")
    (newer,) = schema["allOf"]
    assert newer["if"] == {
        "properties": {"schema_version": {"const": schema["properties"]["schema_version"]["enum"][-1]}}
    }

    def check(node: dict[str, Any], added: dict[str, Any], path: str) -> None:
        fields = node.get("properties", {})
        assert set(node.get("required", ())) | set(added.get("required", ())) == set(fields), path
        assert set(added.get("properties", ())) <= set(fields), path
        for field, of in fields.items():
            check(of, added.get("properties", {}).get(field, {}), f"{path}.{field}")
        if "items" in node:
            check(node["items"], added.get("items", {}), f"{path}[]")

    check(schema, newer["then"], "$")


@pytest.mark.parametrize(("folder", "schema", "names"), [
    ("presets", "preset", {"quick", "thorough", "research", "deterministic"}),
    ("policies", "policy", {"openai_only", "openai_preferred", "any"}),
])  # fmt: skip
def test_the_files_fit(folder: str, schema: str, names: set[str]) -> None:
    files = {path.stem: json.loads(path.read_text()) for path in (data_dir() / folder).glob("*.json")}
    assert set(files) == names
    for name, document in files.items():
        assert validate_against(schema, document) == []
        assert document["name"] == name


def test_the_policies_say_what_their_names_say() -> None:
    only, preferred, every = (
        json.loads((data_dir() / "policies" / f"{name}.json").read_text())
        for name in ("openai_only", "openai_preferred", "any")
    )
    assert only["allowed_models"] == ["openai/*"]
    assert preferred["allowed_models"] == ["*"]
    assert preferred["preferred_models"] == ["openai/*"]
    assert every["allowed_models"] == ["*"]


def a_template(**changes: Any) -> dict[str, Any]:
    return {
        "name": "Sales Follow-up",
        "version": "1.0",
        "description": "A friendly reminder",
        "context": "markdown",
        "inputs": [{"id": "recipient", "label": "Recipient", "type": "string"}],
        "rendering": {"body": "Dear {{recipient}},"},
        **changes,
    }


def an_input(**changes: Any) -> dict[str, Any]:
    return a_template(inputs=[{"id": "field_1", "label": "Field", "type": "string", **changes}])


GOOD = [
    a_template(),
    a_template(inputs=[]),
    *(a_template(context=context) for context in ("markdown", "docx", "html")),
    *(an_input(type=kind) for kind in ("string", "text", "int", "float", "bool", "date", "email", "url")),
    *(an_input(type=kind, validators={"choices": ["a", "b"]}) for kind in ("enum", "multiselect")),
    an_input(required=True, default="x", help="h", placeholder="p", validators={"min": 0, "max": 9, "regex": "^a"}),
    a_template(parameters={"model": "openai/gpt-4o", "preset": "quick", "max_tokens": 800, "temperature": 0.2}),
    a_template(parameters={"min_words": 100, "max_words": 200}),
]
BAD = [
    a_template(version="1"),
    a_template(version="1.0.0"),
    a_template(version=1.0),
    a_template(context="pdf"),
    a_template(name=""),
    a_template(rendering={}),
    a_template(rendering={"body": ""}),
    a_template(surprise=1),
    a_template(parameters={"surprise": 1}),
    a_template(parameters={"max_tokens": 0}),
    a_template(parameters={"model": "gpt-4o"}),
    an_input(type="password"),
    an_input(id="Not-Snake"),
    an_input(id=""),
    an_input(label=""),
    an_input(required="yes"),
    an_input(default={"a": 1}),
    an_input(type="enum"),
    an_input(type="multiselect"),
    an_input(type="enum", validators={"min": 1}),
    an_input(type="enum", validators={"choices": []}),
    an_input(validators={"choices": ["a", "a"]}),
    an_input(validators={"pattern": "x"}),
    an_input(validators={"regex": "a" * 1001}),
    an_input(surprise=1),
    *({key: value for key, value in a_template().items() if key != gone} for gone in a_template()),
]


@pytest.mark.parametrize("document", GOOD)
def test_a_template_of_the_guide_fits(document: Any) -> None:
    assert validate_against("template", document) == []


@pytest.mark.parametrize("document", BAD)
def test_another_template_does_not(document: Any) -> None:
    assert validate_against("template", document)


PRESET = {"name": "p", "description": "d", "max_tokens": 800, "temperature": 0, "max_debaters": 2, "timeout_s": 60}


@pytest.mark.parametrize(
    "change",
    [
        {"max_tokens": 15},
        {"max_tokens": 200_001},
        {"temperature": 2.5},
        {"max_debaters": 0},
        {"max_debaters": 17},
        {"timeout_s": 0},
        {"timeout_s": 90_000},
        {"required_citations": -1},
        {"fast_path": "yes"},
        {"seed": 2**63},
        {"name": "Not A Name"},
        {"surprise": 1},
    ],
)
def test_a_bad_preset_does_not_fit(change: dict[str, Any]) -> None:
    assert validate_against("preset", PRESET) == []
    assert validate_against("preset", {**PRESET, **change})
