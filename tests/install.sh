#!/bin/sh
# Install what is missing to run httpd with the gateway, its tests and its demo: Debian's httpd (no service is started),
# a virtual environment that httpd's children can read, mod_wsgi compiled for both, and the tests' tools.
#
# usage: tests/install.sh VENV     environment: PYTHON (default /usr/bin/python3 where there is one)
set -eu
umask 022
venv=$1
root=$(cd "$(dirname "$0")/.." && pwd)
stand_alone=

say() { printf '==> %s\n' "$*"; }
die() { printf '\n*** %s\n' "$1" >&2; shift; printf '    %s\n' "$@" >&2; exit 1; }
have() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1; }

python=${PYTHON:-}
[ -n "$python" ] || { [ -x /usr/bin/python3 ] && python=/usr/bin/python3; } || python=$(command -v python3 || echo /usr/bin/python3)

# --- 1. the system's packages

missing() {
  have apache2 || have httpd || echo apache2-bin
  have apxs || have apxs2 || echo apache2-dev
  "$python" -c 'import venv, ensurepip' 2>/dev/null || echo python3-venv
  "$python" -c 'import os, sysconfig as s, sys; sys.exit(not os.path.exists(s.get_path("include") + "/Python.h"))' \
    2>/dev/null || echo python3-dev
  have gcc || echo gcc
  have make || echo make
  have openssl || echo openssl
  [ -e /etc/mime.types ] || echo media-types
}

packages=$(missing | tr '\n' ' ')
if [ -n "$packages" ]; then
  if [ "$(id -u)" = 0 ] && have apt-get; then
    say "[1/4] Debian packages: $packages"
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    # apache2-bin and not apache2: the program without the service on port 80.
    { apt-get update -q && apt-get install -y -q --no-install-recommends $packages ca-certificates; } >"$log" 2>&1 ||
      { tail -n 20 "$log"; die "apt-get could not install: $packages" "Its last words are above; is the network there?"; }
    rm -f "$log"
  else
    case "$packages" in
      *python3-*|*gcc*|*make*|*openssl*)
        die "Missing on this machine, and this is not root with apt-get: $packages" \
          "As root: apt-get install $packages" "Then call make again." ;;
      *apache2-*)
        say "[1/4] no httpd here and no way to install Debian's: PyPI's mod_wsgi-standalone brings one (about 5 minutes)"
        stand_alone=-standalone ;;
    esac
  fi
else
  say "[1/4] Debian packages: all there"
fi
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || die "$python is older than Python 3.10: make PYTHON=/path/to/a/newer/one"

# --- 2. a place that httpd's children can read

# As root, httpd's children are another user's: what they cannot reach, they cannot run.
as_apache() {
  if [ "$(id -u)" != 0 ]; then "$@"; return; fi
  for user in www-data apache daemon; do
    if id "$user" >/dev/null 2>&1; then
      (cd / && exec setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups "$@")
      return
    fi
  done
}

as_apache "$python" -c 'import encodings' >/dev/null 2>&1 ||
  die "httpd's children run as another user, who cannot run $python." \
    "Give one that every user can read: make PYTHON=/usr/bin/python3"
if [ -L "$venv" ]; then rm -rf "$(dirname "$(readlink "$venv")")"; fi
rm -rf "$venv"
if as_apache test -x "$root" 2>/dev/null; then
  place=$venv
else
  place=$(mktemp -d /var/tmp/usp_s3_wsgi.XXXXXX)/venv
  chmod 755 "$(dirname "$place")"
  ln -s "$place" "$venv"
  say "httpd's children cannot read $root: the virtual environment goes to $place"
fi
say "[2/4] a virtual environment of $python"
"$python" -m venv "$place" || die "$python could not make a virtual environment: apt-get install python3-venv"

# --- 3. and 4. Python's packages

# The first python of PATH and no cache: pip keeps a compiled mod_wsgi by Python's version alone, and would take one
# that was compiled for another interpreter.
PATH="$place/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
export PATH
pip_install() {
  "$place/bin/python" -m pip --disable-pip-version-check install --no-warn-script-location "$@" ||
    die "pip could not install what is needed." "Its message is above; is the package index within reach?"
}
pip_install -q --upgrade pip setuptools wheel
say "[3/4] mod_wsgi, compiled for this httpd and this Python (half a minute)"
pip_install -q --no-cache-dir "mod_wsgi$stand_alone >= 6.1"
say "[4/4] the libraries of the gateway, its tests and its embedded S3"
"$place/bin/python" - "$root/setup.cfg" >"$place/requirements.txt" <<'PYTHON'
import configparser, sys
config = configparser.ConfigParser()
config.read(sys.argv[1])
extras = config["options.extras_require"]
print(config["options"]["install_requires"], extras["test"], extras["lint"], sep="\n")
PYTHON
pip_install --progress-bar off -r "$place/requirements.txt" | grep -E '^(Downloading|Installing|Successfully)' || true
"$place/bin/python" -c 'import urllib3, pytest, hypothesis, botocore, swift' || die "the virtual environment is not complete"

# For the test with Debian's own mod_wsgi: unpacked and not installed, which would enable it in a running Apache.
if have apt-get && [ ! -e /usr/lib/apache2/modules/mod_wsgi.so ]; then
  mkdir -p "$place/debian"
  (cd "$place/debian" && apt-get download -q libapache2-mod-wsgi-py3 && dpkg -x ./*.deb . && rm -f ./*.deb) \
    >/dev/null 2>&1 || say "Debian's own mod_wsgi cannot be had: its test is skipped"
fi
touch "$place/.installed"
