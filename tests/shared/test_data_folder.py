"""What the system refuses in a data folder: the right error, the folder, the cause and the remedy."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from djp.data_folder import folder_errors, make_data_folder
from djp.mesh.errors import DjpError, FailedPrecondition

FOLDER = Path("/data/djp")


@pytest.mark.parametrize(
    ("number", "code", "reason", "says"),
    [
        (errno.ENOSPC, "RESOURCE_EXHAUSTED", "DISK_FULL", "no room in /data/djp (No space left on device); free some"),
        (errno.EDQUOT, "RESOURCE_EXHAUSTED", "DISK_FULL", "no room in /data/djp"),
        (errno.EMFILE, "UNAVAILABLE", "UNAVAILABLE", "too many files are open at once; try again"),
        (errno.ENOENT, "FAILED_PRECONDITION", "FAILED_PRECONDITION", "bring it back"),
        (errno.ELOOP, "FAILED_PRECONDITION", "FAILED_PRECONDITION", "is in the way of /data/djp/x"),
        (errno.EROFS, "FAILED_PRECONDITION", "FAILED_PRECONDITION", "(Read-only file system); mend its permissions"),
        (errno.EIO, "FAILED_PRECONDITION", "FAILED_PRECONDITION", "cannot be used (Input/output error)"),
    ],
)
def test_a_refusal_is_told_with_its_remedy(number: int, code: str, reason: str, says: str) -> None:
    with pytest.raises(DjpError) as told, folder_errors(FOLDER, "DJP_X_DATA_DIR"):
        raise OSError(number, os.strerror(number), "/data/djp/x")
    assert (told.value.code, told.value.reason) == (code, reason)
    assert says in told.value.message


def test_only_the_systems_refusals_are_turned_into_others() -> None:
    with pytest.raises(KeyError), folder_errors(FOLDER, "DJP_X_DATA_DIR"):
        raise KeyError("ours")


def test_a_data_folder_is_made_for_this_user_only_and_kept_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    make_data_folder(folder, "DJP_X_DATA_DIR")
    assert [stat.S_IMODE(one.stat().st_mode) for one in (folder, folder.parent)] == [0o700, 0o700]
    (folder / "kept").touch()
    make_data_folder(folder, "DJP_X_DATA_DIR")
    assert (folder / "kept").exists()
    with pytest.raises(FailedPrecondition, match="name another folder in DJP_X_DATA_DIR"):
        make_data_folder(folder / "kept", "DJP_X_DATA_DIR")
