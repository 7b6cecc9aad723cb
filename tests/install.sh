#!/bin/sh
# Install what the gateway, its tests and its demo need: Debian's httpd (no service is started), a virtual environment
# that httpd's children can read, mod_wsgi compiled for both, and the tests' dependencies.
#
# usage: tests/install.sh VENV [REQUIREMENTS]     environment: PYTHON (default: /usr/bin/python3 if it exists), APXS
# REQUIREMENTS: a folder of locked versions (default tests/requirements/newest)
set -eu
umask 022
# The caller's path comes first, because httpd may be below /opt. It may lack some of the system's folders.
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

# The apxs of the variable APXS, or of the path; Debian's package apache2-dev has one.
find_apxs() {
  if [ -n "${APXS:-}" ]; then command -v "$APXS"; else command -v apxs || command -v apxs2; fi
}
# Whether a header is in the folder that apxs prints. The httpd image has apxs without APR's headers; its exit status is
# then always 1.
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

[ -z "${APXS:-}" ] || find_apxs >/dev/null || die "APXS is $APXS, which is no program." "Correct or unset it."
packages=$(missing | tr '\n' ' ')
# Not required: without it Python signs each request of <Proxy> sections, and the tests of the faster signer are skipped.
optional=libssl-dev
if echo '#include <openssl/evp.h>' | gcc -E - >/dev/null 2>&1; then optional=; fi
if [ -z "$packages$optional" ]; then
  say "[1/4] Debian packages: installed"
elif [ "$(id -u)" = 0 ] && have apt-get; then
  say "[1/4] Debian packages: $packages$optional"
  export DEBIAN_FRONTEND=noninteractive
  log=$(mktemp)
  # apache2-bin, not apache2: the program without the service on port 80.
  { apt-get update -q && apt-get install -y -q --no-install-recommends $packages $optional ca-certificates; } >"$log" 2>&1 ||
    [ -z "$packages" ] ||
    { tail -n 20 "$log"; die "apt-get could not install: $packages$optional" "Its last lines are above. Is the network available?"; }
  rm -f "$log"
  packages=$(missing | tr '\n' ' ')
  [ -z "$packages" ] || die "Installed, but $(find_apxs || echo apxs) and $python do not find: $packages" \
    "Use others: make APXS=/path/to/apxs PYTHON=/path/to/python3"
elif [ -z "$packages" ]; then
  say "[1/4] Debian packages: installed, but for $optional, so Python will sign each request of <Proxy> sections"
elif [ "$packages" = "apache2-bin apache2-dev " ]; then
  say "[1/4] no httpd, and Debian's cannot be installed: using the one of PyPI's mod_wsgi-standalone (about 5 minutes)"
  mod_wsgi=$locked/standalone.txt
else
  die "Missing on this machine, and this is not root with apt-get: $packages$optional" \
    "As root: apt-get install $packages$optional" "Then run make again."
fi
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "$python is older than Python 3.11: make PYTHON=/path/to/a/newer/one"

# --- 2. a virtual environment that httpd's children can read

# httpd that is started as root runs its children as another user, who must be able to read the environment.
as_httpd_user() {
  if [ "$(id -u)" != 0 ]; then "$@"; return; fi
  for user in www-data apache daemon; do
    if id "$user" >/dev/null 2>&1; then
      (cd / && exec setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups "$@")
      return
    fi
  done
}

as_httpd_user "$python" -c 'import encodings' >/dev/null 2>&1 ||
  die "httpd's children run as another user, who cannot run $python." \
    "Use one that every user can run: make PYTHON=/usr/bin/python3"
