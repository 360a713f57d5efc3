"""The grounding service: corpora as immutable index snapshots, search, and the citation check."""
