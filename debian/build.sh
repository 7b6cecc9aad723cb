#!/bin/sh
# Build the Debian packages for this machine's Debian, in a copy of the sources: "make deb". As root it installs what the
# build needs. The version gets the suffix of the Debian, such as ~deb12: the packages of two Debians have other files.
#
# usage: debian/build.sh OUT     the folder for the packages
set -eu
umask 022
cd "$(dirname "$0")/.."
mkdir -p "$1"
out=$(cd "$1" && pwd)
# The commands of docs/install.md install all that match: packages of an older build must not.
rm -f "$out"/usp-s3-wsgi*.deb

say() { printf '==> %s\n' "$*"; }
die() { printf '\n*** %s\n' "$1" >&2; shift; printf '    %s\n' "$@" >&2; exit 1; }

command -v apt-get >/dev/null 2>&1 || die "This is not a Debian: there is no apt-get."
. /etc/os-release
[ "${ID:-}" = debian ] && [ -n "${VERSION_ID:-}" ] || die "Only releases of Debian are supported, such as 12 and 13."
log=$out/build.log

needed() { command -v dpkg-checkbuilddeps >/dev/null 2>&1 && dpkg-checkbuilddeps 2>/dev/null; }
if ! needed; then
  [ "$(id -u)" = 0 ] || die "Packages that the build needs are missing." "As root: apt-get install dpkg-dev && apt-get build-dep ./"
  say "Debian packages for the build"
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -q && apt-get install -y -q --no-install-recommends dpkg-dev &&
    apt-get build-dep -y -q --no-install-recommends ./; } >"$log" 2>&1 </dev/null ||
    { tail -n 20 "$log"; die "apt-get could not install what the build needs." "Its last lines are above."; }
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/source"
tar -c --exclude=./.git --exclude='./.venv*' --exclude=./build --exclude=__pycache__ . | tar -x -C "$work/source"
cd "$work/source"
sed -i "1s/)/~deb$VERSION_ID)/" debian/changelog
say "building $(sed -n '1s/ (\(.*\)).*/ \1/p' debian/changelog) (the log is $log)"
dpkg-buildpackage -b -us -uc >"$log" 2>&1 </dev/null || { tail -n 30 "$log"; die "The build failed." "The log is $log."; }
for package in ../*.deb; do
  mv "$package" "$out"
  say "$out/${package#../}"
done
