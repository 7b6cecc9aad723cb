"""An httpd with the stand-in for Unified Origin, which reads from buckets in each way that the documentation names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.httpd.machine import compile_module

SOURCE = Path(__file__).with_name("reading_origin.c")
DIRECTIONS = ("forward", "reverse")
#: One child, so that its connections are those of the whole server. A read through the mount takes a second thread.
ONE_LARGE_CHILD = """
StartServers 1
ServerLimit 1
ThreadsPerChild 64
MaxRequestWorkers 64
MinSpareThreads 1
MaxSpareThreads 64
"""
REUSE = "ProxySet enablereuse=on keepalive=on retry=0 timeout=30 ttl=300"


def compile_origin(folder: Path) -> str:
    """Compile the module, and return the line that loads it."""
    return f'LoadModule reading_origin_module "{compile_module(SOURCE, folder)}"\n'


def origin(path: str, url: str, direction: str) -> str:
    """The section of the origin that answers below a path, and reads below a URL."""
    return f"<Location {path}>\nSetHandler reading-origin\nOriginReads {url}/ {direction}\n</Location>\n"


def proxy(url: str, settings: Iterable[str], *lines: str) -> str:
    """The ``<Proxy>`` section of a bucket."""
    return "\n".join([f'<Proxy "{url}/">', *settings, *(lines or [REUSE]), "</Proxy>\n"])


def mount(path: str, url: str, settings: Iterable[str], *lines: str) -> str:
    """A mount of the gateway that only this machine can read, and what an origin needs that reads it by http."""
    section = [f"<Location {path}>", "Require local", f"SetEnv S3BucketURL {url}/", *settings, *lines, "</Location>"]
    return "\n".join([f"WSGIScriptAlias {path} ${{USP_S3_WSGI}}", *section]) + "\n" + proxy(mounted(path), [])


def mounted(path: str) -> str:
    """The URL of a mount, as an origin in the same httpd reads it."""
    return f"http://127.0.0.1:${{PORT}}{path}"
