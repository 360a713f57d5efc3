"""Where an artifact's object is, as whoever asks can find it."""

from __future__ import annotations


def place_of(location: str, gateway: str | None) -> str:
    """The location, and in a mesh of this command's own, where it is a path below the storage's folder, the whole path.

    A server tells nobody where its folders are.
    """
    if gateway or "://" in location:
        return location
    from djp_storage.settings import StorageSettings

    return str(StorageSettings().data_dir.absolute() / location)
