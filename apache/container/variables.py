"""From the variables of a container to httpd's configuration (docs/container.md has the table).

Keys are written to files in memory, which only httpd's user can read. A wrong or missing variable is a VariableError.
"""

from __future__ import annotations

import difflib
import fcntl
import ipaddress
import os
import re
import ssl
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from usp_s3_wsgi.config import settings
from usp_s3_wsgi.configtest.apache_syntax import in_quotes
from usp_s3_wsgi.credentials.key_files import read_key
from usp_s3_wsgi.errors import SettingError
from usp_s3_wsgi.proxy import section_settings

#: Where the operator's own configuration is mounted; httpd.conf includes it.
OPERATOR_FILES = Path("/etc/usp_s3")
CA_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
#: The access log of the vendor's container.
LOG_FORMAT = '%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-agent}i" %D'
#: For one bucket in a <Proxy> section, as in docs/proxy.md.
PROXY_SET = "connectiontimeout=5 enablereuse=on keepalive=on retry=0 timeout=30 ttl=300 addressttl=60"

#: Settings whose values are written to files.
SECRETS = tuple(
    f"{bucket}{name}" for bucket in ("S3", "S3Fallback") for name in ("AccessKey", "SecretKey", "SecurityToken")
)
#: Variables of AWS's tools with secrets. httpd's environment must not have them.
AWS_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN")
#: Of the variables that the Dockerfile sets, too.
DEFAULTS = {"PORT": "8080", "HEALTH_PORT": "8081", "USP_S3_RUN": "/dev/shm/usp_s3"}
#: A variable at least this similar (difflib.SequenceMatcher.ratio) to one of the image's is a misspelt one.
MIN_SIMILARITY = 0.85


def variable_of(setting: str) -> str:
    """The variable of a setting: S3UseHeaders is S3_USE_HEADERS, S3STSEndpoint is S3_STS_ENDPOINT."""
    if setting == "S3BucketURL":
        return "REMOTE_STORAGE_URL"
    words = re.findall(r"STS|URL|ARN|CA|[A-Z][a-z]+|[0-9]+", setting.removeprefix("S3"))
    return "_".join(["S3", *(word.upper() for word in words)])


#: Each setting of a bucket by its variable.
SETTINGS = {variable_of(name): name for name in sorted(settings.NAMES)}
#: The other variables about the bucket, and those about httpd.
OF_BUCKET = ("WAY", "REMOTE_PATH")
OTHERS = (
    *OF_BUCKET, "LOG_LEVEL", "LOG_FORMAT", "METRICS", "STATUS_FROM", "PORT", "HEALTH_PORT", "USP_S3_RUN",
)  # fmt: skip
#: The formats of metrics.conf, which have names.
NAMED_FORMATS = ("usp_s3", "usp_s3_json")


class VariableError(ValueError):
    """A variable is wrong or missing. The message is one line, without values that may be secret."""


@dataclass
class Configuration:
    """The lines of httpd's configuration, and which variable each of them is from."""

    lines: list[str] = field(default_factory=list)
    variables: list[str] = field(default_factory=list)

    def add(self, line: str, variable: str = "") -> None:
        self.lines.append(line)
        self.variables.append(variable)


# --- from variables to configuration


