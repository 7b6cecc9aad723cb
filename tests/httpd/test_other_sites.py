"""Other sites on the same server: with the lines of ``usp-s3 apache-config`` they answer as without them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import textwrap
import venv
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httptools
import pytest

from tests.httpd.conftest import BUCKET, ONE_CHILD, proxy_section, section
from tests.httpd.fastcgi import fastcgi_server
from tests.httpd.machine import httpd_binary, httpd_environment
from tests.httpd.recorder import Answer, RecordedRequest, Recorder
from tests.httpd.server import Httpd
from tests.s3 import EmbeddedS3

#: Each application imports a module of the same name from its own folder.
APP = """
import os, sys
sys.path.insert(0, os.path.dirname(__file__))
import site_name

def application(environ, start_response):
    body = f"{site_name.NAME} {environ['REQUEST_METHOD']} {environ['mod_wsgi.application_group']}".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Method", environ["REQUEST_METHOD"])])
    return [body]
"""
#: An application that is configured to run in the main interpreter, with libraries of its own at the end of sys.path,
#: as those of a distribution are. (Imported modules stay loaded; folders that other applications added are theirs.)
IN_MAIN_INTERPRETER = """
import os, sys
folder = os.path.dirname(__file__)
if folder not in sys.path:
    sys.path.insert(0, folder)

def application(environ, start_response):
    import urllib3
    try:
        import requests
    except ImportError:
        requests = None
    other_sites = os.path.dirname(folder)
    path = [entry for entry in sys.path if not entry.startswith(other_sites)]
    facts = urllib3.__version__, requests, sys.prefix, path, environ.get("S3_BUCKET")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr(facts).encode()]
"""
CONFIG = """
LogLevel warn
ThreadsPerChild 10
MaxRequestWorkers 40
SetEnv S3_BUCKET uploads
SetEnv S3BUCKET uploads
SetEnv S3REGION eu-west-1
SetEnv S3CMD_CONFIG /etc/s3cfg
PassEnv S3_KEY

WSGIScriptAlias /one  {apps}/one/app.wsgi
WSGIScriptAlias /two  {apps}/two/app.wsgi
WSGIScriptAlias /main {apps}/main/app.wsgi application-group=%{{GLOBAL}}
WSGIScriptAlias /edited ${{ROOT}}/htdocs/edited.wsgi
<Directory {apps}>
  Require all granted
</Directory>

{site}

<VirtualHost *>
  ServerName first.example
  DocumentRoot ${{ROOT}}/htdocs
  {site}
</VirtualHost>
<VirtualHost *>
  ServerName second.example
  DocumentRoot ${{ROOT}}/htdocs
  {site}
</VirtualHost>
"""
SITE = """
<LocationMatch "^/files/admin/">
  Require all denied
</LocationMatch>
RewriteEngine On
RewriteRule ^/files/private/ - [F]
ProxyPass /backend http://127.0.0.1:{http}
ProxyPass /fcgi    fcgi://127.0.0.1:{fcgi}/srv
<Directory ${{ROOT}}/htdocs/php>
  AllowOverride FileInfo
  <FilesMatch "\\.php$">
    SetHandler "proxy:fcgi://127.0.0.1:{fcgi}"
  </FilesMatch>
</Directory>
"""
#: A site's own variables, some with names similar to this package's settings.
HTACCESS = """
SetEnv S3_BUCKET uploads
SetEnv S3_REGION eu-west-1
SetEnv S3_ACCESS_KEY_ID x
RewriteEngine On
RewriteRule ^elsewhere/(.*)$ http://127.0.0.1:{http}/$1 [P]
"""
TARGETS = [
    "/one", "/two", "/main", "/files/a", "/files//a", "//files/a", "/files/admin/a", "/files//admin/a",
    "//files/admin/a", "/files/%61dmin/a", "/files/private/a", "/files//private/a", "//files//private//a",
    "/files/x%2Fa", "/files%2Fadmin/a", "/backend/a%20b", "/backend//a//b", "/backend/a%2Fb", "/fcgi/x", "/php/a.php",
    "/php//a.php", "/php/elsewhere/x", "/missing",
]  # fmt: skip
#: Log lines of httpd about these requests, with this package's lines and without.
EXPECTED = "AH01630|AH01071|AH10244|AH00128|AH00026|AH10159"


class Echo(Recorder):
    """A backend that returns the request that it got."""

    def answer(self, request: RecordedRequest) -> Answer:
        return Answer(200, "text/plain", request.head.encode())


@pytest.fixture(scope="module")
def backends() -> Iterator[dict[str, int]]:
    with Echo() as echo, fastcgi_server() as fcgi:
        yield {"http": echo.port, "fcgi": fcgi}


def write(path: Path, text: str) -> None:
    """Write a file that httpd's children can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    path.parent.chmod(0o755)
    path.chmod(0o644)


