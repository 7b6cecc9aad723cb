"""Numbers of processes and threads for tests that restart httpd under load, in the shipped file's ratios."""

from __future__ import annotations

import re
from pathlib import Path

_SHIPPED = Path(__file__).parents[2] / "apache" / "include" / "mpm_event.conf"


def mpm_lines(children: int, threads: int, start: int) -> str:
    """At most ``children`` child processes for new requests, and as much room for older ones as mpm_event.conf has."""
    settings = re.findall(r"(?m)^  ([A-Z]\w+) +(\d+)$", _SHIPPED.read_text("utf-8"))
    shipped = {name: int(value) for name, value in settings}
    limit = shipped["ServerLimit"] * shipped["ThreadsPerChild"] * children // shipped["MaxRequestWorkers"]
    return f"""
StartServers {start}
ServerLimit {limit}
ThreadsPerChild {threads}
MaxRequestWorkers {children * threads}
MinSpareThreads 1
MaxSpareThreads {children * threads}
"""
