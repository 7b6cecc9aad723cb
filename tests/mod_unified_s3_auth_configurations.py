"""Typical configurations of mod_unified_s3_auth, and the messages of ``usp-s3 convert`` for each of them.

A comment ``#! error TEXT`` or ``#! warning TEXT`` precedes the line that the message names; ``#! gateway error
TEXT`` is for one mode only. TEXT is a part of the message. What httpd does is not written here: a test runs it, and the
exit status must agree.

``{host}`` is the URL of an S3 server, ``{url}`` that of the bucket ``private`` there, both without a slash at the end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

KEYS = "S3AccessKey {access}\n{indent}S3SecretKey {secret}\n{indent}S3Region {region}\n{indent}S3UseHeaders on"
#: Keys in a <Location> around that of the bucket, and around one of another URL.
KEYS_AROUND_TWO_URLS = """
#! gateway error this section cannot be converted to a mount: its S3 directives are unchanged,
<Location "/">
  @KEYS@
</Location>
<Location "/media/">
  IsmProxyPass {url}/
</Location>
<Location "/clips/">
  IsmProxyPass @CLIPS@
</Location>
"""


@dataclass(frozen=True)
class Case:
    """A configuration; the ``paths`` are those of the bucket's object ``a.mp4``, each in all of the ``situations``.

    A situation is the rest of the server's configuration. If it begins with ``# public``, the bucket is public and no
    request must be signed.
    """

    text: str
    paths: tuple[str, ...] = ("/media/a.mp4",)
    situations: tuple[str, ...] = ("",)


@dataclass(frozen=True)
class Bucket:
    """The values for the placeholders in the texts. ``folder``: where the files are that they include."""

    url: str
    access: str
    secret: str
    region: str
    folder: Path

    def filled(self, text: str) -> str:
        """Return a text with its placeholders replaced."""
        text = re.sub(r"^( *)@KEYS@", lambda match: match[1] + KEYS.replace("{indent}", match[1]), text, flags=re.M)
        names = {"url": self.url, "host": self.url.rpartition("/")[0], "folder": str(self.folder)}
        names |= {"access": self.access, "secret": self.secret, "region": self.region}
        # mod_proxy's own spelling has the host in lowercase.
        names["spelt"] = self.url.partition(":")[2].replace("127.0.0.1", "LOCALHOST")
        for name, value in names.items():
            text = text.replace(f"{{{name}}}", value)
        return text

    def write(self, text: str) -> Path:
        """Write a text and the files that texts include; returns its path."""
        keys = "S3AccessKey {access}\nS3SecretKey {secret}\n"
        included = {"keys.conf": keys, "section.conf": f'<Proxy "{{url}}/">\n{keys}</Proxy>\n'}
        for name, content in (included | {"site.conf": text}).items():
            (self.folder / name).write_text(self.filled(content))
        return self.folder / "site.conf"


def expected(text: str, mode: str) -> list[tuple[int, str, str]]:
    """Return line, level and a part of the text of each message that the comments announce for a mode."""
    found: list[tuple[int, str, str]] = []
    waiting: list[tuple[str, str]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.match(r"\s*#! (?:(proxy|gateway) )?(error|warning) (.*)", line):
            if match[1] in {None, mode}:
                waiting.append((match[2], match[3]))
        else:
            found += [(number, *one) for one in waiting]
            waiting = []
    return found


CASES = {
    "the documentation's virtual host": Case(
        """
LoadModule unified_s3_auth_module modules/mod_unified_s3_auth.so
<VirtualHost *>
  <Location "/">
    UspHandleIsm on
    UspEnableSubreq on
  </Location>
  <Location "/vod/">
    #! gateway warning this URL uses port 80: change it to the port on which this server's first virtual host answers
    IsmProxyPass {url}/
  </Location>
  <Proxy "{url}/">
    @KEYS@
    ProxySet connectiontimeout=5 enablereuse=on keepalive=on retry=0 timeout=30 ttl=300
  </Proxy>
