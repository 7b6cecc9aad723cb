"""Where ``usp-s3 sign`` has its keys from: a section of httpd's configuration, files, or the environment.

The sources are not mixed: a token of the environment with the keys of files would be a signature that S3 rejects.
A secret key or a token is never an argument, because all users of a machine can see those.
"""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

import click

from usp_s3_wsgi.config import parsers
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.credentials import resolver
from usp_s3_wsgi.credentials.key_files import read_key
from usp_s3_wsgi.errors import GatewayError
from usp_s3_wsgi.signing.types import Credentials

#: As AWS's own programs have them.
ACCESS_KEY, SECRET_KEY, TOKEN = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"
REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
_STANDARD_INPUT = "-"
#: What is asked on a terminal where the file of an option is standard input.
_PROMPTS = {
    "--access-key-file": "Access key (not shown)",
    "--secret-key-file": "Secret key (not shown)",
    "--security-token-file": "Security token (not shown)",
}


class KeyOptions(NamedTuple):
    """The options that name keys, empty where they are not given. Only ``access_key`` is itself a value."""

    access_key: str
    access_key_file: str
    secret_key_file: str
    security_token_file: str


class FoundKeys(NamedTuple):
    """``source``: where they are from, in words."""

    credentials: Credentials
    source: str


def of_settings(settings: Settings, name: str) -> FoundKeys:
    """Return the credentials of a section, whichever source it names. Raises: click.ClickException."""
    try:
        return FoundKeys(resolver.resolve(settings), f"the settings of {name}")
    except GatewayError as error:
        hint = " (run this command as root?)" if "Permission denied" in str(error) else ""
        raise click.ClickException(f"{error}{hint}") from None


def from_options(options: KeyOptions) -> FoundKeys:
    """Return the credentials that the options name, else those of the environment. Raises: click.UsageError."""
    if not any(options):
        return _from_environment()
    if options.access_key and options.access_key_file:
        raise click.UsageError("--access-key and --access-key-file are both given: use one of them")
    files = (options.access_key_file, options.secret_key_file, options.security_token_file)
    if files.count(_STANDARD_INPUT) > 1:
        raise click.UsageError("only one of the files can be -, standard input")
    if not (options.access_key or options.access_key_file):
        raise click.UsageError("there is no access key: add --access-key or --access-key-file")
    if not options.secret_key_file:
        raise click.UsageError("there is no secret key: add --secret-key-file (- reads standard input)")
    access_key = (
        _checked("--access-key", options.access_key)
        if options.access_key
        else _read("--access-key-file", options.access_key_file)
    )
    secret_key = _read("--secret-key-file", options.secret_key_file)
    token = _read("--security-token-file", options.security_token_file) if options.security_token_file else None
    return FoundKeys(Credentials(access_key, secret_key, token), "the options")


def _from_environment() -> FoundKeys:
    given = {name: os.environ.get(name, "") for name in (ACCESS_KEY, SECRET_KEY, TOKEN)}
    if not given[ACCESS_KEY] and not given[SECRET_KEY]:
        raise click.UsageError(
            f"there are no keys: use --from with a path of httpd's configuration, or --access-key with "
            f"--secret-key-file, or the variables {ACCESS_KEY} and {SECRET_KEY}"
        )
    for name in (ACCESS_KEY, SECRET_KEY):
        if not given[name]:
            raise click.UsageError(f"the variable {name} is not set, but the other one of the two is")
    access_key, secret_key = (_checked(f"the variable {name}", given[name]) for name in (ACCESS_KEY, SECRET_KEY))
    token = _checked(f"the variable {TOKEN}", given[TOKEN]) if given[TOKEN] else None
    return FoundKeys(Credentials(access_key, secret_key, token), "the environment")


def region_of_environment() -> str:
    """Return the region, empty if the environment has none. Raises: click.UsageError."""
    name = next((name for name in REGIONS if os.environ.get(name)), "")
    if not name:
        return ""
    try:
        return parsers.region(os.environ[name])
    except ValueError as error:
        raise click.UsageError(f"the variable {name} {error}") from None


def _checked(name: str, value: str) -> str:
    try:
        return parsers.token(value)
    except ValueError as error:
        raise click.UsageError(f"{name} {error}") from None


def _read(option: str, path: str) -> str:
    """Return the key in a file. The message has no path: it may be a key that was written in the wrong place."""
    try:
        if path != _STANDARD_INPUT:
            return read_key(path)
        if sys.stdin.isatty():
            return _checked("the input", click.prompt(_PROMPTS[option], hide_input=True, err=True).strip())
        return read_key("/dev/stdin")
    except OSError as error:
        raise click.UsageError(f"{option}: the file cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise click.UsageError(f"{option}: the content of the file {error}") from None
