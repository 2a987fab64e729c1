"""``python -m flaggeo`` is the ``flaggeo`` command."""

from .cli import main

main()
