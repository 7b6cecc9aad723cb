"""apache/container/compose.yaml, as docs/orchestration.md starts it: the page and the film from a private S3."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from tests.demo import browser
from tests.demo.stage import FILM, HERE, PLAYLIST, film_files
from tests.docs.pages import parse_markdown
from tests.httpd.machine import free_port
from tests.image.build import NAME, ROOT
from tests.image.engine import BUILD_LIMIT, Engine
from tests.image.running import WAIT

FOLDER = ROOT / "apache" / "container"
FILE = FOLDER / "compose.yaml"
SERVICES = ("s3", "fill", "web")
SECRET = (FOLDER / "compose" / "secret-key").read_text("utf-8").strip()
FILM_BYTES = (HERE / FILM).read_bytes()


class Compose:
    """compose.yaml in a project of its own, with ports of its own."""

    def __init__(self, engine: Engine, command: Sequence[str], environment: dict[str, str]) -> None:
        self.engine, self._command = engine, command
        self.port, self.s3_port = free_port(), free_port()
        self._environment = {**environment, "PORT": str(self.port), "S3_PORT": str(self.s3_port)}

    def run(self, *arguments: str) -> str:
        """Run a command of compose; returns its output."""
        done = subprocess.run(
            [*self._command, *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_LIMIT,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}\n{done.stdout}{done.stderr}"
        return done.stdout

    def up(self) -> None:
        """Start it in the background, and wait until it serves the page."""
        with self.health_checks():
            self.run("up", "--detach", "--no-build", "--pull", "never")
        # Where the machine's name server does not respond, the first look-up of a new container's name takes 40 s.
        deadline = time.monotonic() + 3 * WAIT
        while True:
            try:
                if self.get("/index.html")[0] == 200:
                    return
            except OSError:
                pass
            assert time.monotonic() < deadline, self.run("logs")
            time.sleep(0.2)

    @contextmanager
    def health_checks(self) -> Iterator[None]:
        """Run the health checks, which podman leaves to timers of systemd: not each machine has it."""
        stop = threading.Event()

        def check() -> None:
            while not stop.wait(0.5):
                for container in self.run("ps", "--quiet", "s3").split():
                    self.engine.call("healthcheck", "run", container, check=False)

        thread = threading.Thread(target=check, daemon=True)
        if self.engine.name == "podman":
            thread.start()
        try:
            yield
        finally:
            stop.set()
            if thread.ident:
                thread.join(WAIT)

    def container(self, service: str) -> str:
        """The id of a service's container."""
        return self.run("ps", "--all", "--quiet", service).strip()

    def inspect(self, service: str, template: str) -> str:
        """A part of the description of a service's container."""
        return self.engine.call("inspect", "--format", template, self.container(service)).stdout.strip()

    def get(self, path: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers of a response through httpd."""
        return get(f"http://127.0.0.1:{self.port}{path}", **headers)


def get(url: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of a response. Raises: OSError."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=WAIT)
    try:
        connection.request("GET", parts.path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read(), dict(response.getheaders())
    except http.client.HTTPException as error:
        raise OSError(str(error)) from error
    finally:
        connection.close()


def docker_compose() -> list[str]:
    """The command of docker compose: the version that is locked for tests, else that of this machine."""
    own = Path(sys.executable).with_name("docker-compose")
    if own.exists():
        return [str(own)]
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, timeout=WAIT, check=False)
    if plugin.returncode:
        pytest.skip("neither docker-compose (tests/requirements/image.txt) nor docker's compose is installed")
    return ["docker", "compose"]


@contextmanager
def api(engine: Engine) -> Iterator[dict[str, str]]:
    """The environment in which compose finds the engine: podman has docker's API at a socket."""
    if engine.name == "docker":
        yield dict(os.environ)
        return
    with tempfile.TemporaryDirectory(prefix="podman-") as folder:
        url = f"unix://{folder}/podman.sock"
        command = [*engine.command, "system", "service", "--time=0", url]
        # Without systemd it writes lines about the timers of health checks.
        service = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + WAIT
            while not Path(folder, "podman.sock").exists():
                assert service.poll() is None and time.monotonic() < deadline, "podman system service does not start"
                time.sleep(0.05)
            yield {**os.environ, "DOCKER_HOST": url}
        finally:
            service.terminate()
            service.wait(WAIT)


@pytest.fixture(scope="module")
def compose(engine: Engine, image: str) -> Iterator[Compose]:
    """The running services."""
    command = docker_compose()
    engine.call("tag", image, f"{NAME}:latest")
    dockerfile = FOLDER / "compose" / "Dockerfile"
    engine.build(ROOT, dockerfile, f"{NAME}-demo-s3:latest")
    with ExitStack() as stack:
        environment = stack.enter_context(api(engine))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        limits = limits_of_this_machine(engine)
        (folder / "limits.yaml").write_text(yaml.safe_dump({"services": dict.fromkeys(SERVICES, limits)}))
        files = ["--file", str(FILE), "--file", str(folder / "limits.yaml")]
        started = Compose(engine, [*command, "--project-name", f"usp-s3-{uuid.uuid4().hex[:8]}", *files], environment)
        stack.callback(started.run, "down", "--volumes", "--timeout", "5")
        started.up()
        yield started


def limits_of_this_machine(engine: Engine) -> dict[str, dict[str, int]]:
    """The limits of ``engine.run_options()``, as compose writes them."""
    found = re.findall(r"--ulimit=(\w+)=(\d+):", " ".join(engine.run_options()))
    return {"ulimits": {name: int(limit) for name, limit in found}} if found else {}


def test_serves_the_page_and_the_film(compose: Compose) -> None:
    status, _, headers = compose.get("/")
    assert (status, urlsplit(headers["Location"]).path) == (302, "/index.html")
    status, body, headers = compose.get("/index.html")
    assert (status, body) == (200, (HERE / "index.html").read_bytes())
    assert headers["Content-Type"].startswith("text/html")
    for key, path in film_files().items():
        assert compose.get(f"/media/{key}")[:2] == (200, path.read_bytes()), key
    status, body, headers = compose.get(f"/media/{FILM}", Range="bytes=1000-1999")
    assert (status, body) == (206, FILM_BYTES[1000:2000])
    assert headers["Content-Range"] == f"bytes 1000-1999/{len(FILM_BYTES)}"
    assert compose.get("/media/none")[0] == 404


def test_the_bucket_is_private(compose: Compose) -> None:
    facts = json.loads(compose.get("/demo.json")[1])
    status, body, _ = get(facts["s3_url"])
    assert (status, urlsplit(facts["s3_url"]).port) == (403, compose.s3_port)
    assert b"<Code>AccessDenied</Code>" in body
    for key in facts["keys"]:
        status, body, _ = compose.get(key["href"])
        assert (status, body.decode()) == (200, f"The key of this object is: {key['label']}\n")


def test_the_page_finds_nothing_wrong_in_a_browser(compose: Compose) -> None:
    try:
        result = browser.visit(f"http://127.0.0.1:{compose.port}/", None, lambda: False)
    except browser.NoBrowser as error:
        pytest.skip(str(error))
    assert result.outcome == "ok", result.summary


@pytest.mark.parametrize("service", SERVICES)
def test_the_services_have_no_privileges(compose: Compose, service: str) -> None:
    assert compose.inspect(service, "{{.Config.User}}") == "33:33"
    assert compose.inspect(service, "{{.HostConfig.ReadonlyRootfs}}") == "true"
    assert "no-new-privileges" in compose.inspect(service, "{{.HostConfig.SecurityOpt}}")
    variables = compose.inspect(service, "{{.Config.Env}}")
    assert SECRET not in variables
    if service == "fill":
        assert compose.inspect(service, "{{.State.ExitCode}}") == "0"
        return
    pid = compose.inspect(service, "{{.State.Pid}}")
    status = Path(f"/proc/{pid}/status").read_text()
    for line in (r"Uid:\s+33\s+33\s+33\s+33", r"CapEff:\s+0+", r"CapBnd:\s+0+", r"NoNewPrivs:\s+1"):
        assert re.search(f"^{line}$", status, re.MULTILINE), line
    assert SECRET.encode() not in Path(f"/proc/{pid}/environ").read_bytes()


def test_can_be_started_again_and_logs_no_keys(compose: Compose) -> None:
    compose.run("stop", "--timeout", "20", "web")
    compose.up()  # fill runs again, too
    assert compose.get(f"/media/{PLAYLIST}")[0] == 200
    logs = compose.run("logs", "--no-color")
    assert f"GET /media/{PLAYLIST}" in logs and "the page and the film are in the bucket" in logs
    assert SECRET not in logs


def test_is_valid_and_publishes_ports_only_on_this_machine() -> None:
    command = [*docker_compose(), "--file", str(FILE), "config"]
    variables = {"PORT": "9090", "S3_PORT": "9091"}
    done = subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=WAIT, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    services = yaml.safe_load(done.stdout)["services"]
    published = {name: [port["published"] for port in service.get("ports", ())] for name, service in services.items()}
    assert published == {"s3": ["9091"], "fill": [], "web": ["9090"]}
    assert all(port["host_ip"] == "127.0.0.1" for service in services.values() for port in service.get("ports", ()))


def test_the_file_of_the_documentation_is_valid(tmp_path: Path) -> None:
    page = parse_markdown((ROOT / "docs" / "orchestration.md").read_text("utf-8"))
    (text,) = (token.content for token in page if token.type == "fence" and "services:" in token.content)
    (tmp_path / "compose.yaml").write_text(text)
    command = [*docker_compose(), "--file", str(tmp_path / "compose.yaml"), "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    service, tested = (yaml.safe_load(content)["services"]["web"] for content in (text, FILE.read_text("utf-8")))
    for key in ("read_only", "cap_drop", "security_opt"):
        assert service[key] == tested[key]
    assert service["environment"].keys() == tested["environment"].keys()
