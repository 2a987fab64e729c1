"""Writers of the generated pages: `python -m docs.build` writes them all."""
