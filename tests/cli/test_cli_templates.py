"""`djp templates`, `djp presets`, `djp policies`, and a template's run from its inputs to a document."""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from docx import Document

from djp.cli.exits import Exit
from djp.cli.flags import RunFlags, run_request
from djp.cli.given import MAX_INPUTS_BYTES, read_inputs
from djp.cli.output import write_output
from djp.cli.presets import show_policies, show_presets
from djp.cli.templates import list_templates, new_template, render_template, show_template, validate_templates
from djp.cli.validate import validate_files
from djp.mesh.errors import InvalidInput, NotFound
from djp.v1 import run_pb2

if TYPE_CHECKING:
    from pathlib import Path

MARKDOWN = """\
# Weekly Report

The team **finished** *15* points, see [Sprint 25] and [the page](https://example.com/?a=1&b=2). `code`
<script>alert(1)</script> ![spy](https://evil.example/x.png) [bad](javascript:alert(1))

[Budgets]: https://example.com

| Measure | Before |
|---|--:|
| Errors & more | **1.8 %** |

1. one
2. two
   - deep

text between

1. anew

> quoted

```
  code
```
"""


def a_run(text: str = MARKDOWN, **fields: Any) -> run_pb2.Run:
    run = run_pb2.Run(run_id="3f2b8c1e-0000-4000-8000-000000000000", state=run_pb2.RUN_STATE_PUBLISHED, **fields)
    run.spec.workflow = "weekly_report"
    run.result.text, run.result.model = text, "openai/gpt-4o"
    run.finished_at.FromJsonString("2025-10-07T12:00:00Z")
    return run


# The catalogue


async def test_templates_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert await list_templates(None, as_json=False) == Exit.OK
    listed = capsys.readouterr().out
    assert "weekly_report  Weekly Report" in listed
    assert "inputs: start_date*, end_date*, context*, audience" in listed
    assert await show_template(None, "weekly_report", example_only=False, as_json=False) == Exit.OK
    shown = capsys.readouterr().out
    assert "audience  Readers (enum: team, executives, client)" in shown
    assert "max_words 1200, min_words 800" in shown
    assert "## Next Week Priorities" in shown
    await list_templates(None, as_json=True)
    names = [one["name"] for one in json.loads(capsys.readouterr().out)["templates"]]
    assert names == ["inbox_sweep", "meeting_brief", "weekly_report"]
    with pytest.raises(NotFound, match="did you mean 'weekly_report'"):
        await show_template(None, "weekly-report", example_only=False, as_json=False)


async def test_an_example_is_what_inputs_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await show_template(None, "meeting_brief", example_only=True, as_json=False)
    (tmp_path / "inputs.json").write_text(capsys.readouterr().out)
    given = read_inputs(f"@{tmp_path / 'inputs.json'}")
    assert list(given) == ["meeting_title", "meeting_date", "attendees", "transcript"]


async def test_own_templates_are_seen_and_their_problems_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DJP_TEMPLATES", str(tmp_path))
    await new_template(tmp_path / "my_letter.yaml")
    (tmp_path / "broken.yaml").write_text("name: x\nversion: 1\n")
    capsys.readouterr()
    await list_templates(None, as_json=False)
    told = capsys.readouterr()
    assert "my_letter  My Letter" in told.out
    assert "! broken.yaml:2: version: 1 is not of type" in told.err


async def test_a_new_template_is_good_and_overwrites_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "deep" / "customer_letter.yaml"
    assert await new_template(file) == Exit.OK
    assert await validate_templates([file], as_json=False) == Exit.OK
    assert await render_template(None, str(file), None, as_json=False) == Exit.OK
    assert "Write a friendly letter of 80 to 200 words to Acme, in Markdown." in capsys.readouterr().out
    with pytest.raises(InvalidInput, match="is there already"):
        await new_template(file)
    for name, why in (("Bad Name.yaml", "name the file with lower-case"), ("letter.txt", "does not end in .yaml")):
        with pytest.raises(InvalidInput, match=why):
            await new_template(tmp_path / name)


