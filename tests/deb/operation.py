"""What an operator does with the packages, on one machine: install, serve, upgrade, remove, purge."""

from __future__ import annotations

import http.client
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fresh.machine import Machine
from tests.httpd.machine import free_port
from tests.s3 import EmbeddedS3

BUCKET = "private"
DATA = bytes(range(256)) * 4096
WAIT = 60.0
SITE = """\
WSGIScriptAlias /media ${{USP_S3_WSGI}}
<Location /media>
  SetEnv S3BucketURL     {url}/{bucket}/
  SetEnv S3AccessKey     {access_key}
  SetEnv S3SecretKeyFile /etc/apache2/s3.secret
  SetEnv S3Region        {region}
</Location>
ProxyPass "/proxied" "{url}/{bucket}"
<Proxy "{url}/{bucket}/">
  SetEnv S3AccessKey     {access_key}
  SetEnv S3SecretKeyFile /etc/apache2/s3.secret
  SetEnv S3Region        {region}
</Proxy>
"""
#: A bucket whose keys botocore finds: here in httpd's environment.
AWS_SITE = """\
WSGIScriptAlias /aws ${{USP_S3_WSGI}}
<Location /aws>
  SetEnv S3BucketURL        {url}/{bucket}/
  SetEnv S3CredentialSource aws
  SetEnv S3Region           {region}
</Location>
"""
BOTH_WAYS = ("/media/film.mp4", "/proxied/film.mp4")


class Failure(Exception):
    """The packages do not do what they should; the message says what."""


class Server:
    """Debian's Apache on the machine, on a free port of the caller's network."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.port = machine, free_port()

    def run(self, command: str) -> str:
        """Run a command as root; returns its output. Raises: Failure."""
        status, output = self.machine.run(command)
        if status:
            raise Failure(f"{command}: exit status {status}: {output.strip()[-300:]} ({self.machine.log})")
        return output

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file of the operator."""
        file = self.machine.folder / path.lstrip("/")
        file.write_text(text)
        file.chmod(mode)

    def apt(self, command: str) -> str:
        """Run apt-get."""
        return self.run(f"DEBIAN_FRONTEND=noninteractive apt-get -y -q {command}")

    def configtest(self) -> None:
        """Check that Apache accepts the configuration, and says nothing else. Raises: Failure."""
        output = self.run("apache2ctl configtest")
        # A minimal machine has no host name that can be resolved.
        lines = [line for line in output.splitlines() if "AH00558" not in line]
        check(lines == ["Syntax OK"], f"configtest says {output!r}")

    def get(self, path: str) -> tuple[int, bytes]:
        """The status and the body of a response; status 0 without one."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            return 0, repr(error).encode()
        finally:
            connection.close()

    def check_serves(self, *paths: str) -> None:
        """Check that these paths serve the object, several times: there are several processes. Raises: Failure."""
        for path in paths * 10:
            status, body = self.get(path)
            check(status == 200 and body == DATA, f"{path}: status {status}, {len(body)} bytes")

    def wait_until_started(self) -> None:
        """Wait until Apache answers. Raises: Failure."""
        wait_for(lambda: self.get("/")[0] == 200, "Apache does not answer")

    def versions_in_use(self) -> set[str]:
        """The versions of the package whose files httpd's processes have mapped."""
        maps = self.run("grep -hos '/usr/lib/usp-s3-wsgi/[^ ]*/lib/' /proc/[0-9]*/maps | sort -u")
        return set(re.findall(r"^/usr/lib/usp-s3-wsgi/(.*?)/lib/", maps, re.MULTILINE))

    def wait_for_version(self, version: str) -> None:
        """Wait until httpd uses this version alone. Raises: Failure."""
        wait_for(lambda: self.versions_in_use() == {version}, f"httpd does not use {version} alone")

    @contextmanager
    def load(self) -> Iterator[None]:
        """Requests both ways in as long as the context lasts; each must succeed. Raises: Failure."""
        failed: list[str] = []
        number, stop = 0, threading.Event()

        def send() -> None:
            nonlocal number
            while not stop.is_set():
                for path in BOTH_WAYS:
                    status, body = self.get(path)
                    number += 1
                    if status != 200 or body != DATA:
                        failed.append(f"{path}: status {status}, {len(body)} bytes {body[:100]!r}")

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(WAIT)
        check(number > 20 and not failed, f"{len(failed)} of {number} requests failed: {failed[:3]}")


