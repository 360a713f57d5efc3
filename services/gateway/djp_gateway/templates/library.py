"""The templates that a tenant may use: those shipped, the deployment's and the tenant's own; read when asked for."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from djp.catalogue_files import data_dir
from djp.mesh.errors import NotFound
from djp_gateway.templates.files import NotATemplate, read_template

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from djp_gateway.templates.model import Problem, Template

_MOST_FILES = 1000
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Shelf:
    """Templates by name, and the problems of the files that are none."""

    templates: Mapping[str, Template]
    problems: Sequence[Problem]

    def template(self, name: str, field: str = "run.template") -> Template:
        """The template of that name.

        Raises:
            NotFound: there is none; the message says why its file is none, or lists those that exist.
        """
        if name in self.templates:
            return self.templates[name]
        for problem in self.problems:
            if PurePath(problem.path).stem == name:
                raise NotFound(f"template {name!r} cannot be used: {problem.told}", field=field)
        near = difflib.get_close_matches(name.lower(), self.templates, n=1)
        hint = f"did you mean {near[0]!r}? There are" if near else "there are"
        raise NotFound(f"there is no template {name!r}; {hint}: {', '.join(self.templates)}", field=field)


class Library:
    """Every folder's templates. A file that changes counts from the next call on."""

    def __init__(self, own: Path | None = None, root: Path | None = None) -> None:
        """`own` is the deployment's folder, with those of tenants in tenants/TENANT; `root` the data directory."""
        self._shipped = (root or data_dir()) / "templates"
        self._own = own
        self._read: dict[tuple[str, int, int], Template | NotATemplate] = {}

    def shelf(self, tenant: str = "") -> Shelf:
        """What a tenant may use: of the same name its own before the deployment's, and that before the shipped."""
        templates: dict[str, Template] = {}
        problems: list[Problem] = []
        read: dict[tuple[str, int, int], Template | NotATemplate] = {}
        for folder in self._folders(tenant):
            for path in sorted(_files(folder), key=lambda path: path.name):
                try:
                    status = path.stat()
                except OSError:  # it was there when the folder was listed
                    continue
                key = str(path), status.st_mtime_ns, status.st_size
                found = self._read.get(key)
                if found is None:
                    try:
                        found = read_template(path)
                    except NotATemplate as error:
                        found = error
                read[key] = found
                if isinstance(found, NotATemplate):
                    problems += found.problems
                else:
                    templates[path.stem] = found
        known = {path for path, _, _ in read}
        self._read = {key: one for key, one in self._read.items() if key[0] not in known} | read
        return Shelf(dict(sorted(templates.items())), problems)

    def _folders(self, tenant: str) -> Iterator[Path]:
        yield self._shipped / "examples"
        yield self._shipped
        yield self._shipped / "custom"
        if self._own is not None:
            yield self._own
            if _TENANT.fullmatch(tenant):
                yield self._own / "tenants" / tenant


def _files(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.suffix in (".yaml", ".yml") and path.is_file()][:_MOST_FILES]
    except OSError:
        return []
