"""A request to try, and what is known when the next one is chosen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from usp_s3_wsgi.observability.flight_recorder import SignedWith
from usp_s3_wsgi.signing.signer import sign
from usp_s3_wsgi.signing.types import Credentials, S3Request, SigningContext


class Trial(NamedTuple):
    """A request, and how it is signed. ``signed_host``: the host that is signed in place of the request's own."""

    request: S3Request
    context: SigningContext
    credentials: Credentials
    clock_offset: timedelta = timedelta(0)
    signed_host: str = ""

    def sign(self, now: datetime) -> S3Request:
        """Return the signed request as it is sent."""
        signed = sign(self.to_sign, self.context, self.credentials, self.signed_at(now))
        return signed._replace(host=self.request.host)

    @property
    def to_sign(self) -> S3Request:
        """The request as it is signed."""
        return self.request._replace(host=self.signed_host or self.request.host)

    def with_secret_key(self, secret_key: str) -> Trial:
        """Return the same trial with another secret key."""
        return self._replace(credentials=replace(self.credentials, secret_key=secret_key))

    def signed_with(self, now: datetime) -> SignedWith:
        """Return what is signed, and with what."""
        return SignedWith(self.to_sign, self.context, self.credentials, self.signed_at(now))

    def signed_at(self, now: datetime) -> datetime:
        """Return the time that is signed."""
        return now + self.clock_offset

    def __repr__(self) -> str:
        return f"Trial({self.request!r})"


@dataclass(frozen=True, slots=True)
class Change:
    """A trial that differs in one thing, and what is the cause and to be changed if S3 accepts it.

    ``words``: what is different. ``needs_control``: S3 must also reject a wrong secret key there: it may not check
    signatures in that place, or another server may have answered.
    """

    trial: Trial
    words: str
    cause: str
    what_to_change: str
    needs_control: bool = False


class Hints:
    """What the answers so far have said. ``clock_offset``: what to add to this server's time to get S3's."""

    def __init__(self) -> None:
        self.region = ""
        self.clock_offset: timedelta | None = None
        #: The label of the first line that differs from what S3 has computed; "" if none does; None if S3 said nothing.
        self.differs: str | None = None
