"""Sphinx's configuration: https://www.sphinx-doc.org/en/master/usage/configuration.html. "make docs" builds it."""

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
# The reference of settings and codes is read from the package in this checkout.
sys.path[:0] = [str(DOCS.parent), str(DOCS / "_extensions")]

from usp_s3_wsgi import __version__  # noqa: E402

project = "usp_s3_wsgi"
version = release = __version__
# The pages of one version are the same whenever they are built: no date.
html_show_copyright = False
html_last_updated_fmt = None

extensions = [
    "myst_parser",
    "sphinx.ext.graphviz",
    "sphinx_copybutton",
    "reference",
    "github_anchors",
    "inline_pictures",
    "search_words",
]
exclude_patterns = ["_extensions", "_static"]
nitpicky = True

myst_enable_extensions = ["colon_fence"]
#: The headings that links such as page.md#heading may name, with the names that GitHub gives them.
myst_heading_anchors = 4

highlight_language = "text"
# The prompt of a console block, and its output, are not copied.
copybutton_prompt_text = r"\$ "
copybutton_prompt_is_regexp = True

graphviz_output_format = "svg"

html_theme = "furo"
html_title = f"usp_s3_wsgi {__version__}"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_copy_source = False
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}
