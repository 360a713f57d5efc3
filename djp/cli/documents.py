"""Messages as JSON documents in the API's own mapping: its field names, every field there, 64-bit numbers as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from djp.client import Corpus
    from djp.v1 import run_pb2


def document(message: Message) -> dict[str, Any]:
    """The message as a JSON object. Fields without a value are there too, so that a script can rely on them."""
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def run_document(run: run_pb2.Run) -> dict[str, Any]:
    """A run as a JSON object; `result` and `error` are null while it has none."""
    return {"result": None, "error": None, **document(run)}


def corpus_document(corpus: Corpus) -> dict[str, Any]:
    """A corpus that was sent, as a JSON object."""
    return {
        "name": corpus.name,
        "version": corpus.version,
        "documents": corpus.documents,
        "passages": corpus.passages,
        "reused": corpus.reused,
        "skipped": [{"path": entry.path, "reason": entry.reason} for entry in corpus.skipped],
    }
