"""What to say at the end of a diagnosis, where no changed request was accepted: a cause, and what to change."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import NamedTuple

from usp_s3_wsgi.cli.check.rejected_signature import key_copies
from usp_s3_wsgi.cli.check.rejected_signature.computed_texts import ComputedTexts, explain
from usp_s3_wsgi.cli.check.rejected_signature.rejection import Meaning
from usp_s3_wsgi.cli.check.rejected_signature.setting_names import SettingNames, sentence
from usp_s3_wsgi.cli.server.own_url import is_address
from usp_s3_wsgi.config.bucket_url import BucketURL
from usp_s3_wsgi.errors import S3ErrorResponse
from usp_s3_wsgi.observability.flight_recorder import SignedWith
from usp_s3_wsgi.s3 import error_response
from usp_s3_wsgi.signing.types import Credentials

_MAX_MESSAGE = 200
#: What a host may have before its name.
_HOST_LABELS = re.compile(r"[a-z0-9][a-z0-9.-]*")
_NO_SLIP = " It is none of the usual slips (quotes, blanks, swapped)."
_NOT_FOUND = "No usual correction was accepted."


class Finding(NamedTuple):
    """``is_found``: S3's answers prove it. ``is_signature_accepted``: S3 accepts the signature as it is configured."""

    cause: str
    what_to_change: str
    is_found: bool = True
    is_signature_accepted: bool = False


class TrialOutcome(NamedTuple):
    """What came of a request.

    ``error``: the answer, parsed, None if there was none. ``words``: its status and code. ``signed``: what was signed.
    ``location``: where it redirects to.
    """

    meaning: Meaning
    error: S3ErrorResponse | None
    words: str
    signed: SignedWith | None = None
    location: str = ""

    @property
    def message(self) -> str:
        """S3's own words."""
        said = error_response.computed_by_s3(self.error.document).message if self.error else ""
        return shortened(" ".join(said.split()))


def shortened(text: str) -> str:
    """Return the text, cut if it is too long for a line."""
    return text if len(text) <= _MAX_MESSAGE else f"{text[:_MAX_MESSAGE]}..."


