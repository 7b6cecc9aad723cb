"""Each block of shell commands runs, and each command of a console block has the output that the page shows.

Blocks with the key ``fresh`` change a machine: ``make test-fresh`` runs them. Here only their syntax is checked.
"""

from __future__ import annotations

import os
import re
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
from tests.docs.shell import FORBIDDEN, SYSTEM_PATH, commands_of, matches, run_commands
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
#: Programs that are not in every minimal Debian, and those of them that need root.
TOOLS = ("curl", "openssl", "ps", "jq", "dig", "ss", "logger", "runuser", "chown", "install")
FOR_ROOT = frozenset({"runuser", "chown", "install"})
KEY, OBJECT = "film/film.mp4", b"a film\n" * 1000
FOLDERS = ("etc/apache2/s3", "etc/apache2/conf-available", "etc/apache2/sites-available", "var/log/apache2", "home")


@pytest.mark.parametrize("block", parameters("console", "sh"))
def test_block(block: Block, names: Names, stop: Callable[[Httpd], None]) -> None:
    steps = commands_of(block)
    for step in steps:
        subprocess.run(["bash", "-n"], input=step.text, text=True, check=True, timeout=10)
    if "fresh" in block.keys:
        return
    assert not (found := FORBIDDEN.search(block.text)), f"{found[0]} changes this machine: use the key fresh"
    if missing := missing_tools(block.text):
        pytest.skip(f"{', '.join(missing)} not on this machine, or not for this user")
    prepare(block, names)
    with serving(block, names, stop) as path:
        texts = [names.localized_script(step.text) for step in steps]
        results = run_commands(texts, names.folder / "home", path, block.keys.get("input", ""))
    assert len(results) == len(steps), results
    for step, (_, output) in zip(steps, results, strict=True):
        if step.output is not None and not matches(step.output, names.documented(output)):
            assert names.documented(output) == step.output, step.text
    expected = [int(status) for status in block.keys.get("status", "").split()]
    assert [status for status, _ in results if status] == expected, results


def missing_tools(text: str) -> list[str]:
    """The programs of a block that a minimal machine may lack, or that only root can use."""
    path = f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}"
    used = [tool for tool in TOOLS if re.search(rf"(?:^|[|;&(]\s*|\$ |-- ){tool}\s", text, re.MULTILINE)]
    return [tool for tool in used if not shutil.which(tool, path=path) or (tool in FOR_ROOT and os.geteuid())]


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
        if not (site := names.path("/etc/apache2/sites-available/media.conf")).exists():
            site.symlink_to(httpd.root / "httpd.conf")
        yield str(tools)
    finally:
        httpd.expect_error("")
        stop(httpd)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("console", "$ echo a\nb\n"),
        ("console", "$ false\n"),
        ("console", "$ echo a\n"),
        ("console", "$ curl -s http://127.0.0.1/media/film/film.mp4 | head -n 1\nanother film\n"),
        ("sh", "false && true\ntrue\n"),
        ("sh", "apt-get install x\n"),
        ("sh", "test -e /etc/apache2/none\n"),
    ],
)
def test_a_wrong_block_fails(language: str, text: str, names: Names, stop: Callable[[Httpd], None]) -> None:
    keys = {"server": "gateway"} if "127.0.0.1" in text else {}
    with pytest.raises(AssertionError):
        test_block(Block("x.md", 1, language, text, keys), names, stop)
