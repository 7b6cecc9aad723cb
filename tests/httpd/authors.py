"""A server whose docroot is of .htaccess authors, and the operator's lines that their files meet."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.httpd.machine import modules_directory
from tests.httpd.recorder import Recorder
from tests.httpd.server import Httpd
from tests.httpd.ways import keys

NEGOTIATION = f"""
<IfModule !negotiation_module>
  LoadModule negotiation_module "{modules_directory()}/mod_negotiation.so"
</IfModule>
"""
#: The operator's lines by which a folder /own has WSGI scripts.
SCRIPTS = {
    "AddType": "<Directory ${ROOT}/htdocs/own>\nOptions +ExecCGI\nAddType application/x-httpd-wsgi .wsgi\n</Directory>",
    "WSGIHandlerScript": "WSGIHandlerScript s3 ${ROOT}/scripts/h.wsgi\n"
    "<Directory ${ROOT}/scripts>\nRequire all granted\n"
    "</Directory>\n<Location /own>\nSetHandler s3\n</Location>",
}
AUTHORS = """
<Directory ${ROOT}/htdocs>
  AllowOverride All
  Options All
</Directory>
"""


@contextmanager
def running(preload: Path, *parts: str, kind: type[Httpd] = Httpd, **folders: dict[str, str]) -> Iterator[Httpd]:
    """An httpd whose docroot authors may write .htaccess files in; ``folders``: their files."""
    with kind("\n".join([AUTHORS, *parts]), preload=preload) as server:
        server.expect_error(".")
        for name, files in folders.items():
            write(server, name, files)
        yield server


def write(server: Httpd, folder: str, files: dict[str, str]) -> None:
    """Write an author's files into a folder of the docroot."""
    place = server.root / "htdocs" / folder
    place.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (place / name).write_text(text)


def own_script(server: Httpd) -> str:
    """A .wsgi of the operator's own, which imports the gateway's application."""
    match = re.search(r'Define USP_S3_WSGI "?([^"\n]+)', server.gateway_lines())
    assert match is not None
    return Path(match[1]).read_text().replace("Path(__file__)", f"Path({match[1]!r})")


def located(path: str, url: str, key: str) -> str:
    """The operator's settings for what is at this path."""
    lines = "\n".join([*keys(key), f"SetEnv S3BucketURL {url}", "SetEnv S3DeniedStatus 404"])
    return f"<Location {path}>\n{lines}\n</Location>"


def mount(path: str, url: str, key: str = "GATEWAY") -> str:
    """The gateway at this path."""
    return f"WSGIScriptAlias {path} ${{USP_S3_WSGI}}\n{located(path, url, key)}"


def fallback(evil: Recorder) -> str:
    """An author's lines by which his host would serve what the bucket has not."""
    return f"SetEnv S3FallbackURL {evil.url('evil', '/evil/')}\nSetEnv S3FallbackOn404 on\n"
