"""``make test-servers``: the questions to all servers, or to those named, and the table.

A run of all of them writes results.json and docs/servers.md, also where it has failed: the table then says of what.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import pytest

from tests.servers import report, results
from tests.servers.catalogue import SERVERS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.servers", description=__doc__)
    parser.add_argument("server", nargs="*", help=f"of {', '.join(SERVERS)}; all of them if none is named")
    names = parser.parse_args().server
    if unknown := set(names) - set(SERVERS):
        parser.error(f"no such server: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as folder:
        met = Path(folder, "results.json")
        options = [f"--servers={','.join(names or SERVERS)}", f"--results={met}"]
        status = pytest.main(["-q", "-r", "E", "--tb=line", "tests/servers", *options])
        if not met.exists():
            return int(status) or 1
        found = results.load(met)
        if not names and len(found["servers"]) == len(SERVERS):
            report.RESULTS.write_text(met.read_text())
            report.PAGE.write_text(report.page(found))
    print(f"\n{report.page(found)}")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
