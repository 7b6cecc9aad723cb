"""The script for WSGIImportScript: each child process of httpd loads the signer for <Proxy> sections with it.

There is nothing to configure in this file.
"""

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location("_", Path(__file__).with_name("own_packages.py"))
_own_packages = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_own_packages)

_startup = _own_packages.load("usp_s3_wsgi.proxy.startup")
allow_access = _startup.allow_access  # for WSGIAccessScript
_startup.install()
