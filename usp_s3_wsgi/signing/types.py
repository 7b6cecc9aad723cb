"""What is signed, and with what: the request, the key pair, and how the bucket's requests are signed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

#: Names and values, in an order: headers, query parameters, settings.
Pairs = tuple[tuple[str, str], ...]


class S3Request(NamedTuple):
    """A request to S3, before or after it is signed.

    ``host``: the Host header, with the port unless it is the scheme's default. ``path``: percent-encoded once, begins
    with ``/``. ``query``: names and values, each percent-encoded once. ``headers``: all headers that are sent, except
    Host and Accept-Encoding; Accept-Encoding is not signed, because Google changes it in transit.
    """

    method: str
    scheme: str
    host: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    accept_encoding: str = "identity"

    @property
    def target(self) -> str:
        """The request target in origin form: https://www.rfc-editor.org/rfc/rfc9112#section-3.2.1."""
        if not self.query:
            return self.path
        return self.path + "?" + "&".join([f"{name}={value}" for name, value in self.query])

    @property
    def is_for_part_number(self) -> bool:
        """Whether the request asks for a part of a multipart upload by its number (``partNumber``)."""
        return bool(self.query) and any(name == "partNumber" for name, _ in self.query)

    def header(self, name: str) -> str | None:
        """Return the value of the first header of that name, in any case."""
        if not self.headers:
            return None  # the usual case
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def without(self, *names: str) -> S3Request:
        """Return the request without the headers of these names, in any case."""
        unwanted = {name.lower() for name in names}
        return self._replace(headers=tuple(item for item in self.headers if item[0].lower() not in unwanted))

    def __repr__(self) -> str:
        # Without query and headers, which may hold a signature.
        return f"S3Request({self.method} {self.scheme}://{self.host}{self.path})"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key pair, with the session token of temporary ones. The repr shows neither secret nor token."""

    access_key: str
    secret_key: str = field(repr=False)
    security_token: str | None = field(default=None, repr=False)

    @property
    def short_access_key(self) -> str:
        """The access key as logs show it: its ends, if it cannot be a secret key, which has lowercase letters too."""
        key = self.access_key
        return f"{key[:4]}...{key[-4:]}" if re.fullmatch("[A-Z0-9]{16,128}", key) else "(not shown)"


class SigningContext(NamedTuple):
    """How the requests to a bucket are signed.

    ``region`` set: Signature v4; None: Signature v2. ``use_headers``: in headers, else in the query string, where the
    signature is valid for ``expires`` seconds. ``virtual_host_bucket``: the bucket's name if only the
    host has it, None if the path has it; v2 alone signs it.
    """

    region: str | None
    use_headers: bool
    expires: int = 300
    virtual_host_bucket: str | None = None
