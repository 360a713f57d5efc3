"""Reads template files: YAML by schemas/template.json. What is wrong with one names its line and harms no other."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from djp.catalogue_files import problems_of
from djp.strict_yaml import refuse_aliases
from djp_gateway.templates.inputs import problem_of
from djp_gateway.templates.model import Input, Problem, Template
from djp_gateway.templates.sandbox import Refused, check

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MOST_BYTES = 256 * 1024
"""Of a template file: a task that it makes has 256 KiB at most."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")
_RESERVED = frozenset({"loop", "self", "true", "false", "none", "and", "or", "not", "in", "is", "if", "else", "for"})


class NotATemplate(Exception):  # noqa: N818  named after what happened
    """The problems of a file, at least one."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


def read_template(path: Path) -> Template:
    """The template in a file. Raises NotATemplate."""
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise _bad(path, f"is larger than {MOST_BYTES >> 10} KiB; a template is a task in the making")
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise _bad(path, f"cannot be read: {error.strerror}; mend its permissions") from error
    except UnicodeDecodeError as error:
        raise _bad(path, "is not UTF-8 text; save it as UTF-8", 1 + raw[: error.start].count(b"\n")) from error
    return template_of(text, path)


def template_of(text: str, path: Path) -> Template:
    """The template in the text of a file. Raises NotATemplate with all that is wrong with it."""
    if not _NAME.fullmatch(path.stem):
        raise _bad(path, "name the file with lower-case letters, digits, _ and -, for runs name the template so")
    root, document = _parsed(text, path)
    found = problems_of("template", document)
    if found:
        raise NotATemplate([_problem(path, root, where, message) for where, message in found])
    inputs = [Input(**one) for one in document["inputs"]]
    body: str = document["rendering"]["body"]
    body_node = _node_at(root, ("rendering", "body"))
    # A block scalar's text begins in the line behind its mark, a plain or quoted one's where it stands.
    body_line = body_node.start_mark.line + (2 if getattr(body_node, "style", None) in ("|", ">") else 1)
    problems = list(_problems_of_inputs(path, root, inputs))
    words = document.get("parameters", {})
    if words.get("min_words", 0) > (words.get("max_words") or words.get("min_words", 0)):
        problems.append(_problem(path, root, ("parameters", "min_words"), "is more than max_words"))
    if not problems:
        try:
            check(body, {one.id for one in inputs})
        except Refused as refused:
            line = body_line + refused.line - 1 if refused.line else body_line
            problems.append(Problem(str(path), line, "rendering.body", refused.message))
    if problems:
        raise NotATemplate(problems)
    return Template(
        name=path.stem,
        title=document["name"],
        version=document["version"],
        description=document["description"],
        context=document["context"],
        inputs=inputs,
        body=body,
        parameters=words,
        text=text,
        path=str(path),
        body_line=body_line,
    )


def _problems_of_inputs(path: Path, root: yaml.Node, inputs: Sequence[Input]) -> list[Problem]:
    problems = []
    seen: set[str] = set()
    for number, one in enumerate(inputs):
        where = ("inputs", number, "id")
        if one.id in seen:
            problems.append(_problem(path, root, where, f"{one.id!r} is there twice; give each input its own"))
        elif one.id in _RESERVED:
            problems.append(_problem(path, root, where, f"{one.id!r} means something else in Jinja2; rename it"))
        elif problem := problem_of(one):
            problems.append(_problem(path, root, ("inputs", number), f"{one.id}: {problem}"))
        seen.add(one.id)
    return problems


def _parsed(text: str, path: Path) -> tuple[yaml.Node, Any]:
    """The document's nodes, which know their lines, and the document."""
    try:
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            refuse_aliases(root)
            document = loader.construct_document(root) if root else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(filter(None, (error.context, error.problem)))
        raise _bad(path, f"is not valid YAML: {what}", mark.line + 1 if mark else 0) from error
    except (yaml.YAMLError, ValueError) as error:
        raise _bad(path, f"is not valid YAML: {' '.join(str(error).split())[:300]}") from error
    except RecursionError as error:
        raise _bad(path, "is nested too deeply") from error
    if not isinstance(document, dict):
        raise _bad(path, "is no template: at its top it has name, version, description, context, inputs, rendering", 1)
    return root, document


_Base: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster where it is built


class _Loader(_Base):  # type: ignore[valid-type, misc]
    """Safe YAML in which a date stays a text, no key comes twice, and nothing is named to be used again."""

    yaml_implicit_resolvers = {  # noqa: RUF012  as the base class has it
        first: [(tag, regex) for tag, regex in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in _Base.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        names: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in names:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value[:80]!r} is there twice", key.start_mark
                )
            names.add(key.value if isinstance(key, yaml.ScalarNode) else "")
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def _node_at(root: yaml.Node, where: Sequence[str | int]) -> yaml.Node:
    """The node at a place in the document, or the nearest around it."""
    node = root
    for part in where:
        below = None
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            below = node.value[part]
        elif isinstance(node, yaml.MappingNode):
            below = next((value for key, value in node.value if getattr(key, "value", None) == part), None)
        if below is None:
            break
        node = below
    return node


def _problem(path: Path, root: yaml.Node, where: Sequence[str | int], message: str) -> Problem:
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where).lstrip(".")
    return Problem(str(path), _node_at(root, where).start_mark.line + 1, field, message)


def _bad(path: Path, message: str, line: int = 0) -> NotATemplate:
    return NotATemplate([Problem(str(path), line, "", message)])