def check(condition: bool, message: str) -> None:
    """Raises: Failure."""
    if not condition:
        raise Failure(message)


def wait_for(condition: object, message: str) -> None:
    """Wait until a function returns true. Raises: Failure."""
    assert callable(condition)
    deadline = time.monotonic() + WAIT
    while not condition():
        check(time.monotonic() < deadline, f"{message} after {WAIT:.0f} s")
        time.sleep(0.2)


def operate(machine: Machine, lower: Path, higher: Path) -> Iterator[str]:
    """Do it all on a new machine; yields what has been done. Raises: Failure."""
    with EmbeddedS3(buckets=(BUCKET,)) as s3:
        s3.put(BUCKET, "film.mp4", DATA)
        server = Server(machine)
        prepare(server, s3, lower, higher)
        yield "Apache is installed"
        yield from install(server, s3)
        yield from add_aws(server, s3)
        yield from upgrade(server)
        yield from upgrade_with_broken_configuration(server)
        yield from remove(server)


def prepare(server: Server, s3: EmbeddedS3, lower: Path, higher: Path) -> None:
    """Install Apache, with a port of its own, and what the operator writes."""
    for folder in (lower, higher):
        shutil.copytree(folder, server.machine.folder / folder.name.rpartition("-")[2])
    # Port 80 may not be free in the caller's network.
    server.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755)
    server.apt("update")
    server.apt("install apache2")
    server.write("/etc/apache2/ports.conf", f"Listen 127.0.0.1:{server.port}\n")
    # Without an init system, services are only reloaded if a policy allows it.
    server.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 0\n", 0o755)
    server.run("apache2ctl start")
    server.wait_until_started()
    server.write("/etc/apache2/s3.secret", s3.secret_key, 0o644)
    server.write("/etc/apache2/sites-available/buckets.conf", site(SITE, s3))
    server.write("/etc/apache2/sites-available/aws.conf", site(AWS_SITE, s3))


def site(text: str, s3: EmbeddedS3) -> str:
    """A configuration with the names of the embedded S3."""
    return text.format(url=s3.url, bucket=BUCKET, access_key=s3.access_key, region=s3.region)


def version_of(server: Server) -> str:
    """The name of the copy that Apache uses, which has the version of the package in it."""
    version = server.run("dpkg-query -W -f '${Version}' usp-s3-wsgi")
    name = server.run("readlink /usr/lib/usp-s3-wsgi/current").strip()
    check(name.startswith(f"versions/{version}"), f"version {version}, but the link leads to {name}")
    return name


def install(server: Server, s3: EmbeddedS3) -> Iterator[str]:
    """Installed, nothing changes; enabled, both ways in work."""
    server.apt("install /lower/usp-s3-wsgi_*.deb")
    server.wait_until_started()  # Debian's mod_wsgi restarts it
    server.configtest()
    check("usp_s3_module" not in server.run("apache2ctl -M"), "the module is loaded before a2enconf")
    check(server.get("/media/film.mp4")[0] == 404, "/media is served before a2enconf")
    yield "installed; Apache's configuration is as before"
    server.run("a2enconf usp-s3")
    server.configtest()
    check("usp_s3_module" not in server.run("apache2ctl -M"), "the module is loaded without mod_proxy")
    server.run("a2enmod proxy_http ssl && a2ensite buckets")
    server.configtest()
    server.run("apache2ctl restart")
    server.wait_until_started()
    server.check_serves(*BOTH_WAYS)
    lines = server.run("usp-s3 apache-config --no-module")
    check(lines == server.run("cat /var/lib/usp-s3-wsgi/apache.conf"), "the lines are not those of apache-config")
    check("has its template signer" in lines, f"apache-config prints {lines}")
    server.wait_for_version(version_of(server))
    yield "a2enconf usp-s3: both ways in serve the object"
    server.write("/etc/apache2/sites-available/wrong.conf", "<Location /media>\nSetEnv S3UseHeaders yes\n</Location>\n")
    output = server.run("a2ensite wrong; ! apache2ctl configtest; a2dissite wrong")
    check("USPS30801" in output, f"configtest does not find the wrong setting: {output!r}")
    server.run("rm /etc/apache2/sites-available/wrong.conf")
    yield "configtest finds a wrong setting"
    yield from refuse(server)
    server.run("a2dismod -f proxy_http proxy")
    server.run("a2dissite buckets")
    server.configtest()
    server.run("a2enmod proxy_http && a2ensite buckets")
    server.configtest()
    server.run("usp-s3 --version | grep -F \"$(dpkg-query -W -f '${source:Upstream-Version}' usp-s3-wsgi)\"")
    server.run("test -e /usr/share/usp_s3_wsgi/health.conf")
    yield "without mod_proxy the configuration is valid, too"


