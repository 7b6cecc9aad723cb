"""A private S3 for the tests and the demo: OpenStack Swift's S3 API in a child process, on loopback.

    with EmbeddedS3(buckets=("private",)) as s3:
        s3.put("private", "a b.txt", b"hello")
        ...                              # send requests to s3.url with s3.access_key / s3.secret_key
        assert s3.requests()[-1]["status"] == 200

The data is in a temporary directory that is removed when the server stops.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, final

from tests.certificates import Certificate

from .client import Client, S3Error, User

__all__ = ["EmbeddedS3", "S3Error", "User"]

HOST = "127.0.0.1"
SERVER = Path(__file__).with_name("server.py")


@final
class EmbeddedS3:
    """The server as a context manager; `start` and `stop` are for code without a `with` block."""

    port: int
    host: str
    scheme: str
    url: str

    def __init__(
        self,
        buckets: Sequence[str] = ("private",),
        *,
        access_key: str = "AKIAIOSFODNN7EXAMPLE",
        secret_key: str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        region: str = "eu-central-1",
        domain: str = "s3.localhost",
        tls: Certificate | None = None,
        address: str = HOST,
        port: int = 0,
        users: Sequence[User] = (),
        startup_timeout: float = 30.0,
    ) -> None:
        """`users`: further key pairs, each with its own buckets; `tls`: serve https with this certificate."""
        self.users = (User(access_key, secret_key, tuple(buckets)), *users)
        self.access_key, self.secret_key, self.region, self.domain = access_key, secret_key, region, domain
        self._owners = {bucket: user for user in self.users for bucket in user.buckets}
        # Bucket names are global in S3. In Swift each account has its own.
        if len(self._owners) != sum(len(user.buckets) for user in self.users):
            raise ValueError("a bucket is named twice")
        if len({user.access_key for user in self.users}) != len(self.users):
            raise ValueError("an access key is named twice")
        self._tls = tls
        self._address, self._wanted_port = address, port
        self._startup_timeout = startup_timeout
        self._dir: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> EmbeddedS3:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and wait until it is ready. Raises: S3Error with the end of its log."""
        if self._process is not None:
            raise RuntimeError("the embedded S3 is running already")
        try:
            self._dir = _temp_dir()
            self.port = self._launch(self._dir)
        except BaseException:
            self.stop()
            raise
        self.host = f"{self._address}:{self.port}"
        self.scheme = "https" if self._tls else "http"
        self.url = f"{self.scheme}://{self.host}"
        self._client = Client(self._address, self.port, tls=self._tls is not None)

    def stop(self) -> None:
        """Stop the server and remove its data; does nothing if it is stopped already."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=5)
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                with suppress(BrokenPipeError):
                    pipe.close()
        directory, self._dir = self._dir, None
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)

    @property
    def running(self) -> bool:
        """Whether the server process is running."""
        return self._process is not None and self._process.poll() is None

    def put(
        self,
        bucket: str,
        key: str | bytes,
        data: bytes | Path | Iterable[bytes],
        *,
        length: int | None = None,
        content_type: str = "binary/octet-stream",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Store an object, streamed from a file or an iterator (which needs `length`), with these `headers`."""
        user = self._owners.get(bucket, self.users[0])
        self._client.put(user, bucket, key, data, length, {"Content-Type": content_type, **(headers or {})})

    def delete(self, bucket: str, key: str | bytes) -> None:
        """Delete an object; as in S3, a missing object is not an error."""
        self._client.delete(self._owners.get(bucket, self.users[0]), bucket, key)

    def requests(self) -> list[dict[str, Any]]:
        """The requests since the start or the last `clear`: method, target, status, client port, headers, and the
        length that the response announces.

        A request is recorded before its response is sent. `put` and `delete` are included.
        """
        # A line without a newline is still being written.
        lines = self._file("requests.jsonl").read_text("utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def clear(self) -> None:
        """Forget the recorded requests."""
        os.truncate(self._file("requests.jsonl"), 0)  # the server has opened the file for appending

    def log_tail(self, lines: int = 30) -> str:
        """The last lines of the server's stderr."""
        return "\n".join(self._file("stderr.log").read_text("utf-8", "replace").splitlines()[-lines:])

    def _file(self, name: str) -> Path:
        if self._dir is None:
            raise RuntimeError("the embedded S3 is not running")
        return self._dir / name

    def _launch(self, directory: Path) -> int:
        settings = {
            "dir": str(directory),
            "host": self._address,
            "port": self._wanted_port,
            "region": self.region,
            "domain": self.domain,
            "tls": [str(file.resolve()) for file in (self._tls.chain, self._tls.key)] if self._tls else None,
            "users": [(user.access_key, user.secret_key, user.buckets) for user in self.users],
        }
        self._file("requests.jsonl").touch()
        with self._file("stderr.log").open("wb") as log:
            # A new session: Ctrl-C in the terminal must reach only the tests, which then stop the server.
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", str(SERVER)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=directory,
                start_new_session=True,
            )  # fmt: skip
        assert self._process.stdin is not None
        # The secrets go through the pipe, because command lines are public. The pipe stays open: when it is
        # closed, the server knows that this process has ended, in any way.
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(settings).encode() + b"\n")
            self._process.stdin.flush()
        ready = self._ready_line(self._process)
        if "error" in ready:
            raise S3Error(f"the embedded S3 did not start: {ready['error']}")
        return int(ready["port"])

    def _ready_line(self, process: subprocess.Popen[bytes]) -> dict[str, Any]:
        assert process.stdout is not None
        deadline = time.monotonic() + self._startup_timeout
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise S3Error(f"the embedded S3 is not ready after {self._startup_timeout} s:\n{self.log_tail()}")
                piece = os.read(process.stdout.fileno(), 4096)
                if not piece:
                    raise S3Error(f"the embedded S3 ended while starting:\n{self.log_tail()}")
                line += piece
        ready: dict[str, Any] = json.loads(line)
        return ready


def _temp_dir() -> Path:
    """A new directory on a file system with extended attributes, in which Swift stores metadata."""
    for parent in (tempfile.gettempdir(), "/var/tmp"):
        directory = tempfile.mkdtemp(prefix="embedded-s3-", dir=parent)
        try:
            os.setxattr(directory, "user.embedded-s3", b"1")
        except OSError:  # an older tmpfs, for example
            shutil.rmtree(directory, ignore_errors=True)
        else:
            return Path(directory)
    raise S3Error("no temporary directory supports user extended attributes; set TMPDIR to one that does")
