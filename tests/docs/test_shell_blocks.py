"""Each block of shell commands runs, and each command of a console block has the output that the page shows.

Blocks with the key ``fresh`` change a machine: ``make test-fresh`` runs them. Here only their syntax is checked.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.docs.blocks import Block, all_blocks, parameters
from tests.docs.completion import TLS, complete_bucket
from tests.docs.names import Names
from tests.docs.shell import FORBIDDEN, Command, commands, matches, run_commands, run_script
from tests.httpd.conftest import ONE_CHILD
from tests.httpd.machine import httpd_binary
from tests.httpd.server import Httpd

#: In the place of Apache's own, for the server of the test.
APACHECTL = """\
#!/bin/sh
case ${{1:-}} in
  configtest) exec {httpd} -f {config} -t ;;
  graceful) kill -USR1 $(cat {root}/run/httpd.pid) ;;
  restart) kill -HUP $(cat {root}/run/httpd.pid) ;;
  start | stop | graceful-stop) echo "apachectl $1 cannot be tested" >&2; exit 1 ;;
  *) exec {httpd} -f {config} "$@" ;;
esac
"""
#: As Debian has it.
ACCESS_LOG = r"""
LogFormat "%h %l %u %t \"%r\" %>s %O \"%{Referer}i\" \"%{User-Agent}i\"" combined
CustomLog access.log combined
"""
KEY, OBJECT = "film/film.mp4", b"a film\n" * 1000
FOLDERS = ("etc/apache2/s3", "etc/apache2/conf-available", "etc/apache2/sites-available", "var/log/apache2", "home")


@pytest.mark.parametrize("block", parameters("console", "sh"))
def test_block(block: Block, names: Names, stop: Callable[[Httpd], None]) -> None:
    steps = list(commands(block.text)) if block.language == "console" else [Command(block.text, "")]
    if "fresh" in block.keys:
        for step in steps:
            subprocess.run(["bash", "-n"], input=step.text, text=True, check=True, timeout=10)
        return
    assert not (found := FORBIDDEN.search(block.text)), f"{found[0]} changes this machine: use the key fresh"
    if "curl" in block.text and not shutil.which("curl"):
        pytest.skip("curl is not on this machine")
    prepare(block, names)
    expected = [int(status) for status in block.keys.get("status", "").split()]
    with serving(block, names, stop) as path:
        if block.language == "sh":
            status, output = run_script(
                names.localized_script(block.text), names.folder / "home", "sh", "-e", path=path
            )
            assert ([status] if status else []) == expected, output
            return
        results = run_commands([names.localized_script(step.text) for step in steps], names.folder / "home", path)
    assert len(results) == len(steps), results
    for step, (_, output) in zip(steps, results, strict=True):
        if not matches(step.output, names.documented(output)):
            assert names.documented(output) == step.output, step.text
    assert [status for status, _ in results if status] == expected, results


def prepare(block: Block, names: Names) -> None:
    """Make the folders of a machine with Apache and this package, and the files of the page's earlier blocks."""
    for folder in FOLDERS:
        names.path(folder).mkdir(parents=True)
    (names.folder / "opt").mkdir()
    # A link: what removes it leaves the virtual environment of the tests as it is.
    (names.folder / "opt" / "usp_s3_wsgi").symlink_to(Path(sys.prefix).resolve())
    for other in all_blocks():
        if other.file == block.file and other.line < block.line and (path := other.keys.get("file")):
            text = names.localized(other.text) if other.language == "apache" else other.text
            names.write(path if path.startswith("/") else f"/home/{path}", text)


@contextmanager
def serving(block: Block, names: Names, stop: Callable[[Httpd], None]) -> Iterator[str]:
    """The server that a block needs, if it needs one; yields the folder with its apachectl."""
    if not (way := block.keys.get("server")):
        yield ""
        return
    config = names.localized(complete_bucket(way) if way == "gateway" else TLS + complete_bucket(way))
    for bucket in names.buckets.values():
        names.s3(bucket.url).put(bucket.name, KEY, OBJECT)
    httpd = Httpd(config + ACCESS_LOG + ONE_CHILD)
    httpd.start()
    names.port = httpd.port
    try:
        tools = names.folder / "tools"
        tools.mkdir()
        script = APACHECTL.format(httpd=httpd_binary(), config=httpd.root / "httpd.conf", root=httpd.root)
        for name in ("apachectl", "apache2ctl"):
            (tools / name).write_text(script)
            (tools / name).chmod(0o755)
        for name in ("error.log", "access.log"):
            names.path(f"/var/log/apache2/{name}").symlink_to(httpd.root / name)
        names.path("/etc/apache2/sites-available/media.conf").symlink_to(httpd.root / "httpd.conf")
        yield str(tools)
    finally:
        httpd.expect_error("")
        stop(httpd)
