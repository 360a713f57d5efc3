"""Governance's end to the world: the ledger in a SQL database."""
