"""The debate service of DJP Mesh."""
