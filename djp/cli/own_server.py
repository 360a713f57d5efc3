"""A model server of one's own that speaks OpenAI's format: which models it has, and its entry in a provider file."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

from djp.mesh.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

_ANSWERS_S = 10.0
_MOST_BYTES = 1 << 20
_MODEL = re.compile(r"[\x21-\x2b\x2d-\x7e]{1,150}")  # as a provider file takes it, and without a comma


def models_of(server: str) -> list[str]:
    """The models that the server at that base URL lists. Raises InvalidInput, with what to do instead."""
    _check(server)
    try:
        with urllib.request.urlopen(f"{server.rstrip('/')}/models", timeout=_ANSWERS_S) as answer:  # noqa: S310
            listed = json.loads(answer.read(_MOST_BYTES))["data"]
        names = [one["id"] for one in listed if _MODEL.fullmatch(one["id"])]
    except urllib.error.HTTPError as error:
        raise _refused(server, f"it answers {error.code}") from error
    except OSError as error:
        raise _refused(server, str(getattr(error, "reason", error))) from error
    except (ValueError, KeyError, TypeError) as error:
        raise _refused(server, "what it answers is no list of models") from error
    if not names:
        raise _refused(server, "it lists none")
    return names


def provider_entry(server: str, models: Sequence[str]) -> str:
    """What stands below `providers:`. Nothing is paid for tokens of one's own server."""
    _check(server)
    lines = [f"    {json.dumps(name)}: {{price: {{input: 0, output: 0}}}}" for name in models]
    head = f"  local:\n    api: openai\n    base_url: {json.dumps(server.rstrip('/'))}\n    models:\n"
    return head + "".join(f"  {line}\n" for line in lines)


def _check(server: str) -> None:
    if not re.fullmatch(r"https?://[^\s@?#]+", server):
        raise InvalidInput(
            "--server: give the address up to its version, as in http://localhost:8000/v1", field="--server"
        )


def _refused(server: str, why: str) -> InvalidInput:
    told = f"--server: {server}/models does not say which models there are ({why}); start it, or name them with --model"
    return InvalidInput(told, field="--server")
