"""The forms of a signed request: headers, a URL, and a curl command that shows nothing in the list of processes."""

from __future__ import annotations

from urllib.parse import unquote

from usp_s3_wsgi.signing.types import S3Request

#: What curl prints at the end: the file may be an error of S3. https://curl.se/docs/manpage.html#-w
_DONE = r"S3 answered %{http_code}: %{size_download} bytes in %{filename_effective}\n"
#: curl's own options for a method.
_CURL_METHODS = {"GET": "", "HEAD": "head\n"}


def headers(request: S3Request) -> str:
    """Return a line for each header that the signer has added or that was given; the client adds Host itself."""
    return "".join(f"{name}: {value}\n" for name, value in request.headers)


def url(request: S3Request) -> str:
    """Return the URL, with the signature if that is in the query."""
    return f"{request.scheme}://{request.host}{request.target}"


def curl(request: S3Request, is_pasted: bool = False) -> str:
    """Return the command. Its options are in a here document, because all users can see arguments.

    ``is_pasted``: into a terminal, on which curl does not write an object: it gets the name of a file.

    https://curl.se/docs/manpage.html#-K
    """
    method = _CURL_METHODS.get(request.method, f"request = {_quoted(request.method)}\n")
    lines = [f"url = {_quoted(url(request))}\n", "globoff\n", "silent\n", "show-error\n", method]
    if request.method == "GET":
        line = f"output = {_quoted(_file_name(request.path))}\n"
        lines += [line, f'write-out = "{_DONE}"\n'] if is_pasted else [f"# {line}"]
    lines += [f"header = {_quoted(_curl_header(name, value))}\n" for name, value in request.headers]
    return "curl --config - <<'EOF'\n" + "".join(lines) + "EOF\n"


def _file_name(path: str) -> str:
    """Return the last part of a path as the name of a file that any terminal can show."""
    name = unquote(path.rpartition("/")[2], errors="replace")
    name = "".join(letter if letter.isprintable() and letter not in "/\ufffd" else "_" for letter in name)
    return name if name.strip(".-") else "object"


def _curl_header(name: str, value: str) -> str:
    # curl takes "Name:" for a header that it must not send: https://curl.se/docs/manpage.html#-H
    return f"{name}: {value}" if value else f"{name};"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t")
    return f'"{escaped}"'
