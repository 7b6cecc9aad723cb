"""Imports go one way, so that each module can be read and tested with only what is below it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import usp_s3_wsgi

PACKAGE = Path(usp_s3_wsgi.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

#: All but the ways in: what runs in httpd.
GATEWAY = {
    name
    for name in MODULES
    if name.partition(".")[0] not in {"access", "cli", "configtest", "convert", "httpd_user", "requests_auth"}
}
#: What each module may import of the package when it runs.
ALLOWED: dict[str, set[str]] = {
    "__init__": set(),
    "transport": set(),
    "s3": set(),
    "observability": set(),
    "credentials": set(),
    "config": set(),
    "errors": set(),
    "signing.percent_encoding": set(),
    "config.parsers": set(),
    "config.bucket_url": {"signing.percent_encoding"},
    "config.proxy_set": {"config.parsers"},
    "config.settings": {"config.bucket_url", "errors", "config.proxy_set", "config.parsers", "signing.types"},
    "credentials.identity": {"config.settings", "signing.types"},
    "credentials.key_files": {"observability.error_log", "errors", "config.parsers"},
    "credentials.refresher": {"observability.error_log", "errors", "credentials.identity", "signing.types"},
    "import_path": set(),
    "credentials.aws": {"errors", "credentials.identity", "import_path", "signing.types"},
    "credentials.resolver": {
        "credentials.aws",
        "credentials.identity",
        "credentials.refresher",
        "credentials.key_files",
        "config.settings",
        "signing.types",
    },
    "s3.http_date": set(),
    "s3.object_request": {"errors", "s3.http_date", "config.settings", "signing.percent_encoding", "signing.types"},
    "signing": set(),
    "signing.types": set(),
    "signing.signer": {"signing.sigv2", "signing.sigv4", "signing.types"},
    "signing.sigv2": {"signing.percent_encoding", "signing.types"},
    "signing.sigv4": {"signing.percent_encoding", "signing.types"},
    "transport.happy_eyeballs": set(),
    "transport.connection": {"transport.happy_eyeballs"},
    "transport.pool": {"errors", "config.proxy_set", "signing.types", "config.settings", "transport.connection"},
    "s3.error_response": {"errors", "config.settings", "signing.signer"},
    "error_document": {"errors", "transport.pool", "s3.error_response"},
    "s3.retry_policy": {"errors", "s3.error_response"},
    "s3.endpoint_state": {"config.bucket_url", "config.settings", "config.parsers"},
    "clock_trials": {"config.bucket_url", "s3.endpoint_state"},
    "upstream": {
        "config.bucket_url",
        "credentials.resolver",
        "error_document",
        "errors",
        "s3.byte_range",
        "s3.endpoint_state",
        "transport.pool",
        "s3.retry_policy",
        "s3.object_request",
        "s3.error_response",
        "config.settings",
        "signing.signer",
        "signing.types",
    },
    "s3.byte_range": {"errors", "signing.types"},
    "response": {"errors", "config.settings"},
    "body": {"errors", "s3.byte_range", "transport.pool", "s3.error_response", "signing.types", "upstream"},
    "observability.error_log": {"errors"},
    "client": {"errors"},
    "trust_boundary": {"errors", "s3.object_request", "config.settings"},
    "application": GATEWAY - {"application", "clock_trials"},
    "access": GATEWAY
    - {
        "application",
        "body",
        "client",
        "error_document",
        "transport.pool",
        "transport.connection",
        "trust_boundary",
        "upstream",
    },
    "convert": set(),
    "convert.conversion": {
        f"convert.{name}" for name in ("apache_config", "edits", "gateway", "includes", "judgement", "proxy")
    },
    "convert.apache_config": set(),
    "convert.edits": {"convert.apache_config"},
    "convert.includes": {"convert.apache_config", "convert.edits", "convert.mounts"},
    "convert.proxy": {"convert.apache_config", "convert.edits", "convert.mounts"},
    "convert.evaluation": {
        *(f"convert.{name}" for name in ("apache_config", "edits", "includes", "mounts")),
        "configtest.tree",
    },
    "convert.judgement": {
        *("convert.apache_config", "convert.edits", "convert.evaluation", "configtest"),
        *(
            f"configtest.{name}"
            for name in ("findings", "gateway", "healthchecks", "proxied", "servers", "unused", "urls")
        ),
    },
    "convert.mounts": {"config.bucket_url", "convert.apache_config", "convert.edits"},
    "convert.checks": {"convert.apache_config", "convert.edits", "convert.mounts"},
    "convert.gateway": {
        "convert.apache_config",
        "convert.checks",
        "convert.edits",
        "convert.mounts",
        "config.proxy_set",
    },
    "configtest": {
        f"configtest.{name}"
        for name in (
            *("files", "findings", "gateway", "healthchecks", "near"),
            *("proxied", "servers", "tree", "unused", "urls"),
        )
    },
    "configtest.__main__": {"configtest", "configtest.tree"},
    "configtest.tree": {"convert.apache_config"},
    "configtest.findings": {"configtest.tree"},
    "configtest.prefixes": set(),
    "configtest.servers": {"configtest.prefixes", "configtest.tree", "config.settings"},
    "configtest.urls": {"configtest.servers", "configtest.tree"},
    "configtest.judge": {
        "access",
        "configtest.findings",
        "configtest.servers",
        "configtest.tree",
        "errors",
        "config.settings",
    },
    "configtest.files": {"configtest.findings", "credentials.key_files"},
    "configtest.gateway": {f"configtest.{name}" for name in ("findings", "judge", "servers", "tree", "urls")},
    "configtest.patterns": {"configtest.servers", "configtest.urls"},
    "configtest.proxies": {f"configtest.{name}" for name in ("patterns", "prefixes", "servers", "urls")},
    "configtest.proxied": {
        *(f"configtest.{name}" for name in ("findings", "judge", "near", "patterns", "proxies", "servers", "urls")),
        "access",
        "config.bucket_url",
        "config.settings",
    },
    "configtest.near": {"configtest.findings", "configtest.servers", "configtest.tree", "configtest.urls"},
    "configtest.unused": {f"configtest.{name}" for name in ("findings", "gateway", "servers", "tree", "urls")},
    "configtest.healthchecks": {f"configtest.{name}" for name in ("findings", "proxies", "servers", "tree", "urls")},
    "httpd_user": set(),
    "cli": set(MODULES) - {"cli"},
    "requests_auth": GATEWAY - {"application"},
}
#: What only the named modules may import from elsewhere.
OUTSIDE: dict[str, set[str]] = {
    "urllib3": {"transport.connection", "transport.pool"},
    "requests": {"requests_auth"},
    "botocore": {"credentials.aws"},
    "logging": {"credentials.aws"},
    "threading": {
        "transport.happy_eyeballs",
        "credentials.aws",
        "client",
        "clock_trials",
        "import_path",
        "credentials.resolver",
        "observability.error_log",
        "s3.endpoint_state",
        "transport.pool",
        "credentials.refresher",
        "credentials.key_files",
        "transport.connection",
    },
    "ssl": {"configtest.files", "errors", "transport.pool", "transport.connection"},
    "argparse": {"cli"},
}
PURE = [name for name in MODULES if name.startswith("signing")]


def imports(name: str) -> Iterator[str]:
    """Every module that this one imports when it runs, in full: not those for type checkers only."""
    for node in _at_run_time(ast.parse(MODULES[name].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{name}: a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner.removeprefix("usp_s3_wsgi.") in MODULES else node.module


def _at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        yield from _at_run_time(node)


def inside(name: str) -> set[str]:
    """The package's own modules among them."""
    ours = {full for full in imports(name) if full.partition(".")[0] == "usp_s3_wsgi"}
    return {full.removeprefix("usp_s3_wsgi").removeprefix(".") or "__init__" for full in ours}


