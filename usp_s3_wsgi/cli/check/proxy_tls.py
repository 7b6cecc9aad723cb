"""Checks the SSLProxy directives of httpd for a ``<Proxy>`` section: mod_ssl connects to its bucket.

https://httpd.apache.org/docs/2.4/mod/mod_ssl.html#sslproxyengine
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from usp_s3_wsgi.cli.check.certificate import Trust
from usp_s3_wsgi.cli.check.result import Result, look, wrong
from usp_s3_wsgi.config.bucket_url import BucketURL
from usp_s3_wsgi.configtest.bucket_use import Place
from usp_s3_wsgi.configtest.server_config import Section
from usp_s3_wsgi.configtest.urls import is_below

_CHECK = "TLS settings"
#: Public providers have one or two intermediate authorities.
_MIN_DEPTH = 3
#: httpd's default of SSLProxyVerifyDepth.
_DEFAULT_DEPTH = "1"


class ProxyTLS:
    """The SSLProxy directives that apply to a place."""

    def __init__(self, place: Place) -> None:
        self._values: dict[str, str] = {}
        for server in place.server.merge_order:
            for section in (server.top_level, *_matching(server.proxy_sections, place.url or place.name)):
                for directive in section.directives:
                    if directive.name.startswith("sslproxy") and directive.words:
                        self._values[directive.name] = directive.words[0]

    def _value(self, name: str, default: str) -> str:
        return self._values.get(name, default).lower()

    @property
    def trust(self) -> Trust:
        """The authorities that mod_ssl trusts; the system's list where it verifies nothing."""
        return Trust(self._values.get("sslproxycacertificatefile"), "SSLProxyCACertificateFile")

    def check(self, url: BucketURL) -> Iterator[Result]:
        """Yield what should be changed; nothing if that is nothing."""
        if self._value("sslproxyengine", "off") != "on":
            yield wrong(_CHECK, "SSLProxyEngine is off: mod_proxy sends nothing over https", "set it on")
            return
        if _is_address(url.host) and self._value("sslproxycheckpeername", "on") != "off":
            yield wrong(
                _CHECK,
                "mod_ssl does not compare the addresses in a certificate: each request gets 500",
                f"give {url.host} a name that is in its certificate, in DNS or /etc/hosts, and write that name",
            )
        if self._value("sslproxyverify", "none") != "require":
            yield look(
                _CHECK,
                "mod_ssl accepts a certificate of any authority: another server could get the requests",
                "SSLProxyVerify require, SSLProxyVerifyDepth 10, SSLProxyCACertificateFile "
                "/etc/ssl/certs/ca-certificates.crt",
            )
            return
        depth = self._value("sslproxyverifydepth", _DEFAULT_DEPTH)
        if depth.isdigit() and int(depth) < _MIN_DEPTH:
            yield look(
                _CHECK,
                f"SSLProxyVerifyDepth {depth} rejects certificates with more intermediate authorities",
                "SSLProxyVerifyDepth 10",
            )
        if not {"sslproxycacertificatefile", "sslproxycacertificatepath"} & set(self._values):
            yield wrong(
                _CHECK,
                "mod_ssl trusts no authority: each certificate is rejected",
                "SSLProxyCACertificateFile /etc/ssl/certs/ca-certificates.crt",
            )


def _matching(sections: list[Section], url: str) -> list[Section]:
    return [section for section in sections if not section.is_pattern and is_below(url, section.argument)]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
