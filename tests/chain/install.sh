#!/bin/sh
# Install what "make chain" needs: caches, HAProxy, ffmpeg, Chromium and Node.js from Debian, as root, and the packager's and the
# players' packages from npm, in the versions of their lock files. No service is started or left enabled for the next boot.
#
# usage: tests/chain/install.sh VENV
set -eu
umask 022
here=$(cd "$(dirname "$0")" && pwd)
# A program, and the Debian package that has it. Node.js: 18 (Debian 12) and later.
programs="nginx:nginx-light varnishd:varnish haproxy:haproxy ffmpeg:ffmpeg node:nodejs npm:npm"
font=/usr/share/fonts/truetype/dejavu/DejaVuSansMono-Bold.ttf

say() { printf '==> %s\n' "$*"; }
die() { printf '\n*** %s\n' "$1" >&2; shift; printf '    %s\n' "$@" >&2; exit 1; }
have() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1; }

missing=
for program in $programs; do
  have "${program%%:*}" || missing="$missing ${program#*:}"
done
# Debian 13 has no Traffic Server: its tests are skipped there.
if ! have traffic_server && have apt-get; then
  if [ "$(id -u)" = 0 ]; then apt-get -o DPkg::Lock::Timeout=300 update -qq; fi
  if apt-cache show trafficserver 2>/dev/null | grep -q '^Package: trafficserver$'; then
    missing="$missing trafficserver"
  else
    say "this Debian has no package trafficserver: the tests with Traffic Server are skipped"
  fi
fi
[ -e "$font" ] || missing="$missing fonts-dejavu-core"
if [ -n "$missing" ]; then
  say "Debian packages:$missing and dependencies"
  "$here/../install_packages.sh" $missing
fi
"$here/../status/install.sh"

# npm ci installs exactly what the lock file says, and checks its checksums. No script of a package is run.
for folder in packager players; do
  if [ "$here/$folder/package-lock.json" -ot "$here/$folder/node_modules/.package-lock.json" ]; then continue; fi
  say "npm packages of tests/chain/$folder"
  log=$(mktemp)
  (cd "$here/$folder" && npm ci --ignore-scripts --no-audit --no-fund) >"$log" 2>&1 </dev/null ||
    { tail -n 20 "$log"; rm -f "$log"; die "npm could not install tests/chain/$folder" "Its last lines are above. Is the network available?"; }
  rm -f "$log"
  # npm keeps the date of the archive for this file; the next call compares it.
  touch "$here/$folder/node_modules/.package-lock.json"
done
