"""The names in the documentation, and those of the tests' servers and files in their place, in both directions.

Nothing here depends on the names that the pages use: a bucket is what ``S3BucketURL``, ``S3FallbackURL``, or a
``<Proxy>`` section with S3 settings names, a key is the value of ``S3AccessKey``, and so on.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

from tests.certificates import Certificate
from tests.httpd.machine import free_port
from usp_s3_wsgi.config import bucket_url
from usp_s3_wsgi.configtest.apache_syntax import Enclosing, Line, Section, parse, quoted, walk

#: Settings, without S3 or S3Fallback, whose value is replaced by one of the tests' S3.
ACCESS_KEY, SECRET_KEY, REGION, TOKEN = "accesskey", "secretkey", "region", "securitytoken"
#: The folders of a real machine, which the tests have below a folder of their own.
FILE = re.compile(r"/(?:etc|var|srv|opt|usr/local|tmp|run)/")
#: Directives whose argument is a folder that httpd's children write to, or a log.
FOLDERS = frozenset({"cacheroot", "documentroot", "<directory", "alias"})
#: The same in a command: only what is Apache's or ours.
APACHE_FILE = re.compile(
    r"(?<![\w/.])/(?:etc/apache2|var/(?:log|cache|lib)/apache2|var/www|srv|opt/usp_s3_wsgi)(?![\w-])"
)
SYSTEM_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
AMAZON = re.compile(r"https?://[\w.-]+\.amazonaws\.com")
URL = re.compile(r"https?://[^\s\"'<>]+")
#: Directives with a URL to which mod_proxy sends requests.
PROXIED = frozenset({"proxypass", "proxypassmatch", "proxypassreverse", "balancermember", "rewriterule", "proxymatch"})


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket of the documentation. ``url`` is its URL without a key, ``local`` the one of the tests' S3.

    Neither ends with a slash. ``name`` is the bucket's name in both.
    """

    url: str
    local: str
    name: str


@dataclass(frozen=True, slots=True)
class Reference:
    """A URL in a configuration that names a bucket, and the value of ``S3Bucket`` beside it."""

    url: str
    bucket: str = ""

    def split(self) -> tuple[str, str, bool]:
        """Return the URL of the bucket, its name, and whether it is in the name of the host. Raises: ValueError."""
        parsed = bucket_url.parse(self.url)
        if self.bucket:
            parsed = parsed.with_bucket(self.bucket)
        name = parsed.bucket or parsed.host.partition(".")[0]
        in_host = bool(self.bucket) and not parsed.path_style
        origin = re.match(r"https?://[^/]+", self.url)
        assert origin
        return (f"{origin[0]}/{name}" if parsed.bucket and parsed.path_style else origin[0]), name, in_host


def setting(line: Line) -> tuple[str, int]:
    """The name of a line's setting in lowercase, without S3, and the index of the word with its value.

    This includes directives of mod_unified_s3_auth. The name is empty for every other line.
    """
    index, word = (2, line.arguments[0].lower()) if line.name == "setenv" and line.arguments else (1, line.name)
    return (word[2:], index) if re.fullmatch("s3[a-z0-9]+", word) and len(line.words) > index else ("", 0)


def has_settings(section: Section) -> bool:
    """Whether a section has settings of a bucket."""
    return any(setting(line)[0] for line, _ in walk(section.body))


def references(text: str) -> list[Reference]:
    """The URLs in a configuration that name a bucket."""
    found: list[Reference] = []
    for line, enclosing in walk(parse(text)):
        url = next((argument for argument in line.arguments if URL.match(argument)), "")
        own = settings_around(enclosing)
        if setting(line)[0] == "fallbackurl":
            found.append(Reference(url, own.get("fallbackbucket", "")))
        elif setting(line)[0] == "bucketurl" or (
            line.name == "<proxy" and has_settings(enclosing[-1]) and not re.search(r"[*?\[]", url)
        ):
            found.append(Reference(url, own.get("bucket", "")))
        elif line.name in PROXIED and (re.search(r"amazonaws\.com", url) or {"accesskey", "credentialsource"} & {*own}):
            found.append(Reference(re.sub(r"[$%].*", "", url), own.get("bucket", "")))
    return [reference for reference in dict.fromkeys(found) if reference.url and "${" not in reference.url]


