"""Model providers, prices and token bounds; used by debate and judge, and its names by the gateway."""
