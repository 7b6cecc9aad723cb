"""The scenario of the tests of the trust boundary: a server with pages and .htaccess files of an attacker, who is not
its operator; a bucket behind a wire tap; the attacker's host; and a secret file of another tenant."""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.httpd.conftest import BUCKET
from tests.httpd.machine import has_module, modules_directory
from tests.httpd.server import Httpd, Reply
from tests.httpd.tap import ATTACKER_BODY, Tap
from tests.leaks import SECRET_KEY, TOKEN
from tests.s3 import EmbeddedS3

#: The content of the secret file. It is a valid access key, so that a request could carry it.
OTHER_TENANTS_SECRET = "WordOfAnotherTenant"
KEY, MISSING = "film/a.ts", "film/missing.ts"
DATA = b"an object of the operator's bucket"
#: Parts of signed requests, which must not reach the attacker.
_SIGNATURE_PARTS = re.compile(rb"Signature|Credential|AWS4?[ -]|X-Amz-|x-amz-|Authorization", re.IGNORECASE)
#: The gateway's log line if it cannot tell who wrote the settings.
NEEDS_MODULE = r"usp_s3_wsgi: .*usp_s3_module"
#: Log lines of this package and of httpd's modules about pages and rules that fail.
EXPECTED_ERRORS = (
    r"usp_s3_wsgi: |unable to include|AH01071|AH01630|AH00529|AH00124|AH01276|AH0223|AH01408|AH00687|AH00690|AH01114|"
    r"AH00957|AH01144|AH00898|\[wsgi:error\]|AH00035|AH00128|AH00037"
)
HAS_CGI = has_module("cgi")
_MODULES = [name for name in ("actions", "asis", "negotiation", "cgi") if has_module(name)]
AUTHOR_CONFIG = f"""
{chr(10).join(f'LoadModule {name}_module "{modules_directory()}/mod_{name}.so"' for name in _MODULES)}
AddType text/html .shtml
AddOutputFilter INCLUDES .shtml
<Directory "${{ROOT}}/htdocs">
  AllowOverride All
  Options +Includes +ExecCGI +FollowSymLinks
  AddHandler cgi-script .cgi
  AddHandler send-as-is .asis
  AddHandler type-map .var
  <Files "x.wsgi">
    SetHandler wsgi-script
    WSGIProcessGroup other
    WSGIApplicationGroup other
  </Files>
</Directory>
WSGIDaemonProcess other
"""