</VirtualHost>
""",
        ("/vod/a.mp4",),
    ),
    "Unified Streaming's container": Case(
        """
<IfModule !unified_s3_auth_module>
  LoadModule unified_s3_auth_module /usr/lib/apache2/mod_unified_s3_auth.so
</IfModule>
<VirtualHost *>
  <Location />
    UspHandleIsm on
    UspEnableSubreq on
  </Location>
  <IfDefine REMOTE_STORAGE_URL>
    <Location "/${REMOTE_PATH}/">
      #! gateway warning this URL uses port 80: change it to the port on which this server's first virtual host answers
      IsmProxyPass "${REMOTE_STORAGE_URL}"
    </Location>
    #! gateway error where <IfDefine S3_ACCESS_KEY> and <IfDefine S3_SECRET_KEY> do not apply: S3AccessKey is
    #! proxy warning httpd does not verify the certificate of this URL, if the variable contains https://, by
    #! gateway warning the gateway verifies the certificates of https:// URLs, which httpd did not do here: if
    <Proxy "${REMOTE_STORAGE_URL}">
      ProxySet connectiontimeout=5 enablereuse=on keepalive=on retry=0 timeout=30 ttl=300
      #! gateway warning this cannot be in a mount and is kept as a comment: replace it by hand where it is needed
      RequestHeader unset Accept-Encoding
      #! gateway warning this cannot be in a mount and is kept as a comment: replace it by hand where it is needed
      RequestHeader unset x-amz-cf-id
      S3UseHeaders on
      <IfDefine S3_ACCESS_KEY>
        S3AccessKey ${S3_ACCESS_KEY}
      </IfDefine>
      <IfDefine S3_SECRET_KEY>
        S3SecretKey ${S3_SECRET_KEY}
      </IfDefine>
      <IfDefine S3_SECURITY_TOKEN>
        S3SecurityToken ${S3_SECURITY_TOKEN}
      </IfDefine>
      <IfDefine S3_REGION>
        S3Region ${S3_REGION}
      </IfDefine>
    </Proxy>
  </IfDefine>
</VirtualHost>
""",
        ("/remote/a.mp4",),
        (
            "Define REMOTE_STORAGE_URL {url}/\nDefine REMOTE_PATH remote\nDefine S3_ACCESS_KEY {access}\n"
            "Define S3_SECRET_KEY {secret}\nDefine S3_REGION {region}\n",
            "# public\nDefine REMOTE_STORAGE_URL {url}/\nDefine REMOTE_PATH remote\n",
            "# public\nDefine REMOTE_STORAGE_URL {url}/\nDefine REMOTE_PATH remote\nDefine S3_REGION {region}\n",
        ),
    ),
    "Unified Streaming's Remix container": Case(
        """
LoadModule unified_s3_auth_module modules/mod_unified_s3_auth.so
<VirtualHost *>
  <Location "/">
    UspEnableSubreq on
  </Location>
  <Proxy "${SMIL_URL}">
    ProxySet connectiontimeout=5 enablereuse=on keepalive=on retry=0 timeout=30 ttl=300
    RequestHeader unset Accept-Encoding
  </Proxy>
  #! gateway error no ProxyPass or IsmProxyPass here sends requests to this section: change the directive that does
  #! proxy warning httpd does not verify the certificate of this URL, if the variable contains https://, by
  #! gateway warning the gateway verifies the certificates of https:// URLs, which httpd did not do here: if
  <Proxy "${S3_URL}">
    ProxySet connectiontimeout=5 enablereuse=on keepalive=on retry=0 timeout=30 ttl=300
    #! gateway warning this cannot be in a mount and is kept as a comment: replace it by hand where it is needed
    RequestHeader unset Accept-Encoding
    S3AccessKey ${S3_ACCESS_KEY}
    S3SecretKey ${S3_SECRET_KEY}
    S3Region ${S3_REGION}
  </Proxy>