async def test_files_are_validated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: x\n")
    assert await validate_templates([bad, tmp_path / "none.yaml"], as_json=True) == Exit.PROBLEM
    told = json.loads(capsys.readouterr().out)
    assert not told["valid"]
    assert {finding["path"] for finding in told["findings"]} == {str(bad), str(tmp_path / "none.yaml")}
    assert any("cannot be read" in finding["problem"] for finding in told["findings"])
    with pytest.raises(InvalidInput, match=r"bad\.yaml:1:"):
        await render_template(None, str(bad), None, as_json=False)


async def test_presets_and_policies_are_listed_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await show_presets(None, as_json=False)
    assert "deterministic" in capsys.readouterr().out
    await show_presets(None, only="quick", as_json=True)
    assert json.loads(capsys.readouterr().out)["name"] == "quick"
    await show_policies(None, as_json=True)
    assert "openai_only" in [one["name"] for one in json.loads(capsys.readouterr().out)["policies"]]
    with pytest.raises(InvalidInput, match="did you mean 'openai_only'"):
        await show_policies(None, only="openai-only", as_json=False)
    (tmp_path / "mine.json").write_text('{"name": "mine"}')
    assert await validate_files([tmp_path / "mine.json"], kind="policy", as_json=False) == Exit.PROBLEM


