"""apache/container/kubernetes.yaml: valid for Kubernetes, and its pod, run by podman, serves the bucket.

The pod is that of the manifest, with what the documentation tells the operator to change. ``for_this_machine`` has all
that podman or a machine without a cluster cannot do.
"""

from __future__ import annotations

import copy
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.identity import GuardedS3
from tests.httpd.machine import free_port
from tests.identity.endpoints import Container as ContainerCredentials
from tests.image.build import ROOT
from tests.image.engine import Engine
from tests.image.running import WAIT, assert_unprivileged, get
from tests.s3 import EmbeddedS3

FILE = ROOT / "apache" / "container" / "kubernetes.yaml"
TEXT = FILE.read_text("utf-8")
USER = 33
BUCKET = "media"
FILM = bytes(range(256)) * 4000
Document = dict[str, Any]


def documents(text: str = TEXT) -> dict[str, Document]:
    """The objects of a manifest by their kinds."""
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


def with_optional_lines() -> str:
    """The manifest with the lines that are in comments: a key with at most one word, where prose has more."""
    return re.sub(r"^( *)# ((?:  )*(?:- )?[\w./-]+:(?: \S+)?|---)$", r"\1\2", TEXT, flags=re.MULTILINE)


def with_aws_identity() -> dict[str, Document]:
    """The objects as the comments say for an AWS identity: some lines more, and others less."""
    objects = documents(with_optional_lines())
    variables = objects["ConfigMap"]["data"]
    del variables["S3_ACCESS_KEY_FILE"], variables["S3_SECRET_KEY_FILE"]
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    for items in (pod["volumes"], pod["containers"][0]["volumeMounts"]):
        items[:] = [item for item in items if item["name"] == "run"]
    return {kind: objects[kind] for kind in ("ConfigMap", "Deployment")}


# --- the manifest


