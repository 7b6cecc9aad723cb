"""Configurations and the findings that configtest reports for them, for tests with and without httpd.

A comment ``#! error CODE TEXT`` or ``#! warning CODE TEXT`` precedes the line that the finding names. CODE is the
number without ``USPS``. TEXT is a part of the message, or several parts with `` ... `` between them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import NamedTuple

from usp_s3_wsgi.configtest.apache_syntax import Line, Node, parse

KEYS = "SetEnv S3AccessKey AK\nSetEnv S3SecretKey SK"

#: Configurations with findings.
WRONG = {
    "a value that is not allowed": """
WSGIScriptAlias /media ${USP_S3_WSGI}
<Location /media>
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  @KEYS@
  #! error 30801 S3Region must be a region's name
  SetEnv S3Region "eu central"
  #! error 30801 S3UseHeaders must be on or off
  SetEnv S3UseHeaders yes
</Location>
""",
    "a misspelled setting": """
WSGIScriptAlias /media ${USP_S3_WSGI}
<Location /media>
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  @KEYS@
  #! error 30802 S3UseHeader is not a setting: did you mean S3UseHeaders?
  SetEnv S3UseHeader on
</Location>
""",
    "a missing setting": """
WSGIScriptAlias /media ${USP_S3_WSGI}
#! error 30803 S3SecretKey is not set
<Location /media>
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  SetEnv S3AccessKey AK
</Location>
""",
    "settings that contradict each other": """
WSGIScriptAlias /media ${USP_S3_WSGI}
<Location /media>
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  @KEYS@
  #! error 30803 S3Profile is set, but S3CredentialSource is not aws
  SetEnv S3Profile default
</Location>
""",
    "a default of the server and settings of a section": """
SetEnv S3Region eu-central-1
#! error 30801 S3Expires must be a whole number
SetEnv S3Expires never
WSGIScriptAlias /media ${USP_S3_WSGI}
<Location /media>
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  @KEYS@
</Location>
""",
    "UnsetEnv in a section": """
SetEnv S3AccessKey AK
SetEnv S3SecretKey SK
WSGIScriptAlias /media ${USP_S3_WSGI}
#! error 30803 S3AccessKey is not set
<Location /media>
  UnsetEnv S3AccessKey
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
</Location>
""",
    "an empty value": """
WSGIScriptAlias /media ${USP_S3_WSGI}
#! error 30803 S3SecretKey is not set
<Location /media>
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  @KEYS@
  SetEnv S3SecretKey ""
</Location>
""",
    "a mount in a virtual host, with settings in sections around it": """
<VirtualHost *>
  SetEnv S3AccessKey AK
  WSGIScriptAlias /media/eu ${USP_S3_WSGI}
  <Location /media>
    SetEnv S3Region eu-central-1
  </Location>
  #! error 30803 S3SecretKey is not set
  <Location /media/eu>
    SetEnv S3BucketURL http://films.s3.amazonaws.com/
  </Location>
</VirtualHost>
""",
    "a mount without settings": """
SetEnv S3Region eu-central-1
#! error 30803 S3BucketURL is not set
WSGIScriptAlias /media ${USP_S3_WSGI}
""",
    "one of two buckets of a mount": """
WSGIScriptAlias /media ${USP_S3_WSGI}
<Location /media>
  @KEYS@
</Location>
<Location /media/films>
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
</Location>
<Location /media/clips>
  #! error 30801 S3BucketURL must be an http:// or https:// URL
  SetEnv S3BucketURL films.s3.amazonaws.com
</Location>
""",
    "the second bucket": """
WSGIScriptAlias /media ${USP_S3_WSGI}
#! error 30803 S3FallbackURL is not set
<Location /media>
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  @KEYS@
  SetEnv S3FallbackRegion eu-west-1
</Location>
""",
    "settings of the gateway in <Proxy>": """
ProxyPass /films http://films.s3.amazonaws.com
<Proxy "http://films.s3.amazonaws.com/">
  @KEYS@
  #! error 30804 S3Retries is for the gateway
  SetEnv S3Retries 3
</Proxy>
""",
    "settings of the gateway in <Proxy>, in a server with rules": """
SetEnvIf Host "^([a-z]+)" S3Bucket=$1
ProxyPass /films http://films.s3.amazonaws.com
<Proxy "http://films.s3.amazonaws.com/">
  SetEnv S3AccessKey AK
  #! error 30804 S3CAFile is for the gateway
  SetEnv S3CAFile /etc/ssl/certs/ca-certificates.crt
  #! error 30804 S3FallbackURL is for the gateway
  SetEnv S3FallbackURL http://copy.s3.amazonaws.com/
</Proxy>
""",
    "a value in <Proxy> that is not allowed": """
ProxyPass /films http://films.s3.amazonaws.com
<Proxy "http://films.s3.amazonaws.com/">
  @KEYS@
  #! error 30801 S3UseHeaders must be on or off
  SetEnv S3UseHeaders 1
</Proxy>
""",
    "missing keys in <Proxy>": """
ProxyPass /films http://films.s3.amazonaws.com
#! error 30803 S3AccessKey is not set
<Proxy "http://films.s3.amazonaws.com/">
  SetEnv S3Region eu-central-1
</Proxy>
""",
    "missing keys for one member of a balancer": """
<Proxy "http://films-eu.s3.amazonaws.com/">
  @KEYS@
</Proxy>
#! error 30803 S3SecretKey is not set
<Proxy "http://films-us.s3.amazonaws.com/">
  SetEnv S3AccessKey AK
</Proxy>
<Proxy "balancer://films">
  BalancerMember http://films-eu.s3.amazonaws.com
  BalancerMember http://films-us.s3.amazonaws.com
</Proxy>
ProxyPass /films balancer://films
""",
    "a virtual host with a section of the main server": """
<Proxy "http://films.s3.amazonaws.com/">
  SetEnv S3AccessKey AK
  #! error 30801 S3Region must be a region's name
  SetEnv S3Region "#"
</Proxy>
<VirtualHost *>
  SetEnv S3SecretKey SK
  ProxyPass /films http://films.s3.amazonaws.com
</VirtualHost>
""",
    "S3BucketURL with another host than ProxyPass": """
