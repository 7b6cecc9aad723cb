"""The process of the embedded S3: Swift's account, container, object and proxy servers in one event loop.

EmbeddedS3 starts it. The first line of stdin has the settings as JSON; the process ends at the end of
stdin. It prints one line: {"port": ...} when it is ready, or {"error": ...} if it cannot start.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import eventlet
import eventlet.hubs
import eventlet.wsgi

BACKENDS = ("account", "container", "object")

# A salt for the paths on disk, which Swift requires.
SWIFT_CONF = "[swift-hash]\nswift_hash_path_prefix = embedded\nswift_hash_path_suffix = embedded\n"

# Chunks of 16 times the default size and keeping objects in the page cache each make large objects a third faster.
DEFAULT_CONF = """
[DEFAULT]
swift_dir = {dir}
devices = {dir}/devices
mount_check = false
disable_fallocate = true
fallocate_reserve = 0
log_level = WARNING
log_custom_handlers = filters.log_to_stderr
disk_chunk_size = 1048576
network_chunk_size = 1048576
object_chunk_size = 1048576
client_chunk_size = 1048576
keep_cache_private = true
keep_cache_size = 1099511627776
"""

BACKEND_CONF = """
[pipeline:main]
pipeline = {name}-server

[app:{name}-server]
use = egg:swift#{name}
"""

PROXY_CONF = """
[pipeline:main]
pipeline = access_log catch_errors gatekeeper local_cache listing_formats deny_unsigned s3api
    access_keys tempauth copy slo dlo versioned_writes symlink proxy-server

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
# One process serves all parts: a herd of requests must wait for it, not fail.
conn_timeout = 30
node_timeout = 60

[filter:access_log]
paste.filter_factory = filters:access_log
path = {dir}/requests.jsonl

[filter:local_cache]
paste.filter_factory = filters:local_cache

[filter:deny_unsigned]
paste.filter_factory = filters:deny_unsigned

[filter:s3api]
use = egg:swift#s3api
location = {region}
storage_domain = {domain}
s3_acl = false

[filter:access_keys]
paste.filter_factory = filters:access_keys
{names}

[filter:tempauth]
use = egg:swift#tempauth
{users}

[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_object_versioning = true
"""

SWIFT_FILTERS = ("catch_errors", "gatekeeper", "listing_formats", "copy", "slo", "dlo", "symlink")


def proxy_conf(settings: dict[str, Any]) -> str:
    """The proxy server's configuration: user n of the settings is "a<n>:s3" in tempauth, with the account AUTH_a<n>."""
    users = list(enumerate(settings["users"]))
    names = "\n".join(f"key_{access_key} = a{n}:s3" for n, (access_key, _, _) in users)
    secrets = "\n".join(f"user_a{n}_s3 = {secret_key} .admin" for n, (_, secret_key, _) in users)
    filters = "".join(f"\n[filter:{name}]\nuse = egg:swift#{name}\n" for name in SWIFT_FILTERS)
    return (DEFAULT_CONF + PROXY_CONF).format(**settings | {"names": names, "users": secrets}) + filters


def listen(host: str, port: int) -> Any:
    """A listening socket, without SO_REUSEPORT, which would allow a second server on the same port."""
    return eventlet.listen((host, port), backlog=1024, reuse_port=False)


def serve(sock: Any, app: Any) -> None:
    """Serve until the process ends."""
    from swift.common.http_protocol import SwiftHttpProtocol

    eventlet.wsgi.server(
        sock,
        app,
        protocol=SwiftHttpProtocol,  # keeps the target unchanged; eventlet's own protocol changes "//"
        custom_pool=eventlet.GreenPool(1024),
        capitalize_response_headers=False,  # S3 writes "ETag"
        log_output=False,
        debug=False,
    )


def start_backends(directory: Path, host: str) -> None:
    """Start the account, container and object servers, each with a ring of one device."""
    from swift.common.ring import RingBuilder
    from swift.common.wsgi import loadapp

    for name in BACKENDS:
        sock = listen(host, 0)
        ring = RingBuilder(1, 1, 0)
        device = {"id": 0, "region": 1, "zone": 1, "ip": host, "port": sock.getsockname()[1]}
        ring.add_dev(device | {"device": "d0", "weight": 1.0, "meta": ""})
        ring.rebalance()
        ring.get_ring().save(str(directory / f"{name}.ring.gz"))
        conf = directory / f"{name}.conf"
        conf.write_text((DEFAULT_CONF + BACKEND_CONF).format(dir=directory, name=name))
        eventlet.spawn(serve, sock, loadapp(str(conf), global_conf={"log_name": name}))


def make_buckets(app: Any, users: list[tuple[str, str, list[str]]]) -> None:
    """Create each user's buckets, with requests through the pipeline that need no signature."""
    from swift.common.middleware.s3api.utils import validate_bucket_name
    from swift.common.swob import Request

    for n, (_, _, buckets) in enumerate(users):
        for bucket in buckets:
            if not validate_bucket_name(bucket, True):  # Swift accepts such a name, but s3api then rejects it
                raise ValueError(f"not a bucket name in S3: {bucket!r}")
            environ = {"REQUEST_METHOD": "PUT", "swift.authorize_override": True}
            response = Request.blank(f"/v1/AUTH_a{n}/{bucket}", environ=environ).get_response(app)
            if response.status_int not in (201, 202):
                raise RuntimeError(f"cannot make the bucket {bucket}: {response.status} {response.body!r}")


def exit_with_parent(directory: Path) -> None:
    """Wait for the end of stdin: the parent has ended, and this process must remove the data."""
    stdin = sys.stdin.fileno()
    while True:
        eventlet.hubs.trampoline(stdin, read=True)
        if not os.read(stdin, 4096):
            shutil.rmtree(directory, ignore_errors=True)
            os._exit(0)


def print_line(**line: Any) -> None:
    """Print the line that the parent waits for."""
    print(json.dumps(line), flush=True)


def main() -> None:
    """Read the settings, start all servers, print the port, serve."""
    settings = json.loads(sys.stdin.buffer.readline())
    directory = Path(settings["dir"])
    os.umask(0o077)  # the configuration has the secret keys
    eventlet.monkey_patch()
    eventlet.spawn(exit_with_parent, directory)
    try:
        sock = listen(settings["host"], settings["port"])
    except OSError as error:
        print_line(error=f"cannot listen on port {settings['port']} of {settings['host']}: {error.strerror}")
        sys.exit(1)
    if settings["tls"]:
        certificate, key = settings["tls"]
        sock = eventlet.wrap_ssl(sock, certfile=certificate, keyfile=key, server_side=True)

    (directory / "devices" / "d0").mkdir(parents=True)
    (directory / "swift.conf").write_text(SWIFT_CONF)
    (directory / "proxy.conf").write_text(proxy_conf(settings))
    # Swift reads this file when its modules are imported, so they are imported here.
    from swift.common import utils

    utils.SWIFT_CONF_FILE = str(directory / "swift.conf")
    utils.validate_configuration()
    from swift.common.wsgi import loadapp

    start_backends(directory, settings["host"])
    app = loadapp(str(directory / "proxy.conf"), global_conf={"log_name": "proxy"})
    make_buckets(app, settings["users"])
    print_line(port=sock.getsockname()[1])
    serve(sock, app)


if __name__ == "__main__":
    main()
