# make help says what there is. Everything is installed by the first call: Debian's packages as root, the rest in .venv.
VENV    := .venv
LOCKED  := tests/requirements/newest
BIN     := $(VENV)/bin
SOURCES := $(shell find usp_s3_wsgi apache -name "*.py" -o -name "*.pyi" -o -name "*.[ch]" -o -name "*.wsgi" -o -name "*.conf") setup.py setup.cfg README.md

.DEFAULT_GOAL := help
.PHONY: help install demo demo-check test test-lowest test-fresh test-rgw test-servers soak bench lint lint-c lock format clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.package ## run it: an embedded private S3, Apache with the gateway before it, a film to look at (PORT=8080 chooses the port)
	@$(BIN)/python -m tests.demo

demo-check: $(VENV)/.package ## the same, checked by itself, then stopped
	@$(BIN)/python -m tests.demo --check

test: $(VENV)/.package ## all tests: unit, vectors, botocore, and end to end in a real httpd
	@$(BIN)/python -m pytest -q

test-lowest: ## the same with the lowest versions that setup.cfg allows, in an environment of its own
	@$(MAKE) --no-print-directory VENV=.venv-lowest LOCKED=tests/requirements/lowest test

test-fresh: ## an hour: demo-check and test on minimal Debian machines, which it makes (as root; SUITES="bookworm trixie httpd-image", JOBS=1)
	@tests/fresh/install.sh
	@$(or $(PYTHON),python3) -m tests.fresh $(if $(JOBS),--jobs $(JOBS)) $(SUITES)

test-rgw: $(VENV)/.package ## the tests before a real Ceph RGW with STS, whose packages it installs (as root)
	@tests/rgw/install.sh
	@$(BIN)/python -m pytest -q tests/rgw

test-servers: $(VENV)/.package ## the same questions to Swift, Ceph, SeaweedFS, rclone and moto, which it installs (as root): docs/servers.md (SERVERS="swift moto")
	@tests/servers/install.sh $(VENV) $(SERVERS)
	@$(BIN)/python -m tests.servers $(SERVERS)

soak: $(VENV)/.package ## minutes of mixed sizes and faults: every byte right, memory and open files flat (MINUTES=3 says how many; 30 for slow leaks)
	@$(BIN)/python -m tests.soak $(MINUTES)

bench: $(VENV)/.package ## half an hour: how fast it is, beside nginx and Traffic Server, which it installs (as root; OUT=folder)
	@tests/bench/install.sh $(VENV)
	@$(BIN)/python -m tests.bench $(if $(OUT),--out $(OUT))

lint: lint-c ## ruff, mypy --strict, and the C code without a warning
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Not in setup.py: a warning of a newer compiler must not keep anybody from installing. The headers' own warnings do not count.
WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wformat=2 -Werror
HEADERS  := import runpy, sysconfig; print(*("-isystem " + folder for folder in \
            [*runpy.run_path("setup.py")["header_folders"](), sysconfig.get_path("include")]))

lint-c: $(VENV)/.package ## the C code of usp_s3_module: any warning is an error
	@headers=$$($(BIN)/python -c '$(HEADERS)') && for source in usp_s3_wsgi/proxy/mod_usp_s3/*.c; do \
	  $(CC) -O2 -c -o /dev/null $(WARNINGS) -D_REENTRANT -D_GNU_SOURCE $$headers $$source || exit 1; done

format: $(VENV)/.package ## put the code into ruff's form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(VENV)/.package ## renew the locked versions of all that tests and demo install, within what setup.cfg allows
	@tests/requirements/lock.sh $(VENV)

install: $(VENV)/.package ## install what is missing, nothing else

clean: ## remove the virtual environment and all caches
	@for venv in .venv .venv-lowest; do if [ -L $$venv ]; then rm -rf "$$(dirname "$$(readlink $$venv)")"; fi; done
	rm -rf .venv .venv-lowest build *.egg-info .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.installed: tests/install.sh $(wildcard tests/requirements/*.txt $(LOCKED)/*.txt)
	@tests/install.sh $(VENV) $(LOCKED)

# Installed and not linked: httpd's children must be able to read it wherever this clone is.
$(VENV)/.package: $(VENV)/.installed $(SOURCES)
	@rm -rf build/lib* build/temp* build/bdist* *.egg-info
	@umask 022 && $(BIN)/python -m pip --disable-pip-version-check install -q --no-deps --no-build-isolation --force-reinstall .
	@rm -rf build/lib* build/temp* build/bdist* *.egg-info
	@touch $@