def configure(environment: Mapping[str, str]) -> Configuration:
    """Return the configuration for the variables, and write the keys to files. Raises: VariableError."""
    variables = DEFAULTS | {name: value for name, value in environment.items() if value}
    check_names(variables)
    check_ports(variables)
    configuration = Configuration()
    configuration.add(f"LogLevel {words('LOG_LEVEL', variables.get('LOG_LEVEL', 'warn'))}", "LOG_LEVEL")
    log_format = quoted("LOG_FORMAT", variables.get("LOG_FORMAT", LOG_FORMAT))
    if "%" not in log_format and variables.get("LOG_FORMAT") not in NAMED_FORMATS:
        names = " or ".join(NAMED_FORMATS)
        raise VariableError(rf"LOG_FORMAT must be a format such as %h %t \"%r\" %>s %b, or {names}")
    configuration.add(f"CustomLog /proc/self/fd/1 {log_format}", "LOG_FORMAT")
    add_metrics(configuration, variables)
    given = {name: variables[variable] for variable, name in SETTINGS.items() if variable in variables}
    given |= {
        name: given[name].strip() for name in SECRETS if name in given
    }  # as a key file, it may end with a line break
    if "S3BucketURL" in given:
        add_bucket(configuration, given, variables)
    elif unused := sorted({*SETTINGS, *OF_BUCKET} & set(variables)):
        raise VariableError(f"{unused[0]} is set, but REMOTE_STORAGE_URL is not: it is the URL of the bucket")
    elif not operator_files():
        raise VariableError(
            f"REMOTE_STORAGE_URL is not set, and {OPERATOR_FILES} has no configuration: set it to the URL of the "
            f"bucket, or mount files at {OPERATOR_FILES}/*.conf"
        )
    return configuration


def operator_files() -> list[str]:
    """The names of the operator's own files. Raises: VariableError."""
    try:
        return [name for name in os.listdir(OPERATOR_FILES) if name.endswith(".conf")]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise VariableError(f"{OPERATOR_FILES} cannot be read {by_user()}: {error.strerror}") from None


def by_user() -> str:
    """Who cannot read a file."""
    return f"(uid {os.getuid()}, gid {os.getgid()})"


def check_names(variables: Mapping[str, str]) -> None:
    """Check that no variable is misspelt, and that no secret would stay in the environment. Raises: VariableError."""
    known = [*SETTINGS, *OTHERS]
    for name in sorted(variables):
        if name in known or not name.startswith(("S3_", "REMOTE_", "LOG_")):
            continue
        if similar := difflib.get_close_matches(name, known, n=1, cutoff=MIN_SIMILARITY):
            raise VariableError(f"{name} is not a variable of this image: did you mean {similar[0]}?")
        if re.search("SECRET|TOKEN", name):
            raise VariableError(f"{name} is not a variable of this image, and would stay in httpd's environment")
    for name in AWS_SECRETS:
        if name in variables:
            raise VariableError(
                f"{name} would stay in httpd's environment: use S3_ACCESS_KEY, S3_SECRET_KEY and S3_SECURITY_TOKEN "
                "instead, or files (AWS_SHARED_CREDENTIALS_FILE)"
            )


def check_ports(variables: Mapping[str, str]) -> None:
    """Check the two ports. Raises: VariableError."""
    for name in ("PORT", "HEALTH_PORT"):
        if not re.fullmatch(r"[0-9]{1,5}", variables[name]) or not 0 < int(variables[name]) < 65536:
            raise VariableError(f"{name} must be a whole number from 1 to 65535")
    if int(variables["PORT"]) == int(variables["HEALTH_PORT"]):
        raise VariableError("PORT and HEALTH_PORT must differ")


def add_metrics(configuration: Configuration, variables: Mapping[str, str]) -> None:
    """Add what is recorded, and who may read it on the port of the health checks. Raises: VariableError."""
    metrics, readers = variables.get("METRICS", "on"), variables.get("STATUS_FROM", "")
    if metrics not in {"on", "off"}:
        raise VariableError("METRICS must be on or off")
    if metrics == "off":
        if readers:
            raise VariableError("STATUS_FROM is set, but METRICS is off: there is nothing to read")
        return
    configuration.add("UspS3Metrics On", "METRICS")
    configuration.add("Define USP_S3_HEALTH_CHECKS_BUCKETS", "METRICS")
    if readers == "all":
        configuration.add('Define USP_S3_STATUS_REQUIRE "all granted"', "STATUS_FROM")
    elif readers:
        addresses = readers.replace(",", " ").split()
        for address in addresses:
            try:
                ipaddress.ip_network(address)
            except ValueError:
                raise VariableError("STATUS_FROM must be all, or addresses and networks such as 10.0.0.0/8") from None
        configuration.add(f'Define USP_S3_STATUS_REQUIRE "ip {" ".join(addresses)}"', "STATUS_FROM")