@pytest.fixture(scope="module")
def apps() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="other-sites-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        for site in ("one", "two"):
            write(folder / site / "app.wsgi", APP)
            write(folder / site / "site_name.py", f"NAME = {site!r}\n")
        write(folder / "main" / "app.wsgi", IN_MAIN_INTERPRETER)
        write(folder / "main" / "urllib3" / "__init__.py", "__version__ = '1.26.12'\n")
        yield folder


class WithoutPackage(Httpd):
    """A server without this package's lines."""

    def gateway_lines(self) -> str:
        return next(line for line in super().gateway_lines().splitlines() if "wsgi_module" in line)


def bucket_lines(s3: EmbeddedS3) -> str:
    """The bucket, for the gateway and for ``<Proxy>``."""
    url = f"{s3.url}/{BUCKET}"
    lines = section("/media", s3) + f"ProxyPass /proxied {url}\n" + proxy_section(f"{url}/", s3)
    # UnsetEnv is the first line of each section, because httpd treats S3REGION and S3Region as the same name.
    return re.sub(r"(<(?:Location|Proxy) .*>\n)", r"\1UnsetEnv S3_BUCKET S3BUCKET S3REGION\n", lines)


@pytest.fixture(scope="module")
def servers(apps: Path, backends: dict[str, int], s3: EmbeddedS3) -> Iterator[tuple[Httpd, Httpd, Httpd]]:
    """A server without this package's lines, one with them, and one with a bucket as well."""
    os.environ["S3_KEY"] = "of another program"
    s3.put(BUCKET, "a.ts", b"an object")
    config = CONFIG.format(apps=apps, site=SITE.format(**backends))
    with ExitStack() as stack:
        stack.callback(os.environ.pop, "S3_KEY")
        running = [WithoutPackage(config), Httpd(config), Httpd(bucket_lines(s3) + config)]
        for server in running:
            stack.enter_context(server)
            server.expect_error(EXPECTED)
            for name in ("files/a", "files/admin/a", "files/private/a"):
                write(server.root / "htdocs" / name, "a file\n")
            write(server.root / "htdocs" / "php" / "a.php", "")
            write(server.root / "htdocs" / "php" / ".htaccess", HTACCESS.format(**backends))
            write(server.root / "htdocs" / "edited.wsgi", versioned_application("old"))
        without, plain, with_bucket = running
        yield without, plain, with_bucket
    for server in running:
        assert "\n".join(server.unexpected) == ""


def versioned_application(text: str) -> str:
    """An application that returns this text; its author changes it while the server runs."""
    return f"""
        def application(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"{text}"]
        """


def comparable_response(server: Httpd, target: str, method: str, host: str) -> tuple[object, ...]:
    """The parts of a response that must not depend on this package; names that differ between servers are replaced."""
    reply = server.fetch(target, method=method, host=host)
    body = reply.body.replace(str(server.root).encode(), b"ROOT").replace(str(server.port).encode(), b"PORT")
    headers = {name: value for name, value in reply.headers.items() if name not in {"Date", "ETag", "Last-Modified"}}
    # Bodies with the server's folder in them differ in length.
    headers.pop("Content-Length", None)
    headers["Server"] = re.sub(r" mod_wsgi.*", "", headers["Server"])
    return reply.status, body, headers


