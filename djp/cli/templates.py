"""`djp templates list|show|render|validate|new`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from djp.cli.documents import document
from djp.cli.exits import Exit
from djp.cli.given import read_inputs
from djp.cli.session import connected
from djp.cli.terminal import clean, command_name, err, one_line, out, say
from djp.mesh.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djp.v1 import catalogue_pb2
    from djp_gateway.templates.library import Shelf


STARTER = """# A template makes the task of a run: djp run --template {name} --inputs '{{"customer": "Acme"}}'
# Put the file into templates/custom, or into the folder that DJP_TEMPLATES names.
name: {title}
version: "1.0"                   # major.minor, in quotes; count it up when you change something
description: What it is for, in a sentence.
context: markdown                # or html or docx: then what is put into the body is escaped

inputs:
  - id: customer                 # what the body calls it
    label: Customer              # for people
    type: string                 # string, text, int, float, bool, enum, date, email, url or multiselect
    required: true
    help: Whom the letter is for.
    placeholder: Acme            # an example; --dry-run counts with it
    validators:
      max: 100                   # characters here, the value itself of an int or a float; also min

  - id: tone
    label: Tone
    type: enum
    default: friendly
    validators:
      choices: [friendly, formal]

parameters:                      # what a run gets that does not say otherwise
  min_words: 80
  max_words: 200

rendering:                       # Jinja2, with the filters that the documentation lists
  body: |
    Write a {{{{ tone }}}} letter of 80 to 200 words to {{{{ customer }}}}, in Markdown.
"""


async def list_templates(gateway: str | None, *, as_json: bool) -> int:
    """Print every template, the gateway's or without one those of this installation, and what is wrong with files."""
    listed = await _listed(gateway)
    if as_json:
        print(json.dumps(document(listed), indent=2))
        return Exit.OK
    for template in listed.templates:
        out().print(Text.assemble((one_line(template.name), "bold"), f"  {one_line(template.title)}"))
        say(f"  {one_line(template.description)}")
        say(f"  {template.context}, version {template.version}; inputs: {_inputs(template) or 'none'}", "dim")
    if listed.templates:
        say("")
        say("* must be given. Run one with: djp run --template NAME --inputs '{…}'; look at one with: "
            "djp templates show NAME")  # fmt: skip
    else:
        say("There is no template; write one with: djp templates new templates/custom/my_report.yaml")
    for problem in listed.problems:
        where = f"{problem.path}:{problem.line}" if problem.line else problem.path
        err().print(f"! {one_line(': '.join(filter(None, (where, problem.field, problem.message))))}", style="yellow")
    return Exit.OK


async def show_template(gateway: str | None, name: str, *, example_only: bool, as_json: bool) -> int:
    """Print one template, or inputs to try it with. Raises NotFound."""
    template = await _one(gateway, name)
    if example_only:
        given = document(template)["example"]
        ordered = {one.id: _number(given[one.id]) for one in template.inputs if one.id in given}
        print(json.dumps(ordered, indent=2, ensure_ascii=False))
        return Exit.OK
    if as_json:
        print(json.dumps(document(template), indent=2))
        return Exit.OK
    out().print(Text.assemble((one_line(template.title), "bold"), f"  {template.name}, version {template.version}"))
    say(one_line(template.description))
    told = ", ".join(f"{key} {_number(value)}" for key, value in sorted(document(template)["parameters"].items()))
    say(f"Its output is {template.context}{f'; {told}' if told else ''}.", "dim")
    for one in template.inputs:
        say("")
        mark = "*" if one.required else ""
        out().print(Text.assemble((f"{one.id}{mark}", "bold"), f"  {one_line(one.label)} ({_type(one)})"))
        if one.help:
            say(f"  {one_line(one.help)}")
        if one.HasField("default"):
            say(f"  default: {one_line(str(_number(document(one)['default'])), 200)}", "dim")
    say("")
    say(clean(template.body).rstrip(), "dim")
    return Exit.OK


async def render_template(gateway: str | None, name: str, inputs: str | None, *, as_json: bool) -> int:
    """Print the task that a template, or a template file, makes of inputs; without any, of its example."""
    given = read_inputs(inputs) if inputs is not None else None
    if name.endswith((".yaml", ".yml")):
        text = await _render_file(Path(name), given)
    else:
        if given is None:
            given = document(await _one(gateway, name))["example"]
        async with connected(gateway) as client:
            text = await client.render_template(name, given)
    print(json.dumps({"text": text}, indent=2) if as_json else clean(text))
    return Exit.OK


