"""From the checked answers to the lines of httpd's configuration."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from usp_s3_wsgi.cli.config.answers import Answers
from usp_s3_wsgi.configtest.apache_syntax import in_quotes, quoted

#: The authorities of Debian's package ca-certificates.
SYSTEM_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
#: The parameters of docs/proxy.md.
PROXY_SET = "connectiontimeout=5 enablereuse=on keepalive=on retry=0 timeout=30 ttl=300 addressttl=60"
_WIDTH = 96
_HTTP = (
    "Requests and objects are not encrypted on the way to S3: only for a network that you trust. The secret key is "
    "never sent."
)
_ROLE = "The keys or the identity assume the role S3RoleARN, and its temporary credentials sign. That needs botocore."
_DOTS = "The bucket's name is in the path, because no certificate of the provider has it in the host."
_ADDRESSTTL = "addressttl needs httpd 2.4.59 or later: leave it out for an older one."
_CERTIFICATE = "The bucket's certificate is verified, for this section only."
_NOT_LOADED = """\
<IfModule !usp_s3_module>
  Error "usp_s3_module is not loaded, so requests to S3 would go out unsigned: usp-s3 apache-config"
</IfModule>
"""


def render(answers: Answers) -> str:
    """Return the configuration of the bucket, with comments."""
    lines = list(_comments(answers))
    url, path = answers.url, answers.path
    if answers.way == "gateway":
        lines += [f"WSGIScriptAlias {quoted(path)} ${{USP_S3_WSGI}}", f"<Location {quoted(path)}>"]
        lines += [*_set_env(answers.pairs()), "</Location>"]
        return "\n".join(lines) + "\n"
    target = url if path == "/" else url.rstrip("/")  # a slash at the end of both, or of none
    lines += [f"ProxyPass {in_quotes(path)} {in_quotes(target)}", f"<Proxy {in_quotes(url)}>"]
    lines += _set_env(pair for pair in answers.pairs() if pair[0] != "S3BucketURL")
    lines += [*_comment(_ADDRESSTTL, "  "), f"  ProxySet {PROXY_SET}"]
    if answers.is_https:
        lines += [
            *_comment(_CERTIFICATE, "  "),
            "  SSLProxyEngine on",
            "  SSLProxyVerify require",
            "  SSLProxyVerifyDepth 10",
            f"  SSLProxyCACertificateFile {quoted(answers.ca_file or SYSTEM_AUTHORITIES)}",
        ]
    return "\n".join([*lines, "</Proxy>", _NOT_LOADED])


def _set_env(pairs: Iterable[tuple[str, str]]) -> list[str]:
    given = list(pairs)
    width = max(len(name) for name, _ in given)
    return [f"  SetEnv {name:<{width}} {quoted(value)}" for name, value in given]


def _comments(answers: Answers) -> Iterator[str]:
    """Yield the comment lines. They contain no answer but the URL, which has only ASCII, and no backslash."""
    provider = answers.provider
    way = "the gateway" if answers.way == "gateway" else "mod_proxy, with signed requests"
    yield from _comment(f"{provider.title}: {answers.url}, served by {way}.")
    if provider.source:
        yield f"# {provider.source}"
    dots = (_DOTS,) if provider.style_for(answers.bucket) != provider.styles[0] else ()
    role = (_ROLE,) if answers.role_arn else ()
    http = () if answers.is_https else (_HTTP,)
    key = (f"S3AccessKey is {provider.key}.",) if provider.key else ()
    for note in (*key, *provider.peculiarities, *dots, *role, *http):
        yield from _comment(note, bullet="- ")


def _comment(text: str, indent: str = "", bullet: str = "") -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=f"{indent}# {bullet}", subsequent_indent=f"{indent}# {' ' * len(bullet)}",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
