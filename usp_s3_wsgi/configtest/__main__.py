"""The process that httpd starts: reads the configuration from standard input, writes findings to standard output.

It imports the package that this file belongs to, whatever the import path of this Python is.
"""

from __future__ import annotations

import gc
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from usp_s3_wsgi.configtest import check, configured_buckets, parsed_config
from usp_s3_wsgi.configtest.privileges import drop_privileges

#: Seconds. httpd's own timeout is shorter; this one ends the process if httpd itself is gone.
_TIMEOUT = 60


def main() -> None:
    """Read, check, print fields, each terminated by a zero byte.

    The first is the list of buckets, empty unless httpd keeps it; then five for each finding, and "end" after the last.
    """
    signal.alarm(_TIMEOUT)
    gc.disable()  # the process is too short-lived for garbage collection to pay off
    configuration = parsed_config.parse(sys.stdin.buffer.read())
    drop_privileges(configuration)
    findings = check(configuration)
    buckets = configured_buckets.to_json(findings.buckets) if configuration.lists_buckets else ""
    fields = [field for finding in findings.sorted() for field in finding.fields()]
    text = "".join(f"{field}\0" for field in (buckets, *fields, "end"))
    sys.stdout.buffer.write(text.encode("latin-1", "backslashreplace"))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
