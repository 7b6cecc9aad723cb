# make help lists the targets. The first call installs what is missing: Debian packages as root, all else in .venv.
VENV    := .venv
LOCKED  := tests/requirements/newest
BIN     := $(VENV)/bin
C_FILES := $(sort $(shell find usp_s3_wsgi tests -name "*.[ch]"))
SOURCES := $(shell find usp_s3_wsgi apache -name "*.py" -o -name "*.pyi" -o -name "*.[ch]" -o -name "*.wsgi" -o -name "*.conf" -o -path "*/templates/*.*") docs/errors.md setup.py setup.cfg README.md

.DEFAULT_GOAL := help
.PHONY: help install demo demo-check test test-lowest coverage test-fresh image test-image deb test-deb test-rgw \
  test-servers test-fleet test-monitoring test-status chain demo-chain sanitize soak fuzz bench docs man \
  lint lint-ruff lint-mypy lint-typos lint-clang-format lint-c lock format clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.package ## run the demo: a private S3, Apache with the gateway in front of it, and a page with a film (PORT=8080 sets the port)
	@$(BIN)/python -m tests.demo

demo-check: $(VENV)/.package ## run the checks of the demo, then stop it
	@$(BIN)/python -m tests.demo --check

# Each worker runs whole files, because the tests of a file share its servers.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile

test: $(VENV)/.package ## run the tests: unit tests, official vectors, botocore, and end to end in a real httpd (TESTS=files)
	@$(BIN)/python -m pytest -q $(PARALLEL) -m "not chain" $(TESTS)

test-lowest: ## run the tests with the lowest versions that setup.cfg allows, in .venv-lowest
	@$(MAKE) --no-print-directory VENV=.venv-lowest LOCKED=tests/requirements/lowest test

coverage: $(VENV)/.package ## run the tests without httpd, and fail if they run too few lines and branches of the package (3 minutes)
	@$(BIN)/coverage run -m pytest -q tests/unit tests/faults tests/identity --ignore tests/identity/test_httpd.py
	@$(BIN)/coverage report

test-fresh: $(VENV)/.installed ## run demo-check, test and the commands of docs on minimal Debian chroots (as root, one hour; SUITES="bookworm trixie httpd-image", PART=documentation, JOBS=1)
	@tests/fresh/install.sh
	@$(BIN)/python -m tests.fresh $(if $(PART),--part $(PART)) $(if $(JOBS),--jobs $(JOBS)) $(SUITES)

image: $(VENV)/.installed ## build the container image usp_s3_wsgi from apache/container (ENGINE=docker or podman)
	@tests/image/install.sh $(VENV)
	@$(BIN)/python -m tests.image build

test-image: $(VENV)/.package ## test the container image, and run the tests of httpd in the official httpd image (PART=image or httpd, TESTS=files, ENGINE=docker, podman or none)
	@tests/image/install.sh $(VENV) $(if $(filter httpd,$(PART)),,tools) || test -n "$(IF_POSSIBLE)"
	@$(BIN)/python -m tests.image test $(if $(PART),--part $(PART)) $(if $(IF_POSSIBLE),--if-possible) $(TESTS)

test-deb: $(VENV)/.installed ## build, install, upgrade and purge the Debian packages on minimal machines (as root, half an hour; SUITES="bookworm trixie", JOBS=1)
	@tests/fresh/install.sh
	@$(BIN)/python -m tests.deb $(if $(JOBS),--jobs $(JOBS)) $(SUITES)

test-rgw: $(VENV)/.package ## run the tests with a real Ceph RGW and its STS, and install its packages (as root)
	@tests/rgw/install.sh
	@$(BIN)/python -m pytest -q tests/rgw

test-servers: $(VENV)/.package ## send the same requests to Swift, Ceph, SeaweedFS, rclone and moto, and write docs/servers.md (as root; SERVERS="swift moto")
	@tests/servers/install.sh $(VENV) $(SERVERS)
	@$(BIN)/python -m tests.servers $(SERVERS)

# unshare: the nodes' networks are in a network namespace of the run, so nothing of the machine's own is changed.
test-fleet: $(VENV)/.package ## restart, stop and kill servers behind HAProxy, each in a network namespace of its own, and check every byte (as root)
	@tests/fleet/install.sh $(VENV)
	@unshare --net $(BIN)/python -m pytest -q -s tests/fleet

test-monitoring: $(VENV)/.package ## test apache/monitoring with a real Prometheus and rsyslog, which are only unpacked, and with the model of Grafana's dashboards
	@tests/monitoring/install.sh $(VENV)
	@$(BIN)/python -m pytest -q $(PARALLEL) tests/monitoring

test-status: $(VENV)/.installed ## look at the status page in Chromium, and write its screenshots in docs/_static (as root, if no browser is installed)
	@tests/status/install.sh
	@$(BIN)/python -m pytest -q tests/status tests/unit/test_status_page.py
	@$(BIN)/python -m tests.status.screenshots

chain: $(VENV)/.package ## run the files of apache/chain with real caches, an origin, a packager and players in Chromium, and print what reaches S3 (as root)
	@tests/chain/install.sh $(VENV)
	@$(BIN)/python -m pytest -q tests/chain
	@$(BIN)/python -m tests.chain.counts
	@$(BIN)/python -m tests.chain.views

