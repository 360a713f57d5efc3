"""The storage service of DJP Mesh."""
