#!/bin/sh
# Lock the dependencies of tests and demo, with hashes: "make lock". setup.cfg has the version ranges for users; the tests
# run at both ends of them: "make test" with newest/, "make test-lowest" with lowest/. Each file is valid for all versions
# of Python and all machines.
#
# usage: tests/requirements/lock.sh VENV     the virtual environment that uv is installed into; environment: KEEP
# KEEP=1 keeps the locked versions, and only adds and removes packages.
set -eu
umask 022
venv=$1
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Print the requirements of setup.cfg for these extras; "-": those of the package itself.
required() {
  "$venv/bin/python" - "$@" <<'PYTHON'
import configparser, sys
config = configparser.ConfigParser()
config.read("setup.cfg")
for name in sys.argv[1:]:
    print(config["options"]["install_requires"] if name == "-" else config["options.extras_require"][name])
PYTHON
}
# Lock the requirements from standard input: to the newest versions, independent of the current contents of the file, if not KEEP.
upgrade=--upgrade
[ -z "${KEEP:-}" ] || upgrade=
lock() {
  output=tests/requirements/$1.txt
  shift
  printf '==> %s\n' "$output"
  cat >"$work/requirements.in"
  "$venv/bin/python" -m uv pip compile -q --universal --python-version 3.11 $upgrade --generate-hashes --no-annotate \
    --custom-compile-command 'make lock' --output-file "$output" "$@" "$work/requirements.in" >/dev/null
}

"$venv/bin/python" -m pip --disable-pip-version-check install -q 'uv >= 0.9'
printf '%s\n' pip setuptools wheel | lock build
echo mod_wsgi-standalone | lock standalone
required httpd | lock newest/httpd
required - test lint coverage | lock newest/test
# What the Debian package contains.
required bench | lock bench --constraints tests/requirements/newest/test.txt
required - aws metrics status | lock package --constraints tests/requirements/newest/test.txt
required sbom | lock sbom
required image | lock image --constraints tests/requirements/newest/test.txt
required docs | lock docs --constraints tests/requirements/newest/test.txt
required monitoring | lock monitoring
required servers | lock servers --constraints tests/requirements/newest/test.txt
# atheris has only wheels, and 3.1 has none for Python 3.11.
{ required fuzz; echo 'atheris < 3.1 ; python_version < "3.12"'; } | lock fuzz --constraints tests/requirements/newest/test.txt
required httpd | lock lowest/httpd --resolution lowest-direct
required - test | lock lowest/test --resolution lowest-direct
