"""The process that httpd starts: its configuration on standard input, findings on standard output.

It imports what stands beside it, whatever this Python's own paths are.
"""

from __future__ import annotations

import gc
import os
import pwd
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from usp_s3_wsgi.configtest import check, parsed_config

#: Seconds. httpd does not wait so long; should it be gone, this process must not stay.
_TIME_LIMIT = 60


def become(configuration: parsed_config.Configuration) -> None:
    """Become the user of httpd's children, as httpd does (``ap_unixd_setup_child``); the files are opened as that."""
    if os.getuid() != 0:
        return
    if configuration.chroot:
        os.chroot(configuration.chroot)
        os.chdir("/")
    try:
        name = configuration.user_name.removeprefix("#")
        user = pwd.getpwuid(int(name)).pw_name if name.isdigit() else name
        os.initgroups(user, configuration.gid)
    except (KeyError, OSError):
        os.setgroups([configuration.gid])
    os.setgid(configuration.gid)
    os.setuid(configuration.uid)


def main() -> None:
    """Read, check, print: four fields for each finding, each ended by a zero byte, and "end" after the last one."""
    signal.alarm(_TIME_LIMIT)
    gc.disable()  # this process ends before that would pay
    configuration = parsed_config.parse(sys.stdin.buffer.read())
    become(configuration)
    fields = [field for finding in check(configuration).sorted() for field in finding.fields()]
    text = "".join(f"{field}\0" for field in (*fields, "end"))
    sys.stdout.buffer.write(text.encode("latin-1", "backslashreplace"))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
