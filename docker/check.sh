#!/usr/bin/env bash
# Build the images `cpu` and `head` for real, and use them: docker/check.sh [--keep [FOLDER]]
#
# Needs root, buildah and about 18 GB of disk in $TMPDIR; and, unless BASE_IMAGE names an image that can be had here,
# mmdebstrap, which makes a stand-in for the base image from Debian's packages. Everything lies in a folder of its own,
# storage included, that goes at the end (--keep leaves it, for `buildah --root`; with the FOLDER that an earlier run kept,
# layers that are the same are not built again). pip's settings on this machine go along, as a build secret; what they name
# on its disk is mounted while the image is built.
set -euo pipefail
cd "${0%/*}/.."

say() { echo "image-check: $*"; }
fail() {
  say "$*" >&2
  exit 1
}
need() {
  command -v "$1" >/dev/null ||
    fail "$1 is not here; install it (Debian: apt-get install buildah mmdebstrap) and run this again"
}
need buildah
[[ "${BASE_IMAGE:-}" ]] || need mmdebstrap
[[ "$EUID" == 0 ]] || fail "it must be run as root: without a container engine only root may mount and chroot"

keep=${1:-} kept=${2:-}
. docker/checks/storage.sh
. docker/checks/images.sh
. docker/checks/memory.sh
. docker/checks/cluster.sh
trap leave EXIT

settings_of_pip
base_image
for target in runtime-student-gpu runtime-gpu head cpu; do build "$target"; done
build weights --build-arg MODELS="all-minilm-l6-v2 smollm2-135m-instruct"

# What the runs are given: the weights, small jobs, and a folder for what they write.
weights=$(files_of weights)
rm -rf "$here/job" "$here/runs" "$here/pods" "$here/volume"
mkdir "$here/job" "$here/runs"
chown 10001:10001 "$here/runs"
sed -n '1,31p' specs/data/company-news-test.csv >"$here/job/train.csv"
sed -n '1p;32,61p' specs/data/company-news-test.csv >"$here/job/test.csv"
cat >"$here/job/live.yaml" <<'SPEC'
version: 1
name: live
task:
  labels: [negative, neutral, positive]
  instructions: Label the sentence for an investor.
data:
  train: {path: train.csv}
  test: {path: test.csv, label: label_experts}
teacher: {model: "catalog:smollm2-135m-instruct", max_context: 1024}
student: {model: "catalog:all-minilm-l6-v2", epochs: 1}
evaluate: {resamples: 200}
SPEC
recorded='teacher: {engine: recorded, model: the experts, columns: [label_experts]}'
sed -e 's/^name: .*/name: recorded/' -e "s/^teacher: .*/$recorded/" "$here/job/live.yaml" >"$here/job/recorded.yaml"
# In a cluster each part of the work that a driver may be asked for: two workers that train together, a search, a corpus.
sed -e 's/^name: .*/name: cluster/' -e 's/^  test: .*/&\n  corpus: {path: test.csv}/' \
  -e 's/^teacher: {\(.*\)}/teacher: {\1, resources: {cpus: 2}}/' \
  -e 's/^student: {\(.*\)}/student: {\1, search: {trials: 2}, resources: {workers: 2, cpus: 1}}/' \
  "$here/job/live.yaml" >"$here/job/cluster.yaml"

hardened=""
if command -v podman >/dev/null && command -v runc >/dev/null; then
  hardened=yes
  say "running them with podman: read-only, without capabilities and network"
else
  say "running them in a chroot: podman or runc is not here, so that read-only, capabilities and a cluster stay untried"
fi

for target in runtime-student-gpu runtime-gpu; do finds_its_driver "$target"; done
for target in runtime-student-gpu runtime-gpu head cpu; do asks_for_no_gpu "$target"; done
for target in head cpu; do
  finds_its_programs "$target"
  keeps_nothing_of_the_build "$target"
  health_check_is_small "$target"
done
needs_no_torch
use cpu tutelage validate job/live.yaml job/recorded.yaml || fail "validate failed in the image"
for job in recorded live; do
  start=$SECONDS
  use cpu tutelage run --quiet "job/$job.yaml" || fail "job/$job.yaml does not run in the image"
  [[ "$(stat -c %u:%g "$here/runs/$job/run.json")" == 10001:10001 ]] || fail "the run folder belongs to somebody else"
  say "ran $job.yaml in $((SECONDS - start)) s"
done
[[ ! "$hardened" ]] || runs_on_a_cluster
say "fine"
