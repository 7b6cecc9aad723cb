#!/bin/sh
# Install what "make test-fresh" needs: mmdebstrap makes its machines, slirp4netns and ip their network. Needs root.
#
# usage: tests/fresh/install.sh
set -eu

say() { printf '==> %s\n' "$*"; }
die() { printf '\n*** %s\n' "$1" >&2; shift; printf '    %s\n' "$@" >&2; exit 1; }

[ "$(id -u)" = 0 ] || die "Only root can make the machines." "As root: make test-fresh"
packages=
for package in mmdebstrap slirp4netns iproute2; do
  program=$package
  [ "$package" != iproute2 ] || program=ip
  command -v "$program" >/dev/null 2>&1 || packages="$packages $package"
done
[ -n "$packages" ] || exit 0
command -v apt-get >/dev/null 2>&1 || die "apt-get not found: install$packages yourself."
say "Debian packages:$packages"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
{ apt-get update -q && apt-get install -y -q --no-install-recommends $packages; } >"$log" 2>&1 </dev/null ||
  { tail -n 20 "$log"; die "apt-get could not install$packages." "Its last lines are above. Is the network available?"; }
