#!/bin/sh
# Install Debian packages in the versions of a list ("name=version" lines). Debian's index has only the newest version of a
# package. One that Debian has replaced since, usually by a security fix, is installed in its newest version, and named.
#
# usage: install-debian.sh LIST
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
packages=
while IFS='=' read -r name version; do
  if apt-cache madison "$name" | grep -qF "| $version |"; then
    packages="$packages $name=$version"
  else
    echo "install-debian.sh: $name $version is not in Debian's index any more: installing the newest version" >&2
    packages="$packages $name"
  fi
done <"$1"
apt-get install -y -q --no-install-recommends $packages
apt-get dist-clean
