"""The subcommand ``usp-s3 sign``: its options, and what follows from them where they are not given."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import click

from usp_s3_wsgi.cli import console
from usp_s3_wsgi.cli.server import httpd_config
from usp_s3_wsgi.cli.server.httpd_config import HttpdCommand
from usp_s3_wsgi.cli.server.httpd_environment import environment_of
from usp_s3_wsgi.cli.server.httpd_text import to_shown
from usp_s3_wsgi.cli.sign import keys, output, steps, target
from usp_s3_wsgi.cli.sign.keys import FoundKeys, KeyOptions
from usp_s3_wsgi.cli.sign.steps import Signing
from usp_s3_wsgi.cli.sign.target import Target
from usp_s3_wsgi.config import bucket_url, parsers
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.s3.object_request import REQUESTER_PAYS
from usp_s3_wsgi.signing import sigv4
from usp_s3_wsgi.signing.signer import sign
from usp_s3_wsgi.signing.types import Pairs, S3Request, SigningContext

Version = Literal["v4", "v2"]
Place = Literal["headers", "query"]
Form = Literal["headers", "url", "curl"]
#: The place of the signature that a form of the output needs.
_PLACE_OF_FORM: dict[str, Place] = {"headers": "headers", "url": "query"}
_DEFAULT_EXPIRES = 300
_METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE")
#: Methods of requests with a body, which is not known here.
_WITH_BODY = frozenset({"PUT", "POST"})
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~]*)")
#: What the signer sets itself, and Host, which is that of the URL.
_SIGNER_HEADERS = frozenset(
    {"authorization", "date", "host", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"}
)
#: Keys of SSE-C: https://docs.aws.amazon.com/AmazonS3/latest/userguide/ServerSideEncryptionCustomerKeys.html
_SECRET_HEADER = re.compile(r"x-amz-(?:copy-source-)?server-side-encryption-customer-key")


class Options(NamedTuple):
    """How to sign, as far as it is given: None or empty where it is not."""

    method: str
    version: Version | None
    place: Place | None
    form: Form | None
    region: str
    expires: int | None
    headers: Pairs
    virtual_host_bucket: str
    requester_pays: bool


def _parse_region(_: click.Context, __: click.Parameter, value: str) -> str:
    try:
        return parsers.region(value) if value else ""
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None


def _parse_headers(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> Pairs:
    found = []
    for value in values:
        match = _HEADER.fullmatch(value)
        if match is None:  # not the value, which may be a secret
            raise click.BadParameter("a header is 'Name: value', in printable ASCII characters.")
        name = match[1].lower()
        if name in _SIGNER_HEADERS:
            raise click.BadParameter(f"{name} is set by the signer.")
        if _SECRET_HEADER.fullmatch(name):
            raise click.BadParameter(f"{name} is a secret, which other users could see in the list of processes.")
        found.append((match[1], match[2].strip()))
    return tuple(found)


@click.command("sign", short_help="Print a signed request for an object.")
@click.argument("url", metavar="URL")
@click.option("--from", "section", metavar="PATH", default="", help="Keys and settings of this mount or section.")
@httpd_config.options
@click.option(
    "--method",
    type=click.Choice(_METHODS, case_sensitive=False),
    metavar=f"[{'|'.join(_METHODS)}]",
    shell_complete=console.completes(_METHODS),  # as they are written, which click's own completion is not
    default="GET",
    show_default=True,
    help="The method of the request.",
)
@click.option("--signature", "version", type=click.Choice(["v4", "v2"]), help="The version (default: v4).")
@click.option("--in", "place", type=click.Choice(["headers", "query"]), help="The place (default: query).")
@click.option("--region", metavar="NAME", default="", callback=_parse_region, help="The bucket's region, for v4.")
@click.option(
    "--expires",
    metavar="SECONDS",
    type=click.IntRange(1, 604_800),
    help="How long a signature in the query is valid (default: 300).",
)
@click.option(
    "--header", "headers", metavar="'NAME: VALUE'", multiple=True, callback=_parse_headers,
    help="A further header of the request; those that S3 demands are signed.",
)  # fmt: skip
@click.option("--requester-pays", is_flag=True, help="Sign x-amz-request-payer, for buckets where the reader pays.")
@click.option(
    "--virtual-host-bucket", metavar="NAME", default="", help="The bucket in the host's name, which v2 signs."
)
@click.option("--access-key", metavar="ID", default="", help="The access key ID.")
@click.option("--access-key-file", metavar="FILE", default="", help="The file with the access key ID.")
@click.option("--secret-key-file", metavar="FILE", default="", help="The file with the secret key; - reads stdin.")
@click.option("--security-token-file", metavar="FILE", default="", help="The file with the session token.")
@click.option("--output", "form", type=click.Choice(["headers", "url", "curl"]), help="What to print.")
@click.option("--explain", is_flag=True, help="Print each step of the signature to standard error.")
def command(
    httpd: HttpdCommand,
    url: str,
    section: str,
    method: str,
    version: Version | None,
    place: Place | None,
    region: str,
    expires: int | None,
    headers: Pairs,
    requester_pays: bool,
    virtual_host_bucket: str,
    access_key: str,
    access_key_file: str,
    secret_key_file: str,
    security_token_file: str,
    form: Form | None,
    explain: bool,
) -> None:
    """Print a signed request for an object in a private bucket.

    URL is that of the object at S3. With --from it may also be a KEY: what follows the mount in the clients' URLs. A
    KEY that begins with a slash is the whole path. Spaces and other characters may be written as they are, or
    percent-encoded: only a percent sign (%25), a question mark (%3F) and # (%23) in a key must be encoded.

    Keys, in this order: --from, the options that name keys, the variables AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
    AWS_SESSION_TOKEN. The region is --region, that of --from, or AWS_REGION or AWS_DEFAULT_REGION. No option takes a
    secret key or a token: other users could see it in the list of processes.

    What is printed is a password for this request until it expires.

    \b
    Exit status:
      0  the request is printed
      1  there are no credentials, or no such bucket in the configuration
      2  wrong command line, or httpd's configuration cannot be read

    \b
    Examples:
      usp-s3 sign --from /media film/film.mp4
      usp-s3 sign --from /media --output curl /media/film/film.mp4 | sh
      usp-s3 sign --region eu-west-1 --in headers --explain https://mybucket.s3.eu-west-1.amazonaws.com/a.mp4
      usp-s3 sign --signature v2 --access-key ID --secret-key-file key https://s3.example/mybucket/a.mp4
    """
    options = Options(
        method.upper(), version, place, form, region, expires, headers, virtual_host_bucket, requester_pays
    )
    key_options = KeyOptions(access_key, access_key_file, secret_key_file, security_token_file)
    _check(options)
    if section:
        if any(key_options):
            raise click.UsageError("--from has the keys: remove it, or the options that name keys")
        configuration = httpd_config.read(httpd)
        goal, used = target.in_bucket(configuration, url, section)
        settings = used.settings
        context = _context_of_section(options, settings, goal)
        with environment_of(configuration):
            found = keys.of_settings(settings, to_shown(used.place.name))
        if settings.requester_pays:
            options = options._replace(requester_pays=True)
    else:
        if httpd != HttpdCommand():
            raise click.UsageError("--config-file, --httpd and --define are only for --from")
        goal = target.from_url(url)
        context = _context(options, goal)
        found = keys.from_options(key_options)
    _print(_sign(options, context, goal, found), found, options.form, url, explain)


def _check(options: Options) -> None:
    """Raises: click.UsageError: options contradict each other."""
    needed = _PLACE_OF_FORM.get(options.form or "")
    if options.place and needed and options.place != needed:
        raise click.UsageError(f"--output {options.form} has no place for a signature in the {options.place}: use curl")
    if options.expires is not None and (options.place or needed) == "headers":
        raise click.UsageError("--expires is for a signature in the query; one in headers is valid for 15 minutes")
    if options.version == "v2" and options.region:
        raise click.UsageError("--region is for Signature v4, and --signature is v2")
    if options.version == "v4" and options.virtual_host_bucket:
        raise click.UsageError("--virtual-host-bucket is for Signature v2, and --signature is v4")


def _use_headers(options: Options, default: bool) -> bool:
    place = options.place or _PLACE_OF_FORM.get(options.form or "")
    return place == "headers" if place else default


def _context(options: Options, goal: Target) -> SigningContext:
    use_headers, expires = _use_headers(options, False), options.expires or _DEFAULT_EXPIRES
    if options.version == "v2":
        return SigningContext(None, use_headers, expires, _virtual_host_bucket(options, goal, is_certain=False))
    if options.virtual_host_bucket:
        raise click.UsageError("--virtual-host-bucket is for Signature v2: add --signature v2")
    region = options.region or keys.region_of_environment()
    if not region:
        raise click.UsageError(
            "there is no region, which Signature v4 needs: add --region, set AWS_REGION, or add --signature v2"
        )
    return SigningContext(region, use_headers, expires)


def _context_of_section(options: Options, settings: Settings, goal: Target) -> SigningContext:
    use_headers, expires = _use_headers(options, settings.use_headers), options.expires or settings.expires
    if options.expires is not None and use_headers:
        raise click.UsageError("--expires is for a signature in the query: S3UseHeaders is on, add --in query")
    region = options.region or settings.region
    if options.version == "v2" or (options.version is None and not region):
        return SigningContext(None, use_headers, expires, _virtual_host_bucket(options, goal, is_certain=True))
    if options.virtual_host_bucket:
        raise click.UsageError("--virtual-host-bucket is for Signature v2: add --signature v2")
    if not region:
        raise click.UsageError("S3Region is not set, and Signature v4 needs a region: add --region")
    return SigningContext(region, use_headers, expires)


def _virtual_host_bucket(options: Options, goal: Target, is_certain: bool) -> str | None:
    """Return the bucket's name if the host has it, as the settings find it. ``is_certain``: the URL is of settings."""
    url = goal.bucket_url
    if options.virtual_host_bucket:
        try:
            host = bucket_url.parse(f"{url.scheme}://{url.authority}/")
            return host.with_bucket(options.virtual_host_bucket).virtual_host_bucket
        except ValueError:
            raise click.UsageError("--virtual-host-bucket: the host in the URL does not begin with this name") from None
    if not url.bucket:
        raise click.UsageError(
            "Signature v2 signs the bucket's name, which the URL does not show: add --virtual-host-bucket"
        )
    if not is_certain and url.path_style and url.host_includes_bucket:
        click.echo(
            f"usp-s3: Signature v2 signs the bucket's name, which is taken to be the first part of the path, "
            f"{url.bucket}; if the host begins with it, add --virtual-host-bucket",
            err=True,
        )
    return url.virtual_host_bucket


