#!/opt/usp_s3_wsgi/bin/python -I
"""The program of the container image: it turns the container's variables into httpd's configuration, and starts httpd.

    usp-s3-container run [OPTION OF HTTPD...]     the image's entrypoint
    usp-s3-container run COMMAND...               run another command, without any configuration
    usp-s3-container health                       exit status 0 if httpd is live (HEALTHCHECK)
    usp-s3-container drain [SECONDS]              fail /health/ready, then wait: before a stop behind a load balancer

Keys in variables are written to files in memory, which only httpd's user can read, and the variables are removed before
httpd starts. A wrong or missing variable ends the start with one line.
"""

from __future__ import annotations

import difflib
import http.client
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from usp_s3_wsgi.config import settings
from usp_s3_wsgi.configtest.apache_syntax import in_quotes
from usp_s3_wsgi.credentials.key_files import read_key
from usp_s3_wsgi.errors import SettingError
from usp_s3_wsgi.proxy import section_settings

HTTPD = "/usr/local/apache2/bin/httpd"
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
OTHERS = (*OF_BUCKET, "LOG_LEVEL", "LOG_FORMAT", "PORT", "HEALTH_PORT", "USP_S3_RUN")


class StartError(Exception):
    """The container cannot start. The message is one line, without values that may be secret."""


@dataclass
class Configuration:
    """The lines of httpd's configuration, and which variable each of them is from."""

    lines: list[str] = field(default_factory=list)
    variables: list[str] = field(default_factory=list)

    def add(self, line: str, variable: str = "") -> None:
        self.lines.append(line)
        self.variables.append(variable)

    def variable_of_line(self, number: int) -> str:
        """The variable of a line, which begin at 1; "" if it is from none."""
        return self.variables[number - 1] if 0 < number <= len(self.variables) else ""


# --- the commands


def run(arguments: Sequence[str]) -> None:
    """Prepare the configuration and become httpd, or become another command. Raises: StartError."""
    if arguments and not arguments[0].startswith("-"):
        execute(arguments, os.environ)
    if os.geteuid() == 0:
        raise StartError("this is root: start the container as user 33, which is the default, or as another user")
    for number in (signal.SIGWINCH, signal.SIGTERM):  # the first process of a container ignores them by default
        signal.signal(number, lambda *_: sys.exit(0))
    environment = httpd_environment(os.environ)
    configuration = configure(os.environ)
    folder = run_directory(os.environ)
    (folder / "httpd.pid").unlink(missing_ok=True)
    (folder / "drain").unlink(missing_ok=True)
    path = folder / "variables.conf"
    write_private(path, "".join(f"{line}\n" for line in configuration.lines))
    check(path, configuration, environment)
    execute([HTTPD, "-D", "FOREGROUND", *arguments], environment)


