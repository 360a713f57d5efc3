"""Templates: their files, their inputs, the sandbox, and the tasks that they make."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from djp.client import connect
from djp.mesh.errors import InvalidInput, NotFound
from djp.mesh.identity import Identity, identity_scope
from djp.mesh.rpc_errors import error_from_rpc
from djp.v1 import debate_pb2
from djp_gateway.templates.files import NotATemplate, read_template, template_of
from djp_gateway.templates.inputs import example
from djp_gateway.templates.library import Library
from djp_gateway.templates.making import make
from djp_gateway.templates.renderer import MOST_BYTES, Renderer
from djp_gateway.templates.sandbox import Refused, check, to_slug, to_title
from tests.gateway.hostile_templates import BOMBS, ESCAPES, UNICODE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from djp_gateway.templates.model import Template

INPUTS = """\
inputs:
  - {id: recipient, label: Recipient Name, type: string, required: true, validators: {min: 2, max: 20}}
  - {id: code, label: Code, type: string, validators: {regex: "^[A-Z]{3}-\\\\d{4}$"}}
  - {id: body, label: Body, type: text}
  - {id: count, label: Count, type: int, validators: {min: 1, max: 1000}}
  - {id: rate, label: Rate, type: float}
  - {id: urgent, label: Urgent, type: bool}
  - {id: priority, label: Priority Level, type: enum, default: low, validators: {choices: [low, medium, high]}}
  - {id: day, label: Day, type: date}
  - {id: email, label: Mail, type: email}
  - {id: site, label: Site, type: url}
  - {id: tags, label: Tags, type: multiselect, validators: {choices: [a, b, c]}}