</VirtualHost>
""",
        ("/playlist/a.mp4",),
        (
            "Define S3_URL {url}/\nDefine SMIL_URL {host}/smil/\nDefine S3_ACCESS_KEY {access}\n"
            "Define S3_SECRET_KEY {secret}\nDefine S3_REGION {region}\n"
            "<Location /playlist/>\nIsmProxyPass {url}/\n</Location>\n",
        ),
    ),
    "the traditional form": Case(
        """
<Location "/">
  UspHandleIsm on
  #! gateway warning this URL uses port 80: change it to the port on which this server's first virtual host answers
  IsmProxyPass {url}/
  @KEYS@
</Location>
""",
        ("/a.mp4",),
    ),
    "keys in a <Location>, its rule in an inner one": Case(
        """
#! gateway error this section cannot be converted to a mount: its S3 directives are unchanged,
<Location "/">
  UspHandleIsm on
  @KEYS@
</Location>
<Location "/vod/">
  IsmProxyPass {url}/
</Location>
""",
        ("/vod/a.mp4",),
    ),
    "keys in a <Location>, its rule in an outer one": Case(
        """
<Location "/vod/">
  IsmProxyPass {url}/
</Location>
#! gateway error this section cannot be converted to a mount: its S3 directives are unchanged,
<Location "/vod/a.mp4">
  @KEYS@
</Location>
""",
        ("/vod/a.mp4",),
    ),
    "keys below a rule of another bucket": Case(
        """
<Location "/">
  IsmProxyPass {host}/clips/
</Location>
#! gateway error this section cannot be converted to a mount: its S3 directives are unchanged,
<Location "/media">
  RewriteEngine On
  RewriteRule "^.*/media/(.*)$" "{url}/$1" [P]
  @KEYS@
</Location>
""",
    ),
    "keys around a ProxyPass of an inner path": Case(
        """
#! gateway error this section cannot be converted to a mount: its S3 directives are unchanged,
<Location "/">
  @KEYS@
</Location>
ProxyPass /media {url}
""",
    ),
    "keys around two buckets": Case(
        "\n#! proxy error the bucket of these keys is unknown: move them into the <Proxy> section of its URL"
        + KEYS_AROUND_TWO_URLS.replace("@CLIPS@", "{host}/clips/")
    ),
    "keys around two folders of a bucket": Case(KEYS_AROUND_TWO_URLS.replace("@CLIPS@", "{url}/clips/")),
    "a <Location> that no directive uses": Case(
        """
#! proxy error these settings are not used: no WSGIScriptAlias, ProxyPass or RewriteRule [P] handles this path
#! gateway error this section cannot be converted to a mount: its S3 directives are unchanged,
<Location "/media">
  @KEYS@
</Location>
""",
    ),
    "a bucket that is only in ProxyPass": Case(
        """
ProxyPass "/media" "{url}"
#! gateway error this section cannot be converted to a mount: its S3 directives are unchanged,
<Location "/media">
  @KEYS@
</Location>
""",
    ),
    "ProxyPass in a <Location>": Case(
        """
<Location "/media">
  ProxyPass "{url}" timeout=5
  ProxyPassReverse "{url}"
  @KEYS@
</Location>
""",
    ),
    "a <LocationMatch>": Case(
        """
#! gateway error this section cannot be converted to a mount: its S3 directives are unchanged,
<LocationMatch "^/media/(.*)$">
  ProxyPass "{url}/$1"
  @KEYS@
</LocationMatch>
""",
    ),
    "ProxyPassMatch": Case(
        """
#! gateway error this sends requests to the bucket unsigned: change it to use the mount /private
ProxyPassMatch "^/media/(.*)$" "{url}/$1"
#! gateway error no ProxyPass or IsmProxyPass here sends requests to this section: change the directive that does
<Proxy "{url}/">
  @KEYS@
</Proxy>
""",
    ),
    "RewriteRule in a <Location>": Case(
        """
#! gateway error this section cannot be converted to a mount: its S3 directives are unchanged,
<Location "/media">
  RewriteEngine On
  RewriteRule "^.*/media/(.*)$" "{url}/$1" [P]
  @KEYS@
