"""httpd's configuration: the gateway, ``<Proxy>`` sections, and mod_proxy without signing, for the same bucket."""

from __future__ import annotations

from tests.bench.bucket import ROUTES, Bucket, Route
from tests.httpd.server import Httpd
from tests.leaks import ACCESS_KEY, SECRET_KEY

#: The signing mode of every section: Signature v4 in headers, as in Traffic Server.
SIGNING_MODE = """
  SetEnv S3Region eu-central-1
  SetEnv S3UseHeaders on"""
#: Children are not ended between two loads, because they would be started again for the next one. All else is default.
KEEP_CHILDREN = "MaxSpareThreads 256\n"
_REUSE_CONNECTIONS = "enablereuse=on keepalive=on"


def pid(httpd: Httpd) -> int:
    """The pid of httpd's parent process."""
    return int((httpd.root / "run" / "httpd.pid").read_text())


def keys(number: int | None) -> dict[str, str]:
    """The keys of a bucket; each numbered bucket has its own."""
    end = "" if number is None else str(number)
    return {"S3AccessKey": ACCESS_KEY + end, "S3SecretKey": SECRET_KEY + end}


def _settings(number: int | None) -> str:
    return "".join(f"\n  SetEnv {name} {value}" for name, value in keys(number).items()) + SIGNING_MODE


def gateway(mount: str, bucket: Bucket, route: Route, number: int | None = None) -> str:
    """A mount of the gateway for the bucket, or for a numbered bucket."""
    reuse = '\n  SetEnv S3ProxySet "enablereuse=off"' if route.is_cold else ""
    trust = f"\n  SetEnv S3CAFile {bucket.ca}" if route.scheme == "https" else ""
    return f"""
WSGIScriptAlias {mount} ${{USP_S3_WSGI}}
<Location {mount}>
  SetEnv S3BucketURL {bucket.signed(route, number)}/{_settings(number)}{reuse}{trust}
</Location>
"""


def signer(mount: str, bucket: Bucket, route: Route, parameters: str = "", number: int | None = None) -> str:
    """A signing ``<Proxy>`` section, and its ProxyPass."""
    url = bucket.signed(route, number)
    return f"""
ProxyPass {mount} {url}
<Proxy "{url}/">{_settings(number)}
  {parameters}
</Proxy>
"""


def unsigned(mount: str, url: str, parameters: str = "") -> str:
    """A ProxyPass without signing."""
    return f"ProxyPass {mount} {url} {parameters}\n"


def verify_tls(bucket: Bucket) -> str:
    """The directives by which mod_proxy verifies the bucket's certificate."""
    return f"SSLProxyEngine on\nSSLProxyVerify require\nSSLProxyVerifyDepth 10\nSSLProxyCACertificateFile {bucket.ca}\n"


def gateways(bucket: Bucket) -> str:
    """A gateway for each route: ``/gateway/http`` and so on."""
    return "".join(gateway(f"/gateway/{route}", bucket, route) for route in ROUTES)


def signers(bucket: Bucket) -> str:
    """A signing ``<Proxy>`` section for each route: ``/signer/http`` and so on."""
    return "".join(
        signer(
            f"/signer/{route}", bucket, route, f"ProxySet {'enablereuse=off' if route.is_cold else _REUSE_CONNECTIONS}"
        )
        for route in ROUTES
    )


def unsigned_proxies(bucket: Bucket) -> str:
    """mod_proxy without signing, with default parameters, for each route: ``/unsigned/http`` and so on."""
    return "".join(
        unsigned(f"/unsigned/{route}", bucket.open(route), "enablereuse=off" if route.is_cold else "")
        for route in ROUTES
    )


def all_sections(bucket: Bucket, default_port: int, buffered_port: int) -> str:
    """All of them: signed at httpd's port, unsigned at two more ports with different buffer sizes."""
    return f"""
{KEEP_CHILDREN}
{gateways(bucket)}
{verify_tls(bucket)}
{signers(bucket)}
{_server(default_port, 8192, bucket)}
{_server(buffered_port, 131072, bucket)}
"""


def _server(port: int, buffer: int, bucket: Bucket) -> str:
    return f"""
Listen 127.0.0.1:{port}
<VirtualHost 127.0.0.1:{port}>
  ProxyIOBufferSize {buffer}
  {verify_tls(bucket)}
  {unsigned_proxies(bucket)}
</VirtualHost>
"""
