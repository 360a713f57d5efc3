"""Takes in the files of a corpus from a source that the service reads itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djp.mesh.errors import FailedPrecondition, InvalidInput
from djp_grounding.extract import unsafe_path
from djp_grounding.model import Skipped

if TYPE_CHECKING:
    from djp_grounding.intake import Intake
    from djp_grounding.ports import CorpusSource


def take_in(source: CorpusSource | None, tenant: str, prefix: str, intake: Intake) -> None:
    """Fills `intake` with what lies below the prefix of the tenant's part.

    Raises FailedPrecondition without a source, InvalidInput for a prefix that names nothing the tenant may read, and
    StoreAway.
    """
    if source is None:
        told = "this service reads no files itself: set DJP_GROUNDING_SOURCE, or send the files of a folder"
        raise FailedPrecondition(told)
    prefix = prefix.removesuffix("/")
    if prefix and (reason := unsafe_path(prefix)):
        raise InvalidInput(f"prefix: {prefix[:100]!r}: {reason}", field="prefix")
    for found in source.files(tenant, prefix):
        if isinstance(found, Skipped):
            intake.skip(found)
            continue
        intake.begin(found.path)
        if intake.wants(found.size):  # what would be left out is not read
            try:
                content = found.read()
            except OSError as error:  # it was there when the folder was listed
                intake.leave_out(f"cannot be read: {error.strerror}")
            else:
                intake.write(content)
    intake.finish()


def no_such_prefix(prefix: str) -> InvalidInput:
    """The same error for what is not there and for what the tenant may not read."""
    told = f"prefix: there is no folder {prefix[:100]!r} that this tenant may read; check how it is written"
    return InvalidInput(told, field="prefix")


def too_much(prefix: str, entries: int) -> InvalidInput:
    """The error for a prefix that holds more files than a corpus can be made from."""
    told = f"prefix: {prefix[:100]!r} holds more than {entries:,} files; give one that holds the documents only"
    return InvalidInput(told, field="prefix")