</Location>
""",
    ),
    "RewriteRule of the server": Case(
        """
RewriteEngine On
#! gateway error this sends requests to the bucket unsigned: change it to use the mount /private
RewriteRule "^/media/(.*)$" "{url}/$1" [P]
#! gateway error no ProxyPass or IsmProxyPass here sends requests to this section: change the directive that does
<Proxy "{url}/">
  @KEYS@
</Proxy>
""",
    ),
    "RewriteRule to a host that is only known at request time": Case(
        """
#! proxy error the bucket of these keys is unknown: move them into the <Proxy> section of its URL
#! gateway error this section cannot be converted to a mount: its S3 directives are unchanged,
<Location "/media">
  RewriteEngine On
  RewriteRule "^.*/media/(.*)$" "http://%{ENV:BUCKET_HOST}/private/$1" [P]
  @KEYS@
</Location>
""",
    ),
    "keys of a virtual host": Case(
        """
<VirtualHost *>
  #! error S3AccessKey applies to no request: there is no WSGIScriptAlias that uses it, and no <Proxy>
  @KEYS@
  ProxyPass "/media" "{url}"
</VirtualHost>
""",
    ),
    "keys of the server, a section without": Case(
        """
#! error S3AccessKey applies to no request: there is no WSGIScriptAlias that uses it, and no <Proxy>
@KEYS@
ProxyPass "/media" "{url}"
<Proxy "{url}/">
  ProxySet timeout=30
</Proxy>
""",
    ),
    "defaults of a virtual host": Case(
        """
<VirtualHost *>
  #! warning S3 directives outside of <Proxy> and <Location> are only defaults for sections with S3
  S3Region {region}
  S3UseHeaders on
  ProxyPass "/media" "{url}"
  <Proxy "{url}/">
    S3AccessKey {access}
    S3SecretKey {secret}
  </Proxy>
</VirtualHost>
""",
    ),
    "only keys, as in an included file": Case(
        """
#! error S3AccessKey applies to no request: there is no WSGIScriptAlias that uses it, and no <Proxy>
@KEYS@
""",
    ),
    "a <Directory>": Case(
        """
#! proxy error the bucket of these keys is unknown: move them into the <Proxy> section of its URL
#! gateway error this section cannot be converted to a mount: its S3 directives are unchanged,
<Directory "/">
  @KEYS@
</Directory>
ProxyPass "/media" "{url}"
""",
    ),
    "an <If>": Case(
        """
#! proxy error the bucket of these keys is unknown: move them into the <Proxy> section of its URL
#! gateway error this section cannot be converted to a mount: its S3 directives are unchanged,
<If "true">
  @KEYS@
</If>
ProxyPass "/media" "{url}"
""",
    ),
    "keys in a <Location> and in the <Proxy> section": Case(
        """
ProxyPass /media {url}
#! gateway error this section cannot be converted to a mount: its S3 directives are unchanged,
<Location /media>
  S3AccessKey {access}
  S3UseHeaders on
</Location>
#! gateway error S3AccessKey is not set (nor S3AccessKeyFile)
<Proxy "{url}/">
  S3SecretKey {secret}
  S3Region {region}
</Proxy>
""",
    ),
    "two sections for the same URL": Case(
        """
ProxyPass /media {url}
#! gateway error S3SecretKey is not set (nor S3SecretKeyFile)
<Proxy "{url}/">
  S3AccessKey {access}
</Proxy>
#! gateway error no ProxyPass or IsmProxyPass here sends requests to this section
<Proxy "{url}/">
  S3SecretKey {secret}
  S3Region {region}
</Proxy>
""",
    ),
    "a section that names no bucket": Case(
        """
ProxyPass "/media" "{url}"
#! proxy error S3BucketURL shows no bucket: put it into the path, or set S3Bucket where the host begins
<Proxy "{host}/">
  @KEYS@
</Proxy>
""",
    ),
    "a <ProxyMatch>": Case(
        """
