"""A plugin of pytest for ``make sanitize``: httpd preloads AddressSanitizer, and a sanitizer's report fails the test.

Only usp_s3_module is compiled for AddressSanitizer and UndefinedBehaviorSanitizer, httpd and Python are not. So httpd
must preload AddressSanitizer's library; else the library ends httpd when httpd loads the module.

AddressSanitizer writes reports to files, which this plugin reads. UndefinedBehaviorSanitizer, together with
AddressSanitizer, writes to the error log, which ``tests.httpd.server.Httpd`` reads.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.httpd.machine import compile_module
from usp_s3_wsgi.cli import apache_config

#: https://github.com/google/sanitizers/wiki/AddressSanitizerFlags and SanitizerCommonFlags
OPTIONS = {
    "detect_leaks": "0",  # httpd and Python do not free everything when they end
    "handle_segv": "2",  # 2: httpd cannot replace these handlers by its own
    "handle_sigbus": "2",
    "handle_sigfpe": "2",
    "handle_sigill": "2",
    "abort_on_error": "1",  # the child ends as if it had crashed
    "detect_stack_use_after_return": "1",
    "strict_string_checks": "1",
}
REPORTS = pytest.StashKey[Path]()


def address_sanitizer() -> Path:
    """The path of AddressSanitizer's library, which belongs to the compiler. Raises: UsageError."""
    command = ["gcc", "-print-file-name=libasan.so"]
    path = Path(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip())
    if not path.is_absolute():  # gcc prints the name if it does not find the file
        raise pytest.UsageError("gcc has no libasan.so; Debian's gcc depends on the package libasan8")
    return path.resolve()


def check_module() -> None:
    """Check that the installed module is compiled for both sanitizers. Raises: UsageError."""
    module = apache_config.extension_module()
    content = module.read_bytes() if module else b""
    # The second function is called only if signed overflow is undefined, and ends the process.
    if b"__asan_init" not in content or b"__ubsan_handle_add_overflow_abort" not in content:
        raise pytest.UsageError(f"{module or 'usp_s3_module'} is not compiled for the sanitizers: make sanitize")


def pytest_configure(config: pytest.Config) -> None:
    """Set the environment of each httpd, and make the folder for reports."""
    check_module()
    # httpd's children run as another user: they must be able to read the library, and to write reports.
    folder = Path(tempfile.mkdtemp(prefix="sanitize-"))
    folder.chmod(0o755)
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    config.stash[REPORTS] = folder / "reports"
    config.stash[REPORTS].mkdir()
    config.stash[REPORTS].chmod(0o1777)
    # lazy: programs without APR, which httpd starts, load it too.
    options = ["-g", "-fno-omit-frame-pointer", "-Wl,-z,lazy"]
    pool_memory = compile_module(Path(__file__).with_name("pool_memory.c"), folder, *options)
    os.environ["HTTPD_PRELOAD"] = f"{address_sanitizer()}:{pool_memory}"  # AddressSanitizer requires to be the first
    os.environ["PYTHONMALLOC"] = "malloc"  # Python's own allocator has many objects in one block of malloc
    values = {**OPTIONS, "log_path": f"{config.stash[REPORTS]}/report"}
    os.environ["ASAN_OPTIONS"] = ":".join(f"{name}={value}" for name, value in values.items())


def take_reports(config: pytest.Config) -> str:
    """Return the text of all reports, and remove them."""
    texts = []
    for path in sorted(config.stash[REPORTS].iterdir()):
        texts.append(path.read_text("utf-8", "replace"))
        path.unlink()
    return "\n".join(texts)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Fail the test if there is a report, after its fixtures, of which many stop an httpd."""
    try:
        yield
    finally:
        if reports := take_reports(item.config):
            pytest.fail(reports, pytrace=False)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run if a process was still writing a report after the last test."""
    if reports := take_reports(session.config):
        print(reports)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