def _sign(options: Options, context: SigningContext, goal: Target, found: FoundKeys) -> Signing:
    url = goal.bucket_url
    headers = options.headers
    if options.requester_pays and REQUESTER_PAYS[0] not in {name.lower() for name, _ in headers}:
        headers = (*headers, REQUESTER_PAYS)
    request = S3Request(options.method, url.scheme, url.authority, goal.path, goal.query, headers)
    # The body is sent by whoever uses the signature.
    payload_hash = sigv4.UNSIGNED_PAYLOAD if options.method in _WITH_BODY else sigv4.EMPTY_PAYLOAD_HASH
    now = datetime.now(UTC)
    signed = sign(request, context, found.credentials, now, payload_hash)
    return Signing(request, signed, context, found.credentials, now, payload_hash)


def _print(signing: Signing, found: FoundKeys, form: Form | None, given_url: str, explain: bool) -> None:
    signed, context = signing.signed, signing.context
    if explain:
        _explain(signing, found)
    form = form or ("headers" if context.use_headers else "url")
    if form == "headers":
        if (signed_url := output.url(signed)) != given_url:
            click.echo(f"usp-s3: these headers are for {signed.method} {signed_url}", err=True)
        click.echo(output.headers(signed), nl=False)
    elif form == "url":
        if signed.headers:
            names = ", ".join(dict.fromkeys(name for name, _ in signed.headers))
            click.echo(f"usp-s3: send these headers with the URL: {names} (--output curl has them)", err=True)
        click.echo(output.url(signed))
    else:
        click.echo(output.curl(signed, is_pasted=sys.stdout.isatty()), nl=False)


def _explain(signing: Signing, found: FoundKeys) -> None:
    messages, context = console.messages(), signing.context
    version = "v2" if context.region is None else "v4"
    place = "headers" if context.use_headers else f"the query, valid for {context.expires} s"
    first = (
        f"Signature {version} in {place}, at {signing.signed_at:%Y-%m-%dT%H:%M:%SZ}, "
        f"with access key {found.credentials.access_key} of {found.source}"
    )
    if found.credentials.security_token:
        first += "; the security token is masked here, and the hashes are of the real one"
    # The texts are exact: a line is not folded where the terminal ends.
    for line, style in ((first, ""), *steps.lines(steps.explain(signing)), ("", "")):
        messages.print(console.text(line, style), soft_wrap=True)
