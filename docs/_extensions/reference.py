"""Ties the pages settings.md and errors.md to the code: facts from its tables, and a warning for whatever has no text.

A section with the name of a setting (or of a parameter of S3ProxySet) as its title gets the facts of its row in
``config/settings.py``. Inline code that is such a name, or a log code, becomes a link to its section, on every page.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.nodes import make_refnode

import usp_s3_wsgi
from usp_s3_wsgi import errors
from usp_s3_wsgi.config import proxy_set, settings
from usp_s3_wsgi.configtest.finding_codes import FindingCode
from usp_s3_wsgi.proxy.section_settings import GATEWAY_ONLY

logger = logging.getLogger(__name__)
ROWS = {row.name: row for row in settings.TABLE}
MODULE_CODES = Path(usp_s3_wsgi.__file__).parent / "proxy" / "mod_usp_s3" / "log_codes.h"
CODES = sorted([*errors.LogCode, *FindingCode, *re.findall(r'"(USPS3\d{4})"', MODULE_CODES.read_text("utf-8"))])
#: The exception that each code belongs to.
EXCEPTIONS = {
    str(error.code): error
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, errors.GatewayError) and "code" in vars(error)
}
#: Exceptions whose status is not that of the class: the operator or mod_proxy chooses it, or the response has begun.
WITHOUT_STATUS = (errors.AccessDenied, errors.ProxiedRequestFailed, errors.BodyTruncated)
#: The parts of the text about each code.
PARTS_OF_CODE = ("Level", "Client", "Why", "What to do")
PARTS_OF_FINDING = ("Level", "The line", "Why", "What to do")


# --- facts


def default_of(row: settings.Setting) -> str:
    """The default of a setting in words."""
    default = next((field.default for field in fields(settings.Settings) if field.name == row.field), None)
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, str | int):
        return str(default)
    return "that of each parameter" if row.field == "proxy_set" else "not set"


def allowed_by(parse: Callable[[str], Any]) -> str:
    """What a parser of settings accepts, in the words of its own error message."""
    try:
        parse("\0")
    except ValueError as error:
        return str(error).removeprefix("must be ")
    raise ExtensionError(f"{parse} accepts a NUL")


def facts_of_setting(name: str) -> Iterator[tuple[str, str]]:
    """The facts of a setting, as pairs of name and text."""
    row = ROWS[name]
    yield "Default", default_of(row)
    yield "Allowed", allowed_by(row.parse)
    instead = GATEWAY_ONLY.get(name)
    yield "Where", f"the gateway; in <Proxy> sections there is {instead}" if instead else "the gateway, <Proxy>"
    for_fallback = f"S3Fallback{name.removeprefix('S3')}"
    if not name.startswith("S3Fallback") and name != "S3BucketURL":
        yield "Fallback bucket", for_fallback if for_fallback in settings.NAMES else "the same as for the first bucket"
    yield "Since", row.since


def facts_of_parameter(name: str) -> Iterator[tuple[str, str]]:
    """The facts of a parameter of S3ProxySet, as pairs of name and text."""
    default = getattr(proxy_set.ProxySet(), name, None)
    if isinstance(default, bool):
        yield "Default", "on" if default else "off"
    elif name == "disablereuse" or (default == 0 and name != "retry") or default == math.inf:
        yield "Default", "not set"
    else:
        yield "Default", f"{default:g}"
    yield "Allowed", allowed_by(proxy_set.PARAMETERS[name])


def field_list(facts: Iterator[tuple[str, str]]) -> nodes.field_list:
    """Facts as a list of docutils."""
    return nodes.field_list(
        "",
        *(
            nodes.field("", nodes.field_name("", name), nodes.field_body("", nodes.paragraph("", text)))
            for name, text in facts
        ),
        classes=["facts"],
    )


# --- what must be there


def problems_of_setting(section: nodes.section) -> Iterator[str]:
    """What is missing in the section of a setting."""
    name = section[0].astext()
    if not any(isinstance(node, nodes.paragraph) for node in section):
        yield "has no text that says what it means"
    examples = [node.astext() for node in section.findall(nodes.literal_block)]
    if not any(re.search(rf"^\s*SetEnv\s+{name}\s+\S", text, re.MULTILINE) for text in examples):
        yield "has no example that sets it"


def problems_of_parameter(section: nodes.section) -> Iterator[str]:
    """What is missing in the section of a parameter."""
    if not any(isinstance(node, nodes.paragraph) for node in section):
        yield "has no text that says what it means"


def problems_of_code(section: nodes.section) -> Iterator[str]:
    """What is missing, or wrong, in the section of a log code."""
    code = code_of(section)
    if not section[0].astext().partition(":")[2].strip():
        yield "has no words in its heading"
    items = (item.astext().partition(":") for item in section.findall(nodes.list_item))
    parts = {name.strip(): text.strip() for name, _, text in items}
    for part in PARTS_OF_FINDING if code in set(FindingCode) else PARTS_OF_CODE:
        if not parts.get(part):
            yield f'has no text for "{part}"'
    error = EXCEPTIONS.get(code)
    if error and not issubclass(error, WITHOUT_STATUS) and not re.match(rf"{error.status}\b", parts.get("Client", "")):
        yield f"does not say that the client gets {error.status}"
    if error and error.should_log == (parts.get("Level") == "not logged"):
        yield "does not say whether it is logged"


def code_of(section: nodes.section) -> str:
    """The log code at the beginning of a heading, or the whole of a heading without a colon."""
    return str(section[0].astext()).partition(":")[0]


#: For each page: what its sections are called, which there must be, and what each needs.
CheckedSections = tuple[str, list[str], Callable[[nodes.section], Iterator[str]]]
PAGES: dict[str, list[CheckedSections]] = {
    "settings": [
        ("setting", list(ROWS), problems_of_setting),
        ("parameter", list(proxy_set.PARAMETERS), problems_of_parameter),
    ],
    "errors": [("code", CODES, problems_of_code)],
}


def read_page(app: Sphinx, doctree: nodes.document) -> None:
    """Check one of the pages, add the facts, and note where its sections are. What is missing is a warning."""
    page = app.env.docname
    for kind, names, problems_of in PAGES.get(page, []):
        sections = [section for section in doctree.findall(nodes.section) if code_of(section) in names]
        found = [code_of(section) for section in sections]
        for name in names:
            if found.count(name) != 1:
                logger.warning("%s must have one section, and has %s", name, found.count(name), location=doctree)
        for section in sections:
            name = code_of(section)
            for problem in problems_of(section):
                logger.warning("the section of %s %s", name, problem, location=section)
            if kind != "code":
                section.insert(1, field_list((facts_of_setting if kind == "setting" else facts_of_parameter)(name)))
            if kind != "parameter":
                section["ids"].append(name)
                targets_of(app.env)[name] = page, name
                # The search reads this node. The index is collected before this function runs.
                entry = "single", name, name, "main", None
                section.insert(1, addnodes.index(entries=[entry]))
                app.env.domains["index"].data["entries"].setdefault(page, []).append(entry)


# --- links


def targets_of(env: BuildEnvironment) -> dict[str, tuple[str, str]]:
    """Page and anchor of each name that has a section."""
    targets: dict[str, tuple[str, str]] = vars(env).setdefault("usp_s3_targets", {})
    return targets


class LinkNames(SphinxPostTransform):
    """Makes inline code a link if it is the name of a setting, or a log code, that has a section."""

    default_priority = 600

    def run(self, **_: Any) -> None:
        for node in list(self.document.findall(nodes.literal)):
            name = node.astext()
            if name.startswith("S3Fallback") and name in settings.NAMES and name not in ROWS:
                name = "S3FallbackURL"
            target = targets_of(self.env).get(name)
            if target is None and is_wrong_name(name):
                logger.warning("%s is neither a setting nor a log code", name, location=node)
            ancestors = list(ancestors_of(node))
            if target is None or any(isinstance(ancestor, nodes.reference | nodes.title) for ancestor in ancestors):
                continue
            if any(isinstance(ancestor, nodes.section) and name in ancestor["ids"] for ancestor in ancestors):
                continue
            link = make_refnode(self.app.builder, self.env.docname, *target, node.deepcopy(), name)
            node.replace_self(link)


def is_wrong_name(name: str) -> bool:
    """Whether inline code looks like a log code, or resembles the name of a setting: S3Regoin, not S3Fallback."""
    if re.fullmatch(r"USPS\d+", name):
        return name not in CODES
    if not re.fullmatch(r"S3\w+", name) or any(setting.startswith(name) for setting in settings.NAMES):
        return False
    return bool(difflib.get_close_matches(name, settings.NAMES, n=1, cutoff=0.85))


def ancestors_of(node: nodes.Node) -> Iterator[nodes.Node]:
    """The elements around a node, from the inside out."""
    while node.parent is not None:
        node = node.parent
        yield node


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("doctree-read", read_page)
    app.add_post_transform(LinkNames)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
