"""A bucket with the place in the configuration where it is used."""

from __future__ import annotations

from typing import Literal, NamedTuple

from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.configtest.parsed_config import Directive
from usp_s3_wsgi.configtest.server_config import Server, Value


class Place(NamedTuple):
    """Where requests to a bucket come from.

    ``way``: "gateway", or "proxy" for signing in ``<Proxy>``. ``name``: the path of the gateway's mount, or the URL of
    the ``<Proxy>`` section. ``path``: what the paths of its clients' requests begin with, None if it is unknown.
    ``url``: what mod_proxy sends instead of ``path``; empty for the gateway, which sends S3BucketURL.
    """

    way: Literal["gateway", "proxy"]
    name: str
    server: Server
    path: str | None
    url: str = ""


class BucketUse(NamedTuple):
    """A place with its settings, and the directive that says where they are.

    ``given``: the variables of its settings. ``settings``: None where rules compute them for each request, a text that
    says why if they are not valid. ``reads_files``: False if the gateway may run as another user than httpd's children.
    """

    place: Place
    directive: Directive
    given: tuple[Value, ...]
    settings: Settings | str | None
    reads_files: bool = True
