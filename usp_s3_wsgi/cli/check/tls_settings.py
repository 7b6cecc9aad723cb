"""Checks the directives of mod_ssl that a ``<Proxy>`` section needs for https."""

from __future__ import annotations

from collections.abc import Iterator

from usp_s3_wsgi.cli.check.result import Result, look, wrong
from usp_s3_wsgi.cli.server.own_url import is_address
from usp_s3_wsgi.cli.server.proxy_tls import ProxyTLS
from usp_s3_wsgi.config.bucket_url import BucketURL

_CHECK = "TLS settings"
#: Public providers have one or two intermediate authorities, and the root counts too.
_MIN_DEPTH = 3
_RECOMMENDED = (
    "SSLProxyVerify require, SSLProxyVerifyDepth 10, SSLProxyCACertificateFile /etc/ssl/certs/ca-certificates.crt"
)


def check(proxy_tls: ProxyTLS, url: BucketURL) -> Iterator[Result]:
    """Yield what should be changed; nothing if that is nothing."""
    if not proxy_tls.is_on:
        yield wrong(_CHECK, "SSLProxyEngine is off: mod_proxy sends nothing over https", "SSLProxyEngine on")
        return
    if is_address(url.host) and proxy_tls.compares_names:
        yield wrong(
            _CHECK,
            "mod_ssl does not compare the addresses in a certificate: each request gets 500",
            f"give {url.host} a name that is in its certificate, in DNS or /etc/hosts, and write that name",
        )
    if not proxy_tls.verifies:
        text = "mod_ssl accepts a certificate of any authority: another server could get the requests"
        yield look(_CHECK, text, _RECOMMENDED)
        return
    if proxy_tls.depth < _MIN_DEPTH:
        text = f"SSLProxyVerifyDepth {proxy_tls.depth} rejects certificates with more authorities between"
        yield look(_CHECK, text, "SSLProxyVerifyDepth 10")
    if not proxy_tls.files:
        yield wrong(_CHECK, "mod_ssl trusts no authority: each certificate is rejected", _RECOMMENDED)
        return
    try:
        found = proxy_tls.authorities
    except OSError as error:
        yield wrong(_CHECK, f"{error.filename}: {error.strerror}", "correct the name of the file or folder")
        return
    if not found:
        yield wrong(_CHECK, f"{proxy_tls.files[0][1]} has no certificate in PEM format", _RECOMMENDED)
