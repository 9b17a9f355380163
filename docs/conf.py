"""Sphinx: `make docs` builds docs/_build/index.html."""

import re
from importlib.metadata import version as installed

project = "slnlab"
author = "The slnlab developers"
copyright = "The slnlab developers, MIT licence"
version = release = installed("slnlab")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
exclude_patterns = ["_build", "parts"]  # parts: the hand-written halves of generated pages
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "bysource"
default_role = "code"  # docstrings write `name` as Markdown does
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"slnlab {release}"


def link_files_outside(app, page, source):
    """Links to Markdown outside docs/, which work on a repository's page, become downloads here."""
    source[0] = re.sub(r"\]\(((?:\.\./)+[^)#]+\.md)(?:#[^)]*)?\)", link, source[0])


def link(found):
    return f"](path:{found[1]})"


def setup(app):
    app.connect("source-read", link_files_outside)
