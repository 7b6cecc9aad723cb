#!/bin/sh
# Install what "make docs" needs: graphviz, which draws the pictures (as root), and Sphinx in the virtual environment.
#
# usage: docs/install.sh VENV
set -eu
umask 022
venv=$1
root=$(cd "$(dirname "$0")/.." && pwd)

say() { printf '==> %s\n' "$*"; }
die() { printf '\n*** %s\n' "$1" >&2; shift; printf '    %s\n' "$@" >&2; exit 1; }

log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! command -v dot >/dev/null 2>&1; then
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 ||
    die "graphviz is missing, and this is not root with apt-get." "As root: apt-get install graphviz" "Then run make again."
  say "Debian packages: graphviz"
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -q && apt-get install -y -q --no-install-recommends graphviz; } >"$log" 2>&1 ||
    { tail -n 20 "$log" >&2; die "apt-get could not install graphviz." "Its last lines are above. Is the network available?"; }
fi
"$venv/bin/python" -c 'import sphinx, myst_parser, furo, sphinx_copybutton' 2>/dev/null && exit 0
say "Sphinx (about 10 MB)"
"$venv/bin/python" -m pip --disable-pip-version-check install -q --require-hashes -r "$root/tests/requirements/docs.txt" >"$log" 2>&1 ||
  { tail -n 20 "$log" >&2; die "pip could not install Sphinx." "Its message is above. Is the package index reachable?"; }
