"""Gives each heading GitHub's anchor, so that a link to ``page#403-for-everything`` works in both places.

docutils makes "for-everything" of it, and "id1" of the next such heading.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx


def add_anchors(app: Sphinx, doctree: nodes.document) -> None:
    """Append the anchors that MyST has computed, where docutils has others."""
    slugs = app.env.metadata[app.env.docname].get("myst_slugs", {})
    sections = {identifier: section for section in doctree.findall(nodes.section) for identifier in section["ids"]}
    for slug, (_, identifier, _) in slugs.items():
        if identifier in sections and slug not in sections:
            sections[identifier]["ids"].append(slug)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("doctree-read", add_anchors)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