@pytest.mark.parametrize("host", ["127.0.0.1", "first.example", "second.example"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("target", TARGETS)
def test_another_site_answers_as_without_this_package(
    servers: tuple[Httpd, Httpd, Httpd], target: str, method: str, host: str
) -> None:
    without, plain, with_bucket = servers
    expected = comparable_response(without, target, method, host)
    assert comparable_response(plain, target, method, host) == expected
    assert comparable_response(with_bucket, target, method, host) == expected


def test_the_other_sites_answer_as_configured(servers: tuple[Httpd, Httpd, Httpd]) -> None:
    """Check that the comparison above compares responses of applications, rules and backends."""
    for server in servers:
        assert server.fetch("/one").body.startswith(b"one GET") and server.fetch("/two").body.startswith(b"two GET")
        assert server.fetch("/files//admin/a").status == server.fetch("/files//private/a").status == 403
        assert server.fetch("/files/x%2Fa").status == 404
        assert b"GET /a%20b HTTP/1.1" in server.fetch("/backend/a%20b").body
        assert b"S3_BUCKET=uploads" in server.fetch("/php/a.php").body
        assert b"GET /x HTTP/1.1" in server.fetch("/php/elsewhere/x").body
        assert b"S3CMD_CONFIG=/etc/s3cfg" in server.fetch("/fcgi/x").body
        # Its own urllib3; no requests library, or the system's.
        assert re.match(
            rb"\('1\.26\.12', (None|<module 'requests' from '/usr/lib/[^']*'>), ", server.fetch("/main").body
        )


def test_a_bucket_unsets_variables_of_other_programs(servers: tuple[Httpd, Httpd, Httpd], s3: EmbeddedS3) -> None:
    s3.clear()
    assert servers[2].fetch("/proxied/a.ts").body == b"an object"
    assert s3.requests()[0]["headers"]["authorization"] == "AWS4-HMAC-SHA256"


def test_variables_in_other_case_do_not_replace_a_buckets_settings(s3: EmbeddedS3, checked: list[Httpd]) -> None:
    """httpd's tables keep the spelling of the outer variable; the section's own values apply all the same."""
    url = f"{s3.url}/{BUCKET}"
    outer = "SetEnv S3ACCESSKEY x\nSetEnv S3SECRETKEY x\nSetEnv S3REGION x\nSetEnv S3USEHEADERS x\n"
    httpd = Httpd(outer + f"ProxyPass /proxied {url}\n" + proxy_section(f"{url}/", s3))
    checked.append(httpd)
    httpd.start()
    s3.clear()
    assert httpd.fetch("/proxied/a.ts", cookie="session=1").status == 200
    [request] = s3.requests()
    assert request["headers"]["authorization"] == "AWS4-HMAC-SHA256" and "cookie" not in request["headers"]


def test_a_changed_application_is_reloaded(servers: tuple[Httpd, Httpd, Httpd]) -> None:
    for server in servers:
        assert server.fetch("/edited", host="first.example").body == b"old"
        write(server.root / "htdocs" / "edited.wsgi", versioned_application("newer"))
        assert {server.fetch("/edited", host="first.example").body for _ in range(20)} == {b"newer"}


#: In the dump of the configuration: directives of this package that are allowed outside of the <Files> of its scripts.
#: A LogFormat with a name does nothing until a CustomLog uses it.
OWN_DIRECTIVES = re.compile(
    r'WSGIImportScript "[^"]*/usp_s3_access\.py" process-group=%\{GLOBAL\} application-group=%\{GLOBAL\}'
    r'|LogFormat ".*" usp_s3(_json)?'
)


def dump_configuration(server: Httpd) -> list[str]:
    """The configuration as httpd parsed it, without comments and line numbers."""
    done = subprocess.run(
        [httpd_binary(), "-f", str(server.root / "httpd.conf"), "-t", "-DDUMP_CONFIG"],
        env=httpd_environment(), capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    lines = (line.strip() for line in done.stdout.splitlines())
    return [line.replace(str(server.root), "ROOT") for line in lines if line and not line.startswith("#")]


def test_the_packages_lines_set_nothing_for_the_whole_server(servers: tuple[Httpd, Httpd, Httpd]) -> None:
    without, plain, _ = map(dump_configuration, servers)
    port = re.compile(r"^Listen .*")
    text = "\n".join(line for line in plain if line not in without and not port.match(line))
    for opening in ('<Files "usp_s3.wsgi">', r'<Files ~ "^usp_s3_(metrics|status|health)\.wsgi$">'):
        text, files = re.subn(rf"{re.escape(opening)}\n(?:(?!<).*\n)*</Files>", "", text)
        assert files == 1
    remaining = [line for line in text.splitlines() if line.strip() and not OWN_DIRECTIVES.fullmatch(line)]
    assert remaining == []


# --- a WSGIPythonHome of the operator


HOME_APP = """
import own_library

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [own_library.NAME.encode()]
"""


@pytest.fixture(scope="module")
def python_home() -> Iterator[Path]:
    """A virtual environment of another application, with a library of its own, and a urllib3 that is too old."""
    with tempfile.TemporaryDirectory(prefix="home-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        venv.create(folder / "venv", with_pip=False)
        (packages,) = (folder / "venv" / "lib").glob("python3.*/site-packages")
        write(packages / "own_library.py", "NAME = 'their own library'\n")
        write(packages / "urllib3" / "__init__.py", "__version__ = '1.26.12'\n")
        write(folder / "app.wsgi", HOME_APP)
        yield folder


@pytest.mark.parametrize("group", ["", " application-group=%{GLOBAL}"])
@pytest.mark.parametrize("position", ["before", "after"])
def test_with_a_wsgipythonhome_both_applications_find_their_packages(
    position: str, group: str, python_home: Path, s3: EmbeddedS3, checked: list[Httpd]
) -> None:
    class Placed(Httpd):
        def gateway_lines(self) -> str:
            directive = f'WSGIPythonHome "{python_home}/venv"'
            first, rest = super().gateway_lines().split("\n", 1)
            return "\n".join([first, directive, rest] if position == "before" else [first, rest, directive])

    lines = f"WSGIScriptAlias /theirs {python_home}/app.wsgi{group}\n"
    lines += f"<Directory {python_home}>\nRequire all granted\n</Directory>\n"
    s3.put(BUCKET, "a.ts", b"an object")
    httpd = Placed(lines + bucket_lines(s3))
    checked.append(httpd)
    httpd.start()
    for target, body in (
        ("/media/a.ts", b"an object"),
        ("/theirs", b"their own library"),
        ("/proxied/a.ts", b"an object"),
    ):
        assert httpd.fetch(target).body == body, target


def test_a_library_that_another_application_loaded_is_logged(apps: Path, s3: EmbeddedS3, checked: list[Httpd]) -> None:
    """One interpreter has one urllib3. If both are needed, one application must run in daemon mode."""
    main = f"{apps}/main/app.wsgi"
    allowed = f"<Directory {apps}>\nRequire all granted\n</Directory>\n{ONE_CHILD}"
    shared = f"WSGIScriptAlias /main {main} application-group=%{{GLOBAL}}\n{allowed}"
    s3.put(BUCKET, "a.ts", b"an object")
    httpd = Httpd(shared + section("/media", s3))
    checked.append(httpd)
    httpd.start()
    assert httpd.fetch("/main").body.startswith(b"('1.26.12'")
    assert httpd.fetch("/media/a.ts").status == 500
    line = httpd.wait_for_error("urllib3 1.26.12 of .*/main/urllib3 is loaded in this process, by another application")
    assert "daemon mode" in line
    httpd.expect_error(r"\[wsgi:error\]")  # tracebacks

    daemon = "process-group=theirs application-group=%{GLOBAL}"
    separated = Httpd(
        f"WSGIDaemonProcess theirs threads=2\nWSGIScriptAlias /main {main} {daemon}\n" + allowed + section("/media", s3)
    )
    checked.append(separated)
    separated.start()
    for _ in range(2):
        assert separated.fetch("/main").body.startswith(b"('1.26.12'")
        assert separated.fetch("/media/a.ts").body == b"an object"


#: An application with a copy of httptools, whose extension module can be loaded into one interpreter of a process only.
WITH_HTTPTOOLS = """
import os, sys
sys.path.insert(0, os.path.dirname(__file__))
import httptools

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [httptools.__file__.encode()]
"""


@pytest.mark.parametrize("order", [("/theirs", "/media/a.ts"), ("/media/a.ts", "/theirs")])
def test_an_application_in_another_interpreter_has_its_own_httptools(
    order: tuple[str, str], tmp_path: Path, s3: EmbeddedS3, checked: list[Httpd]
) -> None:
    with tempfile.TemporaryDirectory(prefix="httptools-") as name:
        folder = Path(name)
        write(folder / "app.wsgi", WITH_HTTPTOOLS)
        shutil.copytree(Path(httptools.__file__).parent, folder / "httptools")
        s3.put(BUCKET, "a.ts", b"an object")
        lines = f"WSGIScriptAlias /theirs {folder}/app.wsgi\n<Directory {folder}>\nRequire all granted\n</Directory>\n"
        httpd = Httpd(lines + ONE_CHILD + section("/media", s3))
        checked.append(httpd)
        httpd.start()
        bodies = {target: httpd.fetch(target).body for target in order}
        assert bodies == {"/theirs": f"{folder}/httptools/__init__.py".encode(), "/media/a.ts": b"an object"}


def test_the_gateway_in_a_second_interpreter_of_a_process_says_why_it_does_not_start(
    s3: EmbeddedS3, checked: list[Httpd]
) -> None:
    s3.put(BUCKET, "a.ts", b"an object")
    second = section("/second", s3).replace("/second ${USP_S3_WSGI}", "/second ${USP_S3_WSGI} application-group=second")
    assert "application-group=second" in second
    httpd = Httpd(ONE_CHILD + section("/media", s3) + second)
    checked.append(httpd)
    httpd.start()
    assert httpd.fetch("/media/a.ts").body == b"an object"
    assert httpd.fetch("/second/a.ts").status == 500
    line = httpd.wait_for_error("ImportError: usp_s3_wsgi cannot load httptools: Interpreter change detected")
    assert "WSGIApplicationGroup %{GLOBAL}" in line and "daemon mode" in line
    httpd.expect_error(r"\[wsgi:error\]")  # tracebacks
    reply = httpd.fetch("/media/a.ts")
    assert reply.body == b"an object", (reply, httpd.errors())