ProxyPass "/media" "{url}"
#! proxy error does not name the bucket: a URL pattern needs S3BucketURL
#! gateway error this section cannot be converted to a mount: its S3 directives are unchanged,
<ProxyMatch "^{url}/">
  @KEYS@
</ProxyMatch>
""",
    ),
    "a wildcard": Case(
        """
ProxyPass "/media" "{url}"
#! proxy error does not name the bucket: a URL pattern needs S3BucketURL
<Proxy "{url}/*">
  @KEYS@
</Proxy>
""",
    ),
    "any host": Case(
        """
ProxyPass "/media" "{url}"
#! proxy error this section matches any host, so that its keys would sign requests to any host: name the
#! gateway error this section cannot be converted to a mount: its S3 directives are unchanged,
<Proxy "*">
  @KEYS@
</Proxy>
""",
    ),
    "a different spelling of the URL": Case(
        """
ProxyPass "/media" "HTTP:{spelt}"
#! proxy error mod_proxy does not apply this section to the requests of
<Proxy "http:{spelt}/">
  @KEYS@
</Proxy>
""",
    ),
    "a balancer's own keys": Case(
        """
#! proxy error does not name the bucket: put these settings into a <Proxy
#! gateway error this section cannot be converted to a mount: its S3 directives are unchanged,
<Proxy "balancer://films">
  BalancerMember "{url}"
  @KEYS@
</Proxy>
ProxyPass "/media" "balancer://films"
""",
    ),
    "a balancer": Case(
        """
<Proxy "balancer://films">
  #! gateway error this sends requests to the bucket unsigned: change it to use the mount /private
  BalancerMember "{url}"
  #! warning S3 also answers 403 for a single object that is denied, which clients can request, and a
  ProxySet failonstatus=403 lbmethod=byrequests
</Proxy>
#! gateway error no ProxyPass or IsmProxyPass here sends requests to this section: change the directive that does
<Proxy "{url}/">
  @KEYS@
</Proxy>
ProxyPass "/media" "balancer://films"
""",
    ),
    "the documentation's balancer of locations": Case(
        """
<Proxy "balancer://films">
  #! warning S3 also answers 403 for a single object that is denied, which clients can request, and a
  ProxySet failonstatus=403,500
  BalancerMember "http://127.0.0.1/eu"
</Proxy>
ProxyPass "/media" "balancer://films"
ProxyPass "/eu" "{url}"
<Proxy "{url}/">
  @KEYS@
</Proxy>
""",
        ("/eu/a.mp4", "/media/a.mp4"),
    ),
    "variables that the file defines": Case(
        """
Define BUCKET "{url}"
Define KEY {access}
ProxyPass "/media" "${BUCKET}"
<Proxy "${BUCKET}/">
  S3AccessKey ${KEY}
  S3SecretKey {secret}
  S3Region {region}
</Proxy>
""",
    ),
    "a variable in the URL": Case(
        """
ProxyPass "/media" "{host}/${BUCKET_NAME}"
<Proxy "{host}/${BUCKET_NAME}/">
  @KEYS@
</Proxy>
""",
        situations=("Define BUCKET_NAME private\n",),
    ),
    "a variable with a default in the file": Case(
        """
<IfDefine !STORAGE>
  Define STORAGE "{url}"
</IfDefine>
ProxyPass "/media" "${STORAGE}"
<Proxy "${STORAGE}/">
  @KEYS@
</Proxy>
""",
        situations=("", "Define STORAGE {url}\n"),
    ),
    "a macro": Case(
        """
<Macro Bucket $path $url $access $secret>
  ProxyPass "$path" "$url"
  #! gateway error this section cannot be converted to a mount: its S3 directives are unchanged,
  #! proxy warning httpd does not verify the certificate of this URL, if the variable contains https://, by
  <Proxy "$url/">
    S3AccessKey $access
    S3SecretKey $secret
    S3Region {region}
  </Proxy>
</Macro>
Use Bucket /media {url} {access} {secret}
UndefMacro Bucket
""",
    ),
    "a macro with a wrong argument": Case(
        """
