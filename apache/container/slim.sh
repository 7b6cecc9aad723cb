#!/bin/sh
# Remove what the image does not use from a virtual environment: of botocore's 400 services only those that issue
# credentials, tests of libraries, and scripts.
#
# usage: slim.sh VENV
set -eu
packages=$(echo "$1"/lib/python3.*/site-packages)
for service in "$packages"/botocore/data/*/; do
  case $(basename "$service") in sts | sso | sso-oidc | signin) ;; *) rm -r "$service" ;; esac
done
rm -f "$packages"/botocore/cacert.pem
rm -rf "$packages"/mod_wsgi/docs
find "$1/bin" -name 'mod_wsgi-express*' -delete