def refuse(server: Server) -> Iterator[str]:
    """configtest says why, without mod_wsgi and with a second installation that is loaded before."""
    output = server.run("a2dismod -f wsgi; ! apache2ctl configtest; a2enmod wsgi")
    check("usp-s3 needs mod_wsgi: a2enmod wsgi" in output, f"configtest does not miss mod_wsgi: {output!r}")
    server.write("/etc/apache2/conf-available/opt.conf", 'Define USP_S3_WSGI "/opt/usp_s3.wsgi"\n')
    output = server.run("a2enconf opt; ! apache2ctl configtest; a2disconf opt; rm /etc/apache2/conf-available/opt.conf")
    check("another installation" in output, f"configtest does not find the second installation: {output!r}")
    server.configtest()
    yield "configtest says that mod_wsgi is missing, or that another installation is loaded"


def add_aws(server: Server, s3: EmbeddedS3) -> Iterator[str]:
    """botocore comes with a package of its own, and goes with it."""
    with server.load():
        server.apt("install /lower/usp-s3-wsgi-aws_*.deb")
        server.wait_for_version(version_of(server))
    server.write("/root/keys", f"export AWS_ACCESS_KEY_ID={s3.access_key} AWS_SECRET_ACCESS_KEY={s3.secret_key}\n")
    server.run(
        "cat /root/keys >> /etc/apache2/envvars && a2ensite aws && apache2ctl stop && sleep 2 && apache2ctl start"
    )
    server.wait_until_started()
    server.check_serves("/aws/film.mp4", *BOTH_WAYS)
    yield "usp-s3-wsgi-aws: the keys of httpd's environment sign"


def upgrade(server: Server) -> Iterator[str]:
    """Old processes keep their files until the reload, which the package does."""
    old = version_of(server)
    with server.load():
        server.run("dpkg --unpack /higher/*.deb")
        # New processes start between unpack and reload.
        server.run("apache2ctl graceful")
        time.sleep(3)
        server.check_serves("/aws/film.mp4")
        check(server.versions_in_use() == {old}, "httpd does not use the old version before the reload")
    yield "unpacked: new processes of httpd use the old version"
    with server.load():
        server.run("dpkg --configure usp-s3-wsgi usp-s3-wsgi-aws")
        new = version_of(server)
        check(new != old, f"the version is still {new}")
        server.wait_for_version(new)
    server.check_serves("/aws/film.mp4", *BOTH_WAYS)
    yield "configured: no request failed, and httpd uses the new version"
    with server.load():
        server.apt("install --reinstall /higher/*.deb")
        server.apt("install --allow-downgrades /lower/*.deb")
        server.wait_for_version(version_of(server))
        server.apt("install /higher/*.deb")
        server.wait_for_version(version_of(server))
    folders = server.run("ls -A /usr/lib/usp-s3-wsgi/versions").split()
    check(len(folders) <= 2, f"old versions are left: {folders}")
    yield "reinstalled, downgraded and upgraded with apt-get: no request failed"


