"""Generated from proto/djp/v1 by `make proto`; never edited by hand."""