"""


def a_text(body: str = "Dear {{recipient}},", inputs: str = INPUTS, context: str = "markdown", more: str = "") -> str:
    indented = "".join(f"    {line}\n" for line in body.split("\n"))
    return (
        f'name: Sales Follow-up\nversion: "1.0"\ndescription: A reminder\ncontext: {context}\n'
        f"{inputs}{more}rendering:\n  body: |\n{indented}"
    )


def a_template(folder: Path, *arguments: str, **named: str) -> Template:
    return template_of(a_text(*arguments, **named), folder / "sales_follow-up.yaml")


@pytest.fixture
async def renderer() -> AsyncIterator[Renderer]:
    renderer = Renderer()
    yield renderer
    await renderer.close()


async def made(template: Template, renderer: Renderer, **given: Any) -> str:
    return (await make(template, {"recipient": "Taylor", **given}, renderer)).task


# Hostile bodies


async def _outcome(body: str, renderer: Renderer) -> str:
    """The text, or nothing if it was refused."""
    try:
        check(body, {"x", "big"})
        return await renderer.render(body, "markdown", {"x": "value", "big": ["ab" * 50] * 1000})
    except Refused:
        return ""


@pytest.mark.parametrize("body", ESCAPES)
async def test_every_way_out_of_the_sandbox_is_refused(body: str, renderer: Renderer) -> None:
    assert not await _outcome(body, renderer)


async def test_unicode_tricks_tell_nothing(renderer: Renderer) -> None:
    for body in UNICODE:
        text = await _outcome(body, renderer)
        assert "<class" not in text, body
        assert "object at" not in text, body


async def test_bombs_are_refused_or_within_bounds_and_harm_nothing_that_follows(renderer: Renderer) -> None:
    for body in BOMBS:
        assert len(await _outcome(body, renderer)) <= MOST_BYTES, body[:80]
    assert await renderer.render("Dear {{ x }}", "markdown", {"x": "you"}) == "Dear you"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (
            "{% for a in big %}{% for b in big %}{% for c in big %}{% endfor %}{% endfor %}{% endfor %}",
            "takes too long",
        ),
        ("{% for a in big %}{{ big|join }}{% endfor %}", f"more than {MOST_BYTES} bytes"),
        ("{{ x|replace('', big|join)|replace('', big|join)|replace('', big|join) }}", "too much memory"),
    ],
)
async def test_what_takes_too_much_says_what_it_was(body: str, why: str, renderer: Renderer) -> None:
    with pytest.raises(Refused, match=why):
        await renderer.render(body, "markdown", {"x": "value", "big": ["ab" * 50] * 1000})


async def test_a_worker_has_no_secret_in_its_environment(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    await renderer.render("a", "markdown", {})
    (process,) = renderer._idle
    assert b"sk-secret" not in await asyncio.to_thread(Path(f"/proc/{process.pid}/environ").read_bytes)


async def test_a_worker_that_was_killed_is_replaced(renderer: Renderer) -> None:
    await renderer.render("a", "markdown", {})
    (process,) = renderer._idle
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    assert await renderer.render("a", "markdown", {}) == "a"


# What bodies may do


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("Dear {{recipient|upper}}: {{ priority|title }}", "Dear TAYLOR: Low"),
        ("{{ 'Weekly Report: Q3'|to_slug }}, {{ 'weekly_report'|to_title }}", "weekly-report-q3, Weekly Report"),
        ("{% for t in tags %}{{ loop.index }}/{{ loop.length }}{{ t }}{{ '' if loop.last else ', ' }}{% endfor %}",
         "1/2a, 2/2b"),
        ("{{ tags|map('upper')|join(' and ') }}", "A and B"),
        ("{{ [1, 2, 3, 4]|select('even')|join(',') }}", "2,4"),
        ("{{ body|default('none given') }}{{ rate }}|{{ site }}|", "none given||"),
        ("{{ 'x'|replace('x', 'y') }}{{ 2.567|round(1) }}{{ 'abc'|length }}{{ 'abc'[0] }}{{ 'abc'[1:] }}", "y2.63abc"),
        ("{% set n = 2 * 3 %}{{ n }}{{ n % 4 }}{{ 'a' ~ n }}", "62a6"),
        ("{% if count %}many{% elif urgent %}urgent{% else %}calm{% endif %}", "calm"),
        ("{% filter upper %}a{% endfilter %}{% with a = 1 %}{{ a }}{% endwith %}", "A1"),
        ("{{ '<b>' }}{{ '<b>'|e }}", "<b>&lt;b&gt;"),
        ("{# nothing #}text", "text"),
    ],
)  # fmt: skip
async def test_the_guides_filters_and_statements(body: str, text: str, renderer: Renderer, tmp_path: Path) -> None:
    assert await made(a_template(tmp_path, body), renderer, tags=["a", "b"]) == text


@pytest.mark.parametrize(("context", "text"), [("markdown", "<i>"), ("html", "&lt;i&gt;"), ("docx", "&lt;i&gt;")])
async def test_html_and_docx_escape_what_is_put_in(context: str, text: str, renderer: Renderer, tmp_path: Path) -> None:
    template = a_template(tmp_path, "{{recipient}}{{recipient|safe}}", context=context)
    assert await made(template, renderer, recipient="<i>") == f"{text}<i>"


def test_slugs_and_titles() -> None:
    assert to_slug("  Überraschung -- №1!  ") == "uberraschung-no1"
    assert to_slug("日本") == ""
    assert to_title("the quick-brown fox_jumps") == "The Quick Brown Fox Jumps"


# Inputs


async def test_values_are_understood_by_their_type(renderer: Renderer, tmp_path: Path) -> None:
    body = "{{code}}|{{count}}|{{rate}}|{{urgent}}|{{priority}}|{{day}}|{{email}}|{{site}}|{{tags|join('+')}}"
    task = await made(
        a_template(tmp_path, body), renderer,
        code="ABC-1234", count="7", rate=5.0, urgent="yes", priority="high", day=" 2024-02-29 ",
        email="jane@example.com", site="https://example.com/a?b=1#c", tags="b, a, b",
    )  # fmt: skip
    assert task == "ABC-1234|7|5.0|True|high|2024-02-29|jane@example.com|https://example.com/a?b=1#c|b+a"


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("recipient", "A", "has 1 characters, and the least is 2"),
        ("recipient", "a" * 21, "the most is 20"),
        ("recipient", "a\nb", "line break"),
        ("recipient", "a\0b", "NUL"),
        ("recipient", ["a"], "is a list; give a text"),
        ("recipient", True, "is true or false"),
        ("code", "abc-1234", r"does not match \^\[A-Z\]"),
        ("code", "ABC-1234 and more", "does not match"),
        ("body", "x" * 200_001, "the most is 200000"),
        ("count", 1.5, "give a whole number"),
        ("count", 0, "is 0, and the least is 1"),
        ("count", "1001", "the most is 1000"),
        ("count", True, "give a whole number"),
        ("count", "1e400", "is no number"),
        ("count", "9" * 5000, "is no number|the most is 1000"),
        ("rate", "nan", "is no number"),
        ("rate", "inf", "is no number"),
        ("urgent", "perhaps", "is neither true nor false"),
        ("priority", "lowest", "is no choice; there are low, medium, high"),
        ("priority", ["low"], "is no choice"),
        ("day", "2023-02-29", "is no date"),
        ("day", "tomorrow", "is no date"),
        ("day", 5.0, "'5' is no date"),
        ("email", "jane@", "is no email address"),
        ("email", "a@b@c.com", "is no email address"),
        ("site", "ftp://example.com", "http:// or https://"),
        ("site", "javascript:alert(1)", "http:// or https://"),
        ("site", "https://exa mple.com", "is no web address|blank"),
        ("tags", ["a", "d"], "'d' is no choice"),
        ("tags", {"a": 1}, "is an object; give a list"),
        ("nothing", 1, "is no input of 'sales_follow-up'; it has recipient, code"),
    ],
)
async def test_a_bad_value_says_why(name: str, value: Any, why: str, renderer: Renderer, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=why) as caught:
        await made(a_template(tmp_path), renderer, **{name: value})
    assert [violation.field for violation in caught.value.violations] == [f"run.inputs.{name}"]


async def test_all_bad_inputs_are_named_at_once(renderer: Renderer, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        await make(a_template(tmp_path), {"count": "x", "day": "y", "else": 1, "recipient": ""}, renderer)
    fields = [violation.field for violation in caught.value.violations]
    assert fields == ["run.inputs.else", "run.inputs.recipient", "run.inputs.count", "run.inputs.day"]


async def test_a_task_that_is_empty_is_refused(renderer: Renderer, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="makes an empty task"):
        await made(a_template(tmp_path, "{% if false %}a{% endif %}"), renderer)


async def test_what_goes_wrong_in_a_body_has_the_line_of_the_file(renderer: Renderer, tmp_path: Path) -> None:
    template = a_template(tmp_path, "Dear\n{{recipient}}\n{{ 1 / count }}", INPUTS.replace("min: 1, max", "max"))
    line = 1 + a_text("Dear\n{{recipient}}\n{{ 1 / count }}").split("\n").index("    {{ 1 / count }}")
    with pytest.raises(InvalidInput, match=f"line {line} of its file: cannot be rendered: division by zero"):
        await made(template, renderer, count=0)


# Files


@pytest.mark.parametrize(
    ("text", "field", "why"),
    [
        (a_text().replace("context: markdown", "context: pdf"), "context", "pdf"),
        (a_text().replace('"1.0"', "1.0"), "version", "string"),
        (a_text("{{ recipent }}"), "rendering.body", "'recipent' is no input of this template"),
        (a_text("{% if %}"), "rendering.body", "is not valid Jinja2"),
        (a_text("{{ recipient.upper() }}"), "rendering.body", "use a filter"),
        (a_text(inputs=INPUTS + INPUTS.partition("\n")[2]), "inputs[11].id", "'recipient' is there twice"),
        (a_text(inputs=INPUTS.replace("id: count", "id: loop")), "inputs[3].id", "rename it"),
        (a_text(inputs=INPUTS.replace("default: low", "default: none")), "inputs[6]", "default: 'none' is no choice"),
        (a_text(inputs=INPUTS.replace("min: 2, max: 20", "min: 20, max: 2")), "inputs[0]", "min 20 is more than max 2"),
        (a_text(inputs=INPUTS.replace("[A-Z]{3}", "(?=A)")), "inputs[1]", "RE2 refuses it"),
        (a_text(inputs=INPUTS.replace("type: date", "type: date, validators: {min: 1}")), "inputs[7]", "no meaning"),
        (a_text(inputs=INPUTS.replace("type: text", "type: text, validators: {choices: [a]}")), "inputs[2]", "enum"),
        (
            a_text(inputs=INPUTS.replace("type: float", "type: float, validators: {regex: a}")),
            "inputs[4]",
            "no meaning",
        ),
        (a_text(more="parameters: {min_words: 9, max_words: 5}\n"), "parameters.min_words", "more than max_words"),
        (a_text().replace("name: Sales", "name: &a Sales") + "x: *a\n", "", "an alias (*) is not allowed"),
        (a_text() + "name: again\n", "", "'name' is there twice"),
        (a_text() + "a: [\n", "", "is not valid YAML"),
        (a_text() + "a: !!python/object/apply:os.system [id]\n", "", "is not valid YAML"),
        ("[" * 5000, "", "nested too deeply|is not valid YAML"),
        ("", "", "is no template"),
        ("- a\n", "", "is no template"),
        ("\0", "", "is not valid YAML"),
    ],
)
def test_a_bad_file_is_told_with_line_and_field(text: str, field: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "sales.yaml"
    path.write_text(text)
    with pytest.raises(NotATemplate) as caught:
        read_template(path)
    problem = caught.value.problems[0]
    assert problem.field == field
    assert any(part in problem.message for part in why.split("|"))
    assert problem.path == str(path)
    if field:
        line = text.split("\n")[problem.line - 1]
        last = field.rpartition(".")[2].partition("[")[0]
        assert last in line or "id:" in line or line.startswith("    "), (problem.line, line)


def test_files_that_cannot_be_templates(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    (tmp_path / "huge.yaml").write_bytes(b"#" * 300_000)
    (tmp_path / "Bad Name.yaml").write_text(a_text())
    for name, why in (("latin", "not UTF-8"), ("huge", "larger than 256 KiB"), ("Bad Name", "name the file with")):
        with pytest.raises(NotATemplate, match=why):
            read_template(tmp_path / f"{name}.yaml")


def test_a_bad_file_harms_no_other_and_the_nearest_folder_wins(tmp_path: Path) -> None:
    for folder, title in (("root/templates", "shipped"), ("own", "own"), ("own/tenants/acme", "acme's")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "letter.yaml").write_text(a_text().replace("Sales Follow-up", title))
    (tmp_path / "own" / "broken.yaml").write_text("name: [")
    (tmp_path / "own" / "notes.txt").write_text("no template")
    library = Library(tmp_path / "own", tmp_path / "root")
    assert library.shelf("acme").templates["letter"].title == "acme's"
    assert library.shelf("other").templates["letter"].title == "own"
    assert library.shelf("../acme").templates["letter"].title == "own"
    assert [problem.path for problem in library.shelf().problems] == [str(tmp_path / "own" / "broken.yaml")]
    with pytest.raises(NotFound, match=r"'broken' cannot be used: broken.yaml:\d+: is not valid YAML"):
        library.shelf().template("broken")
    with pytest.raises(NotFound, match="did you mean 'letter'"):
        library.shelf().template("leter")
    (tmp_path / "own" / "broken.yaml").write_text(a_text())
    assert "broken" in library.shelf().templates  # without a restart


GOLDEN = {
    "weekly_report": ("from 2025-10-01 to 2025-10-07", "## Next Week Priorities", "Sprint 25 of the payments team."),
    "meeting_brief": ('meeting "Sprint Planning" on 2025-10-02', "## Follow-up Questions", "Alice: Let's review"),
    "inbox_sweep": ("## P3: Let Go", "Deadlines: Q4 kickoff on October 15", "5. Question of a candidate"),
}
WORDS = {"weekly_report": (800, 1200), "meeting_brief": (500, 800), "inbox_sweep": (1000, 1500)}


@pytest.mark.parametrize("context", ["markdown", "html", "docx"])
async def test_the_samples_render_with_their_examples(context: str, renderer: Renderer, tmp_path: Path) -> None:
    shelf = Library().shelf()
    assert not shelf.problems
    assert set(shelf.templates) == set(GOLDEN)
    for name, parts in GOLDEN.items():
        shipped = shelf.templates[name]
        template = template_of(
            shipped.text.replace("context: markdown", f"context: {context}"), tmp_path / f"{name}.yaml"
        )
        task = (await make(template, example(template), renderer)).task
        for part in parts:
            assert (part if context == "markdown" else part.replace("'", "&#39;")) in task
        assert (template.parameters["min_words"], template.parameters["max_words"]) == WORDS[name]


# Runs of templates


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The deployment's own folder of templates."""
    (tmp_path / "tenants" / "acme").mkdir(parents=True)
    parameters = "parameters: {preset: deterministic, max_tokens: 333, min_words: 2, max_words: 9}\n"
    (tmp_path / "letter.yaml").write_text(a_text("Dear {{recipient}}: {{count}}", more=parameters))
    (tmp_path / "tenants" / "acme" / "secret.yaml").write_text(a_text("Of acme"))
    (tmp_path / "broken.yaml").write_text("name: [")
    return tmp_path