<Location /films>
  ProxyPass http://films.s3.amazonaws.com
  @KEYS@
  #! error 30816 S3BucketURL has another scheme, host or port than http://films.s3.amazonaws.com, where
  SetEnv S3BucketURL http://clips.s3.amazonaws.com/
</Location>
""",
    "a missing secret file": """
WSGIScriptAlias /media ${USP_S3_WSGI}
<Location /media>
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  SetEnv S3AccessKey AK
  #! error 30805 S3SecretKeyFile: /etc/no-such-secret: the file cannot be read: No such file or directory
  SetEnv S3SecretKeyFile /etc/no-such-secret
</Location>
""",
    "an empty secret file": """
ProxyPass /films http://films.s3.amazonaws.com
<Proxy "http://films.s3.amazonaws.com/">
  #! error 30807 S3AccessKeyFile: /dev/null: the content of the file must be printable ASCII characters
  SetEnv S3AccessKeyFile /dev/null
  SetEnv S3SecretKey SK
</Proxy>
""",
    "a directory instead of a secret file": """
ProxyPass /films http://films.s3.amazonaws.com
<Proxy "http://films.s3.amazonaws.com/">
  #! error 30805 S3AccessKeyFile: /etc/apt: the file cannot be read: Is a directory
  SetEnv S3AccessKeyFile /etc/apt
  SetEnv S3SecretKey SK
</Proxy>
""",
    "a secret instead of the path of its file": """
ProxyPass /films http://films.s3.amazonaws.com
<Proxy "http://films.s3.amazonaws.com/">
  SetEnv S3AccessKey AK
  #! error 30805 S3SecretKeyFile: the file cannot be read: No such file or directory
  SetEnv S3SecretKeyFile /abcdefghijklmn/opqrstuvwxyz
</Proxy>
""",
    "files of certificates": """
WSGIScriptAlias /media ${USP_S3_WSGI}
<Location /media>
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  @KEYS@
  #! error 30806 S3CAFile: /etc/passwd: the file contains no certificate in PEM format
  SetEnv S3CAFile /etc/passwd
  SetEnv S3FallbackURL http://copy.s3.amazonaws.com/
  #! warning 30805 S3FallbackCAFile: /etc/no-such-file: the file cannot be read
  SetEnv S3FallbackCAFile /etc/no-such-file
</Location>
""",
    "a section that no request matches": """
#! warning 30809 no request matches this section: no ProxyPass
<Proxy "http://films.s3.amazonaws.com/">
  @KEYS@
  ProxySet timeout=5
</Proxy>
""",
    "a typo": """
ProxyPass /films http://flims.s3.amazonaws.com
#! warning 30810 this section: httpd.conf:@2@ sends requests to http://flims.s3.amazonaws.com, unsigned
<Proxy "http://films.s3.amazonaws.com/">
  @KEYS@
</Proxy>
""",
    "localhost for 127.0.0.1": """
RewriteEngine On
RewriteRule ^/films/(.*) http://localhost:9000/films/$1 [NC,P]
#! warning 30810 this section: httpd.conf:@3@ sends requests to http://localhost:9000/films/
<Proxy "http://127.0.0.1:9000/films/">
  @KEYS@
</Proxy>
""",
    "http for https": """
ProxyPass /films http://films.s3.amazonaws.com
#! warning 30810 this section: httpd.conf:@2@ sends requests to http://films.s3.amazonaws.com
<Proxy "https://films.s3.amazonaws.com/">
  @KEYS@
</Proxy>
""",
    "another port": """
<Proxy "balancer://films">
  BalancerMember http://s3.example:9001/films
</Proxy>
ProxyPass /films balancer://films
#! warning 30810 this section: httpd.conf:@3@ sends requests to http://s3.example:9001/films
<Proxy "http://s3.example:9000/films/">
  @KEYS@
</Proxy>
""",
    "capitals in the path": """
ProxyPass /films http://s3.example:9000/Films
#! warning 30810 this section: httpd.conf:@2@ sends requests to http://s3.example:9000/Films
<Proxy "http://s3.example:9000/films/">
  @KEYS@
</Proxy>
""",
    "capitals in the path of handlers, which httpd converts to lowercase": """
<Location /films>
  SetHandler "proxy:http://s3.example:9000/Films"
</Location>
AddHandler "proxy:http://s3.example:9000/Clips/" .ts
#! warning 30810 this section: httpd.conf:@3@ sends requests to http://s3.example:9000/films
<Proxy "http://s3.example:9000/Films/">
  @KEYS@
</Proxy>
#! warning 30810 this section: httpd.conf:@5@ sends requests to http://s3.example:9000/clips/
<Proxy "http://s3.example:9000/Clips/">
  @KEYS@
</Proxy>
""",
    "a typo in AddHandler and [H]": """
