#!/bin/sh
# Install what "make fuzz" needs from PyPI into the virtual environment: atheris, which includes libFuzzer, and h11.
#
# usage: tests/fuzz/install.sh VENV
set -eu
umask 022
venv=$1
root=$(cd "$(dirname "$0")/../.." && pwd)

say() { printf '==> %s\n' "$*"; }
die() { printf '\n*** %s\n' "$1" >&2; shift; printf '    %s\n' "$@" >&2; exit 1; }

"$venv/bin/python" -c 'import atheris, h11' 2>/dev/null && exit 0
say "atheris and h11 (about 30 MB)"
# Only wheels: atheris is not compiled here, which would need clang's own libFuzzer.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
"$venv/bin/python" -m pip --disable-pip-version-check install -q --only-binary :all: --require-hashes \
  -r "$root/tests/requirements/fuzz.txt" >"$log" 2>&1 && exit 0
tail -n 20 "$log" >&2
if grep -q 'No matching distribution found for atheris' "$log"; then
  python=$("$venv/bin/python" -c 'import platform as p; print(p.python_implementation(), p.python_version(), "on", p.system(), p.machine())')
  die "atheris has no wheel for $python, so \"make fuzz\" cannot run here." \
    "It has wheels for CPython 3.11 to 3.14 on Linux (glibc) with an x86_64 processor."
fi
die "pip could not install atheris." "Its message is above. Is the package index reachable?"
