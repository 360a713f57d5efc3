"""What a template's body may do: a small part of Jinja2, checked before it runs. Imports nothing of DJP Mesh."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError, TemplateSyntaxError, Undefined, nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from jinja2.runtime import Context

FILTERS = frozenset(
    {
        *("lower", "upper", "title", "replace", "join", "round", "length", "escape", "e", "safe"),
        *("to_slug", "to_title", "map", "select", "default"),
    }
)
"""The filters that the operations guide lists."""
TESTS = frozenset(
    {
        *("defined", "undefined", "none", "true", "false", "boolean", "number", "integer", "float", "string", "in"),
        *("eq", "equalto", "==", "ne", "!=", "lt", "lessthan", "<", "le", "<=", "gt", "greaterthan", ">", "ge", ">="),
        *("even", "odd", "divisibleby", "lower", "upper"),
    }
)
_LOOP = frozenset({"index", "index0", "revindex", "revindex0", "first", "last", "length"})
_REMEDIES: dict[type[nodes.Node], str] = {
    nodes.Call: "calls are not allowed; use a filter: {{ name|upper }} instead of {{ name.upper() }}",
    nodes.Pow: "** is not allowed",
    nodes.Include: "a template cannot read other files; put the text into it",
    nodes.Import: "a template cannot read other files; put the text into it",
    nodes.FromImport: "a template cannot read other files; put the text into it",
    nodes.Extends: "a template cannot read other files; put the text into it",
    nodes.Block: "blocks are of no use, for no template extends another; write the text itself",
    nodes.Macro: "macros are not allowed; write the text itself, or use a loop",
    nodes.CallBlock: "macros are not allowed; write the text itself, or use a loop",
}
_ALLOWED = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.Filter, nodes.Test),
    *(nodes.For, nodes.If, nodes.Assign, nodes.AssignBlock, nodes.With, nodes.FilterBlock, nodes.CondExpr),
    *(nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Concat, nodes.Neg, nodes.Pos),
    *(nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod),
    *(nodes.Tuple, nodes.List, nodes.Dict, nodes.Pair, nodes.Keyword, nodes.Getitem, nodes.Slice, nodes.Getattr),
)


class Refused(Exception):  # noqa: N818  named after what happened
    """A body that must not or cannot run. `line` is its line in the body, 0 where it is not known."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja2 with the guide's filters, without globals, calls and attributes, other than those of `loop`."""

    intercepted_binops = frozenset({"*", "%"})

    def __init__(self, context: str) -> None:
        """`context` is the template's: what is put into html and docx is escaped, in markdown it is not."""
        super().__init__(autoescape=context in ("html", "docx"), cache_size=0, finalize=_shown)
        self.globals.clear()
        self.filters = {name: self.filters[name] for name in FILTERS if name in self.filters}
        self.filters["to_slug"] = to_slug
        self.filters["to_title"] = to_title
        self.tests = {name: self.tests[name] for name in TESTS}

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Of nothing but a loop, and of it what says where it is."""
        if isinstance(obj, LoopContext) and attribute in _LOOP:
            return getattr(obj, attribute)
        raise SecurityError(f".{attribute} is not allowed; a value has no attributes here")

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Items of texts and lists by number, and of the template's own dictionaries by key; never an attribute."""
        if not isinstance(obj, str | list | tuple | dict) or not (
            isinstance(obj, dict) or isinstance(argument, int | slice)
        ):
            raise SecurityError(f"[{argument!r}] is not allowed; only items of texts and lists by number are")
        try:
            return obj[argument]
        except (LookupError, TypeError):
            return self.undefined(obj=obj, name=argument)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """`*` and `%` are for numbers: on texts they repeat and format."""
        if not all(isinstance(operand, int | float) for operand in (left, right)):
            raise SecurityError(f"{operator} is for numbers only; a text can be joined with ~")
        return super().call_binop(context, operator, left, right)


def check(body: str, inputs: Collection[str]) -> None:
    """Raises Refused if a body is no Jinja2, does what it must not, or names what is no input. Runs nothing of it."""
    tree = parsed(body)
    for node, loops in _walk(tree, 0):
        _check_node(node, loops)
    made = {node.name for node in tree.find_all(nodes.Name) if node.ctx in ("store", "param")}
    for node in tree.find_all(nodes.Name):
        if node.ctx == "load" and node.name not in made and node.name not in inputs and node.name != "loop":
            raise Refused(f"{node.name!r} is no input of this template; declare it, or mend its name", node.lineno)