<Macro Bucket $path $url $headers>
  ProxyPass "$path" "$url"
  #! gateway error this section cannot be converted to a mount: its S3 directives are unchanged,
  #! proxy warning httpd does not verify the certificate of this URL, if the variable contains https://, by
  <Proxy "$url/">
    S3AccessKey {access}
    S3SecretKey {secret}
    #! proxy error S3UseHeaders must be on or off
    S3UseHeaders $headers
  </Proxy>
</Macro>
Use Bucket /media {url} yes
""",
    ),
    "a macro of keys": Case(
        """
#! gateway error this section cannot be converted to a mount: its S3 directives are unchanged,
<Macro Keys>
  @KEYS@
</Macro>
ProxyPass "/media" "{url}"
<Proxy "{url}/">
  Use Keys
</Proxy>
""",
    ),
    "conditions": Case(
        """
<IfVersion >= 2.4>
  <IfModule proxy_module>
    <IfModule !nothing_module>
      ProxyPass "/media" "{url}"
      <Proxy "{url}/">
        <IfModule unified_s3_auth_module>
          @KEYS@
        </IfModule>
      </Proxy>
    </IfModule>
  </IfModule>
</IfVersion>
<IfVersion < 2.4>
  #! warning S3 directives outside of <Proxy> and <Location> are only defaults for sections with S3
  S3SecretKey old
</IfVersion>
""",
    ),
    "a condition on a directive": Case(
        """
<IfDirective S3SecretKey>
  ProxyPass "/media" "{url}"
  <Proxy "{url}/">
    @KEYS@
  </Proxy>
</IfDirective>
""",
    ),
    "a condition on mod_unified_s3_auth's file": Case(
        """
ProxyPass "/media" "{url}"
#! error this condition is only true while mod_unified_s3_auth is installed: remove it
<IfFile "/usr/lib/apache2/mod_unified_s3_auth.so">
  <Proxy "{url}/">
    @KEYS@
  </Proxy>
</IfFile>
""",
    ),
    "alternative keys in conditions": Case(
        """
ProxyPass "/media" "{url}"
<Proxy "{url}/">
  S3UseHeaders on
  S3Region {region}
  <IfDefine OTHER>
    S3AccessKey {access}
    S3SecretKey {secret}
  </IfDefine>
  <IfDefine !OTHER>
    S3AccessKey {access}
    S3SecretKey {secret}
  </IfDefine>
</Proxy>
""",
        situations=("", "Define OTHER\n"),
    ),
    "keys unless the bucket is public": Case(
        """
ProxyPass "/media" "{url}"
#! gateway error where <IfDefine !OPEN> does not apply: S3AccessKey is not set (nor S3AccessKeyFile)
<Proxy "{url}/">
  S3UseHeaders on
  <IfDefine !OPEN>
    S3AccessKey {access}
    S3SecretKey {secret}
  </IfDefine>
</Proxy>
""",
        situations=("", "# public\nDefine OPEN\n"),
    ),
    "keys in conditions beside IsmProxyPass": Case(
        """
#! gateway error where <IfDefine PRIVATE> does not apply: S3AccessKey is not set (nor S3AccessKeyFile)
<Location "/vod/">
  #! gateway warning this URL uses port 80
  IsmProxyPass {url}/
  <IfDefine PRIVATE>
    @KEYS@
  </IfDefine>
</Location>
""",
        ("/vod/a.mp4",),
        ("Define PRIVATE\n", "# public\n"),
    ),
    "alternative keys in conditions beside IsmProxyPass": Case(
        """
<Location "/vod/">
  #! gateway warning this URL uses port 80
  IsmProxyPass {url}/
  S3Region {region}
  <IfDefine !OLD>
    S3AccessKey {access}
    S3SecretKey {secret}
  </IfDefine>
  <IfDefine OLD>
    S3AccessKey old
    S3SecretKey old
  </IfDefine>
</Location>
""",
        ("/vod/a.mp4",),
    ),
    "a missing key": Case(
        """
