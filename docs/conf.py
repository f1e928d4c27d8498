"""How Sphinx builds these pages: `sphinx-build -W -b html docs .build/docs`."""

from tf_prac.version import VERSION

project, author, release = "tf_prac", "The tf_prac authors", VERSION
extensions = [
    "myst_parser",  # pages in Markdown, as they read on a code host
    "sphinx.ext.autodoc",  # the reference, from docstrings
    "sphinx.ext.napoleon",  # which are in Google's style
    "sphinx.ext.viewcode",
]
exclude_patterns = ["results/*.csv", "results/*.json"]
html_theme = "furo"
html_title = f"tf_prac {VERSION}"
html_extra_path: list[str] = []

default_role = "code"  # `name` in a docstring is a name
myst_heading_anchors = 3
napoleon_use_ivar = True
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # types are in the signature
autodoc_default_options = {"members": True}