@dataclass
class Scenario:
    """The servers of one test. The attacker writes to folders below htdocs."""

    httpd: Httpd
    s3: EmbeddedS3
    bucket: Tap
    attacker: Tap
    secret: Path
    _count: int = field(default=0)

    def folder(self) -> str:
        """Make a new folder of the attacker; return its name, which is its path in URLs as well."""
        self._count += 1
        (self.httpd.root / "htdocs" / f"f{self._count}").mkdir(mode=0o755)
        return f"f{self._count}"

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file below htdocs, readable for httpd's children."""
        file = self.httpd.root / "htdocs" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.parent.chmod(0o755)
        file.write_text(text)
        file.chmod(mode)

    def fetch(self, target: str, *, method: str = "GET", **headers: str) -> Reply:
        """Send a request, and assert that no secret and no signature is returned or sent to the attacker."""
        self.attacker.clear()
        self.bucket.clear()
        self.s3.clear()
        reply = self.httpd.fetch(target, method=method, timeout=30, **headers)
        self.assert_nothing_leaked()
        assert OTHER_TENANTS_SECRET not in str(reply.headers) and OTHER_TENANTS_SECRET.encode() not in reply.body
        return reply

    def assert_nothing_leaked(self) -> None:
        """Assert that the attacker got no secret and no signature, and that nobody got the other tenant's secret."""
        received = self.attacker.received
        assert not _SIGNATURE_PARTS.search(received), received
        for secret in (self.s3.access_key, self.s3.secret_key, SECRET_KEY, TOKEN):
            assert secret.encode() not in received
        assert OTHER_TENANTS_SECRET.encode() not in received
        assert OTHER_TENANTS_SECRET.encode() not in self.bucket.received
        for file in self.httpd.written():
            assert OTHER_TENANTS_SECRET.encode() not in file.read_bytes(), file

    def assert_served(self, reply: Reply, status: int = 200, key: str = KEY) -> None:
        """Assert that the object was served as the operator configured, and that the attacker had no effect."""
        assert (reply.status, DATA in reply.body) == (status, True), (
            reply.status,
            reply.body,
            self.httpd.errors()[-3:],
        )
        self.assert_no_effect(key)

    def assert_rejected(self, reply: Reply) -> None:
        """Assert that the object was not served, and that no server got a request."""
        assert DATA not in reply.body and ATTACKER_BODY not in reply.body, reply.body
        assert self.bucket.received == self.attacker.received == b""

    def assert_logged(self, pattern: str) -> None:
        """Assert that a line of the error log matches; the lines of attacks are all expected."""
        deadline = time.monotonic() + 2
        while not any(re.search(pattern, line) for line in self.httpd.errors()):
            assert time.monotonic() < deadline, (pattern, self.httpd.errors()[-5:])
            time.sleep(0.02)

    def assert_no_effect(self, key: str = KEY) -> None:
        """Assert that only the bucket got requests, for this key, and signed as the operator configured."""
        assert self.attacker.received == b""
        assert set(self.bucket.targets) == {f"/{BUCKET}/{key}"}
        assert f"Credential={self.s3.access_key}/".encode() in self.bucket.received
        assert b"SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token" in self.bucket.received


def keys(s3: EmbeddedS3) -> str:
    """The operator's settings without a URL. Many settings are left unset, which the attacker tries to set."""
    return f"""
    SetEnv S3AccessKey {s3.access_key}
    SetEnv S3SecretKey {s3.secret_key}
    SetEnv S3SecurityToken {TOKEN}
    SetEnv S3Region {s3.region}
    SetEnv S3UseHeaders on
"""


def mounts(s3: EmbeddedS3, bucket: Tap) -> str:
    """The operator's mounts of the bucket, by the gateway: /embedded and /daemon."""
    url = f"{bucket.url}/{BUCKET}"
    lines = ["WSGIDaemonProcess s3 threads=8 python-home=${USP_S3_PYTHON_HOME}"]
    for mount, options in (("/embedded", ""), ("/daemon", "process-group=s3 application-group=%{GLOBAL}")):
        lines.append(f"WSGIScriptAlias {mount} ${{USP_S3_WSGI}} {options}")
        lines.append(f"<Location {mount}>\n  SetEnv S3BucketURL {url}/\n{keys(s3)}</Location>")
    return "\n".join(lines)


@contextmanager
def running_scenario(s3: EmbeddedS3, config: str, kind: type[Httpd] = Httpd) -> Iterator[Scenario]:
    """A running server with this configuration. BUCKET_HOST and ATTACKER in it are replaced by their host and port."""
    s3.put(BUCKET, KEY, DATA)
    folder = Path(tempfile.mkdtemp(prefix="tenant-"))
    folder.chmod(0o755)
    (folder / "secret").write_text(OTHER_TENANTS_SECRET + "\n")
    (folder / "secret").chmod(0o644)
    try:
        with ExitStack() as stack:
            bucket = stack.enter_context(Tap(relay=s3.port))
            attacker = stack.enter_context(Tap())
            text = mounts(s3, bucket) + AUTHOR_CONFIG + config
            text = text.replace("BUCKET_HOST", bucket.host).replace("ATTACKER", attacker.host)
            httpd = stack.enter_context(kind(text))
            httpd.expect_error(EXPECTED_ERRORS)
            yield Scenario(httpd, s3, bucket, attacker, folder / "secret")
            httpd.stop()
            assert "\n".join(httpd.unexpected) == ""
    finally:
        shutil.rmtree(folder)