async def validate_templates(files: Sequence[Path], *, as_json: bool) -> int:
    """Check files; 1 if one is no template."""
    from djp_gateway.templates.files import NotATemplate, read_template

    findings: list[dict[str, Any]] = []
    for file in files:
        try:
            template = read_template(file)
        except NotATemplate as error:
            findings += [
                {"path": one.path, "line": one.line, "field": one.field, "problem": one.message}
                for one in error.problems
            ]
            if not as_json:
                for problem in error.problems:
                    print(f"[FAIL] {one_line(str(problem))}")
        else:
            findings.append({"path": str(file), "line": 0, "field": "", "problem": None})
            if not as_json:
                inputs = f"{len(template.inputs)} input{'' if len(template.inputs) == 1 else 's'}"
                print(f"[OK] {one_line(str(file))}: {one_line(template.title)} {template.version}, {inputs}")
    valid = all(finding["problem"] is None for finding in findings)
    if as_json:
        print(json.dumps({"valid": valid, "findings": findings}, indent=2))
    return Exit.OK if valid else Exit.PROBLEM


async def new_template(file: Path) -> int:
    """Write the starter; nothing is overwritten."""
    from djp_gateway.templates.sandbox import to_title

    if file.suffix not in (".yaml", ".yml"):
        raise InvalidInput(f"{file} does not end in .yaml; call it {file.name}.yaml", field="FILE")
    text = STARTER.format(name=file.stem, title=json.dumps(to_title(file.stem)))
    _refuse(lambda: _check(text, file))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        raise InvalidInput(f"{file} is there already; choose another name", field="FILE") from None
    except OSError as error:
        raise InvalidInput(f"{file} cannot be written: {error.strerror}", field="FILE") from error
    say(f"{file} is written. Try it: {command_name()} templates render {file}")
    return Exit.OK


def _check(text: str, file: Path) -> None:
    from djp_gateway.templates.files import template_of

    template_of(text, file)


async def _render_file(file: Path, given: dict[str, Any] | None) -> str:
    from djp_gateway.templates.files import read_template
    from djp_gateway.templates.inputs import example
    from djp_gateway.templates.making import make
    from djp_gateway.templates.renderer import Renderer

    template = _refuse(lambda: read_template(file))
    renderer = Renderer()
    try:
        return (await make(template, example(template) if given is None else given, renderer)).task
    finally:
        await renderer.close()


def _refuse(read: Any) -> Any:
    """A file's problems as an error of the command line."""
    from djp_gateway.templates.files import NotATemplate

    try:
        return read()
    except NotATemplate as error:
        raise InvalidInput("; ".join(map(str, error.problems)), field="FILE") from error


async def _listed(gateway: str | None) -> catalogue_pb2.ListTemplatesResponse:
    from djp_gateway.catalogue_servicer import templates_message

    if not gateway:
        return templates_message(_shelf())
    async with connected(gateway) as client:
        return await client.list_templates()


async def _one(gateway: str | None, name: str) -> catalogue_pb2.Template:
    from djp_gateway.catalogue_servicer import template_message

    if not gateway:
        return template_message(_shelf().template(name, "NAME"))
    async with connected(gateway) as client:
        return await client.get_template(name)


def _shelf() -> Shelf:
    """The templates of this installation, for which no mesh has to start."""
    from djp_gateway.settings import GatewaySettings
    from djp_gateway.templates.library import Library

    return Library(GatewaySettings().templates).shelf()


def _inputs(template: catalogue_pb2.Template) -> str:
    return ", ".join(f"{one.id}{'*' if one.required else ''}" for one in template.inputs)


def _type(one: catalogue_pb2.TemplateInput) -> str:
    rules = document(one)["validators"]
    told = [", ".join(str(_number(choice)) for choice in rules["choices"])] if "choices" in rules else []
    told += [f"{name} {_number(rules[name])}" for name in ("min", "max", "regex") if name in rules]
    return f"{one.type}: {one_line(', '.join(told), 200)}" if told else one.type


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
