"""The whole of it: a text and what is to become of it, in; the new text and what is to be told of it, out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from usp_s3_wsgi.cli.convert import includes
from usp_s3_wsgi.cli.convert.configtest_check import judge
from usp_s3_wsgi.cli.convert.gateway import to_gateway
from usp_s3_wsgi.cli.convert.line_edits import Converted, Edits, Message, check_lines, is_vendors
from usp_s3_wsgi.cli.convert.proxy import to_proxy
from usp_s3_wsgi.configtest.apache_syntax import parse, walk


def convert(text: str, to: Literal["proxy", "gateway"], file: Path | None = None) -> Converted:
    """Return the configuration with ours in the vendor's place, and what the operator must look at.

    ``proxy``: mod_proxy carries the bytes and the sections stay what they are. ``gateway``: mounts take their place.
    ``file``: where the text is from; what it includes is looked for above there.
    Without anything of the vendor's, so also of what this returned, the text comes back byte for byte.

    Raises:
        ApacheConfigError: the sections of the text do not close as they open.
    """
    nodes = parse(text)
    edits = Edits(nodes)
    includes.check(nodes, file, edits)
    judged: list[Message] = []
    if any(is_vendors(line) for line, _ in walk(nodes)):
        check_lines(nodes, edits)
        (to_proxy if to == "proxy" else to_gateway)(nodes, edits)
        known = {message.line for message in edits.messages() if message.is_error}
        judged = [one for one in judge(edits.text(), edits.origins(), file) if one.line not in known]
    messages = dict.fromkeys((*edits.messages(), *judged))
    return Converted(edits.text(), tuple(sorted(messages, key=lambda message: (message.line, not message.is_error))))
