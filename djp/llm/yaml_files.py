"""Reads YAML of providers and prices strictly: every scalar stays the text that it is, and no key comes twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from djp.mesh.errors import FailedPrecondition

if TYPE_CHECKING:
    from pathlib import Path


def read_yaml(path: Path, what: str, variable: str) -> dict[str, Any]:
    """The map in a file; empty if it holds something else. `what` and the `variable` that names it go into errors.

    Raises FailedPrecondition, naming the file and the remedy, if it cannot be read or is no YAML.
    """
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_Literal)  # noqa: S506  makes strings only
    except OSError as error:
        raise FailedPrecondition(
            f"{what} {path} cannot be read ({error.strerror}); mend it, or name another one with {variable}"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        problem = " ".join(str(error).split())[:300]
        raise FailedPrecondition(f"{what} {path} is not YAML in UTF-8; mend it: {problem}") from error
    return document if isinstance(document, dict) else {}


_Base: type[yaml.BaseLoader] = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # ten times faster where it is built


class _Literal(_Base):  # type: ignore[valid-type, misc]
    """Reads every scalar as the text that it is: no price is ever a float. Refuses a key that comes twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"{twice!r} is there twice", node.start_mark)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping
