"""What is known of a bucket: each answer is checked by the parsers of the settings, and all of them become settings.

A check returns the answer in the form in which it is written, or raises ValueError with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from usp_s3_wsgi.cli.config.providers import Account, Provider, Signature, Style
from usp_s3_wsgi.config import bucket_url, parsers, settings
from usp_s3_wsgi.config.bucket_url import BucketURL
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.errors import SettingError
from usp_s3_wsgi.signing.percent_encoding import percent_encode

Way = Literal["gateway", "proxy"]
#: A line of httpd's configuration has at most 8,191 bytes, and quotes can double an answer.
_MAX_LENGTH = 1_000
#: ``${``: httpd replaces ``${NAME}`` everywhere, and has no way to quote it.
#: https://httpd.apache.org/docs/2.4/mod/core.html#define
_NOT_WRITABLE = re.compile(r"[\x00-\x1f\x7f\x80-\x9f\u2028\u2029]|\$\{")
#: Wildcards of <Location>, what begins a query or a fragment, and what is confusing in a path.
_NOT_IN_PATH = re.compile(r'[*?\[\]#%\\"<>|]')
_IP_ADDRESS = re.compile(r"[0-9.]+|.*:.*")


@dataclass(frozen=True, slots=True)
class Answers:
    """The checked answers. ``url``: of the bucket. ``ca_file``: empty for the system's authorities."""

    way: Way
    provider: Provider
    endpoint: str
    bucket: str
    style: Style
    signature: Signature
    path: str
    region: str = ""
    access_key: str = ""
    secret_key_file: str = ""
    role_arn: str = ""
    ca_file: str = ""

    @property
    def url(self) -> str:
        """The URL of the bucket, with a slash at the end, as mod_proxy and the gateway compare it."""
        scheme, _, authority = self.endpoint.partition("://")
        if self.style == "host":
            return f"{scheme}://{self.bucket}.{authority}/"
        return f"{self.endpoint}/{percent_encode(self.bucket.encode(), safe='')}/"

    @property
    def is_https(self) -> bool:
        """Whether the requests to S3 are encrypted."""
        return self.endpoint.startswith("https:")

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Return names and values of the settings, in the order in which they are written.

        With the URL of the bucket, which a ``<Proxy>`` section has in its own URL.
        """
        has_keys = self.provider.credentials == "keys"
        found = {
            "S3BucketURL": self.url,
            "S3Bucket": self.bucket if self._needs_bucket() else "",
            "S3Region": self.region,
            "S3AccessKey": self.access_key,
            "S3SecretKeyFile": self.secret_key_file,
            "S3CredentialSource": "" if has_keys else "aws",
            "S3RoleARN": self.role_arn,
            "S3STSEndpoint": self.endpoint if self.role_arn and self.provider.roles == "own" else "",
            "S3UseHeaders": "on",
            "S3CAFile": self.ca_file if self.way == "gateway" else "",
        }
        return tuple((name, value) for name, value in found.items() if value)

    def _needs_bucket(self) -> bool:
        """Whether the bucket's name is in the host, and the host is not known to begin with it."""
        return self.style == "host" and bucket_url.parse(self.url).bucket != self.bucket

    def settings(self) -> Settings:
        """Return the settings. Raises: SettingError: the answers do not fit together."""
        found = settings.parse(self.pairs())
        if found.bucket_url.bucket != self.bucket:
            raise SettingError("the endpoint names a bucket itself: write the URL of the whole service")
        return found


def _writable(text: str) -> str:
    if len(text.encode("utf-8", "surrogateescape")) > _MAX_LENGTH:
        raise ValueError(f"must not be longer than {_MAX_LENGTH} bytes")
    if _NOT_WRITABLE.search(text):
        raise ValueError("must have no control characters and no ${, which httpd would replace")
    return text


def _setting(name: str) -> Callable[[str], str]:
    """Return the check of a setting's value."""

    def check(text: str) -> str:
        text = _writable(text.strip())
        if not text:
            raise ValueError("must not be empty")
        try:
            settings.check_value(name, text)
        except SettingError as error:
            raise ValueError(str(error).removeprefix(f"{name} ")) from None
        return text

    return check


access_key = _setting("S3AccessKey")
_region = _setting("S3Region")
role_arn = _setting("S3RoleARN")


def file(text: str) -> str:
    """Check the absolute path of a file.

    httpd's children read settings as Latin-1, and would look for a file with another name.
    """
    if not text.isascii():
        raise ValueError("must have only ASCII characters")
    return parsers.file(_writable(text))


