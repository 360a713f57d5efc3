"""Where configured files are found, and how a document's problems are told."""

from __future__ import annotations

import pytest

from djp.catalogue_files import data_dir, load_schema, validate_against


def test_the_data_folder_has_what_a_deployment_is_configured_by() -> None:
    for folder in ("schemas", "presets", "policies"):
        assert list((data_dir() / folder).glob("*.json")), folder


def test_a_schema_that_is_not_there_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        load_schema("nonsense")


def test_each_problem_has_its_place_and_stays_short() -> None:
    document = {"name": "x", "description": "d", "allowed_models": ["y" * 100_000, 5, ""], "more": {"deep": []}}
    problems = validate_against("policy", document)
    assert [problem.partition(":")[0] for problem in problems] == ["$", "$.allowed_models[1]", "$.allowed_models[2]"]
    large = validate_against("policy", {**document, "description": ["z" * 100_000]})
    assert all(len(problem) < 400 for problem in large)


@pytest.mark.parametrize("document", [None, [], "text", 5, {}])
def test_what_is_no_document_has_problems(document: object) -> None:
    assert validate_against("artifact", document)
