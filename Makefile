# make quickstart   set up, then run the main job on specs/quickstart.yaml
# make test-fast    set up, then run the tests that start nothing and are quick: under 90 s on two cores; says what it left out
# make test         set up, then run the tests, as CI does
# make test-seconds   the same, and write how long each file took to tests/seconds.json: the longest are started first
# make test-cluster   those that kill the nodes of a Ray cluster: some minutes more
# make test-kubernetes   those that run a rendered job's pods as processes, or simulate a whole job: many minutes more
# make test-signals   those that stop a job in every stage, five times for each signal: many minutes more
# make lint         ruff and mypy, in a small environment of their own: needs no `make setup`, and no torch
# make types        mypy again where torch is installed, so that its types are checked too
# make bench-teacher   the label stage against other ways to ask the same model
# make bench-student   the student against plain transformers
# make bench-gpu   what can be computed and simulated of GPUs; teachers and students on those of this machine
# make bench-review   what a review buys: the queue against CROWDLAB, the consensus, labels, a sample's intervals; the page; try --watch
# make bench-tasks   150 labels and several labels at once: the teacher's rate, and students from few rows and from all
# make bench-few   recipe auto against each of the recipes it chooses from, where texts are few
# make bench-kubernetes   GPU-hours that Ray's autoscaler buys for a job on KubeRay, simulated
# make docs-errors   write docs/errors.md again, from the codes and messages in the source
# make manifests    render the jobs of k8s/ again
# make image-check   build the container images `cpu` and `head`, use them, and let them run a job together (needs root and buildah)
# make lock         resolve requirements.in and the images' locks again (needs uv)

PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
LINT_VENV ?= .venv-lint
SPEC ?= specs/quickstart.yaml
# Many tests wait for Ray to start: two at a time take three quarters as long as one by one, on two cores.
TEST_PROCESSES ?= 2
# A file's tests share fixtures, so that they stay in one process. Files keep the order of tests/tiers.py: the longest first.
IN_PARALLEL := -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder
PIP_QUIETLY := --quiet --disable-pip-version-check --no-compile

.PHONY: quickstart test test-fast test-seconds test-cluster test-kubernetes test-signals lint types docs-errors manifests image-check lock setup clean bench-teacher bench-student bench-few bench-review bench-tasks bench-gpu bench-kubernetes
.DEFAULT_GOAL := quickstart

setup: $(VENV)/.ready

# torch comes first and with its dependencies: which those are depends on the build that pip finds (CPU or CUDA).
$(VENV)/.ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP_QUIETLY) --constraint requirements.lock torch
	$(BIN)/python -m pip install $(PIP_QUIETLY) --no-deps --requirement requirements.lock
	$(BIN)/python -m pip install $(PIP_QUIETLY) --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true  # on all cores; a few packages ship files for other versions
	touch $@

quickstart: setup
	$(BIN)/tutelage run $(SPEC)

test: setup $(VENV)/.runtimes $(VENV)/.tools
	$(BIN)/python -m pytest -q --durations=25 $(IN_PARALLEL)

test-seconds: setup $(VENV)/.runtimes $(VENV)/.tools
	$(BIN)/python -m pytest -q --durations=25 --write-seconds $(IN_PARALLEL)

test-fast: setup $(VENV)/.runtimes $(VENV)/.tools
	$(BIN)/python -m pytest -q --fast $(IN_PARALLEL)

test-cluster: setup $(VENV)/.tools
	$(BIN)/python -m pytest -q -m cluster

test-kubernetes: setup $(VENV)/.tools
	$(BIN)/python -m pytest -q -m kubernetes

test-signals: setup $(VENV)/.tools
	$(BIN)/python -m pytest -q -m signals

# The quickstart needs no other runtime than torch, and nothing that checks manifests.
$(VENV)/.runtimes: $(VENV)/.ready requirements-runtimes.lock
	$(BIN)/python -m pip install $(PIP_QUIETLY) --no-deps --requirement requirements-runtimes.lock
	touch $@

$(VENV)/.tools: $(VENV)/.ready requirements-tests.lock
	$(BIN)/python -m pip install $(PIP_QUIETLY) --no-deps --requirement requirements-tests.lock
	touch $@

# Without torch its types are Any: comments and classes that need them are then neither used nor typed.
lint: $(LINT_VENV)/.ready
	$(LINT_VENV)/bin/ruff check .
	$(LINT_VENV)/bin/ruff format --check .
	$(LINT_VENV)/bin/mypy --no-warn-unused-ignores --allow-subclassing-any --no-warn-return-any

types: setup
	$(BIN)/mypy

# The libraries are those whose types mypy follows (pyproject.toml); all versions are those of requirements.lock.
$(LINT_VENV)/.ready: requirements.lock Makefile
	$(PYTHON) -m venv $(LINT_VENV)
	$(LINT_VENV)/bin/python -m pip install $(PIP_QUIETLY) --constraint requirements.lock \
		ruff mypy types-jsonschema types-PyYAML charset-normalizer click filelock jinja2 numpy rich starlette urllib3 uvicorn
	touch $@

image-check:
	PYTHON=$(PYTHON) docker/check.sh

bench-teacher: setup
	$(BIN)/python bench/teacher.py

bench-student: setup $(VENV)/.runtimes
	$(BIN)/python bench/student.py

bench-review: setup
	$(BIN)/python bench/review.py
	$(BIN)/python bench/review_page.py
	$(BIN)/python bench/try_watch.py

bench-tasks: setup
	$(BIN)/python bench/tasks.py

bench-few: setup
	$(BIN)/python bench/few.py

bench-gpu: setup $(VENV)/.tools
	$(BIN)/python bench/truth.py
	$(BIN)/python bench/occupancy.py
	$(BIN)/python bench/ceiling.py
	$(BIN)/python bench/gpu.py

bench-kubernetes: setup $(VENV)/.tools
	$(BIN)/python bench/kubernetes.py

docs-errors: setup
	$(BIN)/python -m tests.problem_codes

manifests: setup
	PATH="$(abspath $(BIN)):$$PATH" k8s/render.sh

lock:
	uv pip compile requirements.in --override requirements.overrides --python-version 3.11 \
		--no-annotate --no-header --no-emit-index-url --no-emit-find-links --quiet | sed 's/+cpu$$//' > requirements.lock.new
	(echo "# Exact versions for Python 3.11 on CPUs, made by \`make lock\`. Installed without dependencies: the list is complete."; \
		cat requirements.lock.new) > requirements.lock
	rm requirements.lock.new
	docker/lock.sh

clean:
	rm -rf $(VENV) $(LINT_VENV) build *.egg-info
