"""The judge service of DJP Mesh."""