ProxyPass "/media" "{url}"
#! error S3SecretKey is not set (nor S3SecretKeyFile)
<Proxy "{url}/">
  S3AccessKey {access}
  S3Region {region}
</Proxy>
""",
    ),
    "values that are not allowed": Case(
        """
ProxyPass "/media" "{url}"
<Proxy "{url}/">
  S3AccessKey {access}
  S3SecretKey {secret}
  #! error S3UseHeaders must be on or off
  S3UseHeaders yes
</Proxy>
""",
    ),
    "an unknown directive": Case(
        """
ProxyPass "/media" "{url}"
<Proxy "{url}/">
  @KEYS@
  #! proxy error unknown directive, which httpd rejects unless another module has it
  #! gateway warning this cannot be in a mount and is kept as a comment: replace it by hand where it is needed
  S3Signature v4
</Proxy>
""",
    ),
    "a value in two words": Case(
        """
ProxyPass "/media" "{url}"
<Proxy "{url}/">
  S3AccessKey {access}
  #! error S3SecretKey has more than one value, which httpd rejects
  S3SecretKey {secret} # of the old account
  S3Region {region}
</Proxy>
""",
    ),
    "a section written with continuations": Case(
        """
ProxyPass "/media" \\
  "{url}"
<Proxy \\
  "{url}/">
  s3accesskey \\
    {access}
  "S3SecretKey" '{secret}'
  S3Region \\
{region}
</Proxy>
""",
    ),
    "two virtual hosts": Case(
        """
<VirtualHost *>
  ServerName one
  ProxyPass "/media" "{url}"
  <Proxy "{url}/">
    @KEYS@
  </Proxy>
</VirtualHost>
<VirtualHost *>
  ServerName two
  ProxyPass "/media" "{url}"
</VirtualHost>
""",
    ),
    "a section around two virtual hosts": Case(
        """
<Proxy "{url}/">
  @KEYS@
</Proxy>
<VirtualHost *>
  #! gateway warning this URL uses port 80: change it to the port on which this server's first virtual host answers
  ProxyPass "/media" "{url}"
</VirtualHost>
""",
    ),
    "keys in an included file": Case(
        """
ProxyPass "/media" "{url}"
#! gateway error S3AccessKey is not set (nor S3AccessKeyFile)
<Proxy "{url}/">
  S3Region {region}
  S3UseHeaders on
  #! error the included files contain directives of mod_unified_s3_auth: convert them, too
  #! gateway warning this cannot be in a mount and is kept as a comment: replace it by hand where it is needed
  Include {folder}/keys.conf
</Proxy>
""",
    ),
    "a missing included file": Case(
        """
ProxyPass "/media" "{url}"
<Proxy "{url}/">
  @KEYS@
  #! warning could not read the included files: convert them, too, if they contain S3 directives
  #! gateway warning this cannot be in a mount and is kept as a comment: replace it by hand where it is needed
  IncludeOptional ${FOLDER}/none*.conf
</Proxy>
""",
        situations=("Define FOLDER /nowhere\n",),
    ),
    "a virtual host in a macro": Case(
        """
<Macro Site $name>
  <VirtualHost *>
    ServerName $name
    ProxyPass "/media" "{url}"
    #! gateway error this section cannot be converted to a mount: its S3 directives are unchanged,
    <Proxy "{url}/">
      @KEYS@
    </Proxy>
  </VirtualHost>
</Macro>
Use Site one.example
""",
    ),
    "a macro of a <Location>": Case(
        """
<Macro Bucket $path $url>
  #! gateway error this section cannot be converted to a mount: its S3 directives are unchanged,
  #! proxy warning httpd does not verify the certificate of this URL, if the variable contains https://, by
  <Location "$path">
    ProxyPass "$url"
    @KEYS@
  </Location>
</Macro>
<Macro Origin $path $url>
  #! gateway error this section cannot be converted to a mount: its S3 directives are unchanged,
  #! proxy warning httpd does not verify the certificate of this URL, if the variable contains https://, by
  <Location "$path">
    IsmProxyPass "$url"
    @KEYS@
  </Location>