def parsed(body: str) -> nodes.Template:
    """The body's syntax tree. Raises Refused."""
    try:
        return Sandbox("markdown").parse(body)
    except TemplateSyntaxError as error:
        raise Refused(f"is not valid Jinja2: {error.message}", error.lineno) from error
    except RecursionError:
        raise Refused("is nested too deeply") from None
    except ValueError as error:  # a number with thousands of digits
        raise Refused(f"is not valid Jinja2: {str(error)[:200]}") from error


def _walk(node: nodes.Node, loops: int) -> Iterator[tuple[nodes.Node, int]]:
    """Every node with the number of loops around it."""
    todo = [(node, loops)]
    while todo:
        node, loops = todo.pop()
        yield node, loops
        todo += [(child, loops + isinstance(node, nodes.For)) for child in node.iter_child_nodes()]


def _check_node(node: nodes.Node, loops: int) -> None:
    line = node.lineno
    for kind, remedy in _REMEDIES.items():
        if isinstance(node, kind):
            raise Refused(remedy, line)
    if not isinstance(node, _ALLOWED):
        raise Refused(f"{type(node).__name__} is not allowed in a template", line)
    match node:
        case nodes.For(recursive=True):
            raise Refused("a loop cannot be recursive", line)
        case nodes.Name(name=name) if name.startswith("_"):
            raise Refused(f"{name!r} is not allowed; names do not begin with _", line)
        case nodes.Getattr(attr=attribute, node=of):
            if not (isinstance(of, nodes.Name) and of.name == "loop" and loops and attribute in _LOOP):
                raise Refused(
                    f".{attribute} is not allowed: a value has no attributes here; use a filter, or in a loop one of "
                    f"loop.{', loop.'.join(sorted(_LOOP))}",
                    line,
                )
        case nodes.Keyword(key="attribute"):
            raise Refused("attribute= is not allowed; a value has no attributes here", line)
        case nodes.Getitem(node=of, arg=nodes.Const(value=str())) if not isinstance(of, nodes.Dict):
            raise Refused("only items of texts and lists by number are allowed, and those of a dictionary", line)
        case nodes.Filter(name="map", args=[first, *_]) if not _names(first, FILTERS):
            raise Refused(f"map takes the name of a filter; there are {', '.join(sorted(FILTERS))}", line)
        case nodes.Filter(name="select", args=[first, *_]) if not _names(first, TESTS):
            raise Refused(f"select takes the name of a test; there are {', '.join(sorted(TESTS))}", line)
        case nodes.Filter(name=name) if name not in FILTERS:
            raise Refused(f"there is no filter {name!r}; there are {', '.join(sorted(FILTERS))}", line)
        case nodes.Test(name=name) if name not in TESTS:
            raise Refused(f"there is no test {name!r}; there are {', '.join(sorted(TESTS))}", line)


def _names(node: nodes.Node, known: Collection[str]) -> bool:
    return isinstance(node, nodes.Const) and node.value in known


def render(body: str, context: str, values: Mapping[str, Any], most_bytes: int) -> str:
    """The text that a checked body makes of values. It may take any time and memory: only for a process of its own.

    Raises Refused: it failed, or makes more than `most_bytes` of UTF-8.
    """
    parts: list[str] = []
    size = 0
    try:
        for part in Sandbox(context).from_string(body).generate(**values):
            size += len(part.encode("utf-8", "replace"))
            if size > most_bytes:
                raise Refused(f"makes more than {most_bytes} bytes of text; shorten the template or its inputs")
            parts.append(part)
    except (TemplateError, ArithmeticError, TypeError, ValueError, LookupError, SyntaxError) as error:
        raise Refused(f"cannot be rendered: {str(error)[:300] or type(error).__name__}", _line(error)) from error
    except RecursionError:
        raise Refused("is nested too deeply") from None
    except MemoryError:
        raise Refused("needs too much memory; shorten the template or its inputs") from None
    return "".join(parts)


def _line(error: BaseException) -> int:
    """The line of the body in which something went wrong: Jinja2 rewrites the traceback to it."""
    line, step = 0, error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == "<template>":
            line = step.tb_lineno
        step = step.tb_next
    return line


def _shown(value: Any) -> Any:
    """An input that was not given leaves nothing in the text."""
    return "" if value is None or isinstance(value, Undefined) else value


def to_slug(value: object) -> str:
    """Lower-case letters and digits of ASCII with hyphens between them: `Weekly Report: Q3` is `weekly-report-q3`."""
    plain = unicodedata.normalize("NFKD", str(value)).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def to_title(value: object) -> str:
    """Words with a capital letter each, of a name with _ or - in it too: `weekly_report` is `Weekly Report`."""
    return " ".join(word[:1].upper() + word[1:] for word in re.split(r"[\s_-]+", str(value).strip()) if word)
