"""How Sphinx builds these pages.

sphinx-build -W -q -b html docs .build/docs       # the site; links within it are checked
sphinx-build -q -b linkcheck docs .build/links    # links to other sites
"""

from docutils import nodes

from tf_prac.version import VERSION

project, author, release = "tf_prac", "The tf_prac authors", VERSION
copyright = f"2026, {author}"
extensions = [
    "myst_nb",  # pages in Markdown, as they read on a code host, and notebooks
    "sphinx.ext.autodoc",  # the reference, from docstrings
    "sphinx.ext.napoleon",  # which are in Google's style
    "sphinx.ext.viewcode",
]
exclude_patterns = ["results/*.csv", "results/*.json"]
html_theme = "furo"
html_title = f"tf_prac {VERSION}"
html_static_path = ["_static"]
html_css_files = ["tf_prac.css"]
highlight_language = "none"  # of code blocks that name no language, such as lists of files
nb_execution_mode = "off"  # notebooks are shown with the outputs they were saved with

default_role = "code"  # `name` in a docstring is a name
myst_heading_anchors = 3
napoleon_use_ivar = True
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # types are in the signature
autodoc_default_options = {"members": True}


def keep_together(app, tree, page):
    """Keeps numbers with their spread or bound, and short code such as a flag, on one line."""
    for text in list(tree.findall(nodes.Text)):
        together = text.replace(" ± ", "\u00a0±\u00a0").replace("≤ ", "≤\u00a0")
        if together != text:
            text.parent.replace(text, nodes.Text(together))
    for code in tree.findall(nodes.literal):
        if len(code.astext()) <= 20:
            code["classes"].append("nowrap")


def setup(app):
    """Called by Sphinx."""
    app.connect("doctree-resolved", keep_together)
