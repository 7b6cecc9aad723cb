"""nginx, as the bucket of the benchmark and as a compared proxy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench.bucket import ROUTES, Bucket, Route, fill
from tests.bench.server import running, temporary_root
from tests.certificates import make_certificate
from tests.httpd.machine import apache_user, free_port

_ENDLESS = 1_000_000_000


@contextmanager
def static_bucket() -> Iterator[Bucket]:
    """Run the bucket: static files, served as fast as this machine can."""
    with temporary_root("bucket-") as root:
        # Also as a DNS name: mod_ssl, nginx and Traffic Server do not check IP address entries.
        certificate = make_certificate(root, "IP:127.0.0.1,DNS:127.0.0.1")
        digests = fill(root)
        ports = {"http": free_port(), "https": free_port()}
        # Unsigned requests are rejected. The signature is not verified here: the tests do that.
        http = f"""
  sendfile on;
  keepalive_requests {_ENDLESS};
  keepalive_timeout 300;
  open_file_cache max=100 inactive=1h;
  open_file_cache_valid 1h;
  server {{
    listen 127.0.0.1:{ports["http"]} backlog=4096;
    listen 127.0.0.1:{ports["https"]} ssl backlog=4096;
    ssl_certificate {certificate.chain};
    ssl_certificate_key {certificate.key};
    ssl_session_cache shared:tls:10m;
    location ~ "^(?:/cold)?/open(?:/[0-9]+)?/(?<key>[^/]+)$" {{
      alias {root}/$key;
    }}
    location ~ "^(?:/cold)?/signed(?:/[0-9]+)?/(?<key>[^/]+)$" {{
      if ($http_authorization !~ "^AWS4-HMAC-SHA256 ") {{
        return 403;
      }}
      alias {root}/$key;
    }}
  }}
"""
        with _nginx(http, list(ports.values())):
            origins = {scheme: f"{scheme}://127.0.0.1:{port}" for scheme, port in ports.items()}
            yield Bucket(origins, certificate.root, digests)


@contextmanager
def proxy(bucket: Bucket) -> Iterator[tuple[str, int]]:
    """Run a proxy without signing, with a mount for each route; yields its URL and its master's pid."""
    port = free_port()
    upstreams = "\n".join(
        f"upstream {scheme} {{ server {origin.partition('//')[2]}; keepalive 64; }}"
        for scheme, origin in bucket.origins.items()
    )
    mounts = "\n".join(_mount(bucket, route) for route in ROUTES)
    http = f"""
  {upstreams}
  server {{
    listen 127.0.0.1:{port};
    proxy_http_version 1.1;
    proxy_ssl_verify on;
    proxy_ssl_verify_depth 4;
    proxy_ssl_trusted_certificate {bucket.ca};
    proxy_ssl_name 127.0.0.1;
    {mounts}
  }}
"""
    with _nginx(http, [port]) as pid:
        yield f"http://127.0.0.1:{port}", pid


def _mount(bucket: Bucket, route: Route) -> str:
    if route.is_cold:
        return f"location /{route}/ {{ proxy_pass {bucket.open(route)}/; }}"
    upstream = f"{route.scheme}://{route.scheme}/open/"
    return f'location /{route}/ {{ proxy_pass {upstream}; proxy_set_header Connection ""; }}'


@contextmanager
def _nginx(http: str, ports: list[int]) -> Iterator[int]:
    """Run nginx with these lines in its ``http`` block; yields the master's pid."""
    with temporary_root("nginx-") as root:
        user = f"user {apache_user().pw_name};" if os.geteuid() == 0 else ""
        temp_paths = "\n".join(
            f"  {name}_temp_path {root}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (root / "nginx.conf").write_text(f"""
{user}
daemon off;
pid {root}/nginx.pid;
worker_processes auto;
worker_rlimit_nofile 16384;
events {{
  worker_connections 8192;
}}
http {{
  access_log off;
{temp_paths}
{http}
}}
""")
        log = root / "error.log"
        command = ["nginx", "-p", str(root), "-e", str(log), "-c", str(root / "nginx.conf")]
        with running(command, log, ports) as pid:
            yield pid
