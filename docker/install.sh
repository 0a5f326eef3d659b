#!/bin/sh
# Install the packages of a lock file into /opt/tutelage, as `make setup` does: install.sh LOCK
set -eu
python3 -m venv /opt/tutelage
pip() { /opt/tutelage/bin/python -m pip --disable-pip-version-check --no-cache-dir "$@"; }

# torch comes first and with its dependencies: which those are depends on the build that pip finds (CPU or CUDA).
# The head of a cluster has none.
if grep -q '^torch==' "$1"; then
  pip install --quiet --no-compile --only-binary=:all: --constraint "$1" torch
fi
pip install --quiet --no-compile --only-binary=:all: --no-deps --requirement "$1"
# A read-only file system keeps no bytecode. A few packages ship files for other versions of Python.
/opt/tutelage/bin/python -m compileall -qq -j 0 /opt/tutelage/lib || true
