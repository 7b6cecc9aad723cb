"""The whole conversion: from the text of a file to the new text and its messages."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

from usp_s3_wsgi.cli.convert import includes
from usp_s3_wsgi.cli.convert.configtest_check import check_converted
from usp_s3_wsgi.cli.convert.gateway import to_gateway
from usp_s3_wsgi.cli.convert.line_edits import Conversion, LineEdits, Message
from usp_s3_wsgi.cli.convert.mod_unified_s3_auth import check_lines, is_mod_unified_s3_auth_line
from usp_s3_wsgi.cli.convert.proxy import to_proxy
from usp_s3_wsgi.configtest.apache_syntax import parse, walk

#: ``proxy``: mod_proxy sends the requests, in the sections as they are. ``gateway``: mounts replace the sections.
Mode: TypeAlias = Literal["proxy", "gateway"]


def convert(text: str, to: Mode, file: Path | None = None) -> Conversion:
    """Return the configuration with our settings in place of the directives of mod_unified_s3_auth, and messages.

    ``file``: where the text is from; files that it includes are looked for in the directories above. A text without
    directives of mod_unified_s3_auth stays the same, byte for byte, and so does the text that this function returned.

    Raises:
        ApacheConfigError: the sections of the text are not nested correctly.
    """
    nodes = parse(text)
    edits = LineEdits(nodes)
    includes.check(nodes, file, edits)
    findings: list[Message] = []
    if any(is_mod_unified_s3_auth_line(line) for line, _ in walk(nodes)):
        check_lines(nodes, edits)
        (to_proxy if to == "proxy" else to_gateway)(nodes, edits)
        with_error = {message.line for message in edits.messages() if message.is_error}
        findings = [one for one in check_converted(edits.text(), edits.origins(), file) if one.line not in with_error]
    messages = dict.fromkeys((*edits.messages(), *findings))
    return Conversion(edits.text(), tuple(sorted(messages, key=lambda message: (message.line, not message.is_error))))