"$root/tests/remove_venv.sh" "$venv"
other_reason=
case $root in *[!A-Za-z0-9/._+-]*) other_reason="Compilers and scripts cannot use a folder with the name $root" ;; esac
as_httpd_user test -x "$root" 2>/dev/null || other_reason="httpd's children cannot read $root"
venv_folder=$venv
if [ -n "$other_reason" ]; then
  venv_folder=$(mktemp -d /var/tmp/usp_s3_wsgi.XXXXXX)/venv
  chmod 755 "$(dirname "$venv_folder")"
  ln -s "$venv_folder" "$venv"
  say "$other_reason: the virtual environment is in $venv_folder"
fi
say "[2/4] virtual environment with $python"
"$python" -m venv "$venv_folder" || die "$python could not create a virtual environment: apt-get install python3-venv"

# --- 3. and 4. Python's packages

# All versions are locked, including the build tools, until "make lock". This environment is first in PATH. mod_wsgi is
# installed without pip's cache, which would reuse one that was compiled for another interpreter of the same version.
PATH="$venv_folder/bin:$system:$PATH"
export PATH
if [ "$mod_wsgi" != "$locked/standalone.txt" ]; then
  APXS=$(find_apxs)
  export APXS
fi
pip_install() {
  package_names=$1
  shift
  "$venv_folder/bin/python" -m pip --disable-pip-version-check install --no-warn-script-location --require-hashes \
    --no-build-isolation "$@" >"$venv_folder/pip.log" 2>&1 && return
  tail -n 40 "$venv_folder/pip.log" >&2
  if grep -q 'DO NOT MATCH THE HASHES' "$venv_folder/pip.log"; then
    die "The package index has other files than the locked ones; pip's message is above." "To accept them: make lock"
  elif grep -qE 'Could not find a version|No matching distribution|HTTPSConnectionPool|Read timed out' "$venv_folder/pip.log"; then
    die "pip could not download $package_names; its message is above." \
      "Is the package index reachable? See PIP_INDEX_URL, PIP_CERT and https_proxy."
  fi
  die "pip could not install $package_names; its message is above."
}
pip_install "pip, setuptools and wheel" -r "$locked/build.txt"
say "[3/4] mod_wsgi, compiled for this httpd and this Python (half a minute)"
pip_install "mod_wsgi, which is compiled for ${APXS:-an httpd of its own} and $python" --no-cache-dir -r "$mod_wsgi"
say "[4/4] dependencies of the gateway, the tests and the embedded S3"
pip_install "the tests' dependencies" -r "$chosen/test.txt"
"$venv_folder/bin/python" -c 'import urllib3, pytest, hypothesis, botocore, cryptography, swift' || die "the virtual environment is incomplete"

# For tests with Debian's mod_wsgi and mod_security, and with caches: only unpacked, because an installation would enable them in
# the system's Apache, or start services.
unpack() {
  (cd "$venv_folder/debian" && apt-get download -q "$@" && for package in ./*.deb; do dpkg -x "$package" .; done && rm -f ./*.deb) \
    >/dev/null 2>&1
}
if have apt-get; then
  mkdir -p "$venv_folder/debian"
  [ -e /usr/lib/apache2/modules/mod_wsgi.so ] || unpack libapache2-mod-wsgi-py3 ||
    say "Debian's mod_wsgi cannot be downloaded: its test is skipped"
  libraries=$(apt-cache depends libapache2-mod-security2 2>/dev/null | sed -n 's/^ *Depends: \(lib\(curl\|lua\|yajl\).*\)/\1/p')
  unpack libapache2-mod-security2 $libraries || say "Debian's mod_security cannot be downloaded: its tests are skipped"
  # With the libraries that they need and that are not installed.
  caches='nginx\|varnish\|apache2-utils'
  caches=$(apt-get -s install --no-install-recommends nginx varnish apache2-utils 2>/dev/null |
    sed -n "s/^Inst \($caches\|lib[^ ]*\) .*/\1/p")
  [ -z "$caches" ] || unpack $caches || say "nginx and Varnish cannot be downloaded: tests with a cache in front of httpd are skipped"
fi
touch "$venv_folder/.installed"
