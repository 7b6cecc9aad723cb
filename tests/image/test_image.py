"""The finished image, as an operator runs it, in front of a real S3."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.certificates import Certificate, make_certificate
from tests.image.engine import Engine
from tests.image.running import HARDENED, WAIT, Server, assert_unprivileged, free_ports, get, running
from tests.s3 import EmbeddedS3

WAYS = ("gateway", "proxy")
BUCKET = "media"
FILM = bytes(range(256)) * 40
SEGMENT = secrets.token_bytes(6_000_000)
#: Lines that httpd itself writes when it starts and stops.
NOTICES = re.compile(r"AH0(0489|0094|0491|0492|0493|1873)|mod_wsgi .* configured|caught SIG")


@pytest.fixture(scope="module")
def s3() -> Iterator[EmbeddedS3]:
    with EmbeddedS3(buckets=(BUCKET,)) as server:
        server.put(BUCKET, "film/a b.mp4", FILM)
        server.put(BUCKET, "segment.ts", SEGMENT)
        yield server


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the user of the image can read."""
    with tempfile.TemporaryDirectory(prefix="mounted-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def bucket(s3: EmbeddedS3, way: str = "gateway", **further: str) -> dict[str, str]:
    """The variables of docs/container.md."""
    return {
        "WAY": way,
        "REMOTE_STORAGE_URL": f"{s3.url}/{BUCKET}/",
        "S3_ACCESS_KEY": s3.access_key,
        "S3_SECRET_KEY": s3.secret_key,
        "S3_REGION": s3.region,
        **further,
    }


def unexpected(server: Server) -> list[str]:
    """The lines of the error log that are not about start and stop."""
    return [line for line in server.container.stderr().splitlines() if not NOTICES.search(line)]


@pytest.mark.parametrize("headers", ["on", "off"])
@pytest.mark.parametrize("region", ["v4", "v2"])
@pytest.mark.parametrize("way", WAYS)
def test_serves_a_private_bucket(
    engine: Engine, image: str, s3: EmbeddedS3, way: str, region: str, headers: str
) -> None:
    variables = bucket(s3, way, S3_USE_HEADERS=headers)
    if region == "v2":
        del variables["S3_REGION"]
    with running(engine, image, variables) as server:
        assert server.get("/film/a%20b.mp4") == (200, FILM)
        assert server.get("/film/a%20b.mp4", {"Range": "bytes=100-199"}) == (206, FILM[100:200])
        assert server.get("/segment.ts") == (200, SEGMENT)
        assert server.get("/missing")[0] == 404
        assert server.get("/")[0] == 404  # no listing
        assert unexpected(server) == []


@pytest.mark.parametrize("way", WAYS)
def test_runs_without_privileges_and_without_keys_in_its_processes(
    engine: Engine, image: str, s3: EmbeddedS3, way: str
) -> None:
    with running(engine, image, bucket(s3, way, S3_SECURITY_TOKEN="a/session+token")) as server:
        server.get("/film/a%20b.mp4")
        processes = server.processes()
        assert len(processes) > 2
        hidden = (s3.secret_key, s3.access_key, "a/session+token", "S3_SECRET_KEY", "S3_SECURITY_TOKEN")
        for process in processes:
            assert_unprivileged(process, *hidden)
        files = server.container.execute(
            "stat", "-c", "%a %U %n", "/dev/shm/usp_s3/s3_secret_key", "/dev/shm/usp_s3"
        ).stdout
        assert files == "600 www-data /dev/shm/usp_s3/s3_secret_key\n700 www-data /dev/shm/usp_s3\n"
        assert server.container.execute("touch", "/opt/usp_s3_wsgi/x", check=False).returncode != 0
        configuration = server.container.execute("cat", "/dev/shm/usp_s3/variables.conf").stdout
        assert s3.secret_key not in configuration + server.container.logs()


def test_key_files_can_be_replaced_without_a_restart(engine: Engine, image: str, s3: EmbeddedS3, folder: Path) -> None:
    key = folder / "secret"
    key.write_text("wrong\n")
    variables = bucket(s3, S3_SECRET_KEY_FILE="/run/secrets/bucket/secret")
    del variables["S3_SECRET_KEY"]
    with running(engine, image, variables, "--volume", f"{folder}:/run/secrets/bucket:ro") as server:
        assert server.get("/film/a%20b.mp4")[0] == 502
        assert "USPS3" in server.container.stderr()
        key.write_text(f"{s3.secret_key}\n")
        deadline = time.monotonic() + WAIT
        while server.get("/film/a%20b.mp4") != (200, FILM):
            assert time.monotonic() < deadline
            time.sleep(0.2)


@pytest.mark.parametrize("way", WAYS)
def test_logs_go_to_stdout_and_stderr(engine: Engine, image: str, s3: EmbeddedS3, way: str) -> None:
    variables = bucket(s3, way, LOG_FORMAT=r'"%m" \ \'%U\' %>s', LOG_LEVEL="warn usp_s3:debug", REMOTE_PATH="/a/b/")
    with running(engine, image, variables) as server:
        assert server.get("/a/b/film/a%20b.mp4") == (200, FILM)
        assert server.get("/a/b/missing")[0] == 404
        assert server.get("/film/a%20b.mp4")[0] in {403, 404}  # httpd's own folder, of which nothing is served
        assert server.health("/health/live") == 204
        server.container.stop(WAIT)
        access = server.container.stdout().splitlines()
        # Threads write their lines in any order.
        assert {r'"GET" \ \'/a/b/film/a b.mp4\' 200', r'"GET" \ \'/a/b/missing\' 404'} < set(access)
        assert len(access) == 3  # not the health checks
        assert "NoSuchKey" in server.container.stderr()  # of level debug


@pytest.mark.parametrize("way", WAYS)
def test_https_to_the_bucket_is_verified(engine: Engine, image: str, folder: Path, way: str) -> None:
    certificate: Certificate = make_certificate(folder)
    with EmbeddedS3(buckets=(BUCKET,), tls=certificate) as s3:
        s3.put(BUCKET, "film/a b.mp4", FILM)
        # mod_ssl compares no addresses: docs/tls.md.
        variables = bucket(s3, way, REMOTE_STORAGE_URL=f"https://localhost:{s3.port}/{BUCKET}/")
        with running(engine, image, variables) as server:
            assert server.get("/film/a%20b.mp4")[0] == (502 if way == "gateway" else 500)
        mount = ("--volume", f"{certificate.root}:/run/ca.pem:ro")
        with running(engine, image, {**variables, "S3_CA_FILE": "/run/ca.pem"}, *mount) as server:
            assert server.get("/film/a%20b.mp4") == (200, FILM)
            assert unexpected(server) == []


def fails(engine: Engine, image: str, variables: dict[str, str], *options: str) -> str:
    """The lines of a container that does not start."""
    with engine.container(image, *HARDENED, *options, environment=variables) as container:
        assert container.wait(WAIT) == 1
        assert container.stdout() == ""
        return container.stderr()


@pytest.mark.parametrize(
    ("further", "message"),
    [
        (
            {"REMOTE_STORAGE_URL": ""},
            "S3_ACCESS_KEY is set, but REMOTE_STORAGE_URL is not: it is the URL of the bucket",
        ),
        ({"S3_SECRET_KEY": ""}, "S3_SECRET_KEY is not set (nor S3_SECRET_KEY_FILE)"),
        (
            {"S3_REGION": "eu central"},
            "S3_REGION must be a region's name such as eu-central-1: letters, digits, - and _",
        ),
        ({"WAY": "nginx"}, "WAY must be gateway or proxy"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL: Log level keyword must be one of emerg/alert"),
        ({"LOG_LEVEL": "warn nothing:debug"}, "LOG_LEVEL: Cannot find module nothing"),
        ({"LOG_FORMAT": "%h %K"}, "LOG_FORMAT: Unrecognized LogFormat directive %K"),
        ({"S3_USE_HEADER": "off"}, "S3_USE_HEADER is not a variable of this image: did you mean S3_USE_HEADERS?"),
        ({"S3_CA_FILE": "/etc/hostname"}, "S3_CA_FILE: the file contains no certificate in PEM format"),
        ({"USP_S3_RUN": "/run/usp_s3"}, "/run/usp_s3: "),
    ],
    ids=lambda value: value.partition(":")[0] if isinstance(value, str) else "",
)
def test_a_wrong_variable_ends_the_start_with_one_line(
    engine: Engine, image: str, s3: EmbeddedS3, further: dict[str, str], message: str
) -> None:
    output = fails(engine, image, {**bucket(s3), **further})
    assert output.startswith(f"usp-s3-container: {message}"), output
    assert output.count("\n") == 1
    assert s3.secret_key not in output


def test_without_any_variable_it_says_what_is_missing(engine: Engine, image: str) -> None:
    assert fails(engine, image, {}) == (
        "usp-s3-container: REMOTE_STORAGE_URL is not set, and /etc/usp_s3 has no configuration: set it to the URL of "
        "the bucket, or mount files at /etc/usp_s3/*.conf\n"
    )


def test_it_does_not_run_as_root(engine: Engine, image: str, s3: EmbeddedS3) -> None:
    assert "usp-s3-container: this is root" in fails(engine, image, bucket(s3), "--user=0")


def own_configuration(s3: EmbeddedS3, port: str = "${PORT}") -> str:
    return f"""
<VirtualHost *:{port}>
  ServerName films.example.com
  WSGIScriptAlias /own ${{USP_S3_WSGI}}
  <Location /own>
    SetEnv S3BucketURL {s3.url}/{BUCKET}/
    SetEnv S3AccessKey {s3.access_key}
    SetEnv S3SecretKey {s3.secret_key}
    SetEnv S3Region    {s3.region}
  </Location>
</VirtualHost>
"""


def test_the_operators_files_instead_of_variables(engine: Engine, image: str, s3: EmbeddedS3, folder: Path) -> None:
    (folder / "films.conf").write_text(own_configuration(s3))
    with running(engine, image, {}, "--volume", f"{folder}:/etc/usp_s3:ro") as server:
        assert server.get("/own/film/a%20b.mp4") == (200, FILM)
        (folder / "films.conf").write_text(own_configuration(s3).replace("/own", "/changed"))
        server.container.kill("USR1")  # httpd's graceful restart
        deadline = time.monotonic() + WAIT
        while server.get("/changed/film/a%20b.mp4") != (200, FILM):  # AH01630 until then: httpd's own folder
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert "Syntax OK" in server.container.execute("httpd", "-t").stderr
        assert [line for line in unexpected(server) if "AH01630" not in line] == []


def test_the_operators_files_besides_variables(engine: Engine, image: str, s3: EmbeddedS3, folder: Path) -> None:
    (folder / "films.conf").write_text(own_configuration(s3))
    with running(engine, image, bucket(s3, "proxy"), "--volume", f"{folder}:/etc/usp_s3:ro") as server:
        assert server.get("/film/a%20b.mp4") == (200, FILM)
        assert server.get("/own/film/a%20b.mp4", {"Host": "films.example.com"}) == (200, FILM)


def test_a_mistake_in_the_operators_files_is_shown(engine: Engine, image: str, s3: EmbeddedS3, folder: Path) -> None:
    (folder / "films.conf").write_text(own_configuration(s3).replace("SetEnv S3Region ", "SetEnv S3Regoin "))
    output = fails(engine, image, {}, "--volume", f"{folder}:/etc/usp_s3:ro")
    assert "usp-s3-container: httpd rejects the configuration:" in output
    assert re.search(r"USPS30802.*/etc/usp_s3/films.conf.*did you mean S3Region", output)
    assert s3.secret_key not in output


def test_other_commands_and_options_of_httpd(engine: Engine, image: str, s3: EmbeddedS3) -> None:
    def output(*command: str, **variables: str) -> str:
        with engine.container(image, *HARDENED, environment=variables, command=command) as container:
            assert container.wait(WAIT) == 0
            return container.logs()

    assert "usp_s3_module" in output("-M", **bucket(s3))
    assert re.fullmatch(r"[0-9.]+\n", output("usp-s3", "--version"))


@pytest.mark.parametrize("way", WAYS)
def test_the_bucket_is_checked_in_the_container(engine: Engine, image: str, s3: EmbeddedS3, way: str) -> None:
    with running(engine, image, bucket(s3, way)) as server:
        done = server.container.execute("usp-s3", "check", "--key", "film/a b.mp4")
        wrong = server.container.execute("usp-s3", "check", "--key", "none.mp4", check=False)
    assert "signed request   fine  accepted" in done.stdout and ": 206, as S3 itself" in done.stdout
    assert wrong.returncode == 1 and "there is no object with this key" in wrong.stdout
    assert s3.secret_key not in done.stdout + done.stderr


# --- health, drain, stop


def test_health_and_drain(engine: Engine, image: str, s3: EmbeddedS3) -> None:
    with running(engine, image, bucket(s3)) as server:
        check = ("usp-s3-container", "health")
        assert server.container.execute(*check, check=False).returncode == 0
        server.container.execute("usp-s3-container", "drain")
        assert (server.health("/health/ready"), server.health("/health/live")) == (503, 204)
        assert server.get("/film/a%20b.mp4") == (200, FILM)
        server.container.execute("usp-s3-container", "undrain")
        assert server.health("/health/ready") == 204
        assert server.container.execute(*check, check=False).returncode == 0
        assert server.container.execute("env", "HEALTH_PORT=1", *check, check=False).returncode == 1


@pytest.mark.parametrize("way", WAYS)
def test_who_may_read_the_status(engine: Engine, image: str, s3: EmbeddedS3, way: str) -> None:
    variables = bucket(s3, way, STATUS_FROM="all", LOG_FORMAT="usp_s3_json")
    with running(engine, image, variables) as server:
        assert server.get("/film/a%20b.mp4") == (200, FILM)
        assert [server.health(path) for path in ("/status", "/status/json", "/metrics", "/health/buckets")] == [200] * 4
        assert server.get("/status")[0] == 404  # on the clients' port it is a key
        server.container.stop(WAIT)
        (line, *_) = [json.loads(line) for line in server.container.stdout().splitlines()]
        assert (line["s3_way"], line["s3_bucket"], line["s3_status"]) == (way, BUCKET, 200)
        assert unexpected(server) == []
    with running(engine, image, bucket(s3, way)) as server:
        assert [server.health(path) for path in ("/status", "/metrics")] == [404, 404]
    with running(engine, image, bucket(s3, way, STATUS_FROM="192.0.2.0/24")) as server:
        assert [server.health(path) for path in ("/status", "/metrics")] == [403, 403]


def test_a_container_whose_key_file_is_gone_is_not_ready(
    engine: Engine, image: str, s3: EmbeddedS3, folder: Path
) -> None:
    key = folder / "secret"
    key.write_text(f"{s3.secret_key}\n")
    variables = bucket(s3, S3_SECRET_KEY_FILE="/run/secrets/bucket/secret")
    del variables["S3_SECRET_KEY"]
    with running(engine, image, variables, "--volume", f"{folder}:/run/secrets/bucket:ro") as server:
        assert server.health("/health/ready") == 204
        key.unlink()
        deadline = time.monotonic() + WAIT
        while server.health("/health/ready") != 503:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert server.health("/health/live") == 204


class SlowClient(threading.Thread):
    """Reads a segment over some seconds; ``error`` is None if every byte came."""

    def __init__(self, port: int, seconds: float) -> None:
        super().__init__(daemon=True)
        self.port, self.seconds = port, seconds
        self.has_begun = threading.Event()
        self.error: str | None = "not finished"

    def run(self) -> None:
        try:
            body = self.read()
            self.error = None if body == SEGMENT else f"{len(body)} bytes of {len(SEGMENT)}"
        except (OSError, AssertionError) as error:
            self.error = repr(error)

    def read(self) -> bytes:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            client.settimeout(WAIT)
            client.connect(("127.0.0.1", self.port))
            client.sendall(b"GET /segment.ts HTTP/1.1\r\nHost: localhost\r\n\r\n")
            data = client.recv(65536)
            self.has_begun.set()
            pause = self.seconds * 65536 / len(SEGMENT)
            while b"\r\n\r\n" not in data or len(data.partition(b"\r\n\r\n")[2]) < len(SEGMENT):
                time.sleep(pause)
                more = client.recv(65536)
                if not more:
                    break
                data += more
        head, _, body = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head[:100]
        return body


@pytest.mark.parametrize("way", WAYS)
def test_a_stop_under_load_cuts_nothing_that_had_begun(engine: Engine, image: str, s3: EmbeddedS3, way: str) -> None:
    with running(engine, image, bucket(s3, way)) as server:
        slow = [SlowClient(server.port, 4 + number / 4) for number in range(16)]
        for client in slow:
            client.start()
        outcomes: list[str] = []
        stopping = threading.Event()
        fast = [threading.Thread(target=fetch_until_refused, args=(server.port, outcomes, stopping)) for _ in range(4)]
        for thread in fast:
            thread.start()
        for client in slow:
            assert client.has_begun.wait(WAIT)
        stopping.set()
        seconds = server.container.stop(WAIT)
        for thread in (*slow, *fast):
            thread.join(WAIT)
        assert [client.error for client in slow] == [None] * len(slow)
        assert set(outcomes) <= {"complete", "refused"}, sorted(set(outcomes))
        assert outcomes.count("complete") >= 4
        assert 1 < seconds < WAIT  # it waited for the clients, and was not killed
        assert server.container.wait(WAIT) == 0
        assert unexpected(server) == []


def fetch_until_refused(port: int, outcomes: list[str], stopping: threading.Event) -> None:
    """Fetch segments on new connections until the server accepts none; an answer that had begun must be complete."""
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as client:
                client.sendall(b"GET /segment.ts HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                data = bytearray()
                while more := client.recv(1 << 20):
                    data += more
        except OSError:
            data = bytearray()
        if not data:
            outcomes.append("refused" if stopping.is_set() else "failed before the stop")
            return
        outcomes.append("complete" if data.partition(b"\r\n\r\n")[2] == SEGMENT else f"truncated at {len(data)}")


@pytest.mark.parametrize("seconds", [0.0, 0.3, 0.6, 0.9, 1.2, 1.5])
def test_a_container_that_starts_stops_at_once(engine: Engine, image: str, s3: EmbeddedS3, seconds: float) -> None:
    variables = bucket(s3) | free_ports()
    with engine.container(image, *HARDENED, environment=variables) as container:
        time.sleep(seconds)
        assert container.stop(WAIT) < WAIT / 2
        assert container.wait(WAIT) == 0


def test_a_second_stop_cuts_nothing(engine: Engine, image: str, s3: EmbeddedS3) -> None:
    with running(engine, image, bucket(s3)) as server:
        clients = [SlowClient(server.port, 6) for _ in range(4)]
        for client in clients:
            client.start()
        for client in clients:
            assert client.has_begun.wait(WAIT)
        for name in ("WINCH", "WINCH", "TERM"):
            server.container.kill(name)
            time.sleep(1)
        for client in clients:
            client.join(WAIT)
        assert [client.error for client in clients] == [None] * len(clients)
        assert server.container.wait(WAIT) == 0


def test_a_reload_of_a_broken_configuration_changes_nothing(
    engine: Engine, image: str, s3: EmbeddedS3, folder: Path
) -> None:
    with running(engine, image, bucket(s3), "--volume", f"{folder}:/etc/usp_s3:ro") as server:
        (folder / "films.conf").write_text("Bogus on\n")
        server.container.kill("USR1")
        deadline = time.monotonic() + WAIT
        while "the changed configuration is not loaded" not in server.container.stderr():
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert "Invalid command 'Bogus'" in server.container.stderr()
        assert server.get("/film/a%20b.mp4") == (200, FILM)


def test_the_resize_of_a_terminal_is_no_stop(engine: Engine, image: str, s3: EmbeddedS3) -> None:
    variables = bucket(s3) | free_ports()
    name = f"usp-s3-{secrets.token_hex(6)}"
    options = [f"--env={variable}" for variable in variables]  # the values are not in the arguments
    command = [*engine.command, "run", "-it", "--name", name, *engine.run_options(), *HARDENED, *options, image]
    master, terminal = pty.openpty()
    environment = {**os.environ, **variables}
    process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment)
    try:
        wait_until(lambda: get(int(variables["PORT"]), "/film/a%20b.mp4") == (200, FILM))
        for rows in (40, 50):
            fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 120, 0, 0))
            process.send_signal(signal.SIGWINCH)  # as the kernel does for the program of a terminal
            time.sleep(1)
        assert get(int(variables["PORT"]), "/film/a%20b.mp4") == (200, FILM)
        size = engine.call("exec", name, "sh", "-c", "stty size < /proc/1/fd/0", check=False).stdout
        assert size == "50 120\n"
    finally:
        engine.remove(name)
        process.wait(WAIT)
        os.close(master)
        os.close(terminal)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_two_containers_do_not_share_a_folder_of_keys(engine: Engine, image: str, s3: EmbeddedS3) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        Path(memory).chmod(0o1777)
        mount = ("--volume", f"{memory}:/run/shared", "--env", "USP_S3_RUN=/run/shared/keys")
        with running(engine, image, bucket(s3), *mount) as server:
            assert "another container uses /run/shared/keys" in fails(engine, image, bucket(s3), *mount)
            assert server.get("/film/a%20b.mp4") == (200, FILM)
        shutil.rmtree(f"{memory}/keys")


