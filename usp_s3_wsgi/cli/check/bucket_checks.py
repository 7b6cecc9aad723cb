"""The checks of one bucket, in the order in which a request needs what they check."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import click

from usp_s3_wsgi.cli.check import certificate, network, permissions, signed_requests, through_httpd, tls_settings
from usp_s3_wsgi.cli.check.certificate import Trust
from usp_s3_wsgi.cli.check.rejected_signature.setting_names import ProxyPass, SettingNames
from usp_s3_wsgi.cli.check.result import Result, Verdict, fine, look, not_tested, wrong
from usp_s3_wsgi.cli.check.s3_requests import BucketRequests, random_key
from usp_s3_wsgi.cli.check.signed_requests import Key, Outcome
from usp_s3_wsgi.cli.server import objects
from usp_s3_wsgi.cli.server.buckets import UsedBucket
from usp_s3_wsgi.cli.server.proxy_tls import ProxyTLS
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.configtest.bucket_use import Place
from usp_s3_wsgi.configtest.parsed_config import Configuration
from usp_s3_wsgi.credentials import identity, resolver
from usp_s3_wsgi.errors import GatewayError
from usp_s3_wsgi.signing.types import Credentials
from usp_s3_wsgi.status.explanations import Explanations

#: Seconds: temporary credentials that expire sooner should have been refreshed.
_SHORT = 300


class Options(NamedTuple):
    """``key``: the key to request, empty for one that no object has. ``paths``: of this server, percent-encoded.

    ``is_key_of_each``: each bucket should have it.
    """

    configuration: Configuration
    explanations: Explanations
    key: str = ""
    paths: tuple[str, ...] = ()
    is_key_of_each: bool = True


def check(place: Place, settings: Settings, options: Options, is_fallback: bool) -> Iterator[Result]:
    """Yield the results for a bucket with valid settings. Raises nothing."""
    # Several buckets of a host are checked at the same time.
    settings = replace(settings, proxy_set=replace(settings.proxy_set, max=0))
    url, timeout = settings.bucket_url, settings.proxy_set.connectiontimeout
    is_reachable = True
    for result in network.check(url, timeout):
        yield result
        is_reachable = is_reachable and result.verdict is not Verdict.WRONG
    if is_reachable and url.scheme == "https":
        for result in _check_tls(options.configuration, place, settings, is_fallback):
            yield result
            is_reachable = is_reachable and result.verdict is not Verdict.WRONG
    credentials: list[Credentials] = []
    yield _check_identity(settings, credentials, options.configuration.may_lack_permission)
    if is_reachable and credentials:
        if place.way == "proxy":
            settings = ProxyTLS(options.configuration, place).settings_with_trust(settings)
        yield from _check_requests(place, settings, credentials[0], options, is_fallback)


def _check_tls(configuration: Configuration, place: Place, settings: Settings, is_fallback: bool) -> Iterator[Result]:
    timeout = settings.proxy_set.connectiontimeout
    if place.way == "gateway":
        trust = Trust(settings.ca_file, "S3FallbackCAFile" if is_fallback else "S3CAFile")
        yield certificate.check(settings.bucket_url, trust, timeout)
        return
    proxy_tls = ProxyTLS(configuration, place)
    yield from tls_settings.check(proxy_tls, settings.bucket_url)
    trust = Trust(proxy_tls.settings_with_trust(settings).ca_file, "SSLProxyCACertificateFile")
    yield certificate.check(settings.bucket_url, trust, timeout)


def _check_identity(settings: Settings, credentials: list[Credentials], may_lack_permission: bool) -> Result:
    """Return whose keys sign, and add them to ``credentials``."""
    try:
        found = resolver.resolve(settings)
    except GatewayError as error:
        if may_lack_permission and "Permission denied" in str(error):
            return not_tested("identity", "this user may not read a key file: run it as root")
        return wrong("identity", str(error), "see docs/credentials.md, and the error log of httpd")
    credentials.append(found)
    aws_identity, expires = identity.from_settings(settings), resolver.expiration(settings)
    if aws_identity is None:
        kind = "temporary access key" if found.security_token else "access key"
        return fine("identity", f"{kind} {found.short_access_key}")
    text = f"{aws_identity}, access key {found.short_access_key}"
    if expires is None:
        return fine("identity", f"{text}, which does not expire")
    left = expires - time.time()
    text = f"{text}, expires in {left / 60:.0f} minutes"
    if left < _SHORT:
        return look("identity", text, "they should have been refreshed: see the error log for USPS30603")
    return fine("identity", text)


def _check_requests(
    place: Place, settings: Settings, credentials: Credentials, options: Options, is_fallback: bool
) -> Iterator[Result]:
    requests, outcome = BucketRequests(settings, credentials), Outcome()
    key = _key(place, settings, options.key)
    key = key._replace(may_be_missing=not options.is_key_of_each or settings.fallback_on_404)
    is_proxy_pass = place.way == "proxy" and not is_fallback
    names = SettingNames(
        settings,
        "S3Fallback" if is_fallback else "S3",
        ProxyPass(place.path or "", place.url) if is_proxy_pass else None,
    )
    yield from signed_requests.check(requests, names, key, options.explanations, outcome)
    if outcome.is_accepted:
        is_missing_denied = key.is_random and outcome.answer is not None and outcome.answer.status == 403
        yield permissions.check_list(requests, is_missing_denied)
        yield permissions.check_write(requests)
    if outcome.answer is not None and outcome.is_accepted and not is_fallback:
        yield from through_httpd.check(options.configuration, place, settings, key, outcome.answer)


def _key(place: Place, settings: Settings, name: str) -> Key:
    """Return the key that is requested. ``name``: of ``--key``; empty if no object is named."""
    is_random, name = not name, name or random_key()
    try:
        served = objects.at_place(UsedBucket(place, settings), name)
        return Key(served.request(settings).path, is_random, served.own_target)
    except (click.UsageError, GatewayError):  # only httpd knows which object a path leads to: the key is S3's
        return Key(settings.bucket_url.prefix + objects.encode_path(name), is_random, None)
