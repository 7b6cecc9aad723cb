"""The SSLProxy directives of httpd for a ``<Proxy>`` section: mod_ssl connects to its bucket, and trusts what they say.

https://httpd.apache.org/docs/2.4/mod/mod_ssl.html#sslproxyengine
"""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path

from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.configtest.bucket_use import Place
from usp_s3_wsgi.configtest.parsed_config import Configuration
from usp_s3_wsgi.configtest.server_config import Section
from usp_s3_wsgi.configtest.urls import is_below

#: The directives that name certificates of authorities: a file, and a folder.
CA_FILE, CA_PATH = "sslproxycacertificatefile", "sslproxycacertificatepath"
_CERTIFICATE = re.compile(r"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----.*?-----END [A-Z0-9 ]+-----", re.DOTALL)
#: httpd's default of SSLProxyVerifyDepth.
_DEFAULT_DEPTH = 1


class ProxyTLS:
    """What applies to the requests of a place."""

    def __init__(self, configuration: Configuration, place: Place) -> None:
        self._root = configuration.server_root
        self._values: dict[str, str] = {}
        for server in place.server.merge_order:
            for section in (server.top_level, *_matching(server.proxy_sections, place.url or place.name)):
                for directive in section.directives:
                    if directive.name.startswith("sslproxy") and directive.words:
                        self._values[directive.name] = directive.words[0]

    def _value(self, name: str, default: str) -> str:
        return self._values.get(name, default).lower()

    @property
    def is_on(self) -> bool:
        """Whether mod_proxy sends anything over https."""
        return self._value("sslproxyengine", "off") == "on"

    @property
    def verifies(self) -> bool:
        """Whether the authority of the certificate is verified. Its name and dates always are."""
        return self._value("sslproxyverify", "none") == "require"

    @property
    def compares_names(self) -> bool:
        """Whether the certificate must be for the host's name."""
        return self._value("sslproxycheckpeername", "on") != "off"

    @property
    def depth(self) -> int:
        """How many certificates of authorities may be between."""
        text = self._value("sslproxyverifydepth", "")
        return int(text) if text.isdecimal() else _DEFAULT_DEPTH

    @cached_property
    def authorities(self) -> str:
        """The certificates of the trusted authorities, in PEM format; empty if there are none.

        Raises: OSError: a file cannot be read.
        """
        texts = []
        for name, path in self.files:
            found = _read(os.path.join(self._root, path), name == CA_PATH)
            if isinstance(found, OSError):
                raise found
            texts.append(found)
        return "\n".join(texts)

    @property
    def files(self) -> list[tuple[str, str]]:
        """The directives that name certificates of authorities, and their arguments."""
        return [(name, self._values[name]) for name in (CA_FILE, CA_PATH) if name in self._values]

    def settings_with_trust(self, settings: Settings) -> Settings:
        """Return the settings with the authorities that mod_ssl trusts; unchanged where they are not known.

        If mod_ssl does not verify the authority, that is the certificate that the server has now.
        """
        if settings.bucket_url.scheme != "https":
            return settings
        try:
            trusted = self.authorities if self.verifies else _current_certificate(settings)
        except (OSError, ValueError):
            trusted = ""
        return replace(settings, ca_file=trusted) if trusted else settings


def read_authorities(configuration: Configuration) -> None:
    """Read the certificates now: httpd reads them as root, which this process may not be later."""
    for directive in configuration.directives:
        for one in (directive, *directive.walk()):
            if one.name in {CA_FILE, CA_PATH} and one.words:
                _read(os.path.join(configuration.server_root, one.words[0]), one.name == CA_PATH)


@cache
def _read(path: str, is_folder: bool) -> str | OSError:
    """Return the certificates in a file, or in the files of a folder; or why not."""
    try:
        files = sorted(Path(path).iterdir()) if is_folder else [Path(path)]
        texts = [file.read_text("latin-1") for file in files if file.is_file() or not is_folder]
    except OSError as error:
        return error
    return "\n".join(match[0] for text in texts for match in _CERTIFICATE.finditer(text))


def _current_certificate(settings: Settings) -> str:
    url = settings.bucket_url
    return ssl.get_server_certificate((url.host, url.port), timeout=settings.proxy_set.connectiontimeout)


def _matching(sections: list[Section], url: str) -> list[Section]:
    return [section for section in sections if not section.is_pattern and is_below(url, section.argument)]
