"""Reads YAML strictly: every scalar stays the text that it is, so no amount becomes a float, and no key comes twice."""

from __future__ import annotations

from typing import Any

import yaml


def load_yaml(text: str) -> Any:
    """The document in a text, its scalars as they are written.

    Raises yaml.YAMLError, or RecursionError for what is nested too deep.
    """
    return yaml.load(text, Loader=_Literal)  # noqa: S506  makes texts, lists and maps only


_Base: type[yaml.BaseLoader] = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # ten times faster where it is built


class _Literal(_Base):  # type: ignore[valid-type, misc]
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in names:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value[:80]!r} is there twice", key.start_mark
                )
            names.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping
