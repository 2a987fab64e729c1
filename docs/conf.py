"""The site: `make docs`."""

import sys
from importlib.metadata import version as installed
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # for the extensions in this folder

project = "flaggeo"
author = "the flaggeo developers"
version = release = installed("flaggeo")

extensions = ["myst_nb", "sphinx.ext.autodoc", "numpydoc", "sphinx.ext.viewcode", "docs.mathml"]
html_math_renderer = "mathml"
myst_enable_extensions = ["amsmath", "dollarmath", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
exclude_patterns = ["_build"]
# Pages as they are, beside those of the site: `make docs` makes them first, and without them the rest is the same.
html_extra_path = ["gallery"] if Path(__file__).with_name("gallery").is_dir() else []

autodoc_typehints = "none"  # the docstrings give types with their shapes
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

html_theme = "furo"
html_title = "flaggeo"