def test_every_module_has_its_place() -> None:
    assert set(MODULES) == set(ALLOWED)


@pytest.mark.parametrize("name", ALLOWED)
def test_imports_go_one_way(name: str) -> None:
    assert inside(name) - {"__init__"} <= ALLOWED[name]


@pytest.mark.parametrize("name", PURE)
def test_signing_is_pure(name: str) -> None:
    tops = {full.partition(".")[0] for full in imports(name)}
    assert not tops & {"urllib3", "os", "time", "socket", "io", "pathlib", "random", "logging", "requests", "threading"}
    assert "config.settings" not in inside(name)


@pytest.mark.parametrize("outside", OUTSIDE)
def test_what_comes_from_elsewhere_has_its_place(outside: str) -> None:
    users = {name for name in MODULES if outside in {full.partition(".")[0] for full in imports(name)}}
    assert users <= OUTSIDE[outside]


def test_the_tests_see_imports_within_functions_and_ignore_types() -> None:
    tree = ast.parse("if TYPE_CHECKING:\n    import a\ndef f():\n    import b\n")
    found = [node.names[0].name for node in _at_run_time(tree) if isinstance(node, ast.Import)]
    assert found == ["b"]


def test_the_signer_loads_no_library() -> None:
    """It is loaded at the start of each child of httpd, into the interpreter that other applications may share."""
    code = "import sys; before = set(sys.modules); import usp_s3_wsgi.access; print(*sorted(set(sys.modules) - before))"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    tops = {name.partition(".")[0] for name in printed.split()}
    assert "usp_s3_wsgi" in tops
    assert tops - sys.stdlib_module_names == {"usp_s3_wsgi"}
    # Each child of a graceful restart waits for them before it answers, and they take longer than all of the signer.
    assert not tops & {"ssl", "http", "email", "logging", "tempfile", "traceback"}
