#!/bin/sh
# Install Ceph's RGW (S3 with a real STS) from Debian, for the tests in this folder, as root; it stores its data in
# ceph-mon and ceph-osd. No service is started or left enabled for the next boot.
#
# usage: tests/rgw/install.sh
set -eu
umask 022
packages="radosgw ceph-mon ceph-osd ceph-common"

say() { printf '==> %s\n' "$*"; }
have() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1; }

missing=
for program in radosgw radosgw-admin ceph ceph-mon ceph-osd monmaptool; do
  have "$program" || missing="$missing $program"
done
if [ -z "$missing" ]; then
  say "Ceph's packages: installed"
  exit 0
fi
say "Debian packages: $packages and dependencies (about 80 MB)"
"$(dirname "$0")/../install_packages.sh" $packages
