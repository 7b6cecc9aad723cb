#!/bin/sh
# Remove virtual environments: install.sh and "make clean". usage: tests/remove_venv.sh VENV...
# Of an environment that install.sh has made outside of the clone, its folder is removed too; of any other link, only the link.
set -eu
for venv; do
  folder=$(readlink "$venv" || true)
  case $folder in
    /var/tmp/usp_s3_wsgi.[A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9]/venv) rm -rf "${folder%/venv}" ;;
  esac
  rm -rf "$venv"
done
