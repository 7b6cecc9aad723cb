"""The mode ``gateway``: mounts of the WSGI application replace the sections with S3 directives."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from usp_s3_wsgi.cli.convert import mount_checks
from usp_s3_wsgi.cli.convert.line_edits import LineEdits, commented, indent, without_end
from usp_s3_wsgi.cli.convert.mod_unified_s3_auth import S3_DIRECTIVES, convert_directive, convert_module, set_env
from usp_s3_wsgi.cli.convert.mount_plan import ACCESS_CONTROL, Mount, plan_mounts
from usp_s3_wsgi.cli.convert.nested_lines import (
    CONFIGURATION_TIME_TESTS,
    NestedLine,
    NestedLines,
    PathIndex,
    ScopeIndex,
    defined_variables,
    scope,
    section_tags,
)
from usp_s3_wsgi.cli.convert.proxy_targets import find_url, proxy_passes, proxy_targets
from usp_s3_wsgi.cli.convert.s3_sections import tests_by_directive
from usp_s3_wsgi.config import proxy_set
from usp_s3_wsgi.configtest.apache_syntax import Line, Node, Section, in_quotes, quoted, walk

#: Parameters of mod_proxy's workers, which a warning may name; any other word may be a secret.
_WORKER_PARAMETERS = set(
    "acquire addressttl connectiontimeout disablereuse enablereuse flushpackets flushwait iobuffersize keepalive lbset "
    "loadfactor max min ping receivebuffersize redirect responsefieldsize retry route secret smax status timeout ttl "
    "upgrade".split()
)
#: Providers whose certificate authorities are in every system's list.
_PUBLIC_PROVIDER = re.compile(r"(?i)https://[^/:]+\.(?:amazonaws\.com(?:\.cn)?|googleapis\.com)(?=[:/]|\Z)")


def to_gateway(nodes: tuple[Node, ...], edits: LineEdits) -> None:
    """Edit each line, and add messages for what the operator must check."""
    lines = [NestedLine(*pair) for pair in walk(nodes)]
    mounts = plan_mounts(lines)
    for line, enclosing in lines:
        convert_module(line, enclosing, "wsgi_module", edits)
    path_of = {target.line.number: target.path or "" for target in proxy_targets(lines)}
    certificates = _CertificateSettings(lines, edits)
    exclusions = _Exclusions(mounts, lines)
    for mount in mounts:
        settings = [f"SetEnv S3BucketURL {quoted(mount.url)}", *certificates.convert(mount)]
        _WRITE[mount.replaces](mount, ["ProxyPass !"] * exclusions.needs_one(mount) + settings, edits)
        _redirect_to_mount(mount, path_of, edits)
    loopback_lines = {line.number: line for mount in mounts if mount.is_loopback for line in mount.proxypass_lines}
    if loopback_lines:
        edits.warn(
            loopback_lines[min(loopback_lines)],
            "this URL uses port 80: change it to the port on which this server's first virtual host answers",
        )
    mount_checks.check(mounts, lines, edits)
    mount_checks.check_unconverted(mounts, lines, edits)


class _Exclusions:
    """Which mounts need ``ProxyPass !``."""

    def __init__(self, mounts: Iterable[Mount], lines: NestedLines) -> None:
        converted = {line.number for mount in mounts if not mount.is_loopback for line in mount.proxypass_lines}
        self._proxypass_paths = PathIndex(
            (nested.enclosing, path, url)
            for nested, path, url in proxy_passes(lines)
            if url != "!" and nested.line.number not in converted
        )

    def needs_one(self, mount: Mount) -> bool:
        """Whether a ProxyPass would proxy the mount's requests: for a loopback mount that would be an endless loop."""
        return bool(self._proxypass_paths.at_or_above(mount.path, scope(mount.source.enclosing)))


