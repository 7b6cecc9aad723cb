#!/bin/sh
# Install what the benchmark needs, as root: Debian's nginx, wrk and Traffic Server (which includes s3_auth), and matplotlib
# in the virtual environment. No service is started or left enabled for the next boot.
#
# usage: tests/bench/install.sh VENV
set -eu
umask 022
venv=$1
root=$(cd "$(dirname "$0")/../.." && pwd)

say() { printf '==> %s\n' "$*"; }
die() { printf '\n*** %s\n' "$1" >&2; shift; printf '    %s\n' "$@" >&2; exit 1; }
have() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1; }

"$venv/bin/python" -c 'import matplotlib' 2>/dev/null || {
  say "matplotlib, for the chart"
  "$venv/bin/python" -m pip --disable-pip-version-check install -q --require-hashes -r "$root/tests/requirements/bench.txt" ||
    die "pip could not install matplotlib." "Its message is above. Is the package index reachable?"
}

packages=
have nginx || packages="$packages nginx-light"
have wrk || packages="$packages wrk"
have traffic_server || packages="$packages trafficserver"
have curl || packages="$packages curl"
have openssl || packages="$packages openssl"
have httxt2dbm || packages="$packages apache2-utils"
[ -n "$packages" ] || exit 0
say "Debian packages:$packages"
"$root/tests/install_packages.sh" $packages
