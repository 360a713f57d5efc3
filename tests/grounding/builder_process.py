"""A process that builds one version after the other, to be killed at any moment.

python -m tests.grounding.builder_process DATA_FOLDER FIRST_EDITION STORE
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from djp_grounding import replica
from djp_grounding.adapters.folder_store import FolderStore
from djp_grounding.adapters.s3_store import S3Store
from djp_grounding.corpora import Corpora
from djp_grounding.limits import Limits
from tests.grounding.conftest import bucket_of

if TYPE_CHECKING:
    import random

    from djp_grounding.ports import ObjectStore

DOCUMENTS = 40
KILLED_WITHIN_S = 0.5
LEASE_S = 0.5
"""Of a builder, that the next one need not wait long for a dead one: of the service it is 15 s."""


def shorten_leases() -> None:
    """For this process."""
    replica.LEASE_S, replica._SHOWS_S = LEASE_S, LEASE_S / 10


def store_at(place: str) -> ObjectStore:
    """A folder's path, or `host:port/bucket` of a MinIO of the tests."""
    if place.startswith("/"):
        return FolderStore(Path(place))
    endpoint, _, bucket = place.partition("/")
    return S3Store(bucket_of(endpoint, bucket))


def kill_a_builder(folder: Path, trial: int, place: str, rng: random.Random) -> None:
    """Lets a builder publish something, and kills it at any moment after that."""
    store = store_at(place)
    before = store.read("acme/docs/CURRENT")
    command = [sys.executable, "-m", "tests.grounding.builder_process"]
    builder = subprocess.Popen(
        [*command, str(folder / f"builder{trial % 2}"), str(trial * 1000), place], stdout=subprocess.PIPE, text=True
    )
    try:
        assert builder.stdout is not None
        assert builder.stdout.readline() == "ready\n"
        deadline = time.monotonic() + 60
        while store.read("acme/docs/CURRENT") == before:
            assert time.monotonic() < deadline, "the builder published nothing"
            time.sleep(0.02)
        time.sleep(rng.random() * KILLED_WITHIN_S)  # any moment will do
    finally:
        builder.send_signal(signal.SIGKILL)
        builder.wait()
        if builder.stdout:
            builder.stdout.close()


def main() -> None:
    """Build until killed."""
    shorten_leases()
    data, edition, place = sys.argv[1:]
    corpora = Corpora(Path(data), Limits(), store_at(place))
    number = int(edition)
    print("ready", flush=True)
    while True:
        number += 1
        with corpora.intake() as intake:
            intake.add_all((f"{n}.md", f"# Note {n}\n\nbananas of edition {number}".encode()) for n in range(DOCUMENTS))
            corpora.create("acme", "docs", intake, str(uuid.uuid4()))


if __name__ == "__main__":
    main()
