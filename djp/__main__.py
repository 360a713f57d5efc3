"""`python -m djp` is the `djp` command."""

from djp.cli.main import main

main()
