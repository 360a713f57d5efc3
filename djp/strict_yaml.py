"""Reads YAML strictly: every scalar stays the text that it is, so no amount becomes a float, and no key comes twice."""

from __future__ import annotations

from typing import Any

import yaml


def load_yaml(text: str, *, aliases: bool = True) -> Any:
    """The document in a text, its scalars as they are written; without `aliases` if strangers wrote it.

    Raises yaml.YAMLError, or RecursionError for what is nested too deep.
    """
    loader = _Literal(text)  # makes texts, lists and maps only
    try:
        root = loader.get_single_node()
        if not aliases:
            refuse_aliases(root)
        return loader.construct_document(root) if root else None
    finally:
        loader.dispose()


def refuse_aliases(root: yaml.Node | None) -> None:
    """Raises MarkedYAMLError if a part is used twice: so a small file can become enormous, or a circle."""
    seen: set[int] = set()
    todo = [root] if root else []
    while todo:
        node = todo.pop()
        if id(node) in seen:
            raise yaml.MarkedYAMLError(
                problem="an alias (*) is not allowed; write it out", problem_mark=node.start_mark
            )
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            todo += node.value
        elif isinstance(node, yaml.MappingNode):
            todo += [part for pair in node.value for part in pair]


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
