"""The gateway service of DJP Mesh."""
