"""The words of templates: a template, one of its inputs, and what is wrong with a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Input:
    """A field that a template asks for. `type` is one of ten; `validators` as in schemas/template.json."""

    id: str
    label: str
    type: str
    required: bool = False
    default: Any = None
    help: str = ""
    placeholder: str = ""
    validators: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Template:
    """A valid template. `name` is what a run names, the file's own name without its end; `title` is for people."""

    name: str
    title: str
    version: str
    description: str
    context: str
    inputs: Sequence[Input]
    body: str
    parameters: Mapping[str, Any]
    text: str
    """The whole file, as a run keeps it."""
    path: str
    body_line: int
    """The line of the file in which the body begins."""


@dataclass(frozen=True)
class Problem:
    """What keeps a file from being a template. `line` counts from 1 and is 0 where it is not known."""

    path: str
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.path.removesuffix(self._name)}{self.told}"

    @property
    def told(self) -> str:
        """The same without the folder, which is nobody's business at the other end of a wire."""
        parts = f"{self._name}:{self.line}" if self.line else self._name, self.field, self.message
        return ": ".join(filter(None, parts))

    @property
    def _name(self) -> str:
        return PurePath(self.path).name
