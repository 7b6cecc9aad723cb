"""A server whose docroot belongs to .htaccess authors, and the operator's configuration around their files."""

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
#: The operator's lines that make files in the folder /own WSGI scripts.
SCRIPTS = {
    "AddType": "<Directory ${ROOT}/htdocs/own>\nOptions +ExecCGI\nAddType application/x-httpd-wsgi .wsgi\n</Directory>",
    "WSGIHandlerScript": "WSGIHandlerScript s3 ${ROOT}/scripts/h.wsgi\n"
    "<Directory ${ROOT}/scripts>\nRequire all granted\n"
    "</Directory>\n<Location /own>\nSetHandler s3\n</Location>",
}
ALLOW_OVERRIDE = """
<Directory ${ROOT}/htdocs>
  AllowOverride All
  Options All
</Directory>
"""


@contextmanager
def running(preload: Path, *parts: str, kind: type[Httpd] = Httpd, **folders: dict[str, str]) -> Iterator[Httpd]:
    """An httpd in whose docroot authors may write .htaccess files; ``folders``: their files."""
    with kind("\n".join([ALLOW_OVERRIDE, *parts]), preload=preload) as server:
        server.expect_error(".")
        for name, files in folders.items():
            write(server, name, files)
        yield server


def write(server: Httpd, folder: str, files: dict[str, str]) -> None:
    """Write files of an author to a folder of the docroot."""
    path = server.root / "htdocs" / folder
    path.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (path / name).write_text(text)


def own_script(server: Httpd) -> str:
    """The text of a .wsgi file of the operator, which imports the gateway's application."""
    match = re.search(r'Define USP_S3_WSGI "?([^"\n]+)', server.gateway_lines())
    assert match is not None
    return Path(match[1]).read_text().replace("Path(__file__)", f"Path({match[1]!r})")


def location_section(path: str, url: str, key: str) -> str:
    """The operator's settings for a path."""
    lines = "\n".join([*keys(key), f"SetEnv S3BucketURL {url}", "SetEnv S3DeniedStatus 404"])
    return f"<Location {path}>\n{lines}\n</Location>"


def mount(path: str, url: str, key: str = "GATEWAY") -> str:
    """The gateway at a path."""
    return f"WSGIScriptAlias {path} ${{USP_S3_WSGI}}\n{location_section(path, url, key)}"


def fallback_to(attacker: Recorder) -> str:
    """An author's lines that would make the author's host the fallback for objects that the bucket lacks."""
    return f"SetEnv S3FallbackURL {attacker.url('evil', '/evil/')}\nSetEnv S3FallbackOn404 on\n"