LETTER = {"recipient": "Taylor", "count": 5}


async def test_a_run_keeps_its_template_and_takes_its_parameters(mesh: Any, leaves: Any, own: Path) -> None:
    gateway = await mesh.gateway(templates=own)
    run = await gateway.do(task="", template="letter", inputs=LETTER, max_tokens=444)
    assert (run.spec.task, run.spec.workflow) == ("Dear Taylor: 5", "letter")
    assert (run.spec.template, run.spec.template_version) == ("letter", "1.0")
    assert run.spec.template_text == await asyncio.to_thread((own / "letter.yaml").read_text)
    assert run.spec.inputs["recipient"] == "Taylor"
    assert run.spec.inputs["priority"] == "low"
    assert run.spec.preset == "deterministic"
    assert run.spec.max_tokens == 444, "what is said wins over the template"
    assert (run.spec.min_words, run.spec.max_words) == (2, 9)
    (reserved,) = leaves.requests("Reserve")
    assert reserved.tags["workflow"] == "letter"


async def test_the_words_of_a_template_are_a_rule_but_offline_a_warning(mesh: Any, leaves: Any, own: Path) -> None:
    gateway = await mesh.gateway(templates=own)
    offline = await gateway.do(task="", template="letter", inputs=LETTER)
    assert "the offline debaters cannot write to length: 2 to 9 words were asked for" in offline.warnings
    model = debate_pb2.Debater(debater_id="d1", model="acme/good")
    called = await gateway.do(task="", template="letter", inputs=LETTER, debaters=[model])
    assert not called.warnings
    asked = leaves.requests("Judge")
    assert [(one.min_words, one.max_words) for one in asked] == [(0, 0), (2, 9)]


