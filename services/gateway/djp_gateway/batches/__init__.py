"""Batches: runs of many rows under one cap."""