</Macro>
Use Bucket /media {url}
Use Origin /vod/ {url}/
""",
        ("/media/a.mp4", "/vod/a.mp4"),
    ),
    "a macro that is used in another file": Case(
        """
<Macro Bucket $path $url>
  ProxyPass "$path" "$url"
  #! gateway error this section cannot be converted to a mount: its S3 directives are unchanged,
  #! proxy error S3SecretKey is not set (nor S3SecretKeyFile)
  #! proxy warning httpd does not verify the certificate of this URL, if the variable contains https://, by
  <Proxy "$url/">
    S3AccessKey {access}
    S3Region {region}
  </Proxy>
</Macro>
""",
    ),
    "in a <Limit>": Case(
        """
ProxyPass "/media" "{url}"
<Proxy "{url}/">
  <Limit GET HEAD>
    @KEYS@
  </Limit>
</Proxy>
""",
    ),
    "a pattern of paths": Case(
        """
#! gateway error this section cannot be converted to a mount: its S3 directives are unchanged,
<Location ~ "^/media/(.*)$">
  ProxyPass "{url}/$1"
  @KEYS@
</Location>
""",
    ),
    "storage on this server": Case(
        """
#! proxy error the bucket of these keys is unknown: move them into the <Proxy> section of its URL
#! gateway error this section cannot be converted to a mount: its S3 directives are unchanged,
<Location "/">
  UspHandleIsm on
  IsmProxyPass /storage/
  @KEYS@
</Location>
<Location "/media/">
  ProxyPass "{url}/"
</Location>
""",
    ),
    "one key in a condition": Case(
        """
ProxyPass "/media" "{url}"
#! gateway error where <IfDefine PRIVATE> does not apply: S3AccessKey is not set (nor S3AccessKeyFile)
<Proxy "{url}/">
  S3SecretKey {secret}
  S3Region {region}
  <IfDefine PRIVATE>
    S3AccessKey {access}
  </IfDefine>
</Proxy>
""",
        situations=("Define PRIVATE\n", "# public\n"),
    ),
    "no keys at all": Case(
        """
ProxyPass "/media" "{url}"
#! error S3AccessKey is not set (nor S3AccessKeyFile)
<Proxy "{url}/">
  S3UseHeaders on
</Proxy>
""",
    ),
    "a <Location> in a condition": Case(
        """
<IfDefine PRIVATE>
  <Location "/media/">
    #! gateway warning this URL uses port 80: change it to the port on which this server's first virtual host answers
    IsmProxyPass "{url}/"
    <IfVersion >= 2.4>
      @KEYS@
    </IfVersion>
  </Location>
</IfDefine>
""",
        situations=("Define PRIVATE\n",),
    ),
    "a section for the whole server, its rule in a virtual host": Case(
        """
#! gateway error this section cannot be converted to a mount: its S3 directives are unchanged,
<Location "/">
  @KEYS@
</Location>
<VirtualHost *>
  <Location "/media/">
    IsmProxyPass "{url}/"
  </Location>
</VirtualHost>
""",
    ),
    "two buckets of one virtual host": Case(
        """
<VirtualHost *>
  ProxyPass "/media" "{url}"
  ProxyPass "/clips" "{host}/clips"
  <Proxy "{url}/">
    @KEYS@
  </Proxy>
  #! error S3AccessKey is not set (nor S3AccessKeyFile)
  <Proxy "{host}/clips/">
    S3SecretKey {secret}
  </Proxy>
</VirtualHost>
""",
        ("/media/a.mp4", "/clips/a.mp4"),
    ),
    "an included file with directives of mod_unified_s3_auth": Case(
        """
LoadModule unified_s3_auth_module modules/mod_unified_s3_auth.so
ProxyPass "/media" "{url}"
#! error the included files contain directives of mod_unified_s3_auth: convert them, too
Include {folder}/section.conf
""",
    ),
}