async def test_bad_inputs_are_told_with_every_other_bad_field(mesh: Any, leaves: Any, own: Path) -> None:
    gateway = await mesh.gateway(templates=own)
    for fields, named in (
        ({"template": "letter", "inputs": {"count": "x"}, "preset": "none", "task": "too"},
         {"run.inputs.recipient", "run.inputs.count", "run.preset", "run.task"}),
        ({"template": "leter", "task": "", "policy": "none"}, {"run.template", "run.policy"}),
        ({"task": "a", "inputs": {"a": 1}}, {"run.inputs"}),
        ({"task": ""}, {"run.task"}),
    ):  # fmt: skip
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await gateway.start(**fields)
        error = error_from_rpc(caught.value)
        assert error.code == "INVALID_ARGUMENT"
        assert {violation.field for violation in error.violations} == named
    assert not leaves.asked


async def test_the_catalogue_shows_templates_of_the_tenant_alone(mesh: Any, own: Path) -> None:
    gateway = await mesh.gateway(templates=own)
    async with connect(gateway.server.address) as client:
        listed = await client.list_templates()
        assert {"letter", "weekly_report"} <= {template.name for template in listed.templates}
        assert "secret" not in {template.name for template in listed.templates}
        assert [(problem.path, problem.line) for problem in listed.problems] == [("broken.yaml", 2)]
        template = await client.get_template("letter")
        assert [one.id for one in template.inputs][:2] == ["recipient", "code"]
        assert await client.render_template("letter", LETTER) == "Dear Taylor: 5"
        with pytest.raises(InvalidInput) as caught:
            await client.render_template("letter", {"count": 0})
        assert {violation.field for violation in caught.value.violations} == {"inputs.recipient", "inputs.count"}
        with pytest.raises(NotFound):
            await client.get_template("secret")
        assert "openai_only" in [policy.name for policy in await client.list_policies()]
        with identity_scope(Identity(tenant="acme")):
            assert await client.render_template("secret", {"recipient": "Taylor"}) == "Of acme"