def execute(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Become this command. Raises: StartError."""
    try:
        os.execvpe(command[0], list(command), dict(environment))
    except OSError as error:
        raise StartError(f"{command[0]}: {error.strerror}") from None


def health(environment: Mapping[str, str]) -> bool:
    """Whether httpd answers that it is live."""
    connection = http.client.HTTPConnection("127.0.0.1", int(environment["HEALTH_PORT"]), timeout=5)
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().status == 204
    except OSError:
        return False
    finally:
        connection.close()


def drain(environment: Mapping[str, str], seconds: float) -> None:
    """Fail /health/ready, and wait until the load balancer has seen it. Raises: StartError."""
    (run_directory(environment) / "drain").touch()
    time.sleep(seconds)


# --- from variables to configuration


def configure(environment: Mapping[str, str]) -> Configuration:
    """Return the configuration for the variables, and write the keys to files. Raises: StartError."""
    variables = {name: value for name, value in environment.items() if value}
    check_names(variables)
    check_ports(environment)
    configuration = Configuration()
    configuration.add(f"LogLevel {words('LOG_LEVEL', variables.get('LOG_LEVEL', 'warn'))}", "LOG_LEVEL")
    log_format = quoted("LOG_FORMAT", variables.get("LOG_FORMAT", LOG_FORMAT))
    configuration.add(f"CustomLog /proc/self/fd/1 {log_format}", "LOG_FORMAT")
    given = {name: variables[variable] for variable, name in SETTINGS.items() if variable in variables}
    if "S3BucketURL" in given:
        add_bucket(configuration, given, variables)
    elif unused := sorted({*SETTINGS, *OF_BUCKET} & set(variables)):
        raise StartError(f"{unused[0]} is set, but REMOTE_STORAGE_URL is not: it is the URL of the bucket")
    elif not any(OPERATOR_FILES.glob("*.conf")):
        raise StartError(
            f"REMOTE_STORAGE_URL is not set, and {OPERATOR_FILES} has no configuration: set it to the URL of the "
            f"bucket, or mount files at {OPERATOR_FILES}/*.conf"
        )
    return configuration


def check_names(variables: Mapping[str, str]) -> None:
    """Check that there is no misspelt variable, and no secret that could not be kept from httpd. Raises: StartError."""
    known = [*SETTINGS, *OTHERS]
    for name in sorted(variables):
        if name in known or not name.startswith(("S3_", "REMOTE_", "LOG_")):
            continue
        if similar := difflib.get_close_matches(name, known, n=1, cutoff=MIN_SIMILARITY):
            raise StartError(f"{name} is not a variable of this image: did you mean {similar[0]}?")
    for name in AWS_SECRETS if uses_identity(variables) else ():
        if name in variables:
            raise StartError(
                f"{name} would stay in httpd's environment: use S3_ACCESS_KEY, S3_SECRET_KEY and S3_SECURITY_TOKEN "
                "without S3_CREDENTIAL_SOURCE, or files (AWS_SHARED_CREDENTIALS_FILE)"
            )


def uses_identity(variables: Mapping[str, str]) -> bool:
    """Whether a bucket's credentials come from AWS's own variables, files and services."""
    return "aws" in (variables.get("S3_CREDENTIAL_SOURCE"), variables.get("S3_FALLBACK_CREDENTIAL_SOURCE"))


def check_ports(environment: Mapping[str, str]) -> None:
    """Check the two ports. Raises: StartError."""
    for name in ("PORT", "HEALTH_PORT"):
        if not re.fullmatch(r"[0-9]{1,5}", environment[name]) or not 0 < int(environment[name]) < 65536:
            raise StartError(f"{name} must be a whole number from 1 to 65535")
    if int(environment["PORT"]) == int(environment["HEALTH_PORT"]):
        raise StartError("PORT and HEALTH_PORT must differ")


def add_bucket(configuration: Configuration, given: Mapping[str, str], variables: Mapping[str, str]) -> None:
    """Add the virtual host that serves the bucket. Raises: StartError."""
    way = variables.get("WAY", "gateway")
    if way not in {"gateway", "proxy"}:
        raise StartError("WAY must be gateway or proxy")
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
    url = given["S3BucketURL"].rstrip("/")
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
    """Yield the SetEnv lines and their settings; keys are written to files in the folder. Raises: StartError."""
    for name, value in given.items():
        if name in SECRETS:
            path = folder / variable_of(name).lower()
            write_private(path, value)
            yield f'SetEnv {name}File "{path}"', name
        elif way == "gateway" or name not in (*AS_DIRECTIVES, "S3BucketURL"):
            yield f"SetEnv {name} {quoted(variable_of(name), value)}", name


def check_settings(given: Mapping[str, str], way: str) -> None:
    """Check all settings, and the files that they name. Raises: StartError."""
    pairs = tuple((name, value) for name, value in given.items() if way == "gateway" or name not in AS_DIRECTIVES)
    try:
        settings.parse(tuple(given.items()))
        if way == "proxy":
            section_settings.parse(pairs, given["S3BucketURL"])
    except SettingError as error:
        raise StartError(with_variables(str(error))) from None
    for name in sorted(given):
        if name.endswith("File"):
            check_file(name, given[name])


def check_file(name: str, path: str) -> None:
    """Check that a key file has a key, or that another file can be read. Raises: StartError."""
    variable = variable_of(name)
    try:
        if name.endswith("CAFile"):
            Path(path).read_bytes()
        else:
            read_key(path)
    except OSError as error:
        user = f"uid {os.getuid()}, gid {os.getgid()}"
        raise StartError(f"{variable}: the file cannot be read ({user}): {error.strerror}") from None
    except ValueError as error:
        raise StartError(f"{variable}: the content of the file {error}") from None


def with_variables(message: str) -> str:
    """The message with the names of variables instead of those of settings."""
    names = "|".join(sorted(settings.NAMES, key=len, reverse=True))
    return re.sub(rf"\b(?:{names})\b", lambda match: variable_of(match[0]), message)


def mount_of(path: str) -> str:
    """The URL path of the bucket on this server: "/", or a path without a slash at the end. Raises: StartError."""
    segments = [segment for segment in path.split("/") if segment]
    if not all(re.fullmatch(r"[A-Za-z0-9._~-]+", segment) and segment.strip(".") for segment in segments):
        raise StartError("REMOTE_PATH must be a path of letters, digits and characters of ._~-, such as media/films")
    return "/" + "/".join(segments)


def quoted(variable: str, text: str) -> str:
    """An argument of a directive. Raises: StartError: httpd would replace a part of the text, or end the line."""
    if "${" in text or re.search(r"[\x00-\x1f\x7f]", text):
        raise StartError(f"{variable} must have no ${{ and no control characters")
    return in_quotes(text)


def words(variable: str, text: str) -> str:
    """Arguments of a directive, separated by spaces. Raises: StartError."""
    if not re.fullmatch(r"[A-Za-z0-9_.:=-]+(?: +[A-Za-z0-9_.:=-]+)*", text):
        raise StartError(f"{variable} must be words of letters, digits and characters of _.:=-, separated by spaces")
    return text


# --- files in memory, and httpd


def run_directory(environment: Mapping[str, str]) -> Path:
    """The folder for keys, which is in memory and which only this user can read. Raises: StartError."""
    folder = Path(environment["USP_S3_RUN"])
    if not folder.is_absolute():
        raise StartError("USP_S3_RUN must be the absolute path of a folder in memory")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = folder.stat().st_uid
        (folder / "test").touch(mode=0o600)
        (folder / "test").unlink()
    except OSError as error:
        raise StartError(f"{folder}: {error.strerror}: mount a tmpfs there (--tmpfs {folder}:mode=1777)") from None
    if owner not in {0, os.geteuid()}:
        raise StartError(f"{folder} belongs to another user (uid {owner}), who could read the keys")
    if file_system(folder, Path("/proc/self/mountinfo").read_text()) not in {"tmpfs", "ramfs"}:
        raise StartError(f"{folder} is not in memory, and keys must not be on a disk: mount a tmpfs there")
    return folder


def file_system(folder: Path, mountinfo: str) -> str:
    """The type of the file system of a folder. https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html"""
    best, kind = "", ""
    real = os.path.realpath(folder)
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        point = before.split()[4].encode().decode("unicode_escape")
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
    if not uses_identity(environment):
        removed.add("AWS_ACCESS_KEY_ID")
    return {name: value for name, value in environment.items() if name not in removed}


def check(path: Path, configuration: Configuration, environment: Mapping[str, str]) -> None:
    """Let httpd check its configuration. Raises: StartError: a variable is wrong; else httpd's messages are printed."""
    done = subprocess.run(
        [HTTPD, "-t"],
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=300,
        check=False,
    )
    if not done.returncode:
        return
    lines = done.stderr.strip().splitlines()
    for line, reason in zip(lines, [*lines[1:], ""], strict=True):
        match = re.search(rf"line (\d+) of {re.escape(str(path))}:", line)
        if match and (variable := configuration.variable_of_line(int(match[1]))):
            raise StartError(f"{variable}: {reason}")
    raise StartError("\n".join(["httpd rejects the configuration:", *lines]))


def main() -> int:
    """Run a command; returns the exit status."""
    command, *arguments = sys.argv[1:] or ["run"]
    try:
        if command == "run":
            run(arguments)
        elif command == "health" and not arguments:
            return 0 if health(os.environ) else 1
        elif command == "drain" and len(arguments) <= 1:
            drain(os.environ, float(arguments[0]) if arguments else 0)
            return 0
    except (StartError, OSError, ValueError, subprocess.TimeoutExpired) as error:
        print(f"usp-s3-container: {error}", file=sys.stderr)
        return 1
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
