"""Puts the pictures that graphviz draws into the page itself, where the theme's colours and fonts reach them."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.ext import graphviz
from sphinx.writers.html5 import HTML5Translator


def visit(self: HTML5Translator, node: graphviz.graphviz) -> None:
    """Draw a picture. Raises: ExtensionError: dot failed, or the picture has no :alt: text."""
    code, alt = node["code"], node.get("alt")
    if not alt:
        raise ExtensionError(f"{self.builder.current_docname}: a picture needs :alt:, the text for who cannot see it")
    _, path = graphviz.render_dot(self, code, node["options"], "svg", filename=node.get("filename"))
    if path is None:
        raise ExtensionError(f"{self.builder.current_docname}: graphviz's program dot could not draw a picture")
    svg = Path(path).read_text("utf-8")
    # Identifiers would be the same in each picture of a page; titles would be tool tips such as "node1".
    svg = re.sub(r'<title>.*?</title>| id="[^"]*"', "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(alt)}"', 1)
    self.body.append(f'<div class="picture">{svg}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_node(graphviz.graphviz, override=True, html=(visit, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