class Conclusions:
    """The findings about one bucket. They may hold what S3 has said: mask them."""

    def __init__(self, url: BucketURL, names: SettingNames) -> None:
        self._url, self._names = url, names

    # --- what one answer says

    def accepted(self) -> Finding:
        """The request that was rejected before is accepted now."""
        return Finding(
            "S3 accepts the signature now.",
            "Try again. If it fails now and then: were keys replaced, is one of several S3 servers wrong?",
            is_found=False,
            is_signature_accepted=True,
        )

    def head_only(self) -> Finding:
        """GET is accepted, HEAD is not."""
        return Finding(
            "S3 accepts the signature of GET, but not of HEAD: a device between this server and S3 sends GET instead.",
            "Let the device pass HEAD unchanged (nginx with proxy_cache: proxy_cache_convert_head off).",
        )

    def token_expired(self) -> Finding:
        """S3 says so."""
        return Finding(
            "The session token has expired.",
            f"Write new keys and their token: {self._names.access_key}, {self._names.secret_key}, "
            f"{self._names.security_token}. Or use an identity that is refreshed ({self._names.source} aws).",
        )

    def lacks_token(self, credentials: Credentials) -> Finding:
        """The access key is one of AWS STS."""
        return Finding(
            f"The access key {credentials.short_access_key} is a temporary one, and no session token is set.",
            f"Write the token that was issued with these keys in {self._names.security_token}.",
        )

    def unavailable(self, outcome: TrialOutcome) -> Finding:
        """There is no answer."""
        return Finding(f"S3 gives no answer to diagnose: {outcome.words}.", "Try again later.", is_found=False)

    def not_s3(self, outcome: TrialOutcome) -> Finding:
        """The answer is no document of S3."""
        if outcome.error is not None and outcome.error.is_http_on_tls_port:
            return Finding("The port speaks TLS.", sentence(self._names.set_url(replace(self._url, scheme="https"))))
        if outcome.location:
            return Finding(
                f"{self._url.host} redirects to {shortened(outcome.location)}.",
                f"Write that scheme and host in {self._names.url}, if they are those of S3.",
            )
        return Finding(
            f"The answer ({outcome.words}) is not S3's: a firewall or a proxy on the way has sent it, or "
            f"{self._url.host} is no S3 server.",
            f"Check that {self._names.url} is S3's endpoint, and let the device pass the requests of this server.",
        )

    def no_permission(self, outcome: TrialOutcome, is_payer: bool, is_as_configured: bool) -> Finding:
        """The signature is accepted. ``is_payer``: the request says that the requester pays."""
        words = f" S3 says: {outcome.message}" if outcome.message else ""
        if "kms:" in outcome.message.lower():
            return Finding(
                f"S3 accepts the signature, but these keys may not use the KMS key that encrypts the object.{words}",
                "Allow kms:Decrypt for these keys, in their policy and in that of the KMS key.",
                is_signature_accepted=is_as_configured,
            )
        payer = (
            ""
            if is_payer
            else f" If it is a bucket for which the requester pays, set {self._names.requester_pays} to on."
        )
        return Finding(
            f"S3 accepts the signature, but these keys have no permission to read this object.{words}",
            "Allow s3:GetObject for the objects and s3:ListBucket for the bucket, in the policies of the user and of "
            f"the bucket; check that it is the right bucket.{payer}",
            is_signature_accepted=is_as_configured,
        )

    # --- nothing that was tried was accepted

    def not_found(self, outcome: TrialOutcome, credentials: Credentials, texts: ComputedTexts) -> Finding:
        """Return what can be said for certain, and what to compare."""
        match outcome.meaning:
            case Meaning.ACCESS_KEY:
                return self._unknown_access_key(outcome, credentials)
            case Meaning.TOKEN:
                return self._invalid_token()
            case Meaning.BUCKET:
                return self._no_bucket()
            case Meaning.CLOCK:
                return self._clock(outcome)
            case Meaning.DENIED:
                return self._denied(outcome, credentials)
            case Meaning.SIGNATURE:
                return self._wrong_signature(credentials, texts)
            case Meaning.UNAVAILABLE:
                return self.unavailable(outcome)
        names = self._names
        words = f" S3 says: {outcome.message}" if outcome.message else ""
        return Finding(
            f"S3 answers {outcome.words}. {_NOT_FOUND}{words}",
            f"Compare {names.url}, {names.region} and {names.use_headers} with what the provider documents.",
            is_found=False,
        )

    def _unknown_access_key(self, outcome: TrialOutcome, credentials: Credentials) -> Finding:
        names = self._names
        if outcome.error is None:
            return Finding(
                "The access key or the session token has a character that cannot be sent.",
                f"Write {names.access_key} and {names.security_token} again, in ASCII and in one line.",
            )
        return Finding(
            f"S3 does not know the access key {credentials.short_access_key}.",
            f"Check at the provider that it exists, is active, and is one of {self._url.host}; set {names.access_key} "
            f"and {names.secret_key} again, as a pair.",
        )

    def _invalid_token(self) -> Finding:
        names = self._names
        return Finding(
            "S3 does not accept the session token: it is that of another key pair, or not complete.",
            f"Set what was issued together: {names.access_key}, {names.secret_key}, {names.security_token}.",
        )

    def _no_bucket(self) -> Finding:
        url = self._url
        bucket = f"no bucket {url.bucket}" if url.bucket else "no such bucket"
        style = ""
        if url.path_style and _HOST_LABELS.fullmatch(url.bucket) and not is_address(url.host):
            virtual = replace(url, host=f"{url.bucket}.{url.host}", prefix=url.prefix.removeprefix(f"/{url.bucket}"))
            style = f" If the server takes the bucket's name from the host, {self._names.set_url(virtual)}."
        return Finding(
            f"{url.host} has {bucket}, or not in the account of these keys.",
            f"Correct the bucket in {self._names.url}; check that host and keys belong to one service and "
            f"account.{style}",
        )

    def _clock(self, outcome: TrialOutcome) -> Finding:
        return Finding(
            f"S3 answers {outcome.words} about the time of the signature, and does not accept its own time either.",
            f"Check the clock of this server, that of S3, and {self._names.expires}.",
            is_found=False,
        )

    def _denied(self, outcome: TrialOutcome, credentials: Credentials) -> Finding:
        remark = key_copies.length_remark(credentials)
        return Finding(
            f"The keys are wrong, or have no permission: this server answers {outcome.words} to both.{remark} "
            f"{_NOT_FOUND}",
            f"Compare the access key {credentials.short_access_key} with the provider's, and set "
            f"{self._names.secret_key} again; then check the policies of the user and of the bucket.",
            is_found=False,
        )

    def _wrong_signature(self, credentials: Credentials, texts: ComputedTexts) -> Finding:
        names = self._names
        if texts.first is not None:
            return Finding(
                f"The request is changed on its way to S3: {explain(texts.first)}.",
                "Let the proxy or load balancer between this server and S3 pass the Host header, the path, the query "
                f"string and headers unchanged; or write in {names.url} what S3 gets.",
            )
        remark = key_copies.length_remark(credentials)
        change = (
            f"Compare the access key {credentials.short_access_key} with the provider's, and set the secret key of "
            f"that pair in {names.secret_key}, or make a new pair."
        )
        if texts.has_theirs:
            return Finding(
                "The secret key is not the one that S3 has for this access key: S3 has computed the same text, and "
                f"another signature.{remark or _NO_SLIP}",
                f"{change} (Some servers, such as Swift, say the same of an access key that they do not know.)",
            )
        return Finding(
            "The secret key is not the one that S3 has for this access key, or the request is changed on its way to "
            f"S3.{remark} {_NOT_FOUND}",
            f"{change} If they are right, try without the proxies between this server and S3.",
            is_found=False,
        )
