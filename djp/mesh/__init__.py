"""Transport only: how a target starts, how a channel opens, what happens around a call. Nothing of the domain."""
