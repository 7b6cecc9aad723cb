#!/bin/sh
# Install Debian packages in the versions of a list ("name=version" lines). A version that is not the newest of its Debian
# any more has usually been replaced by a security fix: the newest is installed then, and the package is named.
#
# usage: install-debian.sh LIST
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
packages=
while IFS='=' read -r name version; do
  newest=$(apt-cache policy "$name" | sed -n 's/^ *Candidate: //p')
  if [ "$newest" != "$version" ]; then
    echo "install-debian.sh: $name: installing $newest, which has replaced $version" >&2
  fi
  packages="$packages $name=$newest"
done <"$1"
apt-get install -y -q --no-install-recommends $packages
apt-get dist-clean
