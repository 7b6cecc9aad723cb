"""Checks the files that settings name: key files and CA certificates, read as the user of httpd's children."""

from __future__ import annotations

import os
import ssl

from usp_s3_wsgi.configtest.finding_codes import FindingCode
from usp_s3_wsgi.configtest.findings import Findings, ReferencedFile
from usp_s3_wsgi.credentials.key_files import read_key, shown_path


def check(findings: Findings, may_lack_permission: bool) -> None:
    """Report files that cannot be read or have no valid content.

    ``may_lack_permission``: this process does not run as the user of httpd's children, so that a denied access proves
    nothing.
    """
    has_skipped = False
    for file in findings.files.values():
        if not file.path.isascii():
            continue  # only httpd's own Python knows the encoding of file names
        try:
            if file.setting.endswith("CAFile"):
                _read_certificates(file.path)
            else:
                read_key(file.path)
        except PermissionError as error:
            has_skipped = has_skipped or may_lack_permission
            if not may_lack_permission:
                reason = f"the file cannot be read{_by_user()}: {error.strerror}"
                _report(FindingCode.FILE_NOT_READABLE, file, reason, findings)
        except ssl.SSLError:
            reason = "the file contains no certificate in PEM format"
            _report(FindingCode.FILE_WITHOUT_CERTIFICATE, file, reason, findings)
        except OSError as error:
            reason = f"the file cannot be read: {error.strerror}"
            _report(FindingCode.FILE_NOT_READABLE, file, reason, findings)
        except ValueError as error:
            _report(FindingCode.FILE_WITHOUT_KEY, file, f"the content of the file {error}", findings)
    if has_skipped:
        findings.note(
            FindingCode.FILES_NOT_CHECKED,
            "some key files were not checked, because this user is not allowed to read them: run configtest as root",
        )


def _read_certificates(path: str) -> None:
    with open(path, "rb"):
        pass  # raises the OSError with its reason, which ssl does not give
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)


def _by_user() -> str:
    return f" by the user of httpd's children (uid {os.getuid()})" if os.getuid() else ""


def _report(code: FindingCode, file: ReferencedFile, reason: str, findings: Findings) -> None:
    report = findings.error if file.is_required else findings.warning
    report(code, file.directive, ": ".join([file.setting, *shown_path(file.path), reason]))
