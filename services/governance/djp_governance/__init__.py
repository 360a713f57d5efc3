"""The governance service of DJP Mesh."""
