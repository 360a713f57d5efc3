"""The redaction service of DJP Mesh."""
