"""Requests that differ in one thing from a request whose signature S3 rejects: each for a usual cause of that.

What costs nothing and is most likely comes first. Only this server's own request is ever signed: what S3 says that it
has computed is compared, but never signed, because a false server would then get a signature for another request.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

from usp_s3_wsgi.cli.check.rejected_signature import key_copies
from usp_s3_wsgi.cli.check.rejected_signature.endpoint_host import first_label, is_amazon, region_in_host
from usp_s3_wsgi.cli.check.rejected_signature.key_copies import Copy
from usp_s3_wsgi.cli.check.rejected_signature.rejection import Meaning
from usp_s3_wsgi.cli.check.rejected_signature.setting_names import SettingNames, sentence
from usp_s3_wsgi.cli.check.rejected_signature.trial import Change, Hints, Trial
from usp_s3_wsgi.config.bucket_url import BucketURL
from usp_s3_wsgi.s3.object_request import PLAIN_PATH, REQUESTER_PAYS

#: A key without any character that a device on the way may change.
PLAIN_KEY = "usp-s3-check"
REQUEST_PAYER, _ = REQUESTER_PAYS
#: A region that most servers accept that have none, and the one of Google and Cloudflare.
_USUAL_REGIONS = ("us-east-1", "auto")
_LONGER_EXPIRES = 900
_MAX_COPIES = 3


class SignatureTrials:
    """The changes to try of a bucket's request."""

    def __init__(self, url: BucketURL, names: SettingNames, hints: Hints) -> None:
        self._url, self._names, self._hints = url, names, hints

    def changes(self, trial: Trial, meaning: Meaning) -> Iterator[Change]:
        """Return what to try after a rejection with this meaning. Hints of later answers are taken into account."""
        match meaning:
            case Meaning.CLOCK:
                yield from self._clock(trial)
            case Meaning.REGION:
                yield from self._regions(trial)
            case Meaning.VERSION:
                yield from self._other_version(trial)
                yield from self._other_place(trial)
            case Meaning.BUCKET:
                yield from self._styles(trial)
            case Meaning.TOKEN:
                yield from self._copies(trial)
                yield from self._without_token(trial)
            case Meaning.ACCESS_KEY:
                yield from self._copies(trial)
                yield from self._swapped(trial)
                yield from self._without_token(trial)
            case _:
                yield from self._signature(trial)

    def _signature(self, trial: Trial) -> Iterator[Change]:
        # No request at all unless the keys look wrong, and then it is nearly always that.
        yield from self._copies(trial)
        yield from self._swapped(trial)
        differs = self._hints.differs
        if differs == "":
            return  # S3 has computed the same text: only the secret key can be another one
        # Nothing is known, or one thing: then only that is tried.
        if differs is None or differs.startswith("header x-amz-security-token"):
            yield from self._without_token(trial)
        if differs in {None, "path", "resource"}:
            yield from self._plain_key(trial)
        if differs in {None, "header host"}:
            yield from self._port_in_host(trial)
        if differs in {None, f"header {REQUEST_PAYER}"}:
            yield from self._without_request_payer(trial)
        if differs in {None, "scope"}:
            yield from self._regions(trial)
        if differs in {None, "resource"} and trial.context.region is None:
            yield from self._styles(trial)
        # Last, because few servers say SignatureDoesNotMatch of a version or a place that they do not support.
        if differs is None or differs.startswith("header x-amz-") or differs in {"query string", "signed headers"}:
            # The place first: most servers know both versions, but devices drop headers.
            yield from self._other_place(trial)
            yield from self._other_version(trial)

    # --- keys

    def copies(self, trial: Trial) -> list[Trial]:
        """Return the trial with each key corrected: all of that is secret, too."""
        secret = key_copies.secret_of_s3fs(trial.credentials.access_key)
        in_access_key = [trial.with_secret_key(secret)] if secret else []
        return [*in_access_key, *(change.trial for change in self._copies(trial))]

    def _copies(self, trial: Trial) -> Iterator[Change]:
        """Keys that were copied with something around them. Of a role they were not copied at all."""
        credentials, names = trial.credentials, self._names
        secrets = list(key_copies.corrected_secret(credentials.secret_key))
        corrected = [
            (names.secret_key, "the secret key", "secret_key", secrets),
            (names.access_key, "the access key", "access_key", list(key_copies.corrected(credentials.access_key))),
            (
                names.security_token,
                "the session token",
                "security_token",
                list(key_copies.corrected(credentials.security_token or "")),
            ),
        ]
        # All of them, if all were copied in the same way: neither alone would be accepted.
        common = [(setting, field, copies[0]) for setting, _, field, copies in corrected if copies]
        if len(common) > 1:
            words = " and ".join(dict.fromkeys(_plural(copy.words) for _, _, copy in common))
            settings = " and ".join(setting for setting, _, _ in common)
            changed = replace(credentials, **{field: copy.text for _, field, copy in common})
            yield Change(
                trial._replace(credentials=changed),
                f"all keys {words}",
                f"The keys are accepted {words}.",
                f"Write the keys again in {settings}, {words}.",
            )
        for setting, name, field, copies in corrected:
            for copy in copies[:_MAX_COPIES]:
                yield self._copy(trial, setting, name, field, copy)

    def _copy(self, trial: Trial, setting: str, name: str, field: str, copy: Copy) -> Change:
        changed = replace(trial.credentials, **{field: copy.text})
        return Change(
            trial._replace(credentials=changed),
            f"{name} {copy.words}",
            f"{name.capitalize()} is accepted {copy.words}.",
            f"Write {name} again in {setting}, {copy.words}.",
        )

    def _swapped(self, trial: Trial) -> Iterator[Change]:
        if key_copies.may_be_swapped(trial.credentials):
            credentials = replace(
                trial.credentials, access_key=trial.credentials.secret_key, secret_key=trial.credentials.access_key
            )
            yield Change(
                trial._replace(credentials=credentials),
                "access key and secret key swapped",
                "The access key and the secret key are swapped.",
                f"Swap {self._names.access_key} and {self._names.secret_key}. Better: make a new key pair, because "
                "requests have shown the secret key as their access key.",
            )

    def _without_token(self, trial: Trial) -> Iterator[Change]:
        if trial.credentials.security_token and not key_copies.is_temporary(trial.credentials):
            yield Change(
                trial._replace(credentials=replace(trial.credentials, security_token=None)),
                "without the session token",
                "S3 accepts the keys without the session token: it belongs to others, or this server knows no tokens.",
                f"Remove {self._names.security_token}, or write the token that was issued with these keys.",
            )

    # --- the clock

    def _clock(self, trial: Trial) -> Iterator[Change]:
        offset = self._hints.clock_offset
        if offset is not None and abs(offset) > timedelta(seconds=5):
            side = "behind" if offset > timedelta(0) else "ahead of"
            seconds = abs(round(offset.total_seconds()))
            yield Change(
                trial._replace(clock_offset=offset),
                "signed with S3's time",
                f"The clock of this server is {seconds} s {side} S3's.",
                "Set the clock of this server, and keep it right with NTP (timedatectl, chrony).",
            )
        context = trial.context
        if not context.use_headers and context.expires < _LONGER_EXPIRES:
            yield Change(
                trial._replace(context=context._replace(expires=_LONGER_EXPIRES)),
                f"valid for {_LONGER_EXPIRES} s",
                f"A signature that is valid for {context.expires} s ends before S3 checks it.",
                f"Set {self._names.expires} to {_LONGER_EXPIRES}, and check the clock of this server.",
            )

    # --- what a device on the way may change

    def _plain_key(self, trial: Trial) -> Iterator[Change]:
        path = trial.request.path
        if not PLAIN_PATH.fullmatch(path):
            feature = "//" if "//" in path else "percent-encoded characters"
            yield Change(
                trial._replace(request=trial.request._replace(path=self._url.prefix + PLAIN_KEY)),
                "another key, of letters only",
                f"S3 accepts the signature for another key: a device on the way changes paths with {feature}, or S3 "
                "itself computes another path.",
                "Let the device pass the path unchanged (nginx: proxy_pass without a path; HAProxy: no "
                "http-request normalize-uri). Keys that a server handles wrongly are in docs/servers.md.",
            )

    def _port_in_host(self, trial: Trial) -> Iterator[Change]:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html: v4 signs the Host header."""
        if trial.context.region is None:
            return
        host, url = trial.request.host, self._url
        name = host.removesuffix(f":{url.port}")
        other = name if name != host else f"{host}:{url.port}"
        how = "removes the port from" if other == name else "adds the port to"
        yield Change(
            trial._replace(signed_host=other),
            f"signed for the host {other}",
            f"A device between this server and S3 {how} the Host header: this server signs {host}, S3 gets {other}.",
            "Let the device pass the Host header unchanged (nginx: proxy_set_header Host $http_host), or write in "
            f"{self._names.url} the host and port that S3 gets.",
        )

    def _without_request_payer(self, trial: Trial) -> Iterator[Change]:
        if trial.request.header(REQUEST_PAYER):
            yield Change(
                trial._replace(request=trial.request.without(REQUEST_PAYER)),
                f"without the header {REQUEST_PAYER}",
                f"S3 accepts the signature without the header {REQUEST_PAYER}: a device drops or changes it.",
                f"Let the device pass headers that begin with x-amz- unchanged; or set {self._names.requester_pays} to "
                "off, if the requester does not pay for this bucket.",
            )

    # --- region

    def _regions(self, trial: Trial) -> Iterator[Change]:
        """The region that S3 names, the one in the host's name, and those that servers without regions accept."""
        moved = self._moved(trial, self._hints.region)
        if trial.context.region is None:
            if moved.request.host != trial.request.host:
                yield self._region(trial, moved, self._hints.region)
            return
        for region in self._region_names():
            if region != trial.context.region:
                yield self._region(trial, trial._replace(context=trial.context._replace(region=region)), region)
            moved = self._moved(trial, region)
            if region == self._hints.region and moved.request.host != trial.request.host:
                yield self._region(trial, moved._replace(context=trial.context._replace(region=region)), region)

    def _region(self, old: Trial, new: Trial, region: str) -> Change:
        changes, where = [], ""
        if new.context.region is not None:
            changes.append(f"set {self._names.region} to {region}")
        if new.request.host != old.request.host:
            changes.append(self._names.set_url(self._url.in_region(region)))
            where = f" at {new.request.host}"
        is_signed_for_other = new.context.region != old.context.region
        wrong = (
            f"The requests are signed for the region {old.context.region}"
            if is_signed_for_other
            else "The host is of another region"
        )
        return Change(
            new,
            f"signed for the region {region}{where}",
            f"{wrong}; S3 accepts {region}.",
            sentence(", and ".join(changes)),
        )

    def _region_names(self) -> Iterator[str]:
        """The region that S3 names; until it does, guesses. An empty region is none: it cannot be set."""
        tried = {""}
        for region in (region_in_host(self._url.host), *(() if is_amazon(self._url.host) else _USUAL_REGIONS)):
            if not self._hints.region and region not in tried:
                tried.add(region)
                yield region
        # The answer to a guess may have named it.
        if self._hints.region not in tried:
            yield self._hints.region

    def _moved(self, trial: Trial, region: str) -> Trial:
        """Amazon's endpoint of another region is another host; a device in front of S3 stays.

        Over http it is not tried: nothing would prove that it is Amazon's.
        """
        moved = self._url.in_region(region).authority if region else self._url.authority
        if trial.request.host != self._url.authority or self._url.scheme != "https":
            return trial
        return trial._replace(request=trial.request._replace(host=moved))

    # --- version, and place of the signature

    def _other_place(self, trial: Trial) -> Iterator[Change]:
        context, setting = trial.context, self._names.use_headers
        if context.use_headers:
            cause = (
                "S3 accepts the signature in the query string, and not in headers: a device on the way may drop or "
                "change headers such as Authorization."
            )
            change = f"Set {setting} to off, or let the device pass Authorization and x-amz-* unchanged."
        else:
            cause, change = "S3 accepts the signature in headers, and not in the query string.", f"Set {setting} to on."
        words = f"the signature in {'the query string' if context.use_headers else 'headers'}"
        changed = trial._replace(context=context._replace(use_headers=not context.use_headers))
        yield Change(changed, words, cause, change, needs_control=True)

    def _other_version(self, trial: Trial) -> Iterator[Change]:
        for use_headers in (trial.context.use_headers, not trial.context.use_headers):
            if trial.context.region is not None:
                yield self._version_2(trial, use_headers)
                continue
            for region in self._region_names():
                yield self._version_4(trial, use_headers, region)

    def _version_2(self, trial: Trial, use_headers: bool) -> Change:
        place, setting = self._place(trial, use_headers)
        return Change(
            trial._replace(context=trial.context._replace(region=None, use_headers=use_headers)),
            f"Signature v2{place}",
            f"S3 accepts Signature v2{place}, and not v4.",
            f"Remove {self._names.region}: without it, requests are signed with Signature v2.{setting}",
            needs_control=True,
        )

    def _version_4(self, trial: Trial, use_headers: bool, region: str) -> Change:
        place, setting = self._place(trial, use_headers)
        return Change(
            trial._replace(context=trial.context._replace(region=region, use_headers=use_headers)),
            f"Signature v4{place} for the region {region}",
            f"S3 accepts Signature v4{place}, and not v2.",
            f"Set {self._names.region} to {region}: with it, requests are signed with Signature v4.{setting}",
            needs_control=True,
        )

    def _place(self, trial: Trial, use_headers: bool) -> tuple[str, str]:
        if use_headers == trial.context.use_headers:
            return "", ""
        place = " in headers" if use_headers else " in the query string"
        return place, f" Set {self._names.use_headers} to {'on' if use_headers else 'off'}."

    # --- where the bucket's name is

    def _styles(self, trial: Trial) -> Iterator[Change]:
        """Path style at the same host; Signature v2 signs the bucket's name, wherever it is.

        Virtual-hosted style is only suggested (Conclusions): its host was not configured, and may be somebody else's.
        """
        url, request, context = self._url, trial.request, trial.context
        if context.region is None and context.virtual_host_bucket is None and (label := first_label(url.host)):
            yield Change(
                trial._replace(context=context._replace(virtual_host_bucket=label)),
                f"the bucket {label} of the host is signed",
                f"S3 takes the bucket's name from the host: it is {label}, which Signature v2 signs.",
                f"Set {self._names.bucket} to {label}.",
            )
        if not url.path_style and url.bucket:
            yield Change(
                trial._replace(
                    request=request._replace(path=f"/{url.bucket}{request.path}"),
                    context=context._replace(virtual_host_bucket=None),
                ),
                f"path style: {request.host}/{url.bucket}/",
                "S3 takes the bucket's name from the path, and not from the host.",
                f"{sentence(self._names.set_url(replace(url, prefix=f'/{url.bucket}{url.prefix}')))} Or use the same "
                "path at the host without the bucket's name.",
                needs_control=True,
            )


def _plural(words: str) -> str:
    return re.sub(r"\bit is\b", "each is", re.sub(r"\bits\b", "their", re.sub(r"\bit$", "them", words)))
