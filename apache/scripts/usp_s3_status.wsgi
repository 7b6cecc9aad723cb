"""The script for WSGIScriptAlias: it serves the status page. There is nothing to configure in this file."""

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location("_", Path(__file__).with_name("own_packages.py"))
_own_packages = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_own_packages)

_status = _own_packages.load("usp_s3_wsgi.status.application")
application = _status.make_application(Path(__file__).with_name("errors.md"))
