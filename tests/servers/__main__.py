"""``make test-servers``: test all servers, or the named ones, and print the table.

A run of all servers writes results.json and docs/servers.md, even if it fails: the table then shows the failures.
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
    parser.add_argument("server", nargs="*", help=f"one of {', '.join(SERVERS)}; default: all of them")
    names = parser.parse_args().server
    if unknown := set(names) - set(SERVERS):
        parser.error(f"unknown server: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as folder:
        results_file = Path(folder, "results.json")
        options = [f"--servers={','.join(names or SERVERS)}", f"--results={results_file}"]
        status = pytest.main(["-q", "-r", "E", "--tb=line", "tests/servers", *options])
        if not results_file.exists():
            return int(status) or 1
        run_results = results.load(results_file)
        if not names and len(run_results["servers"]) == len(SERVERS):
            report.RESULTS.write_text(results_file.read_text())
            report.PAGE.write_text(report.page(run_results))
    print(f"\n{report.page(run_results)}")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
