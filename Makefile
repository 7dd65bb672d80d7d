# make run [PORT=8000]   install what is missing, and start the portal for this machine
# make test-fast         run the tests that need no devcluster, browser or containers
# make test              run all tests on the real stack, with WORKERS=3 devclusters at a time (as root)
# make check             check style, formatting, types and requirements
# make devcluster        start the one-machine site, and a portal for it on PORT; Ctrl-C stops both
# make bench             run the benchmarks on the devcluster

PORT ?= 8000
WORKERS ?= 3
STATE := var/embedded
DEVCLUSTER_STATE ?= /var/tmp/ood-devcluster

.PHONY: run test test-fast check devcluster bench

run: .venv/installed
	@embedded/prepare $(STATE)
	@if [ -e $(STATE)/containers.conf ]; then export CONTAINERS_CONF="$$PWD/$(STATE)/containers.conf"; fi; \
	PORT=$(PORT) PATH="$$PWD/embedded/bin:$$PWD/ces/bin:$$PATH" exec .venv/bin/gunicorn app:app

test: .venv/installed-dev
	tests/setup
	.venv/bin/pytest --dist worksteal $(foreach n,$(shell seq $(WORKERS)),--tx 'popen//python=tests/worker $(n)')

test-fast: .venv/installed-dev
	tests/setup nginx
	.venv/bin/pytest -m 'not slow'

check: .venv/installed-dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/python tests/check_requirements.py
	# The CES tools run on back-ends with an older Python, and have no file extension.
	.venv/bin/ruff check --target-version py38 ces/bin/ces*
	.venv/bin/ruff format --check --target-version py38 ces/bin/ces*
	MYPYPATH=ces/bin .venv/bin/mypy --strict --scripts-are-modules ces/bin/ces*

devcluster: .venv/installed
	devcluster/up
	@echo "Sign in as alice (alice-pw), bob (bob-pw) or carol (carol-pw) at http://127.0.0.1:$(PORT)/"
	@trap 'devcluster/down' EXIT; trap : INT TERM; \
	OOD_PORTAL_CONFIG=$(DEVCLUSTER_STATE)/portal.yml PORT=$(PORT) .venv/bin/gunicorn app:app

bench: .venv/installed-dev
	.venv/bin/python bench/launch.py
	.venv/bin/python bench/proxy.py
	.venv/bin/python bench/jobs.py
	.venv/bin/python bench/pages.py
	.venv/bin/python bench/shell.py
	.venv/bin/python bench/files.py

# Debian packages Python's venv separately.
.venv/bin/python:
	@python3 -c 'import ensurepip, venv' 2>/dev/null || { \
	  test "$$(id -u)" = 0 || { echo 'Install the package python3-venv and start again.'; exit 1; }; \
	  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends python3-venv; }
	python3 -m venv .venv

.venv/installed: .venv/bin/python requirements.txt
	.venv/bin/pip install -q -r requirements.txt
	touch $@

.venv/installed-dev: .venv/bin/python requirements.txt requirements-dev.txt
	.venv/bin/pip install -q -r requirements-dev.txt
	touch $@ .venv/installed