def settings_around(enclosing: Enclosing) -> dict[str, str]:
    """The settings of the innermost section around a line, if that is a section of a bucket."""
    is_own = enclosing and enclosing[-1].name in {"location", "locationmatch", "proxy", "proxymatch"}
    text = "".join(line.text for line, _ in walk(enclosing[-1].body)) if is_own else ""
    return {name: values[-1] for name, values in settings_of(text).items()}


def bucket_names(text: str) -> set[str]:
    """The names of the buckets in a configuration."""
    return {reference.split()[1] for reference in references(text)}


def settings_of(text: str) -> dict[str, list[str]]:
    """The values of each setting in a configuration."""
    found: dict[str, list[str]] = {}
    for line, _ in walk(parse(text)):
        name, index = setting(line)
        if name:
            found.setdefault(name, []).append(line.words[index].value)
    return found


class S3Server(Protocol):
    """What the tests need to know of an S3."""

    scheme: str
    domain: str
    access_key: str
    secret_key: str
    region: str

    @property
    def port(self) -> int:
        """The port of the loopback interface."""

    def put(self, bucket: str, key: str, data: bytes) -> None:
        """Store an object."""


@dataclass
class Names:
    """``servers``: the S3 for each scheme. ``folder``: for the files. ``sts``: the URL of STS.

    ``port``: httpd's own; in configurations it is a variable, because httpd chooses its port when it starts.
    """

    servers: Mapping[str, S3Server]
    certificate: Certificate
    folder: Path
    port: int | str = "${PORT}"
    sts: str = ""
    ports: dict[str, int] = field(default_factory=dict)
    buckets: dict[str, Bucket] = field(default_factory=dict)

    def s3(self, url: str) -> S3Server:
        """The S3 for the scheme of a URL."""
        return self.servers[url.partition(":")[0]]

    # --- from the documentation to the tests

    def localized(self, text: str) -> str:
        """Return a configuration with the names of the tests, and write the files that it names."""
        for reference in references(text):
            self.add_bucket(reference)
        return self.with_local_urls("".join(self._localized_line(line) for line, _ in walk(parse(text))))

    def add_bucket(self, reference: Reference) -> None:
        """Replace this bucket's URL from now on."""
        url, name, in_host = reference.split()
        s3 = self.s3(url)
        host = f"{name}.{s3.domain}:{s3.port}" if in_host else f"localhost:{s3.port}/{name}"
        self.buckets[url] = Bucket(url, f"{s3.scheme}://{host}", name)

    def with_local_urls(self, text: str) -> str:
        """Return a text with the URLs of the tests' buckets and of the tests' httpd."""
        # The longer URL first. What follows it must not continue the name of the host or of the bucket.
        for url, bucket in sorted(self.buckets.items(), reverse=True):
            text = re.sub(rf"{re.escape(url)}(?![\w.:-])", lambda _, to=bucket.local: to, text)  # type: ignore[misc]
        return re.sub(r"http://(?:127\.0\.0\.1|localhost)(?=[/\s\"'?]|$)", f"http://127.0.0.1:{self.port}", text)

    def _localized_line(self, line: Line) -> str:
        name, index = setting(line)
        name = name.removeprefix("fallback")
        s3 = self.servers["https"]
        values = {ACCESS_KEY: s3.access_key, SECRET_KEY: s3.secret_key, REGION: s3.region, TOKEN: "a-session-token"}
        if self.sts:
            values["stsendpoint"] = self.sts
        if name in values:
            return line.with_word(index, values[name])
        if name.endswith("file") and name.removesuffix("file") in values:
            return line.with_word(index, self.write(line.words[index].value, values[name.removesuffix("file")] + "\n"))
        if name == "cafile" or line.name in {"sslproxycacertificatefile", "sslcacertificatefile"}:
            return line.with_word(index or 1, str(self.certificate.root))
        if line.name in {"sslcertificatefile", "sslcertificatekeyfile"}:
            return line.with_word(1, str(self.certificate.key if "key" in line.name else self.certificate.chain))
        if line.name == "listen":
            return line.with_word(1, f"127.0.0.1:{self._port(line.arguments[0])}")
        if line.name == "<virtualhost":
            number = line.arguments[0].rpartition(":")[2]
            return line.with_word(1, "*" if number in {"80", "*", "${PORT}"} else f"*:{self._port(number)}")
        return self._with_local_files(line)

    def _port(self, address: str) -> int:
        number = address.rpartition(":")[2]
        if number not in self.ports:
            self.ports[number] = free_port()
        return self.ports[number]

    def _with_local_files(self, line: Line) -> str:
        if line.name in {"<location", "loadmodule", "proxypass", "rewriterule", "rewritecond", "header", "setenv"}:
            return line.text
        text = line.text
        for index in reversed(range(1, len(line.words))):
            value = line.words[index].value
            kind, colon, path = value.rpartition(":") if re.match(r"(txt|dbm|dbd|prg):/", value) else ("", "", value)
            if FILE.match(path):
                local = self.path(path)
                (local if line.name in FOLDERS else local.parent).mkdir(parents=True, exist_ok=True)
                text = (
                    text[: line.words[index].start] + quoted(kind + colon + str(local)) + text[line.words[index].end :]
                )
        return text

    def localized_script(self, text: str) -> str:
        """Return commands or a program with the names of the tests."""
        for url in AMAZON.findall(text):
            self.add_bucket(Reference(url))
        s3 = self.servers["https"]
        text = re.sub(r"\bACCESS_KEY\b", s3.access_key, re.sub(r"\bSECRET_KEY\b", s3.secret_key, text))
        text = text.replace(SYSTEM_AUTHORITIES, str(self.certificate.root))
        return self.with_local_urls(APACHE_FILE.sub(lambda match: f"{self.folder}{match[0]}", text))

    def path(self, path: str) -> Path:
        """The tests' own file or folder in the place of a path."""
        return self.folder / path.lstrip("/")

    def write(self, path: str, content: str) -> str:
        """Write a file that httpd's children can read, in the place of a path, and return where it is."""
        file = self.path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        return str(file)

    # --- and back

    def documented(self, text: str) -> str:
        """Return a text of the tests with the names of the documentation."""
        for bucket in sorted(self.buckets.values(), key=lambda bucket: bucket.local, reverse=True):
            text = text.replace(bucket.local, bucket.url)
        s3 = self.servers["https"]
        text = text.replace(s3.access_key, "ACCESS_KEY").replace(f"127.0.0.1:{self.port}", "127.0.0.1")
        text = text.replace(str(self.certificate.root), SYSTEM_AUTHORITIES).replace(str(self.folder), "")
        return text.replace(str(Path(sys.prefix).resolve()), "/opt/usp_s3_wsgi")


