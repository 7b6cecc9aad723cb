"""Traffic Server in folders of its own. The system's Traffic Server and its files are not used or changed."""

from __future__ import annotations

from pathlib import Path

#: The folders below its root.
FOLDERS = ("etc", "run", "log", "cache")
_RUN_ROOT = """\
prefix: {root}
exec_prefix: {root}
bindir: /usr/bin
sbindir: /usr/bin
sysconfdir: {root}/etc
datadir: {root}
includedir: {root}
libdir: /usr/lib/trafficserver
libexecdir: /usr/lib/trafficserver/modules
localstatedir: {root}
runtimedir: {root}/run
logdir: {root}/log
cachedir: {root}/cache
"""
#: What Debian's ip_allow.yaml says of this machine.
IP_ALLOW = """\
ip_allow:
  - {apply: in, ip_addrs: 127.0.0.1, action: allow, methods: ALL}
"""


def run_root(root: Path) -> dict[str, str]:
    """Write the file that names the folders below ``root``; returns the environment that makes programs use it."""
    file = root / "runroot.yaml"
    file.write_text(_RUN_ROOT.format(root=root))
    return {"TS_RUNROOT": str(file)}
