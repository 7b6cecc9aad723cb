# The official httpd image with all that the tests of httpd need. "make test-image PART=httpd" builds it, and names it after
# the hash of the copied files, so it is built again only if they change. The clone comes later.
FROM httpd:2.4
ARG PIP_CERT
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ARG PIP_DEFAULT_TIMEOUT
RUN apt-get update -q && apt-get install -y -q --no-install-recommends git make
WORKDIR /srv/usp_s3_wsgi
COPY tests/install.sh tests/remove_venv.sh tests/
COPY tests/requirements tests/requirements/
RUN tests/install.sh .venv
