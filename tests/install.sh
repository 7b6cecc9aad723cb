#!/bin/sh
# Install what is missing to run httpd with the gateway, its tests and its demo: Debian's httpd (no service is started),
# a virtual environment that httpd's children can read, mod_wsgi compiled for both, and the tests' tools.
#
# usage: tests/install.sh VENV [REQUIREMENTS]     environment: PYTHON (default /usr/bin/python3 where there is one), APXS
# REQUIREMENTS: a folder of locked versions (default tests/requirements/newest)
set -eu
umask 022
# The caller's path comes first, for there may be an httpd below /opt; but it may lack all of the system's folders.
system=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/apache2/bin
PATH="${PATH:+$PATH:}$system"
export PATH
root=$(cd "$(dirname "$0")/.." && pwd)
case $1 in /*) venv=$1 ;; *) venv=$root/$1 ;; esac
locked=$root/tests/requirements
chosen=$(cd "${2:-$locked/newest}" && pwd)
mod_wsgi=$chosen/httpd.txt

say() { printf '==> %s\n' "$*"; }
die() { printf '\n*** %s\n' "$1" >&2; shift; printf '    %s\n' "$@" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

python=${PYTHON:-}
[ -n "$python" ] || { [ -x /usr/bin/python3 ] && python=/usr/bin/python3; } || python=$(command -v python3 || echo /usr/bin/python3)

# --- 1. the system's packages

# That of the variable APXS, else of the path; Debian's apache2-dev brings one.
find_apxs() {
  if [ -n "${APXS:-}" ]; then command -v "$APXS"; else command -v apxs || command -v apxs2; fi
}
# Whether a header is where apxs says. In the httpd image apxs is there without APR's headers, and then its status is 1
# whatever it says.
has_header() {
  folder=$("$apxs" -q "$1" 2>/dev/null) || true
  [ -n "$folder" ] && [ -e "$folder/$2" ]
}

missing() {
  have apache2 || have httpd || echo apache2-bin
  if apxs=$(find_apxs); then
    has_header INCLUDEDIR httpd.h || echo apache2-dev
    has_header APR_INCLUDEDIR apr.h || echo libapr1-dev
    has_header APU_INCLUDEDIR apu.h || echo libaprutil1-dev
  else
    echo apache2-dev
  fi
  "$python" -c 'import venv, ensurepip' 2>/dev/null || echo python3-venv
  "$python" -c 'import os, sysconfig as s, sys; sys.exit(not os.path.exists(s.get_path("include") + "/Python.h"))' \
    2>/dev/null || echo python3-dev
  have gcc || echo gcc
  have make || echo make
  [ -e /etc/mime.types ] || echo media-types
}

[ -z "${APXS:-}" ] || find_apxs >/dev/null || die "APXS is $APXS, which is no program." "Correct it, or unset it."
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
    packages=$(missing | tr '\n' ' ')
    [ -z "$packages" ] || die "Installed, and still not found where $(find_apxs || echo apxs) and $python look: $packages" \
      "Choose others: make APXS=/path/to/apxs PYTHON=/path/to/python3"
  else
    case " $packages" in
      " apache2-bin apache2-dev ")
        say "[1/4] no httpd here and no way to install Debian's: PyPI's mod_wsgi-standalone brings one (about 5 minutes)"
        mod_wsgi=$locked/standalone.txt ;;
      *)
        die "Missing on this machine, and this is not root with apt-get: $packages" \
          "As root: apt-get install $packages" "Then call make again." ;;
    esac
  fi
else
  say "[1/4] Debian packages: all there"
fi
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "$python is older than Python 3.11: make PYTHON=/path/to/a/newer/one"

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
elsewhere=
case $root in *[!A-Za-z0-9/._+-]*) elsewhere="Compilers and scripts do not bear the name of $root" ;; esac
as_apache test -x "$root" 2>/dev/null || elsewhere="httpd's children cannot read $root"
place=$venv
if [ -n "$elsewhere" ]; then
  place=$(mktemp -d /var/tmp/usp_s3_wsgi.XXXXXX)/venv
  chmod 755 "$(dirname "$place")"
  ln -s "$place" "$venv"
  say "$elsewhere: the virtual environment goes to $place"
fi
say "[2/4] a virtual environment of $python"
"$python" -m venv "$place" || die "$python could not make a virtual environment: apt-get install python3-venv"

# --- 3. and 4. Python's packages

# All versions are locked, what builds among them: the same everywhere and each day, until "make lock".
# The first python of PATH and no cache: pip keeps a compiled mod_wsgi by Python's version alone, and would take one
# that was compiled for another interpreter.
PATH="$place/bin:$system:$PATH"
export PATH
if [ "$mod_wsgi" != "$locked/standalone.txt" ]; then
  APXS=$(find_apxs)
  export APXS
fi
pip_install() {
  what=$1
  shift
  "$place/bin/python" -m pip --disable-pip-version-check install --no-warn-script-location --require-hashes \
    --no-build-isolation "$@" >"$place/pip.log" 2>&1 && return
  tail -n 40 "$place/pip.log" >&2
  if grep -q 'DO NOT MATCH THE HASHES' "$place/pip.log"; then
    die "The package index has other files than were locked; pip's words are above." "Trust them? Then: make lock"
  elif grep -qE 'Could not find a version|No matching distribution|HTTPSConnectionPool|Read timed out' "$place/pip.log"; then
    die "pip could not get $what; its words are above." \
      "Is the package index within reach? PIP_INDEX_URL, PIP_CERT and https_proxy say how."
  fi
  die "pip could not install $what; its words are above."
}
pip_install "pip, setuptools and wheel" -r "$locked/build.txt"
say "[3/4] mod_wsgi, compiled for this httpd and this Python (half a minute)"
pip_install "mod_wsgi, which is compiled for ${APXS:-an httpd of its own} and $python" --no-cache-dir -r "$mod_wsgi"
say "[4/4] the libraries of the gateway, its tests and its embedded S3"
pip_install "the tests' libraries" -r "$chosen/test.txt"
"$place/bin/python" -c 'import urllib3, pytest, hypothesis, botocore, cryptography, swift' || die "the virtual environment is not complete"

# For tests with Debian's own mod_wsgi and mod_security: unpacked and not installed, which would enable them in a running Apache.
unpack() {
  (cd "$place/debian" && apt-get download -q "$@" && for package in ./*.deb; do dpkg -x "$package" .; done && rm -f ./*.deb) \
    >/dev/null 2>&1
}
if have apt-get; then
  mkdir -p "$place/debian"
  [ -e /usr/lib/apache2/modules/mod_wsgi.so ] || unpack libapache2-mod-wsgi-py3 ||
    say "Debian's own mod_wsgi cannot be had: its test is skipped"
  libraries=$(apt-cache depends libapache2-mod-security2 2>/dev/null | sed -n 's/^ *Depends: \(lib\(curl\|lua\|yajl\).*\)/\1/p')
  unpack libapache2-mod-security2 $libraries || say "Debian's mod_security cannot be had: its tests are skipped"
fi
touch "$place/.installed"