def validator() -> str:
    """The program kubernetes-validate."""
    program = shutil.which("kubernetes-validate", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("kubernetes-validate is not installed (tests/requirements/image.txt)")
    return program


def versions() -> list[str]:
    """The oldest and the newest version of Kubernetes whose schemas the validator has."""
    schemas = Path(validator()).parents[1].glob("lib/python*/site-packages/kubernetes_validate/*/v*-local-strict")
    names = {path.name.removeprefix("v").removesuffix("-local-strict") for path in schemas}
    ordered = sorted(names, key=lambda name: tuple(map(int, name.split("."))))
    return [ordered[0], ordered[-1]]


@pytest.mark.parametrize("variant", ["as it is", "with all optional lines", "with an AWS identity"])
def test_is_valid(tmp_path: Path, variant: str) -> None:
    texts = {
        "as it is": TEXT,
        "with all optional lines": with_optional_lines(),
        "with an AWS identity": yaml.safe_dump_all(with_aws_identity().values()),
    }
    file = tmp_path / "kubernetes.yaml"
    file.write_text(texts[variant])
    for version in versions():
        command = [validator(), "--strict", "-k", version, str(file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr.count("passed") + done.stdout.count("passed") == len(documents(texts[variant]))


def test_its_parts_belong_together() -> None:
    objects = documents(with_optional_lines())
    deployment, service = objects["Deployment"]["spec"], objects["Service"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    selectors = [
        deployment["selector"]["matchLabels"],
        service["selector"],
        objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        *(spread["labelSelector"]["matchLabels"] for spread in pod["topologySpreadConstraints"]),
    ]
    assert all(selector == labels for selector in selectors)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": 8080, "health": 8081}
    assert [port["targetPort"] for port in service["ports"]] == ["http"]
    assert {container[probe]["httpGet"]["port"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")} == {
        "health"
    }
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert volumes == {mount["name"] for mount in container["volumeMounts"]}
    drain = float(container["lifecycle"]["preStop"]["exec"]["command"][-1])
    ready = container["readinessProbe"]
    assert ready["periodSeconds"] * ready["failureThreshold"] + ready["timeoutSeconds"] <= drain
    assert pod["terminationGracePeriodSeconds"] >= drain + 300
    assert "Secret" not in objects  # no key in a file that goes into a repository


# --- its pod


@dataclass(frozen=True)
class Pod:
    """A running pod."""

    engine: Engine
    name: str
    port: int
    health_port: int

    @property
    def container(self) -> str:
        return f"{self.name}-httpd"

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of a response. Raises: OSError."""
        return get(self.port, path)

    def is_ready(self) -> bool:
        """What a readiness probe finds."""
        try:
            return get(self.health_port, "/health/ready")[0] == 204
        except OSError:
            return False

    def inspect(self, template: str) -> str:
        """A part of the container's description."""
        return self.engine.call("inspect", "--format", template, self.container).stdout.strip()

    def logs(self) -> str:
        """Its stdout and stderr."""
        return self.engine.run(["logs", self.container], timeout=WAIT, merge=True).stdout

    def processes(self) -> list[Path]:
        """The folders in /proc of its processes."""
        pids = [int(self.inspect("{{.State.Pid}}"))]
        for pid in pids:
            pids += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return [Path(f"/proc/{pid}") for pid in pids]

    def stop(self) -> float:
        """As Kubernetes does it: preStop, the image's stop signal, and the grace period of the manifest.

        Returns how long it took after preStop.
        """
        spec = pod_spec(documents())
        command = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
        self.engine.call("exec", self.container, *command, timeout=WAIT)
        started = time.monotonic()
        grace = spec["terminationGracePeriodSeconds"]
        self.engine.call("stop", "--time", str(grace), self.container, timeout=grace + WAIT)
        return time.monotonic() - started


def pod_spec(objects: dict[str, Document]) -> Document:
    """The specification of the pod."""
    spec: Document = objects["Deployment"]["spec"]["template"]["spec"]
    return spec


def for_operator(objects: dict[str, Document], image: str, url: str, region: str) -> dict[str, Document]:
    """The objects with the changes of the operator: the image, and the bucket."""
    objects["ConfigMap"]["data"] |= {"REMOTE_STORAGE_URL": url, "S3_REGION": region}
    pod_spec(objects)["containers"][0]["image"] = f"localhost/{image}"
    return objects


def for_this_machine(objects: dict[str, Document], folder: Path, name: str, ports: tuple[int, int]) -> str:
    """The pod and its ConfigMap, as podman can run them; returns the file's text.

    - podman has no Deployments that are updated, and no scheduler: a pod instead.
    - The tests' S3 listens only at 127.0.0.1 of this machine: the pod is in its network, with ports of its own.
    - This podman has no secrets as volumes, and emptyDir only on the disk: both are folders in this machine's
      memory, with the same owner and modes.
    - podman's probes need curl in the image, and systemd: the tests send the requests of the probes.
    """
    pod = copy.deepcopy(objects["Deployment"]["spec"]["template"])
    spec, (container,) = pod["spec"], pod["spec"]["containers"]
    spec["hostNetwork"] = True
    for key in ("ports", "startupProbe", "livenessProbe", "readinessProbe"):
        del container[key]
    variables = copy.deepcopy(objects["ConfigMap"])
    variables["data"] |= {"PORT": str(ports[0]), "HEALTH_PORT": str(ports[1])}
    for volume in spec["volumes"]:
        if volume.pop("emptyDir", None) or volume.pop("secret", None):
            volume["hostPath"] = {"path": str(folder / volume["name"]), "type": "Directory"}
    document = {"apiVersion": "v1", "kind": "Pod", **pod, "metadata": {**pod["metadata"], "name": name}}
    text: str = yaml.safe_dump_all([variables, document])
    return text


def make_volumes(folder: Path, keys: Mapping[str, str], group: int) -> None:
    """The folders of ``for_this_machine``, with the owners and modes that Kubernetes gives to such volumes."""
    folder.chmod(0o755)
    (folder / "run").mkdir()
    os.chown(folder / "run", 0, USER)
    (folder / "run").chmod(0o2777)
    (folder / "keys").mkdir()
    (mode,) = (volume["secret"]["defaultMode"] for volume in pod_spec(documents())["volumes"] if "secret" in volume)
    for name, value in keys.items():
        file = folder / "keys" / name
        file.write_text(value)
        file.chmod(mode)
        os.chown(file, 0, group)


@contextmanager
def running(
    engine: Engine, objects: dict[str, Document], keys: Mapping[str, str], *, group: int = USER
) -> Iterator[Pod]:
    """A pod that is ready. ``group``: that of the secret's files."""
    if engine.name != "podman":
        pytest.skip("only podman can run a pod of Kubernetes")
    if os.geteuid():
        pytest.skip("only root can make files of group 33, as Kubernetes does")
    pod = Pod(engine, f"usp-s3-{uuid.uuid4().hex[:8]}", free_port(), free_port())
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pod-", dir="/dev/shm")))
        make_volumes(folder, keys, group)
        (folder / "pod.yaml").write_text(for_this_machine(objects, folder, pod.name, (pod.port, pod.health_port)))
        (folder / "containers.conf").write_text(f"[containers]\ndefault_ulimits = {json.dumps(limits(engine))}\n")
        stack.callback(engine.call, "pod", "rm", "--force", "--time", "0", pod.name, check=False)
        done = engine.run(
            ["play", "kube", str(folder / "pod.yaml")],
            timeout=2 * WAIT,
            merge=True,
            environment={"CONTAINERS_CONF": str(folder / "containers.conf")},
        )
        assert done.returncode == 0, done.stdout
        deadline = time.monotonic() + WAIT
        while not pod.is_ready():
            assert pod.inspect("{{.State.Running}}") == "true" and time.monotonic() < deadline, pod.logs()
            time.sleep(0.1)
        yield pod


def limits(engine: Engine) -> list[str]:
    """The limits of ``engine.run_options()``, for which ``play kube`` has no options."""
    return re.findall(r"--ulimit=(\S+)", " ".join(engine.run_options()))


@pytest.fixture(scope="module")
def s3() -> Iterator[EmbeddedS3]:
    with EmbeddedS3(buckets=(BUCKET,)) as server:
        server.put(BUCKET, "film/a b.mp4", FILM)
        yield server


@contextmanager
def serving(engine: Engine, image: str, s3: EmbeddedS3) -> Iterator[Pod]:
    """A pod of the manifest that serves the bucket with keys from the secret."""
    objects = for_operator(documents(), image, f"{s3.url}/{BUCKET}/", s3.region)
    keys = {"access-key": f"{s3.access_key}\n", "secret-key": f"{s3.secret_key}\n"}
    with running(engine, objects, keys) as pod:
        yield pod


def test_serves_the_bucket_without_privileges(engine: Engine, image: str, s3: EmbeddedS3) -> None:
    with serving(engine, image, s3) as pod:
        assert pod.get("/film/a%20b.mp4") == (200, FILM)
        assert pod.get("/none")[0] == 404
        assert get(pod.health_port, "/health/live")[0] == 204
        assert pod.inspect("{{.HostConfig.ReadonlyRootfs}}") == "true"
        processes = pod.processes()
        assert len(processes) > 2
        for process in processes:
            assert_unprivileged(process, s3.access_key, s3.secret_key)
        assert s3.secret_key not in pod.logs() + pod.inspect("{{json .}}")


def test_a_container_that_ends_is_started_again_in_its_pod(engine: Engine, image: str, s3: EmbeddedS3) -> None:
    """The volume in memory then has the files of the container before it, also that of the drain."""
    with serving(engine, image, s3) as pod:
        engine.call("exec", pod.container, "usp-s3-container", "drain")
        assert not pod.is_ready()
        engine.call("kill", pod.container)
        engine.call("wait", pod.container)
        engine.call("start", pod.container)
        deadline = time.monotonic() + WAIT
        while not pod.is_ready():
            assert time.monotonic() < deadline, pod.logs()
            time.sleep(0.1)
        assert pod.get("/film/a%20b.mp4") == (200, FILM)


def test_signs_with_an_aws_identity(engine: Engine, image: str, s3: EmbeddedS3) -> None:
    """EKS Pod Identity: EKS adds two variables, and a volume with a token that group 33 can read."""
    with ContainerCredentials() as agent:
        guarded = GuardedS3(s3, None, (agent,))
        guarded.put(BUCKET, "film.mp4", FILM)
        with guarded.server:
            objects = for_operator(with_aws_identity(), image, f"http://127.0.0.1:{guarded.port}/{BUCKET}/", s3.region)
            spec = pod_spec(objects)
            spec["volumes"].append({"name": "keys", "secret": {"secretName": "token"}})
            mount = "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount"
            spec["containers"][0]["volumeMounts"].append({"name": "keys", "mountPath": mount, "readOnly": True})
            objects["ConfigMap"]["data"] |= {
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": agent.uri,
                "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": f"{mount}/token",
            }
            with running(engine, objects, {"token": agent.token}) as pod:
                assert pod.get("/film.mp4") == (200, FILM), pod.logs()
                assert agent.token not in pod.logs()


@pytest.mark.parametrize("fault", ["unreadable secret", "folder on a disk", "unknown region"])
def test_a_pod_that_does_not_start_says_why_in_one_line(engine: Engine, image: str, s3: EmbeddedS3, fault: str) -> None:
    """The table of docs/orchestration.md."""
    objects = for_operator(documents(), image, f"{s3.url}/{BUCKET}/", s3.region)
    keys = {"access-key": s3.access_key, "secret-key": s3.secret_key}
    group = USER
    with tempfile.TemporaryDirectory(prefix="pod-disk-", dir="/var/tmp") as disk:
        if fault == "unreadable secret":
            group = 0
            message = "S3_ACCESS_KEY_FILE: the file cannot be read (uid 33, gid 33): Permission denied"
        elif fault == "folder on a disk":
            os.chmod(disk, 0o777)
            spec = pod_spec(objects)
            spec["volumes"].append({"name": "disk", "hostPath": {"path": disk, "type": "Directory"}})
            spec["containers"][0]["volumeMounts"].append({"name": "disk", "mountPath": "/mnt"})
            objects["ConfigMap"]["data"]["USP_S3_RUN"] = "/mnt/usp_s3"
            message = "/mnt/usp_s3 is not in memory, and keys must not be on a disk: mount a tmpfs there"
        else:
            objects["ConfigMap"]["data"]["S3_REGION"] = "eu central"
            message = "S3_REGION must be a region's name"
        with pytest.raises(AssertionError) as failure, running(engine, objects, keys, group=group):
            pass
    assert f"usp-s3-container: {message}" in str(failure.value)
    assert s3.secret_key not in str(failure.value)


class Endpoints(threading.Thread):
    """The pods that a service sends clients to: each is asked as its readiness probe says."""

    def __init__(self, pods: Sequence[Pod]) -> None:
        super().__init__(daemon=True)
        self.pods = list(pods)
        self.ready = list(pods)
        self.ended = threading.Event()
        probe = pod_spec(documents())["containers"][0]["readinessProbe"]
        self.period, self.threshold = probe["periodSeconds"], probe["failureThreshold"]

    def run(self) -> None:
        failures: dict[str, int] = {}
        while not self.ended.wait(self.period):
            for pod in list(self.pods):
                failures[pod.name] = 0 if pod.is_ready() else failures.get(pod.name, 0) + 1
            self.ready = [pod for pod in self.pods if failures[pod.name] < self.threshold]


class Client(threading.Thread):
    """Fetches the film from one ready pod after the other, each time on a new connection."""

    def __init__(self, endpoints: Endpoints) -> None:
        super().__init__(daemon=True)
        self.endpoints = endpoints
        self.fetched: Counter[str] = Counter()
        self.failed: list[str] = []

    def run(self) -> None:
        for number in itertools.count():
            if self.endpoints.ended.is_set():
                return
            ready = self.endpoints.ready
            pod = ready[number % len(ready)]
            try:
                assert pod.get("/film/a%20b.mp4") == (200, FILM)
                self.fetched[pod.name] += 1
            except (OSError, AssertionError) as error:
                self.failed.append(f"{pod.name}: {error!r}"[:200])


def test_an_update_under_load_loses_nothing(engine: Engine, image: str, s3: EmbeddedS3) -> None:
    """A new pod, then the stop of an old one with the manifest's probe, preStop and grace period."""
    with serving(engine, image, s3) as old, serving(engine, image, s3) as other:
        endpoints = Endpoints([old, other])
        clients = [Client(endpoints) for _ in range(6)]
        for thread in (endpoints, *clients):
            thread.start()
        try:
            with serving(engine, image, s3) as new:
                endpoints.pods.append(new)
                seconds = old.stop()
                endpoints.pods.remove(old)
                while not all(client.fetched[new.name] for client in clients):
                    assert new.is_ready()
                    time.sleep(0.1)
                endpoints.ended.set()
                for client in clients:
                    client.join(WAIT)
        finally:
            endpoints.ended.set()
        fetched = sum((client.fetched for client in clients), Counter())
        failed = [line for client in clients for line in client.failed]
        print(f"{fetched.total()} fetched, {len(failed)} failed, stopped in {seconds:.1f} s after preStop")
        assert failed == []
        assert min(fetched[pod.name] for pod in (old, other, new)) > 0
        assert seconds < WAIT
