"""The grounding service of DJP Mesh."""