# Inputs


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ('{"a": "x", "b": [1, true, null]}', {"a": "x", "b": [1, True, None]}),
        ("a: 2025-10-01\nb: |\n  two\n  lines\nc: yes\n", {"a": "2025-10-01", "b": "two\nlines\n", "c": "yes"}),
        ("\ufeff{}", {}),
    ],
)
def test_inputs_are_json_or_yaml(text: str, given: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inputs").write_text(text)
    assert read_inputs(f"@{tmp_path / 'inputs'}") == given
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert read_inputs("-") == given


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{'a': 1}", "are not JSON"),
        ('{"a": ', "are not JSON"),
        ("[1]", "are no object"),
        ("just words", "are no object"),
        ("a: [", "neither JSON nor YAML"),
        ("a: &a [x, x]\nb: *a", "an alias"),
        ("a: 1\na: 2", "is there twice"),
        ("", "are no object"),
        ("[" * 100_000, "nested too deeply"),
        ("a" * (MAX_INPUTS_BYTES + 1), "is longer than"),
        ("@/nowhere/at/all", "cannot be read"),
    ],
)
def test_what_is_no_inputs_says_why(text: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        read_inputs(text)


@pytest.mark.parametrize(
    ("flags", "field"),
    [
        ({"template": "a", "task": "b"}, "task"),
        ({"task": "b", "inputs": "{}"}, "inputs"),
        ({"template": "a", "inputs": "{"}, "inputs"),
        ({}, "task"),
    ],
)
def test_flags_that_contradict_each_other(flags: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        run_request(RunFlags(**flags))  # type: ignore[arg-type]
    assert [violation.field for violation in caught.value.violations] == [field]


async def test_a_template_from_its_inputs_to_a_word_document(djp: Any, tmp_path: Path) -> None:
    bad = await djp("run", "--template", "meeting_brief", "--inputs", '{"meeting_date": "x", "who": 1}')
    assert bad.code == Exit.BAD_INPUT
    for line in (
        "--inputs who: is no input of",
        "--inputs meeting_date: 'x' is no date",
        "--inputs transcript: is missing",
    ):
        assert line in bad.err
    dry = await djp("run", "--template", "meeting_brief", "--dry-run")
    assert dry.code == Exit.OK
    assert "no --inputs: counted with the template's example" in dry.err
    inputs = (await djp("templates", "show", "meeting_brief", "--example")).out
    (tmp_path / "inputs.json").write_text(inputs)
    ended = await djp(
        *("run", "--template", "meeting_brief", "--inputs", f"@{tmp_path / 'inputs.json'}"),
        *("--output", str(tmp_path / "brief.docx")),
    )
    assert ended.code == Exit.ADVISORY, "offline, and without documents to answer from"
    assert "the offline debaters cannot write to length: 500 to 800 words were asked for" in ended.err
    assert "Advice only, not published" in "\n".join(
        one.text for one in Document(str(tmp_path / "brief.docx")).paragraphs
    )
    shown = await djp("runs", "show", "latest", "--output", str(tmp_path / "brief.html"))
    assert shown.code == Exit.OK
    assert "<h1>" not in (tmp_path / "brief.html").read_text()


# Documents


def test_a_word_document_has_what_the_text_has(tmp_path: Path) -> None:
    assert write_output(tmp_path / "a.docx", a_run()) == ""
    document = Document(str(tmp_path / "a.docx"))
    told = [(one.style.name if one.style else "", one.text) for one in document.paragraphs]
    assert told[0] == ("Heading 1", "Weekly Report")
    assert ("List Number", "one") in told
    assert ("List Bullet 2", "deep") in told
    assert ("Quote", "quoted") in told
    assert ("Normal", "[Budgets]: https://example.com") in told, "a citation is no definition of a link"
    (table,) = document.tables
    assert [[cell.text for cell in row.cells] for row in table.rows] == [
        ["Measure", "Before"],
        ["Errors & more", "1.8 %"],
    ]
    numbers = [
        one._p.pPr.numPr.numId.val for one in document.paragraphs if one.style and one.style.name == "List Number"
    ]
    assert len(numbers) == 3
    assert numbers[0] == numbers[1] != numbers[2], "the second list begins anew"
    assert "written by openai/gpt-4o" in document.sections[0].footer.paragraphs[0].text
    links = [one.target_ref for one in document.part.rels.values() if one.is_external]
    assert links == [
        "https://example.com/?a=1&b=2",
        "https://evil.example/x.png",
    ]  # the second to be clicked, not fetched


def test_a_page_runs_nothing_and_fetches_nothing(tmp_path: Path) -> None:
    assert write_output(tmp_path / "a.html", a_run()) == ""
    page = (tmp_path / "a.html").read_text()
    assert "<h1>Weekly Report</h1>" in page
    assert "<td>Errors &amp; more</td>" in page
    for harm in ("<script", "<img", 'href="javascript'):
        assert harm not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("ending", [".md", ".html", ".docx"])
@pytest.mark.parametrize(
    "text",
    ["\x00\x01\x1b[31m\ud7ff\ue000\U0001f600 e\u0301", "1. a\n" * 50, "> " * 30 + "deep", "|a|\n|-|\n", "- " * 40 + "x",
     "#" * 7 + " no heading", "[a]: b\n", "*" * 1000, "word " * 50_000],
)  # fmt: skip
def test_any_text_makes_a_document(ending: str, text: str, tmp_path: Path) -> None:
    assert write_output(tmp_path / f"a{ending}", a_run(text)) == ""
    if ending == ".docx":
        assert zipfile.ZipFile(tmp_path / "a.docx").testzip() is None
        Document(str(tmp_path / "a.docx"))


def test_a_document_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "a.md"
    file.write_text("before")
    assert write_output(file, a_run("after")) == ""
    assert file.read_text().startswith("after")
    assert "could not be written" in write_output(tmp_path / "gone" / "a.md", a_run("x"))
    assert [one.name for one in tmp_path.iterdir()] == ["a.md"]


@pytest.mark.parametrize(
    ("name", "why"), [("a.pdf", "has to end in"), ("no/a.md", "does not exist"), ("x.md", "a folder")]
)
def test_an_output_that_cannot_be_is_refused_before_the_run(name: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "x.md").mkdir()
    with pytest.raises(InvalidInput, match=why):
        run_request(RunFlags(task="x", output=tmp_path / name))