def upgrade_with_broken_configuration(server: Server) -> Iterator[str]:
    """Apache goes on with the version that it has loaded, also if no process has opened a file of it yet."""
    server.apt("install --allow-downgrades /lower/*.deb")
    # Only the gateway: usp_s3_module would be mapped from the start on.
    server.run("a2dissite buckets && a2dismod -f proxy_http proxy && apache2ctl stop && sleep 2 && apache2ctl start")
    server.wait_until_started()
    old = version_of(server)
    check(not server.versions_in_use(), "httpd has mapped the package before a request")
    server.write("/etc/apache2/conf-enabled/broken.conf", "NoSuchDirective on\n")
    output = server.run("dpkg -i /higher/*.deb")
    check("Your configuration is broken" in output, f"the package does not say that it could not reload: {output!r}")
    before = server.run("ls -A /usr/lib/usp-s3-wsgi/versions; stat -c %y /var/lib/usp-s3-wsgi/apache.conf")
    server.run("dpkg -i /higher/*.deb && DEBIAN_FRONTEND=noninteractive dpkg-reconfigure usp-s3-wsgi")
    after = server.run("ls -A /usr/lib/usp-s3-wsgi/versions; stat -c %y /var/lib/usp-s3-wsgi/apache.conf")
    check(before == after, f"configured again, the same version changes {before!r} to {after!r}")
    server.check_serves("/aws/film.mp4")
    check(server.versions_in_use() == {old}, "httpd does not use the old version before the reload")
    yield "upgraded with a broken configuration: Apache serves with the old version"
    server.run("rm /etc/apache2/conf-enabled/broken.conf && apache2ctl graceful")
    new = version_of(server)

    def uses_new() -> bool:
        server.check_serves("/aws/film.mp4")
        return server.versions_in_use() == {new}

    check(new != old, f"the version is still {new}")
    wait_for(uses_new, f"httpd does not use {new} alone")
    server.run("a2enmod proxy_http && a2ensite buckets && apache2ctl stop && sleep 2 && apache2ctl start")
    server.wait_until_started()
    server.check_serves("/aws/film.mp4", *BOTH_WAYS)
    yield "repaired and reloaded: Apache serves with the new version"


def remove(server: Server) -> Iterator[str]:
    """Nothing is left after purge, and Apache goes on."""
    server.run("a2dissite aws")
    with server.load():
        server.apt("remove usp-s3-wsgi-aws")
        server.wait_for_version(version_of(server))
    server.run("! find /usr/lib/usp-s3-wsgi/current/ -name 'botocore*' | grep .")
    yield "usp-s3-wsgi-aws is removed: no request failed"
    server.run("a2dissite buckets")
    files = server.run("dpkg -L usp-s3-wsgi").split("\n")
    server.apt("remove usp-s3-wsgi")
    server.configtest()
    server.run("test ! -e /usr/lib/usp-s3-wsgi && test ! -L /etc/apache2/conf-enabled/usp-s3.conf")
    wait_for(lambda: not server.versions_in_use(), "httpd still uses the package")
    check(server.get("/")[0] == 200 and server.get("/media/film.mp4")[0] == 404, "Apache does not serve the other site")
    server.apt("purge usp-s3-wsgi usp-s3-wsgi-aws")
    server.run("rm -r /lower /higher")  # the files of the packages themselves
    server.run("rm /etc/apache2/sites-available/buckets.conf /etc/apache2/sites-available/aws.conf")
    server.configtest()
    server.run("apache2ctl graceful")
    server.wait_until_started()
    left = [file for file in files if file.count("usp") and (server.machine.folder / file.lstrip("/")).exists()]
    check(not left, f"files of the package are left: {left}")
    # -xdev: not in /proc, where the names of processes are.
    found = server.run("find / -xdev -regextype posix-extended -iregex '.*usp[-_]s3.*' ! -path '/var/cache/*'")
    check(not found.strip(), f"files are left: {found}")
    server.run("! grep -rlE 'usp[-_]s3' /etc /var/lib/dpkg/status /var/lib/apache2")
    yield "removed and purged: nothing is left, and Apache serves its other sites"
