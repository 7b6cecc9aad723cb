"""From the configuration of mod_unified_s3_auth to ours, for one of the two planes.

``proxy``: mod_proxy carries the bytes and the sections stay what they are; ``SetEnv`` comes before each directive.
``gateway``: mounts take the place of the sections, see :mod:`usp_s3_wsgi.convert.gateway`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from usp_s3_wsgi.convert.apache_config import Line, Node, Section, parse, walk
from usp_s3_wsgi.convert.edits import KEYS, Converted, Edits, convert_key, convert_module, indent, is_vendors
from usp_s3_wsgi.convert.gateway import to_gateway

#: Our module that signs inside <Proxy>.
SIGNER = "usp_s3_module"
_GUARD = (
    f"<IfModule !{SIGNER}>",
    f'  Error "{SIGNER} is not loaded, so requests to S3 would go out unsigned: usp-s3 apache-config"',
    "</IfModule>",
)
_UNVERIFIED = (
    "httpd does not verify the certificate of this https:// URL by default: "
    "SSLProxyVerify require, SSLProxyVerifyDepth 10 and SSLProxyCACertificateFile"
)
#: How deep httpd verifies, 1 by default: public providers have one or two authorities between the root and a server's
#: certificate.
_DEPTH = 10
_ENOUGH = 3
_SHALLOW = f"certificates of public providers have more authorities above them: SSLProxyVerifyDepth {_DEPTH}"
_UNNAMED = (
    "a RewriteRule [P] or a SetHandler is signed where a <Proxy> section of its URL holds the keys, or S3BucketURL "
    "here says the bucket"
)
_BY_ADDRESS = (
    "httpd compares the names of a certificate with the URL's host, and never its IP addresses: give the host a name, "
    "in DNS or /etc/hosts, that the certificate has"
)

_IP_ADDRESS = re.compile(r"(?i)\^?https://(?:[0-9]{1,3}(?:\\?\.[0-9]{1,3}){3}(?=[:/]|$)|\\?\[)")


def convert(text: str, to: Literal["proxy", "gateway"]) -> Converted:
    """Return the configuration with ours in the vendor's place, and what the operator must look at.

    Without anything of the vendor's, so also of what this returned, the text comes back byte for byte.

    Raises:
        ApacheConfigError: the sections of the text do not close as they open.
    """
    nodes = parse(text)
    if not any(is_vendors(line) for line, _ in walk(nodes)):
        return Converted(text, ())
    edits = Edits(nodes)
    if to == "proxy":
        _to_proxy(nodes, edits)
    else:
        to_gateway(nodes, edits)
    return edits.result()


def _to_proxy(nodes: tuple[Node, ...], edits: Edits) -> None:
    for line, _ in walk(nodes):
        convert_module(line, SIGNER, edits)
        if line.name in KEYS:
            convert_key(line, edits)
    _guard(nodes, edits)
    _name_buckets(nodes, edits)
    https = [section for section in _sections_with_keys(nodes) if _https_urls(section)]
    if https:
        _verify_depth(nodes, edits)
    for section in https:
        if not any(line.name == "sslproxyverify" and _is(line, "require") for line, _ in walk(nodes)):
            edits.warn(section.opening, _UNVERIFIED)
        if any(_IP_ADDRESS.match(url) for url in _https_urls(section)):
            edits.warn(section.opening, _BY_ADDRESS)


def _name_buckets(nodes: tuple[Node, ...], edits: Edits) -> None:
    """Settings in a <Location> are about the bucket of its ProxyPass; of every other rule they must say the bucket."""
    done: set[int] = set()
    for line, around in walk(nodes):
        sections = [
            section for section in around if section.name in {"proxy", "proxymatch", "location", "locationmatch"}
        ]
        if line.name not in KEYS or not sections or not sections[-1].name.startswith("location"):
            continue
        section = sections[-1]
        if section.opening.number in done:
            continue
        done.add(section.opening.number)
        inner = [inside for inside, _ in walk(section.body)]
        urls = [inside.arguments[0] for inside in inner if inside.name == "ismproxypass" and inside.arguments]
        if urls and not any(inside.name == "proxypass" for inside in inner):
            edits.before(line, f'{indent(line)}SetEnv S3BucketURL "{urls[0]}"')
        elif not urls and any(inside.name in {"rewriterule", "sethandler"} for inside in inner):
            edits.warn(section.opening, _UNNAMED)


def _verify_depth(nodes: tuple[Node, ...], edits: Edits) -> None:
    """Certificates must be verified as deep as they are: with httpd's default those of public providers are refused."""
    depths = [(line, around) for line, around in walk(nodes) if line.name == "sslproxyverifydepth"]
    for line, _ in depths:
        if line.arguments and line.arguments[0].isdigit() and int(line.arguments[0]) < _ENOUGH:
            edits.warn(line, _SHALLOW)
    for line, around in walk(nodes):
        is_deep = any(around[: len(outer)] == outer for _, outer in depths)  # there, or in a section around it
        if line.name == "sslproxyverify" and not _is(line, "none") and not is_deep:
            edits.after(line, f"{indent(line)}SSLProxyVerifyDepth {_DEPTH}")


def _guard(nodes: tuple[Node, ...], edits: Edits) -> None:
    """httpd must not start without the signer: requests would go out unsigned and SetEnv says nothing of it."""
    if any(line.name == "error" and _is(around[-1].opening, f"!{SIGNER}") for line, around in walk(nodes) if around):
        return
    for node in nodes:
        if any(line.name in KEYS for line, _ in walk([node])):
            first = node if isinstance(node, Line) else node.opening
            edits.before(first, *(indent(first) + text for text in _GUARD))
            return


def _sections_with_keys(nodes: tuple[Node, ...]) -> Iterator[Section]:
    for line, around in walk(nodes):
        if line.name in KEYS:
            # Also <Proxy> around the <IfModule> that holds the keys.
            yield from around


def _https_urls(section: Section) -> list[str]:
    """The https:// URLs that a section is about: of ``<Proxy>`` and its members, or of a ``<Location>``'s ProxyPass."""
    lines = [section.opening] if section.name in {"proxy", "proxymatch"} else []
    if section.name in {"proxy", "location"}:
        inner = {"proxy": "balancermember", "location": "proxypass"}[section.name]
        lines += [line for line in section.body if isinstance(line, Line) and line.name == inner]
    return [url for line in lines for url in line.arguments if re.match(r"\^?https:", url, re.I)]


def _is(line: Line, value: str) -> bool:
    return [argument.lower() for argument in line.arguments] == [value]
