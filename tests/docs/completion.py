"""What a block of configuration leaves out because the page has shown it before, or because it is not its subject."""

from __future__ import annotations

from tests.docs.blocks import Block
from tests.docs.names import PROXIED, has_settings, references, setting, settings_of
from usp_s3_wsgi.configtest.apache_syntax import Section, parse, walk

URL = "https://mybucket.s3.eu-central-1.amazonaws.com"
CREDENTIALS = frozenset({"accesskey", "secretkey"})
#: The sections that have the settings of a bucket.
KINDS = frozenset({"location", "proxy"})
SETTINGS = """\
  SetEnv S3AccessKey     ACCESS_KEY
  SetEnv S3SecretKeyFile /etc/apache2/s3/mybucket.secret
  SetEnv S3Region        eu-central-1
  SetEnv S3UseHeaders    on
"""
#: In the documentation the system's list has the authority; the tests' authority is in no list.
TLS = """\
SSLProxyEngine on
SSLProxyVerify require
SSLProxyVerifyDepth 10
SSLProxyCACertificateFile /etc/ssl/certs/ca-certificates.crt
"""
#: A complete bucket at /media.
WAYS = {
    "gateway": f"""\
WSGIScriptAlias /media ${{USP_S3_WSGI}}
<Location /media>
  SetEnv S3BucketURL     {URL}/
{SETTINGS}</Location>
""",
    "proxy": f"""\
ProxyPass "/media" "{URL}"
<Proxy "{URL}/">
{SETTINGS}</Proxy>
""",
}


def completed(block: Block) -> str:
    """Return a block as a configuration that can be served. Raises: ApacheConfigError."""
    text = complete_bucket(block.keys["in"], block.text) if "in" in block.keys else block.text
    if "with" in block.keys:
        text = complete_bucket(block.keys["with"]) + text
    text = missing_mounts(text) + missing_sections(text) + text
    names = {line.name for line, _ in walk(parse(text))}
    return text if "sslproxyengine" in names or not names & {"proxypass", "<proxy"} else TLS + text


def complete_bucket(way: str, further: str = "") -> str:
    """A complete bucket at /media, by the gateway or by a ``<Proxy>`` section, with further lines in its section.

    A setting among these lines replaces the same setting, from a file or not.
    """
    own = settings_of(further).keys()
    lines = []
    for line, _ in walk(parse(WAYS[way])):
        name = setting(line)[0].removesuffix("file")
        is_replaced = {name, f"{name}file"} & own or (name in CREDENTIALS and "credentialsource" in own)
        lines.append("" if name and is_replaced else line.text)
    return "".join(lines).replace("</", f"{further}</")


def missing_mounts(text: str) -> str:
    """The mounts of the sections that have settings, but no mount in the text."""
    lines = [line for line, _ in walk(parse(text))]
    aliases = {line.arguments[0].rstrip("/") for line in lines if line.name == "wsgiscriptalias"}
    targets = [argument for line in lines if line.name in PROXIED for argument in line.arguments]
    added = ""
    for section in (one for one in parse_sections(text) if one.name in KINDS and has_settings(one)):
        (here,) = section.opening.arguments[:1] or ("",)
        inner = [line for line, _ in walk(section.body)]
        is_gateway = any(setting(line)[0] == "bucketurl" for line in inner)
        if section.name == "location" and is_gateway and not any(line.name in PROXIED for line in inner):
            slash = "/" if here.rstrip("/") and here.endswith("/") else ""
            added += "" if here.rstrip("/") in aliases else f'WSGIScriptAlias "{here}" ${{USP_S3_WSGI}}{slash}\n'
        url = here.rstrip("/")
        if section.name == "proxy" and url.startswith("http") and not any(one.startswith(url) for one in targets):
            added += f'ProxyPass "/media" "{url}"\n'
    return added


def missing_sections(text: str) -> str:
    """The ``<Proxy>`` sections of the buckets to which requests are proxied, but whose settings are not in the text."""
    sections = [one for one in parse_sections(text) if one.name in {*KINDS, "proxymatch"} and has_settings(one)]
    opened = [argument for section in sections for argument in section.opening.arguments]
    urls = {reference.split()[0] for reference in references(text)}
    if any(one == "*" for one in opened) or any(section.name == "proxymatch" for section in sections):
        return ""
    own = [line for section in sections for line, _ in walk(section.body)]
    in_settings = {argument for line in own for argument in line.arguments}
    return "".join(
        f'<Proxy "{url}/">\n{SETTINGS}</Proxy>\n'
        for url in sorted(urls)
        if not any(one.startswith(url) for one in {*opened, *in_settings})
    )


def parse_sections(text: str) -> list[Section]:
    """The sections of a configuration, outer ones first."""
    found = {id(section): section for _, enclosing in walk(parse(text)) for section in enclosing}
    return list(found.values())
