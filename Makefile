# make run           start the proxy with proxy.yaml (or CONFIG=…)
# make test          the tests; make check: linters and types
# make test-docker   the image and docker-compose.yml, with a Docker daemon
# make bench         real clients on a bad line; root, on Linux (BENCH="--quick", BENCH="--help")
# All work from a fresh clone on a machine that has make and Python 3.12 or newer.

VENV := .venv
CONFIG ?= proxy.yaml
TESTS ?= tests
# Of the core rooms, branches counted; a part of the tests has no share to reach.
COVERAGE := $(if $(filter tests,$(TESTS)),--cov --cov-report=term --cov-fail-under=95)

.PHONY: run test test-docker check bench install lock proto clean

run: install
	@exec $(VENV)/bin/hexcache serve --config $(CONFIG)

test: $(VENV)/.dev
	$(VENV)/bin/python -m pytest $(TESTS) -n auto --dist loadfile --ignore tests/docker $(COVERAGE)

test-docker: $(VENV)/.dev
	$(VENV)/bin/python -m pytest tests/docker

check: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: $(VENV)/.dev
	@PYTHONPATH=tests $(VENV)/bin/python -m benchmarks.bad_line $(BENCH)

install: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	@python=$$(sh tools/find-python) || exit 1; \
	test -x $(VENV)/bin/python || { echo "making $(VENV) with $$python"; "$$python" -m venv $(VENV); }
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.installed requirements-dev.lock
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

# Needs uv. Universal: one lock for Linux and macOS. No index's address gets in.
lock:
	uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url \
	  --no-emit-find-links --python-version 3.12 pyproject.toml --extra build -o requirements.lock
	uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url \
	  --no-emit-find-links --python-version 3.12 pyproject.toml --extra build --extra dev \
	  -c requirements.lock -o requirements-dev.lock

proto: $(VENV)/.dev
	$(VENV)/bin/python -m grpc_tools.protoc -Iaddon/hexcache/proto --python_out=addon/hexcache/proto \
	  --pyi_out=addon/hexcache/proto addon/hexcache/proto/registry.proto

clean:
	rm -rf $(VENV)
