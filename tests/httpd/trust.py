"""The stage of the tests of the trust boundary: a server with pages and .htaccess files of somebody who is not its
operator, a bucket behind a wire tap, the host of the attacker, and a secret file of another tenant."""

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
from tests.httpd.tap import HIS_WORDS, Tap
from tests.leaks import SECRET_KEY, TOKEN
from tests.s3 import EmbeddedS3

#: The word in the secret file; it is a valid access key, so that a request could carry it.
WORD = "WordOfAnotherTenant"
KEY, MISSING = "film/a.ts", "film/missing.ts"
DATA = b"an object of the operator's bucket"
#: What must not reach the attacker, in any form in which it could be used.
_SIGNED = re.compile(rb"Signature|Credential|AWS4?[ -]|X-Amz-|x-amz-|Authorization", re.IGNORECASE)
#: What the gateway says where it cannot tell whose the settings are; the words of it are its own.
NEEDS_MODULE = r"usp_s3_wsgi: .*usp_s3_module"
#: What httpd's modules say of pages and rules that fail.
FAILURES = (
    r"usp_s3_wsgi: |unable to include|AH01071|AH01630|AH00529|AH00124|AH01276|AH0223|AH01408|AH00687|AH00690|AH01114|"
    r"AH00957|AH01144|AH00898|\[wsgi:error\]|AH00035|AH00128|AH00037"
)
HAS_CGI = has_module("cgi")
_MODULES = [name for name in ("actions", "asis", "negotiation", "cgi") if has_module(name)]
AUTHOR = f"""
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
class Stage:
    """What one test plays on. ``folders`` are of the attacker: he writes what he likes there."""

    httpd: Httpd
    s3: EmbeddedS3
    bucket: Tap
    attacker: Tap
    secret: Path
    _count: int = field(default=0)

    def folder(self) -> str:
        """A new folder of the attacker; its name is its path in URLs, too."""
        self._count += 1
        (self.httpd.root / "htdocs" / f"f{self._count}").mkdir(mode=0o755)
        return f"f{self._count}"

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file below htdocs that httpd's children can read."""
        file = self.httpd.root / "htdocs" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.parent.chmod(0o755)
        file.write_text(text)
        file.chmod(mode)

    def fetch(self, target: str, *, method: str = "GET", **headers: str) -> Reply:
        """Ask the server, and see that nothing has left it which must not."""
        self.attacker.clear()
        self.bucket.clear()
        self.s3.clear()
        reply = self.httpd.fetch(target, method=method, timeout=30, **headers)
        self.check()
        assert WORD not in str(reply.headers) and WORD.encode() not in reply.body
        return reply

    def check(self) -> None:
        """Nothing signed and nothing secret is at the attacker's, the other tenant's word is nowhere."""
        theirs = self.attacker.received
        assert not _SIGNED.search(theirs), theirs
        for secret in (self.s3.access_key, self.s3.secret_key, SECRET_KEY, TOKEN):
            assert secret.encode() not in theirs
        assert WORD.encode() not in theirs
        assert WORD.encode() not in self.bucket.received
        for file in self.httpd.written():
            assert WORD.encode() not in file.read_bytes(), file

    def served(self, reply: Reply, status: int = 200, key: str = KEY) -> None:
        """The operator's configuration has served the object, and nothing of the attacker's had an effect."""
        assert (reply.status, DATA in reply.body) == (status, True), (
            reply.status,
            reply.body,
            self.httpd.errors()[-3:],
        )
        self.no_effect(key)

    def refused(self, reply: Reply) -> None:
        """The object is not served, nobody was asked for it, and the log says why."""
        assert DATA not in reply.body and HIS_WORDS not in reply.body, reply.body
        assert self.bucket.received == self.attacker.received == b""

    def said(self, pattern: str) -> None:
        """A line of the error log, expected like all of the attacks', matches."""
        deadline = time.monotonic() + 2
        while not any(re.search(pattern, line) for line in self.httpd.errors()):
            assert time.monotonic() < deadline, (pattern, self.httpd.errors()[-5:])
            time.sleep(0.02)

    def no_effect(self, key: str = KEY) -> None:
        """The bucket was asked for this key as the operator's configuration says, and nobody else."""
        assert self.attacker.received == b""
        assert set(self.bucket.targets) == {f"/{BUCKET}/{key}"}
        assert f"Credential={self.s3.access_key}/".encode() in self.bucket.received
        assert b"SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token" in self.bucket.received


def keys(s3: EmbeddedS3) -> str:
    """The operator's settings without a URL; they leave the attacker much to add."""
    return f"""
    SetEnv S3AccessKey {s3.access_key}
    SetEnv S3SecretKey {s3.secret_key}
    SetEnv S3SecurityToken {TOKEN}
    SetEnv S3Region {s3.region}
    SetEnv S3UseHeaders on
"""


def mounts(s3: EmbeddedS3, bucket: Tap) -> str:
    """The operator's bucket: /embedded and /daemon by the gateway, /proxied by mod_proxy."""
    url = f"{bucket.url}/{BUCKET}"
    lines = ["WSGIDaemonProcess s3 threads=8 python-home=${USP_S3_PYTHON_HOME}"]
    for mount, options in (("/embedded", ""), ("/daemon", "process-group=s3 application-group=%{GLOBAL}")):
        lines.append(f"WSGIScriptAlias {mount} ${{USP_S3_WSGI}} {options}")
        lines.append(f"<Location {mount}>\n  SetEnv S3BucketURL {url}/\n{keys(s3)}</Location>")
    return "\n".join(lines)


@contextmanager
def stage(s3: EmbeddedS3, config: str, kind: type[Httpd] = Httpd) -> Iterator[Stage]:
    """A running server with this configuration; BUCKET_HOST and ATTACKER in it become host and port of the two."""
    s3.put(BUCKET, KEY, DATA)
    folder = Path(tempfile.mkdtemp(prefix="tenant-"))
    folder.chmod(0o755)
    (folder / "secret").write_text(WORD + "\n")
    (folder / "secret").chmod(0o644)
    try:
        with ExitStack() as stack:
            bucket = stack.enter_context(Tap(relay=s3.port))
            attacker = stack.enter_context(Tap())
            text = mounts(s3, bucket) + AUTHOR + config
            text = text.replace("BUCKET_HOST", bucket.host).replace("ATTACKER", attacker.host)
            httpd = stack.enter_context(kind(text))
            httpd.expect_error(FAILURES)
            yield Stage(httpd, s3, bucket, attacker, folder / "secret")
            httpd.stop()
            assert "\n".join(httpd.unexpected) == ""
    finally:
        shutil.rmtree(folder)