def add_bucket(configuration: Configuration, given: Mapping[str, str], variables: Mapping[str, str]) -> None:
    """Add the virtual host that serves the bucket. Raises: VariableError."""
    way = variables.get("WAY", "gateway")
    if way not in {"gateway", "proxy"}:
        raise VariableError("WAY must be gateway or proxy")
    with_default = {"S3UseHeaders": "on", **given}
    check_settings(with_default, way)
    mount = mount_of(variables.get("REMOTE_PATH", ""))
    lines = list(setting_lines(with_default, way, run_directory(variables)))
    configuration.add("<VirtualHost *:${PORT}>")
    if way == "gateway":
        configuration.add(f"WSGIScriptAlias {mount} ${{USP_S3_WSGI}}", "REMOTE_PATH")
        configuration.add(f"<Location {mount}>")
    else:
        add_proxy(configuration, given, mount)
    for line, name in lines:
        configuration.add(line, variable_of(name))
    configuration.add("</Location>" if way == "gateway" else "</Proxy>")
    configuration.add("</VirtualHost>")


def add_proxy(configuration: Configuration, given: Mapping[str, str], mount: str) -> None:
    """Add the directives of mod_proxy, up to the beginning of the bucket's section."""
    url = given["S3BucketURL"].removesuffix("/")
    if re.search(r"[%*?[\]]", url):
        raise VariableError(
            "REMOTE_STORAGE_URL must have no %, *, ?, [ and ] with WAY=proxy, because mod_proxy reads them in its own "
            "way: use WAY=gateway"
        )
    section = quoted("REMOTE_STORAGE_URL", f"{url}/")
    target = section if mount == "/" else quoted("REMOTE_STORAGE_URL", url)
    ca_file = quoted("S3_CA_FILE", given.get("S3CAFile", CA_CERTIFICATES))
    proxy_set = words("S3_PROXY_SET", given.get("S3ProxySet", PROXY_SET))
    configuration.add("SSLProxyEngine on")
    configuration.add("SSLProxyVerify require")
    configuration.add("SSLProxyVerifyDepth 10")
    configuration.add(f"SSLProxyCACertificateFile {ca_file}", "S3_CA_FILE")
    configuration.add(f'ProxyPass "{mount}" {target}', "REMOTE_STORAGE_URL")
    configuration.add(f"<Proxy {section}>", "REMOTE_STORAGE_URL")
    configuration.add(f"ProxySet {proxy_set}", "S3_PROXY_SET")


#: mod_proxy and mod_ssl have them as directives of their own.
AS_DIRECTIVES = ("S3ProxySet", "S3CAFile")