class _CertificateSettings:
    """Converts the SSLProxy directives that apply to a mount; the gateway verifies certificates by default."""

    def __init__(self, lines: NestedLines, edits: LineEdits) -> None:
        self._directives = ScopeIndex(nested for nested in lines if nested.line.name.startswith("sslproxy"))
        self._variables = defined_variables(lines)
        self._edits = edits

    def convert(self, mount: Mount) -> list[str]:
        """Return the SetEnv line for the bucket's certificate authorities, if there is one."""
        url = re.sub(r"\A\$\{(\w+)\}", lambda match: self._variables.get(match[1], match[0]), mount.url)
        if not re.match(r"https:|\$", url, re.I):
            return []
        lines = [line for line, _ in self._directives.applying_in((*mount.source.enclosing, mount.source.section))]
        for line in lines:
            if line.name.startswith(("sslproxycacertificatepath", "sslproxymachinecertificate")):
                self._edits.warn(line, f"this does not apply to the mount {mount.path}, which only has S3CAFile")
        files = [line.arguments[0] for line in lines if line.name == "sslproxycacertificatefile" and line.arguments]
        is_verified = any(line.name == "sslproxyverify" and line.arguments[:1] == ("require",) for line in lines)
        if not is_verified and not _PUBLIC_PROVIDER.match(url):
            self._edits.warn(
                mount.source.section.opening,
                "the gateway verifies the certificates of https:// URLs, which httpd did not do here: if their "
                "certificate authority is not one of the system's, add SetEnv S3CAFile",
            )
        return [f"SetEnv S3CAFile {quoted(files[-1])}"] if files else []


def _head(mount: Mount, settings: list[str], inner: str) -> list[str]:
    """Return the first lines of a mount, up to the settings that replace the S3 directives."""
    outer, path = indent(mount.source.section.opening), mount.path
    return [
        _alias(mount),
        f"{outer}<Location {in_quotes(path)}>",
        *([f"{inner}Require local"] if mount.is_loopback else []),
        *(f"{inner}{setting}" for setting in settings),
    ]


def _alias(mount: Mount) -> str:
    return f"{indent(mount.source.section.opening)}WSGIScriptAlias {quoted(mount.path)} ${{USP_S3_WSGI}}"


def _inner_indent(section: Section) -> str:
    """Return the indentation of the lines in a section."""
    lines = (line for line, _ in walk(section.body) if line.words)
    first = next(lines, None)
    return indent(first) if first else indent(section.opening) + "  "


def _replace_proxy_section(mount: Mount, settings: list[str], edits: LineEdits) -> None:
    """Convert a <Proxy> section to the mount, line by line."""
    section, inner = mount.source.section, _inner_indent(mount.source.section)
    proxy_sets = [
        line for line, enclosing in walk(section.body) if line.name == "proxyset" and not _inner_section(enclosing)
    ]
    parameters = _proxy_set([(section.opening, 2), *((line, 1) for line in proxy_sets)], edits)
    head = _head(mount, settings, inner)
    if parameters and not proxy_sets:
        head.append(f"{inner}{parameters}")
    edits.replace_with_lines(section.opening, *head)
    for line, enclosing in walk(section.body):
        first = inner_section.opening if (inner_section := _inner_section(enclosing)) else line
        if first.name in ACCESS_CONTROL and not mount.is_loopback:  # it has the same meaning in the mount
            if line.name in S3_DIRECTIVES:
                convert_directive(line, edits)
            continue
        if inner_section:
            _comment_out(line, first, edits)
        elif line in proxy_sets and parameters:
            # The first line gets the parameters of all of them.
            edits.replace_with_lines(line, *([f"{indent(line)}{parameters}"] if line is proxy_sets[0] else []))
        elif line.name in S3_DIRECTIVES:
            convert_directive(line, edits)
        elif not line.name.startswith("<"):
            _comment_out(line, None if line in proxy_sets else line, edits)
    edits.replace_with_lines(section.closing, f"{indent(section.closing)}</Location>")


def _inner_section(enclosing: Iterable[Section]) -> Section | None:
    """Return the outermost section that is not <IfModule>, <IfDefine> or the like."""
    return next((section for section in enclosing if section.name not in CONFIGURATION_TIME_TESTS), None)


