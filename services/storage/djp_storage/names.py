"""Which names an artifact may have, and how a name becomes the name of a file: one to one, on any file system."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import TYPE_CHECKING

from djp.mesh.errors import InvalidInput, Violation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from djp_storage.model import ObjectName

_MAX_NAME = 200  # characters, as in the .proto
_MAX_TAG = 1000  # characters of a tag's key or value: a tag is a label, not a document

# Control characters, line separators, and marks that turn the direction of text: they make a name look like another.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_NOT_A_NAME = re.compile(f"[/\\\\]|{_UNSEEN.pattern}|^\\.{{1,2}}$")

_NOT_PLAIN = re.compile(rb"[^a-z0-9._-]|\A\.|\.\Z")
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")  # reserved in every folder of Windows shares
_MAX_FILE_NAME = 240  # NAME_MAX is 255 on every common file system
_KEPT = 10_000  # of the names of files: each is asked for several times while its object is made


def name_violations(name: str, field: str) -> Iterable[Violation]:
    """What is wrong with the name of a workflow or an artifact."""
    if not name:
        yield Violation(field, f"{field}: empty; give a name")
    elif len(name) > _MAX_NAME:
        yield Violation(field, f"{field}: {len(name)} characters long; use at most {_MAX_NAME}")
    elif _NOT_A_NAME.search(name):
        yield Violation(
            field,
            f"{field}: {name!a} is not a name; leave out '/', '\\' and control characters, "
            "and use neither '.' nor '..'",
        )


def label_violations(labels: Iterable[tuple[str, str]]) -> Iterable[Violation]:
    """What is wrong with texts that describe an artifact, each given with its field."""
    for field, text in labels:
        if len(text) > _MAX_TAG:
            yield Violation(field, f"{field}: {len(text)} characters long; use at most {_MAX_TAG}")
        elif _UNSEEN.search(text):
            yield Violation(field, f"{field}: holds control characters; leave them out")


def refuse(violations: Iterable[Violation]) -> None:
    """Raises InvalidInput if there is any violation; names every one."""
    if found := list(violations):
        raise InvalidInput("; ".join(one.description for one in found), violations=found)


@lru_cache(_KEPT)
def file_name(name: str) -> str:
    """The name of the file or folder of `name`. Different names give names that differ in more than their case.

    Lower-case letters, digits, '.', '_' and '-' stand for themselves and every other byte of the UTF-8 is %xx; so is
    a dot at the beginning or the end, and the first letter of a Windows device. A name that would get too long ends in
    the hash of the whole instead.
    """
    raw = name.encode()
    encoded = _NOT_PLAIN.sub(_escaped, raw).decode()
    if _DEVICE.fullmatch(encoded):
        encoded = f"%{raw[0]:02x}{encoded[1:]}"
    if len(encoded) > _MAX_FILE_NAME:
        digest = hashlib.sha256(raw).hexdigest()
        encoded = f"{encoded[: _MAX_FILE_NAME - len(digest) - 2]}%-{digest}"  # "%-" comes from no byte
    return encoded


def _escaped(found: re.Match[bytes]) -> bytes:
    return b"%%%02x" % found[0][0]


def object_path(name: ObjectName) -> tuple[str, str, str]:
    """Of an object within its tier: the folders of its tenant and workflow, and its own name in there."""
    leaf = file_name(name.key.artifact)
    own = f"{name.object_id}-{leaf}" if name.object_id else leaf
    return file_name(name.key.tenant), file_name(name.key.workflow), own


def description_leaf(leaf: str) -> str:
    """Where the description of the object of that name is, if it is a file or an object of its own."""
    return f".{leaf[:12]}.json"


def is_description(leaf: str) -> bool:
    """Whether a file is no object but the description of one: no object's name begins with a dot."""
    return leaf.startswith(".")