def secret_key(text: str) -> str:
    """Check a secret key. No message has its text."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'`":
        raise ValueError("is in quotes: write it without them")
    return parsers.token(text)


def looks_like_region_of_aws(text: str) -> bool:
    """https://docs.aws.amazon.com/general/latest/gr/s3.html: such as eu-central-1, us-gov-west-1."""
    return re.fullmatch(r"[a-z]{2,4}(?:-[a-z]+)+-[0-9]{1,2}", text) is not None


def region(text: str, provider: Provider) -> str:
    """Check a region. Where it is a part of a host's name, only letters of host names are allowed."""
    text = _region(text)
    if provider.names_region and not re.fullmatch(r"[a-z0-9]+(?:-[a-z0-9]+)*", text):
        raise ValueError("must be a region's name in lowercase, such as eu-central-1")
    return text


def account(text: str, expected: Account) -> str:
    """Check an account ID or a namespace."""
    if not re.fullmatch(expected.pattern, text.strip()):
        raise ValueError(f"must be {expected.form}, such as {expected.example}")
    return text.strip()


def endpoint(text: str, way: Way) -> str:
    """Check the URL of a service, and return it without a slash at the end, in mod_proxy's canonical form."""
    text = text.strip().lower()
    try:
        url = _parsed_endpoint(text if "//" in text else f"https://{text}")
    except ValueError:
        raise ValueError(
            "must be the URL of the service, without a bucket and a path, such as https://s3.example"
        ) from None
    if way == "proxy" and ":" in url.host:
        raise ValueError("must have a host name: a <Proxy> section of an IPv6 address needs a pattern (docs/proxy.md)")
    if way == "proxy" and url.scheme == "https" and _IP_ADDRESS.fullmatch(url.host):
        raise ValueError("must have a host name: mod_ssl does not accept a certificate for an IP address (docs/tls.md)")
    return f"{url.scheme}://{url.authority}"


def _parsed_endpoint(text: str) -> BucketURL:
    """Return the URL of a service with an imagined bucket. Raises: ValueError."""
    text = parsers.endpoint(text)
    if not re.fullmatch(r"https?://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?/?", text):
        raise ValueError("the host is not valid")
    url = bucket_url.parse(f"{text.rstrip('/')}/bucket/")
    if not re.fullmatch(r"(?:[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.|$))+|.*:.*", url.host):
        raise ValueError("the host is not valid")
    return url


def bucket(text: str, way: Way) -> str:
    """Check the name of a bucket; whether it can be in the host depends on the provider."""
    if not text or text in {".", ".."} or "/" in text:
        raise ValueError("must be the name of a bucket, without a slash")
    try:
        encoded = percent_encode(_writable(text).encode(), safe="")
    except UnicodeEncodeError:
        raise ValueError("must be text in UTF-8") from None
    if way == "proxy" and encoded != text:
        raise ValueError(
            "must have only letters, digits and - . _ ~ in a <Proxy> section, because mod_proxy encodes other "
            "characters itself: use the gateway"
        )
    return text


def is_address(endpoint_url: str) -> bool:
    """Whether the URL of a service has an IP address, which can have no bucket's name before it."""
    return _IP_ADDRESS.fullmatch(_parsed_endpoint(endpoint_url).host) is not None


def style(text: str, provider: Provider, bucket_name: str, endpoint_url: str) -> Style:
    """Check where the bucket's name is in the URL."""
    found = next((one for one in provider.styles if one == text), None)
    if found is None:
        raise ValueError(f"must be {' or '.join(provider.styles)} for the provider {provider.name}")
    if found == "host" and not re.fullmatch(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?", bucket_name):
        raise ValueError("must be path: this bucket's name has characters that a host name cannot have")
    if found == "host" and is_address(endpoint_url):
        raise ValueError("must be path: the endpoint is an IP address, and no name of a bucket can be before it")
    return found


def signature(text: str, provider: Provider) -> Signature:
    """Check the version of the signature."""
    found = next((one for one in provider.signatures if one == text), None)
    if found is None:
        raise ValueError(f"must be {' or '.join(provider.signatures)} for the provider {provider.name}")
    return found


def path(text: str) -> str:
    """Check the path on this server, and return it without a slash at the end."""
    text = _writable(text.strip())
    if not text.startswith("/"):
        raise ValueError("must begin with a slash, such as /media")
    if _NOT_IN_PATH.search(text):
        raise ValueError('must have none of the characters * ? [ ] # % \\ " < > |, and no percent-encoding')
    text = text.rstrip("/")
    if {"", ".", ".."} & set(text.split("/")[1:]):
        raise ValueError("must have no empty segments and no . or .. between slashes")
    return text or "/"