def _comment_out(line: Line, reported: Line | None, edits: LineEdits) -> None:
    """Comment a line out, with a warning about ``reported``: the line itself, or the section that it is in."""
    if not line.words:
        return
    edits.replace(line, commented(line))
    if reported and reported.name in ACCESS_CONTROL:
        edits.warn(
            reported,
            "this is kept as a comment: restrict access in the sections that send requests to the mount instead",
        )
    elif reported:
        # The message does not contain the name: the second half of a broken line may begin with a secret.
        edits.warn(
            reported, "this cannot be in a mount and is kept as a comment: replace it by hand where it is needed"
        )


def _replace_proxypass(mount: Mount, settings: list[str], edits: LineEdits) -> None:
    """Keep a <Location>; the settings of the mount replace its ProxyPass."""
    opening = mount.source.section.opening
    edits.insert_before(opening, _alias(mount))
    if opening.arguments[0] != mount.path:
        edits.replace(opening, opening.with_word(1, in_quotes(mount.path)))
    (line,) = mount.proxypass_lines
    parameters = _proxy_set([(line, 2)], edits)
    edits.replace_with_lines(line, *(indent(line) + text for text in (*settings, parameters) if text))
    for directive in mount.source.directives:
        convert_directive(directive, edits)


def _replace_s3_directives(mount: Mount, settings: list[str], edits: LineEdits) -> None:
    """Keep a <Location> without its S3 directives, and move these into a mount of their own."""
    section, directives = mount.source.section, mount.source.directives
    head = _head(mount, settings, _inner_indent(section))
    tests = tests_by_directive(mount.source)
    moved = []
    for directive in directives:
        tags = [section_tags(test) for test in tests[directive.number]]
        moved += [f"{indent(directive)}{opening}" for opening, _ in tags]
        moved.append(without_end(set_env(directive)))
        moved += [f"{indent(directive)}{closing}" for _, closing in reversed(tags)]
    # After the <Location>: its directives still apply to a mount below it, and this later section overrides them.
    mount_lines = (*head, *moved, f"{indent(section.closing)}</Location>")
    edits.insert_after(section.closing, *mount_lines, origin=section.opening)
    for directive in directives:
        edits.replace_with_lines(directive)


_WRITE = {
    "proxy_section": _replace_proxy_section,
    "proxy_section_and_proxypass": _replace_proxy_section,
    "proxypass": _replace_proxypass,
    "s3_directives": _replace_s3_directives,
}


def _proxy_set(parts: Sequence[tuple[Line, int]], edits: LineEdits) -> str:
    """Return mod_proxy's parameters as a SetEnv line, or an empty string; ``parts``: lines, and the index of a word."""
    kept: dict[str, str] = {}
    line = None
    for line, start in parts:
        for argument in line.arguments[start - 1 :]:
            name, equals, value = argument.partition("=")
            name = name.lower()
            try:
                proxy_set.parse(f"{name}{equals}{value}")
            except ValueError as error:
                shown = name if name in _WORKER_PARAMETERS else "a parameter"
                edits.warn(line, f"{shown} of mod_proxy is left out: S3ProxySet {error}")
            else:
                kept[name] = f"{name}={value}"
    try:
        proxy_set.parse(text := " ".join(kept.values()))
    except ValueError as error:
        assert line
        edits.warn(line, f"S3ProxySet {error}")
    return f'SetEnv S3ProxySet "{text}"' if text else ""


def _redirect_to_mount(mount: Mount, path_of: Mapping[int, str], edits: LineEdits) -> None:
    """Make the directives for the bucket send requests to the mount; ``path_of``: their paths by line number."""
    for line in mount.proxypass_lines:
        if mount.replaces == "proxy_section_and_proxypass":
            edits.replace(line, commented(line, f"replaced by the mount {mount.path}: "))
        elif mount.is_loopback and (found := find_url(line, mount.url)):
            index, rest = found
            if line.words[index].value.endswith("}") and mount.url.endswith("}"):
                rest = "/" if path_of[line.number].endswith("/") else ""  # as the path, and so the variable, ends
            url = f"http://127.0.0.1{mount.path}{rest}"
            is_quoted = line.text[line.words[index].start] in "\"'"
            edits.replace(line, line.with_word(index, in_quotes(url) if is_quoted else quoted(url)))
    for line in mount.proxypassreverse_lines:
        edits.replace(line, commented(line, f"not needed for the mount {mount.path}: "))