def test_an_idle_container_stops_at_once(engine: Engine, image: str, s3: EmbeddedS3) -> None:
    with running(engine, image, bucket(s3)) as server:
        server.get("/film/a%20b.mp4")
        assert server.container.stop(WAIT) < WAIT / 2
        assert server.container.wait(WAIT) == 0


# --- what is in the image


def test_what_is_in_the_image(engine: Engine, image: str) -> None:
    with engine.container(image, command=("sleep", "300")) as container:
        for program in ("gcc", "cc", "make", "pip", "pip3", "git", "curl"):
            assert container.execute("sh", "-c", f"command -v {program}", check=False).returncode, program
        sbom = json.loads(container.execute("cat", "/usr/share/usp_s3_wsgi/sbom.cdx.json").stdout)
        table = container.execute("cat", "/usr/share/usp_s3_wsgi/debian-packages.tsv").stdout
        installed = container.execute("dpkg-query", "-W", "-f", "${Package}\t${Version}\n").stdout
    assert [line.rsplit("\t", 2)[0] for line in table.splitlines()] == installed.splitlines()
    purls = {unquote(part["purl"]): part["version"] for part in sbom["components"] if "purl" in part}
    components = {purl.partition("@")[0]: version for purl, version in purls.items()}
    for name in (
        "generic/httpd",
        "pypi/mod-wsgi",
        "pypi/urllib3",
        "pypi/httptools",
        "pypi/botocore",
        "deb/debian/python3",
    ):
        assert components[f"pkg:{name}"], name
    debian = {name.rpartition("/")[2]: version for name, version in components.items() if name.startswith("pkg:deb")}
    assert debian == dict(line.split("\t") for line in installed.splitlines())


def test_no_program_gets_more_rights_than_its_caller(engine: Engine, image: str) -> None:
    """The base image may have such programs (Debian's passwd...); this one adds none."""

    def setuid_programs(name: str) -> set[str]:
        find = ("find", "/usr", "/opt", "-perm", "/6000", "-type", "f")
        with engine.container(name, command=("sleep", "300")) as container:
            return set(container.execute(*find, user="0").stdout.split())

    assert setuid_programs(image) <= setuid_programs("httpd:2.4")


def test_labels_and_metadata(engine: Engine, image: str) -> None:
    labels = json.loads(engine.image(image, "{{json .Config.Labels}}"))
    assert re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", labels["org.opencontainers.image.version"])
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", labels["org.opencontainers.image.revision"])
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert engine.image(image, "{{.Config.User}}") == "33:33"
    assert engine.image(image, "{{.Config.StopSignal}}") in {"SIGWINCH", "28"}
    history = engine.call("history", "--no-trunc", "--format", "{{.CreatedBy}}", image).stdout
    assert "PIP_" not in history  # the caller's package index and certificates
