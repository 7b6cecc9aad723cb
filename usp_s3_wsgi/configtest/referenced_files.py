"""The files that settings name, read as the user of httpd's children reads them."""

from __future__ import annotations

import os
import ssl

from usp_s3_wsgi.configtest.findings import Findings, SecretFile
from usp_s3_wsgi.credentials.key_files import read_key, shown_path


def check(findings: Findings, may_lack_permission: bool) -> None:
    """Tell which files cannot be read or hold no key; ``may_lack_permission``: this is not the children's user."""
    skipped = False
    for file in findings.files.values():
        if not file.path.isascii():
            continue  # how the bytes of its name become text is known in httpd's own Python only
        try:
            if file.setting.endswith("CAFile"):
                _read_certificates(file.path)
            else:
                read_key(file.path)
        except PermissionError as error:
            skipped = skipped or may_lack_permission
            if not may_lack_permission:
                _tell(file, f"the file cannot be read{_by_whom()}: {error.strerror}", findings)
        except ssl.SSLError:
            _tell(file, "the file holds no certificate (PEM)", findings)
        except OSError as error:
            _tell(file, f"the file cannot be read: {error.strerror}", findings)
        except ValueError as error:
            _tell(file, f"the content of the file {error}", findings)
    if skipped:
        findings.note("could not check all files of keys, which this user may not read: run configtest as root")


def _read_certificates(path: str) -> None:
    with open(path, "rb"):
        pass  # for the reason, which ssl does not tell
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)


def _by_whom() -> str:
    return f" by the user of httpd's children (uid {os.getuid()})" if os.getuid() else ""


def _tell(file: SecretFile, reason: str, findings: Findings) -> None:
    tell = findings.error if file.is_needed else findings.warning
    tell(file.directive, ": ".join([file.setting, *shown_path(file.path), reason]))
