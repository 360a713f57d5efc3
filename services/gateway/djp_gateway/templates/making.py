"""Makes tasks of templates and their inputs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from djp.mesh.errors import InvalidInput, Violation
from djp_gateway.templates.inputs import checked
from djp_gateway.templates.sandbox import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from djp_gateway.templates.library import Library, Shelf
    from djp_gateway.templates.model import Template
    from djp_gateway.templates.renderer import Renderer

Fields = tuple[str, str]
OF_A_RUN: Fields = ("run.template", "run.inputs")


@dataclass(frozen=True)
class Made:
    """A task, the template that made it, and the inputs as they were understood."""

    template: Template
    task: str
    inputs: Mapping[str, Any]


class Templates:
    """What the gateway does with templates."""

    def __init__(self, library: Library, renderer: Renderer) -> None:
        self._library = library
        self._renderer = renderer

    async def shelf(self, tenant: str) -> Shelf:
        """What a tenant may use."""
        return await asyncio.to_thread(self._library.shelf, tenant)

    async def make(self, tenant: str, name: str, given: Mapping[str, Any], fields: Fields = OF_A_RUN) -> Made:
        """Check the inputs and render; `fields` are what the caller's request calls the template and the inputs.

        Raises:
            NotFound: there is no such template.
            InvalidInput: with one violation for every bad input, or because the template cannot be rendered with them.
        """
        template = (await self.shelf(tenant)).template(name, fields[0])
        return await make(template, given, self._renderer, fields)


async def make(template: Template, given: Mapping[str, Any], renderer: Renderer, fields: Fields = OF_A_RUN) -> Made:
    """As `Templates.make`, of one template."""
    values, problems = checked(template, given)
    violations = [Violation(f"{fields[1]}.{name}", problem) for name, problem in problems]
    if not violations:
        try:
            task = (await renderer.render(template.body, template.context, values)).strip()
        except Refused as refused:
            line = f", line {template.body_line + refused.line - 1} of its file" if refused.line else ""
            violations.append(Violation(fields[0], f"{template.name!r}{line}: {refused.message}"))
        else:
            if task:
                return Made(template, task, values)
            violations.append(Violation(fields[0], f"{template.name!r} makes an empty task of these inputs"))
    raise InvalidInput("; ".join(f"{v.field}: {v.description}" for v in violations), violations=violations)
