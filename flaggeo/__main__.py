"""``python -m flaggeo`` is the ``flaggeo`` command."""

from .cli.main import main

main()
