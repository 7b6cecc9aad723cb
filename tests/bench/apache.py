"""What our httpd is told: the two ways in, and mod_proxy without a signature, each before the stand-in bucket."""

from __future__ import annotations

from tests.bench.bucket import ROUTES, Bucket, Route
from tests.httpd.server import Httpd
from tests.leaks import ACCESS_KEY, SECRET_KEY

#: The way to sign of every section: Signature v4 in headers, as Traffic Server's.
HOW_TO_SIGN = """
  SetEnv S3Region eu-central-1
  SetEnv S3UseHeaders on"""
#: The rest is as shipped. Loads change here every second: children that end after one would be started for the next.
STEADY = "MaxSpareThreads 256\n"
_REUSE = "enablereuse=on keepalive=on"


def pid(httpd: Httpd) -> int:
    """The parent process of all its children."""
    return int((httpd.root / "run" / "httpd.pid").read_text())


def keys(number: int | None) -> dict[str, str]:
    """The keys of a bucket; of many, each has its own."""
    end = "" if number is None else str(number)
    return {"S3AccessKey": ACCESS_KEY + end, "S3SecretKey": SECRET_KEY + end}


def _settings(number: int | None) -> str:
    return "".join(f"\n  SetEnv {name} {value}" for name, value in keys(number).items()) + HOW_TO_SIGN


def gateway(mount: str, bucket: Bucket, route: Route, number: int | None = None) -> str:
    """A mount of the gateway before the bucket, or before one of many."""
    reuse = '\n  SetEnv S3ProxySet "enablereuse=off"' if route.is_cold else ""
    trust = f"\n  SetEnv S3CAFile {bucket.ca}" if route.scheme == "https" else ""
    return f"""
WSGIScriptAlias {mount} ${{USP_S3_WSGI}}
<Location {mount}>
  SetEnv S3BucketURL {bucket.signed(route, number)}/{_settings(number)}{reuse}{trust}
</Location>
"""


def signer(mount: str, bucket: Bucket, route: Route, parameters: str = "", number: int | None = None) -> str:
    """A ``<Proxy>`` section that signs, and what leads to it."""
    url = bucket.signed(route, number)
    return f"""
ProxyPass {mount} {url}
<Proxy "{url}/">{_settings(number)}
  {parameters}
</Proxy>
"""


def unsigned(mount: str, url: str, parameters: str = "") -> str:
    """mod_proxy without a signature."""
    return f"ProxyPass {mount} {url} {parameters}\n"


def verified(bucket: Bucket) -> str:
    """What a server needs whose mod_proxy verifies the bucket."""
    return f"SSLProxyEngine on\nSSLProxyVerify require\nSSLProxyVerifyDepth 10\nSSLProxyCACertificateFile {bucket.ca}\n"


def gateways(bucket: Bucket) -> str:
    """A gateway for each route: ``/gateway/http`` and so on."""
    return "".join(gateway(f"/gateway/{route}", bucket, route) for route in ROUTES)


def signers(bucket: Bucket) -> str:
    """A signing ``<Proxy>`` section for each route: ``/signer/http`` and so on."""
    return "".join(
        signer(f"/signer/{route}", bucket, route, f"ProxySet {'enablereuse=off' if route.is_cold else _REUSE}")
        for route in ROUTES
    )


def unsigned_proxies(bucket: Bucket) -> str:
    """mod_proxy as it comes for each route: ``/unsigned/http`` and so on."""
    return "".join(
        unsigned(f"/unsigned/{route}", bucket.open(route), "enablereuse=off" if route.is_cold else "")
        for route in ROUTES
    )


def all_ways(bucket: Bucket, stock_port: int, buffered_port: int) -> str:
    """All of them: what we ship at httpd's own port, mod_proxy unsigned at two more, which differ in their buffers."""
    return f"""
{STEADY}
{gateways(bucket)}
{verified(bucket)}
{signers(bucket)}
{_server(stock_port, 8192, bucket)}
{_server(buffered_port, 131072, bucket)}
"""


def _server(port: int, buffer: int, bucket: Bucket) -> str:
    return f"""
Listen 127.0.0.1:{port}
<VirtualHost 127.0.0.1:{port}>
  ProxyIOBufferSize {buffer}
  {verified(bucket)}
  {unsigned_proxies(bucket)}
</VirtualHost>
"""
