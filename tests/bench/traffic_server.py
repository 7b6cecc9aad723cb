"""Apache Traffic Server with its plugin s3_auth, the other compared proxy that signs requests for S3."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench.bucket import ROUTES, Bucket
from tests.bench.server import running, temporary_root
from tests.httpd.machine import apache_user, free_port
from tests.leaks import ACCESS_KEY, SECRET_KEY
from tests.traffic_server import FOLDERS, IP_ALLOW, run_root

#: No cache and no log, as in the other columns; the number of threads is the default.
_RECORDS = """
CONFIG proxy.config.http.server_ports STRING {port}:ip-in=127.0.0.1
CONFIG proxy.config.admin.user_id STRING {user}
CONFIG proxy.config.http.cache.http INT 0
CONFIG proxy.config.log.logging_enabled INT 0
CONFIG proxy.config.diags.output.note STRING E
CONFIG proxy.config.crash_log_helper STRING NULL
CONFIG proxy.config.url_remap.remap_required INT 1
CONFIG proxy.config.reverse_proxy.enabled INT 1
CONFIG proxy.config.ssl.client.verify.server.policy STRING ENFORCED
CONFIG proxy.config.ssl.client.verify.server.properties STRING ALL
CONFIG proxy.config.ssl.client.CA.cert.path STRING {ca_folder}
CONFIG proxy.config.ssl.client.CA.cert.filename STRING {ca_file}
"""
_KEYS = f"""
access_key={ACCESS_KEY}
secret_key={SECRET_KEY}
version=4
v4-region-map=regions.config
"""
_S3_AUTH_CONFIG = "s3.config"
_WITHOUT_REUSE = "@plugin=conf_remap.so @pparam=proxy.config.http.keep_alive_enabled_out=0"


@contextmanager
def traffic_server(bucket: Bucket) -> Iterator[tuple[str, int]]:
    """Run Traffic Server with a mount for each route; yields its URL and its pid."""
    port = free_port()
    with temporary_root("traffic-server-", *FOLDERS) as root:
        config = root / "etc"
        environment = run_root(root)
        values = {"user": apache_user().pw_name, "ca_folder": bucket.ca.parent, "ca_file": bucket.ca.name}
        (config / "records.config").write_text(_RECORDS.format(port=port, **values))
        (config / "storage.config").write_text(f"{root}/cache 16M\n")
        (config / _S3_AUTH_CONFIG).write_text(_KEYS)
        (config / "ip_allow.yaml").write_text(IP_ALLOW)
        (config / "regions.config").write_text(": eu-central-1\n")
        (config / "remap.config").write_text("".join(_remap(bucket, port)))
        with running(["traffic_server"], root / "log" / "out.log", [port], environment=environment) as pid:
            yield f"http://127.0.0.1:{port}", pid


def _remap(bucket: Bucket, port: int) -> Iterator[str]:
    for route in ROUTES:
        signing = f"@plugin=s3_auth.so @pparam=--config @pparam={_S3_AUTH_CONFIG}"
        plugins = f"{_WITHOUT_REUSE} {signing}" if route.is_cold else signing
        yield f"map http://127.0.0.1:{port}/{route}/ {bucket.signed(route)}/ {plugins}\n"