def setting_lines(given: Mapping[str, str], way: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the SetEnv lines and their settings; keys are written to files in the folder. Raises: VariableError."""
    for name, value in given.items():
        if name in SECRETS:
            path = folder / variable_of(name).lower()
            write_private(path, value)
            yield f'SetEnv {name}File "{path}"', name
        elif way == "gateway" or name not in (*AS_DIRECTIVES, "S3BucketURL"):
            yield f"SetEnv {name} {quoted(variable_of(name), value)}", name


def check_settings(given: Mapping[str, str], way: str) -> None:
    """Check all settings, and the files that they name. Raises: VariableError."""
    pairs = tuple((name, value) for name, value in given.items() if way == "gateway" or name not in AS_DIRECTIVES)
    try:
        settings.parse(tuple(given.items()))
        if way == "proxy":
            section_settings.parse(pairs, given["S3BucketURL"])
    except SettingError as error:
        raise VariableError(with_variables(str(error))) from None
    for name in sorted(given):
        if name.endswith("File"):
            check_file(name, given[name])


def check_file(name: str, path: str) -> None:
    """Check that a key file has a key, or that another file can be read. Raises: VariableError."""
    variable = variable_of(name)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise VariableError(f"{variable} must be a regular file")
        if name.endswith("CAFile"):
            Path(path).read_bytes()
            ssl.create_default_context(cafile=path)
        else:
            read_key(path)
    except ssl.SSLError:
        raise VariableError(f"{variable}: the file contains no certificate in PEM format") from None
    except OSError as error:
        raise VariableError(f"{variable}: the file cannot be read {by_user()}: {error.strerror}") from None
    except ValueError as error:
        raise VariableError(f"{variable}: the content of the file {error}") from None


def with_variables(message: str) -> str:
    """The message with the names of variables instead of those of settings."""
    names = "|".join(sorted(settings.NAMES, key=len, reverse=True))
    return re.sub(rf"\b(?:{names})\b", lambda match: variable_of(match[0]), message)


def mount_of(path: str) -> str:
    """The URL path of the bucket on this server: "/", or a path without a slash at the end. Raises: VariableError."""
    segments = [segment for segment in path.split("/") if segment]
    if not all(re.fullmatch(r"[A-Za-z0-9._~-]+", segment) and segment.strip(".") for segment in segments):
        raise VariableError("REMOTE_PATH must be a path of letters, digits and characters of ._~-, such as media/films")
    return "/" + "/".join(segments)


def quoted(variable: str, text: str) -> str:
    """An argument of a directive. Raises: VariableError: httpd would replace a part of the text, or end the line."""
    if "${" in text or re.search(r"[\x00-\x1f\x7f]", text):
        raise VariableError(f"{variable} must have no ${{ and no control characters")
    return in_quotes(text)


def words(variable: str, text: str) -> str:
    """Arguments of a directive, separated by spaces. Raises: VariableError."""
    if not re.fullmatch(r"[A-Za-z0-9_.:=-]+(?: +[A-Za-z0-9_.:=-]+)*", text):
        raise VariableError(f"{variable} must be words of letters, digits and characters of _.:=-, separated by spaces")
    return text


# --- files in memory, and httpd


def run_directory(environment: Mapping[str, str]) -> Path:
    """The folder for keys, in memory. A new one is private to this user, as its files are. Raises: VariableError."""
    folder = Path(environment.get("USP_S3_RUN") or DEFAULTS["USP_S3_RUN"])
    if not re.fullmatch(r"/[A-Za-z0-9._/-]+", str(folder)):
        raise VariableError("USP_S3_RUN must be the absolute path of a folder in memory: letters, digits, ._-")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = folder.stat().st_uid
        (folder / "test").touch(mode=0o600)
        (folder / "test").unlink()
    except OSError as error:
        raise VariableError(f"{folder}: {error.strerror}: mount a tmpfs there (--tmpfs {folder}:mode=1777)") from None
    if owner not in {0, os.geteuid()}:
        raise VariableError(f"{folder} belongs to another user (uid {owner}), who could read the keys")
    if file_system(folder, Path("/proc/self/mountinfo").read_text()) not in {"tmpfs", "ramfs"}:
        raise VariableError(f"{folder} is not in memory, and keys must not be on a disk: mount a tmpfs there")
    return folder


def lock(folder: Path) -> int:
    """A descriptor that no other container in this folder can have at the same time. Raises: VariableError."""
    descriptor = os.open(folder / "lock", os.O_WRONLY | os.O_CREAT, stat.S_IRUSR | stat.S_IWUSR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise VariableError(f"another container uses {folder}: set USP_S3_RUN to another folder in memory") from None
    return descriptor


def file_system(folder: Path, mountinfo: str) -> str:
    """The type of the file system of a folder. https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html"""
    best, kind = "", ""
    real = os.path.realpath(folder)
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), before.split()[4])
        if len(point) >= len(best) and (real == point or real.startswith(point.rstrip("/") + "/")):
            best, kind = point, after.split()[0]
    return kind


def write_private(path: Path, text: str) -> None:
    """Write a new file that only this user can read."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)


def httpd_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of httpd: that of the container, without the variables that have become configuration."""
    removed = {*SETTINGS, *AWS_SECRETS, "LOG_FORMAT", "LOG_LEVEL"}
    kept = {name: value for name, value in environment.items() if name not in removed}
    return kept | {name: kept.get(name) or default for name, default in DEFAULTS.items()}
