#!/bin/sh
# Install mmdebstrap, which makes the machines of "make test-fresh". Needs root.
#
# usage: tests/fresh/install.sh
set -eu

say() { printf '==> %s\n' "$*"; }
die() { printf '\n*** %s\n' "$1" >&2; shift; printf '    %s\n' "$@" >&2; exit 1; }

[ "$(id -u)" = 0 ] || die "Only root can make the machines." "As root: make test-fresh"
command -v mmdebstrap >/dev/null 2>&1 && exit 0
command -v apt-get >/dev/null 2>&1 || die "mmdebstrap and apt-get not found: install mmdebstrap yourself."
say "Debian packages: mmdebstrap"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
{ apt-get update -q && apt-get install -y -q --no-install-recommends mmdebstrap; } >"$log" 2>&1 </dev/null ||
  { tail -n 20 "$log"; die "apt-get could not install mmdebstrap." "Its last lines are above. Is the network available?"; }