AddHandler "proxy:http://flims.s3.amazonaws.com/" .ts
RewriteEngine On
RewriteRule ^/clips/ - [H=proxy:http://clisp.s3.amazonaws.com/,L]
#! warning 30810 this section: httpd.conf:@2@ sends requests to http://flims.s3.amazonaws.com/, unsigned
<Proxy "http://films.s3.amazonaws.com/">
  @KEYS@
</Proxy>
#! warning 30810 this section: httpd.conf:@4@ sends requests to http://clisp.s3.amazonaws.com/, unsigned
<Proxy "http://clips.s3.amazonaws.com/">
  @KEYS@
</Proxy>
""",
    "handlers that are only known at request time": """
<Directory "/srv">
  SetHandler "%{reqenv:HANDLER}"
</Directory>
#! warning 30811 whether any request matches this section: the URLs that httpd.conf:@3@ sends
<Proxy "http://films.s3.amazonaws.com/">
  @KEYS@
</Proxy>
""",
    "content types that are handlers, whose requests are rejected": """
AddType "proxy:http://films.s3.amazonaws.com/" .ts
RewriteEngine On
RewriteRule ^/films/ - [T=proxy:http://films.s3.amazonaws.com/]
<Directory "/srv">
  ForceType "proxy:http://films.s3.amazonaws.com/"
</Directory>
#! warning 30809 no request matches this section: no ProxyPass
<Proxy "http://films.s3.amazonaws.com/">
  @KEYS@
</Proxy>
""",
    "AddHandler with keys around and no section": """
<Location /films>
  @KEYS@
  #! error 30818 the requests of this directive are rejected, because S3AccessKey at httpd.conf:@3@ ... known bucket
  AddHandler "proxy:http://films.s3.amazonaws.com" .ts
</Location>
""",
    "directives with URLs that do not proxy requests": """
ProxyPassReverse /films http://films.s3.amazonaws.com/
Redirect /x http://films.s3.amazonaws.com/x
ErrorDocument 404 http://films.s3.amazonaws.com/x
#! warning 30809 no request matches this section: no ProxyPass
<Proxy "http://films.s3.amazonaws.com/">
  @KEYS@
</Proxy>
""",
    "a section of another virtual host": """
<VirtualHost *>
  ServerName a.example
  ProxyPass /films http://films.s3.amazonaws.com
</VirtualHost>
<VirtualHost *>
  ServerName b.example
  #! warning 30809 no request matches this section
  <Proxy "http://films.s3.amazonaws.com/">
    @KEYS@
  </Proxy>
</VirtualHost>
""",
    "a URL that is only known at request time": """
RewriteEngine On
RewriteRule ^/to/([^/]+)/(.*) http://$1/$2 [P]
#! warning 30811 whether any request matches this section (and 1 other section): the URLs that httpd.conf:@3@ sends
<Proxy "http://films.s3.amazonaws.com/">
  @KEYS@
</Proxy>
<Proxy "http://clips.s3.amazonaws.com/">
  @KEYS@
</Proxy>
""",
    "a bucket without a mount": """
#! warning 30820 this bucket is not used: no WSGIScriptAlias, ProxyPass or RewriteRule [P] handles this path
<Location /media>
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  @KEYS@
</Location>
""",
    "a mount of another path": """
WSGIScriptAlias /medai ${USP_S3_WSGI}
#! warning 30820 this bucket is not used: no WSGIScriptAlias, ProxyPass or RewriteRule [P] handles this path
<Location /media>
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  @KEYS@
</Location>
<Location /medai>
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  @KEYS@
</Location>
""",
    "a bucket without a mount, beside handlers of httpd": """
AddHandler type-map var
<Location /server-status>
  SetHandler server-status
</Location>
ScriptAlias /cgi-bin/ /usr/lib/cgi-bin/
#! warning 30820 this bucket is not used: no WSGIScriptAlias, ProxyPass or RewriteRule [P] handles this path
<Location /media>
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  @KEYS@
</Location>
""",
    "settings that apply to no request": """
#! warning 30823 S3AccessKey applies to no request: there is no WSGIScriptAlias that uses it
SetEnv S3AccessKey AK
SetEnv S3SecretKey SK
ProxyPass /films http://films.s3.amazonaws.com
""",
    "settings around a ProxyPass": """
ProxyPass /media/films http://films.s3.amazonaws.com
#! warning 30821 these settings do not apply to the requests of httpd.conf:@2@: move them into a <Proxy> section
<Location /media>
  @KEYS@
</Location>
""",
    "[P] with keys around and no section": """
<Location /films>
  @KEYS@
  RewriteEngine On
  #! error 30818 the requests of this directive are rejected, because S3AccessKey at httpd.conf:@3@ ... known bucket
  RewriteRule ^.*/(.*) http://films.s3.amazonaws.com/$1 [P]
</Location>
""",
    "SetHandler with keys around and no section": """
<Location /films>
  @KEYS@
  #! error 30818 the requests of this directive are rejected, because S3AccessKey at httpd.conf:@3@ ... known bucket
  SetHandler "proxy:http://films.s3.amazonaws.com"
</Location>
""",
    "[P] of the server with keys around and no section": """
RewriteEngine On
#! error 30818 the requests of this directive are rejected, because S3AccessKey at httpd.conf:@6@ ... known bucket
RewriteRule ^/films/(.*) http://films.s3.amazonaws.com/$1 [P]
<Location /films>
  @KEYS@
</Location>
""",
    "capitals in scheme and host": """
ProxyPass /films http://films.example/b
#! error 30812 requests of httpd.conf:@2@, ... these requests are rejected: write <Proxy "http://films.example/b/">
<Proxy "HTTP://Films.example/b/">
  @KEYS@
</Proxy>
""",
    "capitals in ProxyPass": """
ProxyPass /films http://Films.example:80/b
#! error 30812 these requests are rejected: write <Proxy "http://Films.example:80/b/">
<Proxy "http://films.example/b/">
  @KEYS@
</Proxy>
""",
    "capitals in both, and a rule of a section": """
<Location /films>
  RewriteEngine On
  RewriteRule ^.*/(.*) HTTP://Films.example/b/$1 [P]
</Location>
#! error 30812 these requests are rejected: write <Proxy "http://films.example/b/">
<Proxy "HTTP://Films.example/b/">
  @KEYS@
</Proxy>
""",
    "a different spelling beside the right one": """
ProxyPass /films http://films.example/b
<Proxy "http://films.example/b/">
  @KEYS@
</Proxy>
#! warning 30812 mod_proxy does not apply this section to the requests of httpd.conf:@2@, ... written differently: write
<Proxy "http://Films.example/b/">
  SetEnv S3Region eu-central-1
</Proxy>
""",
    "a unix socket that is not in the section's URL": """
<Location /films>
  SetHandler "proxy:unix:/run/s3.sock|http://s3.example/films"
</Location>
#! error 30812 these requests are rejected: write <Proxy "unix:/run/s3.sock|http://s3.example/films/">
<Proxy "http://s3.example/films/">
  @KEYS@
</Proxy>
""",
    "a port that is a prefix of another port": """
ProxyPass /films http://s3.example:9000/films
#! warning 30810 this section: httpd.conf:@2@ sends requests to http://s3.example:9000/films, unsigned
<Proxy "http://s3.example:90">
  @KEYS@
</Proxy>
""",
    "a bucket name that is a prefix of another name": """
ProxyPass /films http://s3.example/films
#! warning 30810 no request matches this section
<Proxy "http://s3.example/film">
  @KEYS@
</Proxy>
""",
    "a setting by SetEnvIf in <Proxy>": """
ProxyPass /films http://films.s3.amazonaws.com
<Proxy "http://films.s3.amazonaws.com/">
  @KEYS@
  #! error 30813 S3Region is set by a rule, which only the gateway supports
  SetEnvIf Host ^ x=1 S3Region=eu-central-1
  #! error 30813 S3Expires is set by a rule, which only the gateway supports
  BrowserMatch ^ !S3Expires
</Proxy>
""",
    "a setting by a rule in <ProxyMatch>, and nothing else": """
ProxyPass /films http://films.s3.amazonaws.com
<ProxyMatch "^http://films[.]s3[.]amazonaws[.]com/">
  RewriteEngine On
  #! error 30813 S3AccessKey is set by a rule, which only the gateway supports
  RewriteRule ^ - [NE,E=S3AccessKey:AK]
</ProxyMatch>
ProxyPass /clips http://clips.s3.amazonaws.com
<Proxy "http://clips.s3.amazonaws.com/">
  @KEYS@
</Proxy>
""",
    "a setting by SetEnvIf in the Location of a ProxyPass": """
ProxyPass /films http://films.s3.amazonaws.com
<Location /films>
  @KEYS@
  #! warning 30813 S3Region is set by a rule, which only the gateway supports
  SetEnvIfExpr "true" S3Region=eu-central-1
</Location>
""",
    "keys of a balancer, with the bucket in the path": """
#! error 30815 put these settings into a <Proxy "http://s3.example/films/"> section, one for each BalancerMember
<Proxy "balancer://films">
  BalancerMember http://s3.example/films
  @KEYS@
</Proxy>
ProxyPass /films balancer://films
""",
    "keys around a balancer, with the bucket in the path": """
ProxyPass /films balancer://films
<Proxy "balancer://films">
  BalancerMember http://films.s3.example
</Proxy>
#! error 30815 does not name the bucket: put these settings into a <Proxy "http://films.s3.example/"> section
<Location /films>
  @KEYS@
</Location>
""",
    "a pattern of URLs with the bucket in the path": """
ProxyPass /films http://films.s3.example
#! error 30815 does not name the bucket: a URL pattern needs S3BucketURL
<ProxyMatch "^http://[a-z]+[.]s3[.]example/">
  @KEYS@
</ProxyMatch>
""",
    "a Location of another bucket": """
ProxyPass /films http://s3.example/films
#! warning 30822 these settings do not apply to the requests of httpd.conf:@2@: S3BucketURL is another bucket
<Location /films>
  SetEnv S3BucketURL http://s3.example/clips/
  SetEnv S3AccessKey AK
</Location>
""",
    "an outer Location with the URL of the bucket": """
ProxyPass /films http://s3.example/films
#! error 30803 S3SecretKey is not set
<Location />
  SetEnv S3BucketURL http://s3.example/films/
  SetEnv S3AccessKey AK
</Location>
""",
    "a Location with the URL of the bucket around a RewriteRule": """
RewriteEngine On
RewriteRule ^/films/(.*) http://s3.example/films/$1 [P]
#! error 30803 S3SecretKey is not set
<Location /films>
  SetEnv S3BucketURL http://s3.example/films/
  SetEnv S3AccessKey AK
</Location>
""",
    "keys around SetHandler, and S3BucketURL of the server": """
SetEnv S3BucketURL http://films.s3.amazonaws.com/
<Location /films>
  @KEYS@
  #! error 30818 the requests of this directive are rejected, because S3AccessKey at httpd.conf:
  SetHandler "proxy:http://films.s3.amazonaws.com"
</Location>
""",
    "a Location of a ProxyPassMatch": """
ProxyPassMatch ^/films/(.*)$ http://films.s3.amazonaws.com/$1
#! error 30803 S3SecretKey is not set
<Location /films>
  SetEnv S3AccessKey AK
</Location>
""",
    "a missing key, beside sections for other paths": """
<LocationMatch "^/clips/(eu|us)/">
  SetEnv S3Region eu-central-1
</LocationMatch>
<Directory /srv>
  SetEnv S3Region eu-central-1
</Directory>
WSGIScriptAlias /clips ${USP_S3_WSGI}
ProxyPass /films http://films.s3.amazonaws.com
#! error 30803 S3SecretKey is not set
<Proxy "http://films.s3.amazonaws.com/">
  SetEnv S3AccessKey AK
</Proxy>
""",
    "the wrong case in the server's defaults": """
#! error 30802 S3REGION is not a setting: did you mean S3Region?
SetEnv S3REGION eu-central-1
ProxyPass /films http://films.s3.amazonaws.com
<Proxy "http://films.s3.amazonaws.com/">
  @KEYS@
</Proxy>
""",
    "the wrong case in the server's defaults, which a mount inherits": """
SetEnv S3REGION eu-central-1
WSGIScriptAlias /media ${USP_S3_WSGI}
<Location /media>
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  @KEYS@
  #! error 30802 S3REGION is not a setting: did you mean S3Region?
  SetEnv S3Region eu-central-1
</Location>
""",
    "the default port of the scheme": """
RewriteEngine On
RewriteRule ^/films/(.*) http://films.example/b/$1 [P]
#! error 30812 these requests are rejected: write <Proxy "http://films.example/b/">
<Proxy "http://films.example:80/b/">
  @KEYS@
</Proxy>
""",
    "an IPv6 address": r"""
ProxyPass /films http://[::1]/b
#! error 30812 these requests are rejected: write <ProxyMatch "^http://[[]::1]/b/">
<Proxy "http://[::1]/b/">
  @KEYS@
</Proxy>
""",
    "HTTP/2": """
#! error 30814 h2c:// requests (HTTP/2) cannot be signed
ProxyPass /films h2c://films.s3.amazonaws.com
<Proxy "h2c://films.s3.amazonaws.com/">
  @KEYS@
</Proxy>
""",
    "any host": """
ProxyPass /films http://films.s3.amazonaws.com
#! error 30819 this section matches any host, so that its keys would sign requests to any host
<Proxy "*">
  @KEYS@
</Proxy>
""",
    "any host, with a regular expression": """
ProxyPass /films http://films.s3.amazonaws.com
#! error 30819 this section matches any host, so that its keys would sign requests to any host
<ProxyMatch "^https?://.*">
  @KEYS@
</ProxyMatch>
""",
    "any host with https": """
ProxyPass /films https://films.s3.amazonaws.com
#! error 30819 this section matches any host, so that its keys would sign requests to any host
<Proxy "https://*">
  @KEYS@
</Proxy>
""",
    "a section with only a misspelled setting": """
ProxyPass /films http://films.s3.amazonaws.com
<Proxy "http://films.s3.amazonaws.com/">
  #! warning 30802 S3AccesKey is not a setting: did you mean S3AccessKey?
  SetEnv S3AccesKey AK
</Proxy>
""",
    "a conditional section": """
WSGIScriptAlias /media ${USP_S3_WSGI}
<Location /media>
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  <If "%{HTTP_HOST} == 'a.example'">
    @KEYS@
    #! error 30801 S3Expires must be a whole number
    SetEnv S3Expires x
  </If>
</Location>
""",
    "a file of the gateway beside daemon processes of another user": """
WSGIDaemonProcess app user=nobody
WSGIScriptAlias /app /srv/app/app.wsgi process-group=app
WSGIScriptAlias /media ${USP_S3_WSGI}
<Location /media>
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  SetEnv S3AccessKey AK
  #! error 30805 S3SecretKeyFile: /etc/no-such-file: the file cannot be read
  SetEnv S3SecretKeyFile /etc/no-such-file
</Location>
""",
    "the same, and the other application's sections": """
WSGIDaemonProcess app user=nobody
<Location /app>
  WSGIProcessGroup app
</Location>
<Directory /srv/app>
  WSGIProcessGroup app
</Directory>
WSGIScriptAlias /media ${USP_S3_WSGI}
<Location /media>
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  SetEnv S3AccessKey AK
  #! error 30805 S3SecretKeyFile: /etc/no-such-file: the file cannot be read
  SetEnv S3SecretKeyFile /etc/no-such-file
</Location>
""",
    "the same, and a mount in httpd's own processes": """
WSGIDaemonProcess app user=nobody
WSGIProcessGroup app
WSGIScriptAlias /media ${USP_S3_WSGI} process-group=%{GLOBAL}
<Location /media>
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  SetEnv S3AccessKey AK
  #! error 30805 S3SecretKeyFile: /etc/no-such-file: the file cannot be read
  SetEnv S3SecretKeyFile /etc/no-such-file
</Location>
""",
}

#: Configurations without findings: they are right, or it cannot be known whether they are.
RIGHT = {
    "variables of other programs": "SetEnv S3CMD_CONFIG /etc/s3cmd\nSetEnv S3_BUCKET films",
    "PassEnv": "PassEnv S3_NOT_THERE_AT_ALL PATH",
    "a <Proxy> section": """
ProxyPass "/films" "https://films.s3.amazonaws.com"
<Proxy "https://films.s3.amazonaws.com/">
  @KEYS@
</Proxy>
""",
    "without a slash, with ports, below a path": """
ProxyPass /films/ http://s3.example:9000/films/2026/
<Proxy "http://s3.example:9000/films">
  @KEYS@
</Proxy>
""",
    "the same host twice": """
ProxyPass /films http://s3.example/films
ProxyPass /clips http://s3.example/films/clips
<Proxy "http://s3.example/films">
  @KEYS@
</Proxy>
<Proxy "http://s3.example/films/clips/">
  SetEnv S3Region eu-central-1
</Proxy>
""",
    "a section for a part of the requests of ProxyPass": """
ProxyPass / http://s3.example/
<Proxy "http://s3.example/films/">
  @KEYS@
</Proxy>
""",
    "ProxyPass in a Location": """
<Location /films>
  ProxyPass http://s3.example/films
  @KEYS@
</Location>
""",
    "ProxyPass and a Location": """
ProxyPass /films http://films.s3.amazonaws.com
<Location /films>
  @KEYS@
</Location>
""",
    "a section and a Location": """
ProxyPass /films http://s3.example/films
<Proxy "http://s3.example/films/">
  SetEnv S3AccessKey AK
</Proxy>
<Location /films>
  SetEnv S3SecretKey SK
</Location>
""",
    "a section and the server's defaults": """
SetEnv S3Region eu-central-1
<VirtualHost *>
  SetEnv S3AccessKey AK
  ProxyPass /films http://s3.example/films
  <Proxy "http://s3.example/films/">
    SetEnv S3SecretKey SK
  </Proxy>
</VirtualHost>
""",
    "ProxyPassMatch": """
ProxyPassMatch "^/films/(.*\\.ts)$" "http://s3.example/films/$1"
ProxyPassMatch "^/clips/" "http://s3.example"
<Proxy "http://s3.example/films/">
  @KEYS@
</Proxy>
<Proxy "http://s3.example/clips/">
  @KEYS@
</Proxy>
""",
    "RewriteRule in a Location": """
<Location /films>
  RewriteEngine On
  RewriteRule ^.*/films/(.*) http://s3.example/films/$1 [L,P]
</Location>
<Proxy "http://s3.example/films/">
  @KEYS@
</Proxy>
""",
    "SetHandler of a unix socket": """
<Location /films>
  SetHandler "proxy:unix:/run/s3.sock|http://s3.example/films"
</Location>
<Proxy "unix:/run/s3.sock|http://s3.example/films/">
  @KEYS@
</Proxy>
""",
    "handlers": """
AddHandler "proxy:http://S3.example:80/a/" .ts .m3u8
<Directory "/srv">
  <FilesMatch "[.]mp4$">
    SetHandler "PROXY:http://s3.example/b/"
  </FilesMatch>
  AddHandler proxy:balancer://films .ts
  RewriteEngine On
  RewriteRule "[.]m4s$" - "[L,Handler=proxy:http://s3.example/d/]"
</Directory>
<Proxy "balancer://films">
  BalancerMember http://s3.example/c
</Proxy>
RewriteEngine On
RewriteRule ^/e/ - [H=proxy:http://[::1]:9000/e/$1]
<Proxy "http://s3.example/a/">
  @KEYS@
</Proxy>
<Proxy "http://s3.example/b/">
  @KEYS@
</Proxy>
<Proxy "http://s3.example/c/">
  @KEYS@
</Proxy>
<Proxy "http://s3.example/d/">
  @KEYS@
</Proxy>
<ProxyMatch "^http://[[]::1]:9000/e/">
  @KEYS@
  SetEnv S3BucketURL http://[::1]:9000/e/
</ProxyMatch>
""",
    "a balancer outside of its section": """
BalancerMember balancer://films http://s3.example/films
<Proxy "http://s3.example/films/">
  @KEYS@
</Proxy>
RewriteEngine On
RewriteRule ^/films(.*) balancer://films$1 [P]
""",
    "a balancer's own settings": """
<Proxy "balancer://films">
  BalancerMember http://films.s3.amazonaws.com
  @KEYS@
</Proxy>
ProxyPass /films balancer://films
""",
    "ProxyPassInterpolateEnv": """
ProxyPassInterpolateEnv On
ProxyPass /films "http://s3.example/films/\\${x}" interpolate
<Proxy "http://s3.example/films/">
  @KEYS@
</Proxy>
""",
    "patterns": """
ProxyPass /films http://films.s3.amazonaws.com
ProxyPass /clips http://clips.s3.amazonaws.com
<ProxyMatch "^http://[a-z]+\\.s3\\.amazonaws\\.com/">
  @KEYS@
</ProxyMatch>
<Proxy "http://*.s3.amazonaws.com/*">
  SetEnv S3Region eu-central-1
</Proxy>
""",
    "an IPv6 address in ProxyMatch": r"""
ProxyPass /films http://[::1]/b
<ProxyMatch "^http://\[::1\]/b/">
  @KEYS@
  SetEnv S3BucketURL http://[::1]/b/
</ProxyMatch>
""",
    "an IPv6 address in ProxyMatch, as httpd logs it": r"""
ProxyPass /films http://[::1]/b
<ProxyMatch "^http://\\[::1\\]/b/">
  @KEYS@
  SetEnv S3BucketURL http://[::1]/b/
</ProxyMatch>
""",
    "any host, with the bucket's URL": """
ProxyPass /films http://films.s3.amazonaws.com
<Proxy "*">
  @KEYS@
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
</Proxy>
""",
    "any host, without keys": """
ProxyPass /films http://films.s3.amazonaws.com
<Proxy "*">
  SetEnv S3Region eu-central-1
</Proxy>
<Proxy "http://films.s3.amazonaws.com/">
  @KEYS@
</Proxy>
""",
    "a forward proxy": """
ProxyRequests On
<Proxy "http://films.s3.amazonaws.com/">
  Require local
  @KEYS@
</Proxy>
""",
    "ProxyPass to a unix socket, which is not part of the section's URL": """
ProxyPass /films "unix:/run/s3.sock|http://s3.example/films"
<Proxy "http://s3.example/films/">
  @KEYS@
</Proxy>
""",
    "the same spelling in both": """
ProxyPass /films HTTP://Films.example:80/b
<Proxy "HTTP://Films.example:80/b/">
  @KEYS@
</Proxy>
""",
    "different spellings of URLs that httpd makes canonical": """
<Location /films>
  SetHandler "proxy:http://Films.example:80/b"
</Location>
<Proxy "balancer://films">
  BalancerMember http://Films.example:80/b
</Proxy>
ProxyPass /more balancer://films
<Proxy "http://films.example/b/">
  @KEYS@
</Proxy>
""",
    "ProxyPass and a Location, of a path-style bucket": """
ProxyPass /films http://s3.example:9000/films
<Location /films>
  @KEYS@
</Location>
""",
    "ProxyPass and a Location below, of a path-style bucket": """
ProxyPass / http://s3.example:9000/
<Location /films>
  @KEYS@
</Location>
""",
    "ProxyPass and Locations of other buckets": """
WSGIScriptAlias /films/clips ${USP_S3_WSGI}
<Location /films/clips>
  SetEnv S3BucketURL http://clips.s3.amazonaws.com/
  @KEYS@
</Location>
ProxyPass /films http://s3.example:9000/films
<Location />
  SetEnv S3BucketURL http://s3.example:9000/clips/
  SetEnv S3Retries 3
</Location>
<Location /films>
  @KEYS@
</Location>
""",
    "S3BucketURL of the server, for a gateway": """
SetEnv S3BucketURL http://clips.s3.amazonaws.com/
WSGIScriptAlias /clips ${USP_S3_WSGI}
<Location /clips>
  @KEYS@
</Location>
ProxyPass /films http://s3.example:9000/films
<Proxy "http://s3.example:9000/films/">
  @KEYS@
</Proxy>
""",
    "the wrong case in the server's defaults, and the right one in a section": """
SetEnv S3REGION eu-central-1
ProxyPass /films http://films.s3.amazonaws.com
<Proxy "http://films.s3.amazonaws.com/">
  @KEYS@
  SetEnv S3Region eu-central-1
</Proxy>
""",
    "a balancer's own settings with the bucket's URL": """
<Proxy "balancer://films">
  BalancerMember http://s3.example/films
  SetEnv S3BucketURL http://s3.example/films/
  @KEYS@
</Proxy>
ProxyPass /films balancer://films
""",
    "rules that set other variables": """
ProxyPass /films http://films.s3.amazonaws.com
<Proxy "http://films.s3.amazonaws.com/">
  SetEnvIf Host ^ films=S3Region
  RewriteEngine On
  RewriteRule ^ - [E=S3_BUCKET:x]
  @KEYS@
</Proxy>
""",
    "a bucket name that a RewriteRule completes": """
RewriteEngine On
RewriteRule ^/b(.*) http://s3.example/b$1 [P]
<Proxy "http://s3.example/bucket/">
  @KEYS@
</Proxy>
""",
    "an IPv6 address, as the finding says": """
ProxyPass /films http://[::1]/b
<ProxyMatch "^http://[[]::1]/b/">
  @KEYS@
  SetEnv S3BucketURL http://[::1]/b/
</ProxyMatch>
""",
    "a gateway around other rules": """
WSGIScriptAlias / ${USP_S3_WSGI}
<Location />
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  @KEYS@
  SetEnv S3Retries 1
</Location>
ProxyPass /app http://127.0.0.1:8000/app
ProxyPass /clips http://clips.s3.amazonaws.com
<Proxy "http://clips.s3.amazonaws.com/">
  @KEYS@
</Proxy>
""",
    "a gateway around RewriteRule and SetHandler": """
WSGIScriptAlias / ${USP_S3_WSGI}
<Location />
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  @KEYS@
  SetEnv S3Retries 1
</Location>
RewriteEngine On
RewriteRule ^/app/(.*) http://127.0.0.1:8000/app/$1 [P]
RewriteRule ^/clips/(.*) http://clips.s3.amazonaws.com/$1 [P]
<Proxy "http://clips.s3.amazonaws.com/">
  @KEYS@
</Proxy>
<Location /status>
  SetHandler "proxy:http://127.0.0.1:8000"
</Location>
""",
    "a ProxyPass within the gateway's mount": """
WSGIScriptAlias / ${USP_S3_WSGI}
<Location />
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  @KEYS@
</Location>
ProxyPass /clips http://clips.s3.amazonaws.com
<Location /clips>
  SetEnv S3AccessKey AK
  SetEnv S3SecretKey ""
  SetEnv S3SecretKeyFile /etc/hostname
  UnsetEnv S3SecretKey
  UnsetEnv S3BucketURL
</Location>
""",
    "daemon processes of another user": """
WSGIDaemonProcess s3 user=nobody
WSGIScriptAlias /media ${USP_S3_WSGI} process-group=s3 application-group=%{GLOBAL}
<Location /media>
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  SetEnv S3AccessKey AK
  SetEnv S3SecretKeyFile /etc/no-such-file
</Location>
""",
    "a process group for the whole server": """
WSGIDaemonProcess s3 user=nobody
WSGIProcessGroup s3
WSGIScriptAlias /media ${USP_S3_WSGI}
<Location /media>
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  SetEnv S3AccessKey AK
  SetEnv S3SecretKeyFile /etc/no-such-file
</Location>
""",
    "a process group in the section of the mount": """
WSGIDaemonProcess s3 user=nobody
WSGIScriptAlias /media ${USP_S3_WSGI}
<Location /media>
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  SetEnv S3AccessKey AK
  WSGIProcessGroup s3
  SetEnv S3SecretKeyFile /etc/no-such-file
</Location>
""",
    "a process group in a virtual host that inherits the mount": """
WSGIDaemonProcess s3 user=nobody
WSGIScriptAlias /media ${USP_S3_WSGI}
<VirtualHost *:8001>
  ServerName b.example
  WSGIProcessGroup s3
</VirtualHost>
<Location /media>
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  SetEnv S3AccessKey AK
  SetEnv S3SecretKeyFile /etc/no-such-file
</Location>
""",
    "a process group below the mount": """
WSGIDaemonProcess s3 user=nobody
WSGIScriptAlias /media ${USP_S3_WSGI}
<Location /media/a>
  WSGIProcessGroup s3
</Location>
<Location /media>
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  SetEnv S3AccessKey AK
  SetEnv S3SecretKeyFile /etc/no-such-file
</Location>
""",
    "a process group in a section of unknown requests": """
WSGIDaemonProcess s3 user=nobody
WSGIScriptAlias /media ${USP_S3_WSGI}
<Files usp_s3.wsgi>
  WSGIProcessGroup s3
</Files>
<Location /media>
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  SetEnv S3AccessKey AK
  SetEnv S3SecretKeyFile /etc/no-such-file
</Location>
""",
    "a path that is not ASCII": """
WSGIScriptAlias /media ${USP_S3_WSGI}
<Location /media>
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  SetEnv S3AccessKey AK
  SetEnv S3SecretKeyFile /etc/é
</Location>
""",
    "a gateway with a slash": """
WSGIScriptAlias /media/ ${USP_S3_WSGI}/
<Location /media/>
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  @KEYS@
</Location>
""",
    "nested mounts": """
WSGIScriptAlias /media/clips ${USP_S3_WSGI}
WSGIScriptAlias /media ${USP_S3_WSGI}
<Location /media>
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  @KEYS@
  SetEnv S3SecurityToken TOKEN
</Location>
<Location /media/clips>
  SetEnv S3BucketURL http://clips.s3.amazonaws.com/
  SetEnv S3SecurityToken ""
</Location>
""",
    "settings by rules": """
SetEnvIf Host "^([a-z]+)\\." S3BucketURL=http://$1.s3.amazonaws.com/
WSGIScriptAlias /media ${USP_S3_WSGI}
<Location /media>
  @KEYS@
</Location>
""",
    "settings that another module may set": """
WSGIScriptAlias /media ${USP_S3_WSGI}
<Location /media>
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  RequestHeader set S3AccessKey x
</Location>
""",
    "sections that a pattern completes": """
ProxyPass / http://s3.example/
<ProxyMatch "^http://s3.example/[a-z]+/">
  @KEYS@
</ProxyMatch>
<Proxy "http://s3.example/films/">
  SetEnv S3Region eu-central-1
</Proxy>
""",
    "settings for some requests of a ProxyPass": """
ProxyPass /films http://films.s3.amazonaws.com
<Proxy "http://films.s3.amazonaws.com/">
  SetEnv S3AccessKey AK
</Proxy>
<Location /films>
  <If "true">
    SetEnv S3SecretKey SK
  </If>
</Location>
ProxyPass /clips http://clips.s3.amazonaws.com
<Proxy "http://clips.s3.amazonaws.com/">
  SetEnv S3AccessKey AK
</Proxy>
<Location "/clips/*">
  SetEnv S3SecretKey SK
</Location>
""",
    "settings for some requests": """
WSGIScriptAlias /media ${USP_S3_WSGI}
<LocationMatch "^/media/(films|clips)/">
  SetEnv S3BucketURL http://s3.example/films/
</LocationMatch>
<Location /media>
  @KEYS@
</Location>
""",
    "settings in <Files>": """
WSGIScriptAlias /media ${USP_S3_WSGI}
<Files usp_s3.wsgi>
  SetEnv S3BucketURL http://s3.example/films/
  @KEYS@
</Files>
""",
    "other programs with variables like ours": """
SetEnv S3Bucket films
ScriptAlias /cgi-bin/ /usr/lib/cgi-bin/
<Location /cgi-bin>
  SetEnv S3Region eu-central-1
</Location>
<Location />
  SetEnv S3Profile films
</Location>
<Location /php>
  SetEnv S3AccessKey AK
  SetHandler "proxy:unix:/run/php.sock|fcgi://localhost"
</Location>
ProxyPass /app fcgi://127.0.0.1:9000/
<Location /app>
  SetEnv S3AccessKey AK
</Location>
""",
    "a content type that is a handler": """
<Directory "/srv/app">
  AddType application/x-httpd-wsgi .wsgi
</Directory>
<Location /own>
  SetEnv S3BucketURL whatever
  SetEnv S3AccessKey AK
</Location>
""",
    "a forced content type that is a handler": """
<Location /own>
  ForceType application/x-httpd-cgi
  SetEnv S3Region eu-central-1
</Location>
""",
    "a rewritten content type that is a handler": r"""
RewriteEngine On
RewriteRule "\.phps$" - [T=application/x-httpd-php-source]
<Location /own>
  SetEnv S3Region eu-central-1
</Location>
""",
    "a rule in an inner path": """
<Location />
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  @KEYS@
</Location>
<Location /films>
  RewriteEngine On
  RewriteRule ^.*/films/(.*) http://films.s3.amazonaws.com/$1 [P]
</Location>
""",
    "ProxyPass of an inner path, for the bucket of the outer one": """
<Location />
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  @KEYS@
</Location>
<Location /films>
  ProxyPass http://films.s3.amazonaws.com
</Location>
""",
    "another application": """
WSGIScriptAlias /app /srv/app/main.wsgi
<Location /app>
  SetEnv S3BucketURL whatever
  SetEnv S3AccessKey "a b"
</Location>
""",
    "in a <Limit>": """
WSGIScriptAlias /media ${USP_S3_WSGI}
<Location /media>
  <Limit GET HEAD>
    SetEnv S3BucketURL http://s3.example/films/
    @KEYS@
  </Limit>
</Location>
""",
    "variables of another program in the section of a bucket": """
WSGIScriptAlias /media ${USP_S3_WSGI}
SetEnv S3_BUCKET films
<Location /media>
  UnsetEnv S3_BUCKET
  SetEnv S3BucketURL http://s3.example/films/
  @KEYS@
</Location>
""",
    "a fallback": """
WSGIScriptAlias /media ${USP_S3_WSGI}
<Location /media>
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  @KEYS@
  SetEnv S3FallbackURL http://copy.s3.amazonaws.com/
  SetEnv S3FallbackRegion eu-west-1
</Location>
""",
    "an identity": """
WSGIScriptAlias /media ${USP_S3_WSGI}
<Location /media>
  SetEnv S3BucketURL http://films.s3.amazonaws.com/
  SetEnv S3CredentialSource aws
</Location>
""",
}

#: Configurations with directives of Unified Origin, for which httpd needs a module (``tests/httpd/origin.c``).
ORIGIN = {
    "IsmProxyPass": """
<Location /vod>
  IsmProxyPass http://films.s3.amazonaws.com/
</Location>
<Proxy "http://films.s3.amazonaws.com/">
  @KEYS@
</Proxy>
""",
    "IsmProxyPass with a typo": """
<Location /vod>
  IsmProxyPass http://filmz.s3.amazonaws.com/
</Location>
#! warning 30810 this section: httpd.conf:@3@ sends requests to http://filmz.s3.amazonaws.com/, unsigned
<Proxy "http://films.s3.amazonaws.com/">
  @KEYS@
</Proxy>
""",
    "a bucket that may be in manifests": """
<Location />
  UspEnableSubreq on
</Location>
#! warning 30811 could not check whether any request matches this section: the URLs that httpd.conf:@3@ ... known
<Proxy "http://films.s3.amazonaws.com/">
  @KEYS@
</Proxy>
""",
    "several buckets that may be in manifests, in a virtual host": """
<Location />
  UspHandleIsm on
  UspEnableSubreq On
</Location>
<VirtualHost *>
  ProxyPass /films http://films.s3.amazonaws.com
  <Proxy "http://films.s3.amazonaws.com/">
    @KEYS@
  </Proxy>
  #! warning 30811 whether any request matches this section (and 1 other section): the URLs that httpd.conf:@4@ sends
  <Proxy "http://news.s3.example/b/">
    @KEYS@
  </Proxy>
  <Proxy "http://archive.s3.example/b/">
    @KEYS@
  </Proxy>
</VirtualHost>
""",
    "a bucket with a typo, beside manifests": """
UspEnableSubreq on
ProxyPass /films https://films.s3.amazonaws.com
#! warning 30810 this section: httpd.conf:@3@ sends requests to https://films.s3.amazonaws.com, unsigned
<Proxy "http://films.s3.amazonaws.com/">
  @KEYS@
</Proxy>
""",
    "UspEnableSubreq off": """
<Location />
  UspEnableSubreq off
</Location>
#! warning 30809 no request matches this section: no ProxyPass
<Proxy "http://films.s3.amazonaws.com/">
  @KEYS@
</Proxy>
""",
    "UspEnableSubreq in another virtual host": """
<VirtualHost *>
  UspEnableSubreq on
</VirtualHost>
<VirtualHost *>
  #! warning 30809 no request matches this section: no ProxyPass
  <Proxy "http://films.s3.amazonaws.com/">
    @KEYS@
  </Proxy>
</VirtualHost>
""",
}


def with_keys(text: str) -> str:
    """Return a configuration with keys instead of ``@KEYS@``."""
    return text.replace("@KEYS@", KEYS)


class Expected(NamedTuple):
    """A finding that a comment announces. ``parts``: texts that are all in its message."""

    line: int
    level: str
    code: str
    parts: tuple[str, ...]


def expected(text: str) -> list[Expected]:
    """Return the findings that the comments announce."""
    lines = with_keys(text).splitlines()
    found = []
    for number, line in enumerate(lines, 1):
        if match := re.match(r"\s*#! (error|warning) (\d{5}) (.*)", line):
            found.append(Expected(number + 1, match[1], f"USPS{match[2]}", tuple(match[3].split(" ... "))))
    return found


def configtest_input(text: str, *, purpose: str = "start", file: str = "httpd.conf") -> bytes:
    """Return what httpd sends to configtest for a configuration, if its children run as the user of this process."""
    fields = [purpose, str(os.getuid()), str(os.getgid()), "", "", "list buckets", "/etc/apache2"]
    text = with_keys(text).replace("${USP_S3_WSGI}", "/opt/share/usp_s3.wsgi")
    fields += _fields(parse(text), 0, file)
    return "".join(f"{field}\0" for field in fields).encode("latin-1")


def _fields(nodes: Iterable[Node], depth: int, file: str) -> Iterable[str]:
    for node in nodes:
        line = node if isinstance(node, Line) else node.opening
        if line.words:
            name = line.words[0]
            yield from (str(depth), file, str(line.number), name.value, line.text[name.end :].strip())
        if not isinstance(node, Line):
            yield from _fields(node.body, depth + 1, file)
