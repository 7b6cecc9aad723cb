"""The directives of mod_unified_s3_auth, the configuration-time tests for it, and how both modes convert them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from usp_s3_wsgi.cli.convert.line_edits import LineEdits, commented, indent
from usp_s3_wsgi.configtest.apache_syntax import Enclosing, Line, Node, walk

#: The names of the directives ("S3 directives"), which are also those of our settings, by lowercase name.
S3_DIRECTIVES = {
    name.lower(): name
    for name in (
        "S3SecretKey", "S3AccessKey", "S3Region", "S3SecurityToken", "S3UseHeaders",
        "S3RoleARN", "S3RoleSessionName", "S3RoleDuration",
    )
}  # fmt: skip
#: The name of the module for LoadModule, and the names that <IfModule> accepts.
MODULE = "unified_s3_auth_module"
MODULE_NAMES = {MODULE, "mod_unified_s3_auth.c"}

_FAIL_ON_403 = (
    "S3 also answers 403 for a single object that is denied, which clients can request, and a location of this server "
    "answers 502 where S3 rejects the key: use failonstatus=502"
)


def set_env(line: Line) -> str:
    """Return an S3 directive as ``SetEnv``, with the name as our setting is written and unchanged arguments."""
    return line.with_word(0, f"SetEnv {S3_DIRECTIVES[line.name]}")


def convert_directive(line: Line, edits: LineEdits) -> None:
    """Replace an S3 directive with ``SetEnv``, in the same place."""
    edits.replace(line, set_env(line))


def check_lines(nodes: Iterable[Node], edits: LineEdits) -> None:
    """Report what has another meaning after the conversion, in both modes."""
    for line, enclosing in walk(nodes):
        if any(re.match(r"failonstatus=(?:.*,)?403(?:,|\Z)", word, re.I) for word in line.arguments):
            edits.warn(line, _FAIL_ON_403)
        if line.name in S3_DIRECTIVES:
            name = S3_DIRECTIVES[line.name]
            if len(line.arguments) > 1:
                edits.error(line, f"{name} has more than one value, which httpd rejects")
            if name == "S3RoleARN":
                edits.warn(line, f"{name} needs botocore: pip install '.[aws]' in the directory of the sources")
            for section in enclosing:
                if section.name == "iffile" and any("unified_s3_auth" in word for word in section.opening.arguments):
                    edits.error(
                        section.opening,
                        "this condition is only true while mod_unified_s3_auth is installed: remove it",
                    )


def convert_module(line: Line, enclosing: Enclosing, module: str, edits: LineEdits) -> None:
    """Comment out LoadModule of mod_unified_s3_auth, and make <IfModule> test for ``module`` instead."""
    if line.name == "loadmodule" and line.arguments[:1] == (MODULE,):
        edits.replace(line, commented(line, 'replaced by usp_s3_wsgi ("usp-s3 apache-config"): '))
    if line.name == "<ifmodule" and line.arguments:
        name = line.arguments[0]
        if name.removeprefix("!") in MODULE_NAMES:
            quote = line.text[line.words[1].start]
            quote = quote if quote in "\"'" else ""
            edits.replace(line, line.with_word(1, f"{quote}{'!' if name.startswith('!') else ''}{module}{quote}"))
    if line.name in {"<ifdirective", "</ifdirective"} and _tests_for_directive(enclosing[-1].opening):
        sign = "!" if enclosing[-1].opening.arguments[0].startswith("!") else ""
        tag = f"<IfModule {sign}{module}>" if line.name.startswith("<i") else "</IfModule>"
        edits.replace_with_lines(line, f"{indent(line)}{tag}")


def is_mod_unified_s3_auth_line(line: Line) -> bool:
    """Whether a line is for mod_unified_s3_auth: a directive, LoadModule, or a test for one of them."""
    if line.name in {"loadmodule", "<ifmodule"}:
        return any(argument.removeprefix("!") in MODULE_NAMES for argument in line.arguments[:1])
    return line.name in S3_DIRECTIVES or _tests_for_directive(line)


def _tests_for_directive(line: Line) -> bool:
    names = [word.removeprefix("!").lower() for word in line.arguments[:1]]
    return line.name == "<ifdirective" and any(name in S3_DIRECTIVES for name in names)
