"""Reads the names of stored objects back: which artifact one is of, as far as its path alone can tell."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from djp_storage.description import described_key
from djp_storage.model import ArtifactKey, ObjectName
from djp_storage.names import is_description, object_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from djp_storage.model import Tier

_OBJECT_ID = re.compile(r"([0-9a-f]{12})-(.+)")
_MADE = re.compile(r"\.([0-9a-f]{12})\.(?:json|part)|([0-9a-f]{12})-.+")
_CUT = "%-"  # a name that was too long: it ends in a hash, and only the object's description has it


def names_of(tier: Tier, path: str) -> list[ObjectName]:
    """The objects that may have this path, none where names were cut or it is no path of ours.

    There may be two: an artifact of the first release, whose objects have no id, may have a name that begins like one.
    """
    parts = path.split("/")
    if len(parts) != 3 or _CUT in path:
        return []
    try:
        tenant, workflow, leaf = (unquote_to_bytes(part).decode() for part in parts)
    except UnicodeDecodeError:
        return []
    found = [ObjectName(tier, ArtifactKey(tenant, workflow, leaf))]
    if with_id := _OBJECT_ID.fullmatch(leaf):
        found.insert(0, ObjectName(tier, ArtifactKey(tenant, workflow, with_id[2]), with_id[1]))
    return found


def names_made(batch: ObjectName, leaves: Iterable[str], described: Callable[[str], str]) -> list[ObjectName]:
    """The objects of a batch that have these names in its folder, or have left a description there, or a half copy.

    Where a name does not tell the artifact, the description does that `described` gives of it; where none does, the
    object has no more than its id.
    """
    folders = "/".join(object_path(batch)[:2])
    leaf_of: dict[str, str] = {}
    for leaf in sorted(leaves):  # those that begin with a dot come first
        if (made := _MADE.fullmatch(leaf)) and (object_id := made[1] or made[2]).startswith(batch.object_id):
            leaf_of[object_id] = leaf
    found = []
    for object_id, leaf in leaf_of.items():
        told = [] if is_description(leaf) else names_of(batch.tier, f"{folders}/{leaf}")
        key = told[0].key if told else described_key(described(leaf))
        found.append(ObjectName(batch.tier, key or batch.key, object_id))
    return found


def id_of(path: str) -> str:
    """The object's id, or an empty text where its path has none."""
    with_id = _OBJECT_ID.fullmatch(path.rpartition("/")[2])
    return with_id[1] if with_id else ""