demo-chain: $(VENV)/.package ## run the demo of the chain: each link with its hits and misses, a player, and 200 clients at once (as root; PORT=8080)
	@tests/chain/install.sh $(VENV)
	@$(BIN)/python -m tests.chain.demo

deb: ## build the Debian packages of this machine's Debian in build/deb (the first time as root, for what the build needs)
	@debian/build.sh build/deb

# -fno-wrapv: Python's flags have -fwrapv, with which signed overflow is not reported. -U_FORTIFY_SOURCE: AddressSanitizer
# does not check the functions that _FORTIFY_SOURCE calls instead of memcpy and others.
SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -fno-wrapv -U_FORTIFY_SOURCE -g -O1

sanitize: ## run the tests of httpd with usp_s3_module under AddressSanitizer and UndefinedBehaviorSanitizer in .venv-sanitize (half an hour; TESTS=files)
	@$(MAKE) --quiet --no-print-directory VENV=.venv-sanitize MODULE_CFLAGS="$(SANITIZERS)" .venv-sanitize/.package
	@.venv-sanitize/bin/python -m pytest -q $(PARALLEL) -p tests.sanitize.plugin -m "not unsanitized" $(or $(TESTS),tests/sanitize tests/httpd)

soak: $(VENV)/.package ## load with faults for some minutes: check every byte, memory and open files (MINUTES=3; 30 finds slow leaks)
	@$(BIN)/python -m tests.soak $(MINUTES)

fuzz: $(VENV)/.installed ## fuzz parsers and signer, each for some seconds (MINUTES=10 for each target, TARGETS="settings", JOBS=2, SEED=1)
	@tests/fuzz/install.sh $(VENV)
	@$(BIN)/python -m tests.fuzz $(if $(MINUTES),--minutes $(MINUTES)) $(if $(JOBS),--jobs $(JOBS)) $(if $(SEED),--seed $(SEED)) $(TARGETS)

bench: $(VENV)/.package ## measure the speed, compared with nginx and Traffic Server (as root, half an hour; OUT=folder)
	@tests/bench/install.sh $(VENV)
	@$(BIN)/python -m tests.bench $(if $(OUT),--out $(OUT))

docs: $(VENV)/.installed ## build the documentation in build/docs, with warnings as errors (the first time as root, for graphviz)
	@docs/install.sh $(VENV)
	@rm -rf build/docs
	@$(BIN)/python -m sphinx -q -E -W --keep-going -b html docs build/docs
	@echo "open build/docs/index.html"

man: $(VENV)/.installed ## write the manual pages of usp-s3 in docs/man from its help
	@$(BIN)/python -m tests.manual

lint: lint-c ## run ruff, mypy --strict, typos, clang-format, and the C compiler with warnings as errors
	@$(MAKE) --no-print-directory lint-ruff lint-mypy lint-typos lint-clang-format

# The hooks of .pre-commit-config.yaml call these. They have no prerequisites: a commit must not renew the virtual environment.
lint-ruff:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint-mypy:
	$(BIN)/mypy

lint-typos:
	$(BIN)/typos

lint-clang-format:
	@$(BIN)/clang-format --dry-run --Werror $(C_FILES)

# Not in setup.py: a warning of a newer compiler must not break an installation. -isystem: no warnings from the headers.
WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wformat=2 -Werror
HEADERS  := import runpy, sysconfig; print(*("-isystem " + folder for folder in \
            [*runpy.run_path("setup.py")["header_folders"](), sysconfig.get_path("include")]))

lint-c: $(VENV)/.package ## compile the C code of usp_s3_module with warnings as errors
	@headers=$$($(BIN)/python -c '$(HEADERS)') && for source in usp_s3_wsgi/proxy/mod_usp_s3/*.c; do \
	  $(CC) -O2 -c -o /dev/null $(WARNINGS) -D_REENTRANT -D_GNU_SOURCE $$headers $$source || exit 1; done

format: $(VENV)/.package ## format the code with ruff and clang-format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	@$(BIN)/clang-format -i $(C_FILES)

lock: $(VENV)/.package ## update the locked versions of tests and demo, within the ranges of setup.cfg (KEEP=1 only adds and removes packages)
	@tests/requirements/lock.sh $(VENV)

install: $(VENV)/.package ## only install what is missing

clean: ## remove the virtual environments and all caches
	tests/remove_venv.sh .venv .venv-lowest .venv-sanitize
	rm -rf build tests/chain/*/node_modules *.egg-info .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.installed: tests/install.sh $(wildcard tests/requirements/*.txt $(LOCKED)/*.txt)
	@tests/install.sh $(VENV) $(LOCKED)

# A regular installation, not an editable one: httpd's children may have no access to this clone.
$(VENV)/.package: $(VENV)/.installed $(SOURCES)
	@rm -rf build/lib* build/temp* build/bdist* *.egg-info
	@umask 022 && $(if $(MODULE_CFLAGS),CFLAGS="$(MODULE_CFLAGS)") $(BIN)/python -m pip --disable-pip-version-check install -q --no-deps --no-build-isolation --force-reinstall .
	@rm -rf build/lib* build/temp* build/bdist* *.egg-info
	@touch $@