@dataclass(frozen=True, slots=True)
class Mount:
    """A URL path below which a configuration serves a bucket. ``prefix`` begins each key; ``host``: its ServerName."""

    path: str
    bucket: Bucket
    prefix: str = ""
    host: str = ""

    def url(self, key: str) -> str:
        """The client's URL of an object."""
        return f"{self.path.rstrip('/')}/{key}"


def mounts(text: str, buckets: list[Bucket]) -> Iterator[Mount]:
    """Yield the mounts of a configuration with the names of the tests."""
    lines = list(walk(parse(text)))
    aliases = {line.arguments[0].rstrip("/") for line, _ in lines if line.name == "wsgiscriptalias"}
    for line, enclosing in lines:
        path = url = ""
        location = next((one for one in reversed(enclosing) if one.name == "location"), None)
        here = location.opening.arguments[0] if location else ""
        if setting(line)[0] == "bucketurl" and here and here.rstrip("/") in aliases:
            path, url = here, line.words[setting(line)[1]].value
        elif line.name == "proxypass":
            path, url = (here, line.arguments[0]) if here else (line.arguments[0], line.arguments[1])
        for bucket in buckets:
            if path and (url == bucket.local or url.startswith(f"{bucket.local}/")):
                yield Mount(path, bucket, unquote(url[len(bucket.local) :].strip("/")), host_of(enclosing))


def host_of(enclosing: Enclosing) -> str:
    """The ServerName of the virtual host around a line."""
    for section in enclosing:
        for line, _ in walk(section.body) if section.name == "virtualhost" else ():
            if line.name == "servername":
                return line.arguments[0]
    return ""
