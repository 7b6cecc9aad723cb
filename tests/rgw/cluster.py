"""Ceph's programs on loopback: a monitor, an OSD in memory, any number of radosgw, in a temporary folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests.httpd.machine import free_port

PROGRAMS = ("radosgw", "radosgw-admin", "ceph", "ceph-mon", "ceph-osd", "monmaptool")
#: Why tests are skipped.
MISSING = "Ceph's packages are not installed: make test-rgw installs them"
WAIT = 60.0

# No authentication within the cluster, one copy of the data, and no manager, which only collects statistics.
CEPH_CONF = """
[global]
fsid = {fsid}
mon_initial_members = a
mon_host = v2:127.0.0.1:{mon_port}/0
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_msgr1 = false
# The OSD uses the first free ports of this range.
ms_bind_port_min = {osd_port}
ms_bind_port_max = {last_osd_port}
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
run_dir = {root}
log_file = {root}/$name.log
admin_socket = {root}/$name.asok
crash_dir = {root}
mon_data = {root}/mon
osd_data = {root}/osd
osd_objectstore = memstore
memstore_device_bytes = 4294967296
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pgp_num = 1
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
# Ignore a disk that is nearly full.
mon_data_avail_crit = 1
mon_data_avail_warn = 2
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
[client]
# The default of radosgw, "secure", needs keys.
ms_mon_client_mode = crc
rgw_dns_name = s3.localhost
rgw_s3_auth_use_sts = true
rgw_sts_key = abcdefghijklmnop
rgw_enable_usage_log = false
rgw_dynamic_resharding = false
rgw_run_sync_thread = false
"""


class RgwError(Exception):
    """Ceph is not installed or does not start; the message includes the end of its logs."""


def available() -> bool:
    """Whether all programs are installed."""
    return all(_path(program) for program in PROGRAMS)


class Cluster:
    """The programs and their folder."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="rgw-"))
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start the monitor and the OSD. Raises: RgwError."""
        fsid, osd, mon_port, osd_port = str(uuid.uuid4()), str(uuid.uuid4()), free_port(), free_port()
        conf = CEPH_CONF.format(
            root=self.root, fsid=fsid, mon_port=mon_port, osd_port=osd_port, last_osd_port=osd_port + 500
        )
        (self.root / "ceph.conf").write_text(conf)
        for name in ("mon", "osd"):
            (self.root / name).mkdir()
        monmap = str(self.root / "monmap")
        self.run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{mon_port}]", monmap)
        self.run("ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap)
        self._wait_for(self._spawn("ceph-mon", "-i", "a", "-f"), mon_port)
        self.run("ceph", "osd", "new", osd, "0")
        self.run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._spawn("ceph-osd", "-i", "0", "-f")

    def start_gateway(
        self, *options: str, environment: Mapping[str, str] | None = None
    ) -> tuple[subprocess.Popen[bytes], int]:
        """Start a radosgw on a free port and wait until it listens; returns it and the port. Raises: RgwError."""
        port = free_port()
        frontend = f"--rgw-frontends=beast endpoint=127.0.0.1:{port} tcp_nodelay=1"
        name = f"client.rgw.{len(self._processes)}"
        process = self._spawn("radosgw", "-n", name, "-f", frontend, *options, environment=environment)
        self._wait_for(process, port)
        return process, port

    def end_gateway(self, process: subprocess.Popen[bytes]) -> None:
        """End a radosgw in order: otherwise the others wait 30 seconds for it."""
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
        self._kill(process)

    def stop(self) -> None:
        """Kill all programs and remove the folder."""
        for process in reversed(self._processes[:]):
            self._kill(process)
        shutil.rmtree(self.root, ignore_errors=True)

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        self._processes.remove(process)
        process.kill()
        process.wait(timeout=WAIT)

    def run(self, program: str, *arguments: str) -> None:
        """Run one of Ceph's commands. Raises: RgwError."""
        try:
            done = subprocess.run(
                self._command(program, *arguments), env=_environment(), cwd=self.root, timeout=WAIT, check=False,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise RgwError(f"{program} {arguments[0]}: no end in {WAIT} s\n{self._log_tails()}") from None
        if done.returncode:
            raise RgwError(f"{program} {arguments[0]}: {done.stdout.decode('utf-8', 'replace')}\n{self._log_tails()}")

    def _spawn(
        self, program: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        with (self.root / f"{program}.out").open("ab") as log:
            process = subprocess.Popen(
                self._command(program, *arguments), env=_environment() | dict(environment or {}), cwd=self.root,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._processes.append(process)
        return process

    def _command(self, program: str, *arguments: str) -> list[str]:
        # setpriv --pdeathsig: the kernel kills the program when this process ends, in any way.
        command = ["setpriv", "--pdeathsig", "KILL", _path(program) or program]
        conf = [] if program == "monmaptool" else ["-c", str(self.root / "ceph.conf")]
        return [*command, *conf, *arguments]

    def _wait_for(self, process: subprocess.Popen[bytes], port: int) -> None:
        deadline = time.monotonic() + WAIT
        while not _listens(process.pid, port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RgwError(f"does not start: {process.args!r}\n{self._log_tails()}")
            time.sleep(0.02)

    def _log_tails(self) -> str:
        files = sorted([*self.root.glob("*.out"), *self.root.glob("*.log")])
        return "\n".join(f"{file.name}: {file.read_text('utf-8', 'replace')[-1500:]}" for file in files)


def _path(program: str) -> str | None:
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/bin")


def _environment() -> dict[str, str]:
    """This process's environment without the variables that Ceph and its Python commands read."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("CEPH_", "PYTHON", "LD_"))}


def _listens(pid: int, port: int) -> bool:
    """Whether this process listens on the port of 127.0.0.1, and not another process."""
    with suppress(OSError):
        rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
        sockets = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A"}
        return bool(sockets) and any(os.readlink(file) in sockets for file in Path(f"/proc/{pid}/fd").iterdir())
    return False
