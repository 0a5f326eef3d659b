#!/usr/bin/env bash
# Build the image `cpu` for real, and use it: docker/check.sh [--keep]
#
# Needs root, buildah and about 12 GB of disk in $TMPDIR; and, unless BASE_IMAGE names an image that can be had here,
# mmdebstrap, which makes a stand-in for the base image from Debian's packages. Everything lies in a folder of its own,
# storage included, that goes at the end (--keep leaves it, for `buildah --root`). pip's settings on this machine go along,
# as a build secret; what they name on its disk is mounted while the image is built.
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

here=$(mktemp -d "${TMPDIR:-/tmp}/image-check.XXXXXX")
store=(buildah --root "$here/storage" --runroot "$here/run" --storage-driver overlay)
leave() {
  if [[ "${keep:-}" ]]; then
    say "kept in $here"
    return
  fi
  # The storage mounts its own folders, and those of containers; the innermost go first.
  awk -v here="$here/" 'index($2, here) == 1 { print $2 }' /proc/self/mounts | sort -r | xargs --no-run-if-empty umount || true
  rm -rf "$here"
}
trap leave EXIT
[[ "${1:-}" != --keep ]] || keep=yes

# The same settings as pip has here, in one file; a later line of pip's list gives way to an earlier one.
python=${PYTHON:-python3}
"$python" -m pip config list | sed -nE "s/^(:env:|global|install|download)\.+([a-z-]+)='(.*)'$/\2 = \3/p" |
  awk -F ' = ' 'BEGIN { print "[global]" } !seen[$1]++' >"$here/pip.conf"
# Folders and files that it names; of an index in a folder the parent, as its pages link to files beside it.
mounts=()
while read -r path; do
  [[ "$path" != file://* ]] || path=$(dirname "${path#file://}")
  [[ ! -e "$path" ]] || mounts+=(-v "$path:$path:ro")
done < <(tr ' ' '\n' <"$here/pip.conf" | grep -E '^(file://)?/' | sort -u)

if [[ ! "${BASE_IMAGE:-}" ]]; then
  BASE_IMAGE=localhost/tutelage-base
  say "making $BASE_IMAGE, a stand-in for the base image"
  mmdebstrap --quiet --variant=minbase --include=ca-certificates,netbase,python3,python3-venv,tzdata \
    bookworm "$here/base.tar"
  empty=$("${store[@]}" from scratch)
  "${store[@]}" add --quiet "$empty" "$here/base.tar" / >/dev/null
  "${store[@]}" commit --quiet --rm "$empty" "$BASE_IMAGE" >/dev/null
  rm "$here/base.tar"
fi

build() { # TARGET OPTIONS...
  local start=$SECONDS
  "${store[@]}" bud --isolation chroot --network host --layers --format docker --file docker/Dockerfile \
    --target "$1" --tag "tutelage:$1" --build-arg BASE_IMAGE="$BASE_IMAGE" --secret id=pip,src="$here/pip.conf" \
    "${mounts[@]}" "${@:2}" . >"$here/build.log" 2>&1 || {
    grep -v '^WARNING: Location' "$here/build.log" | tail -n 30 >&2
    fail "the target $1 cannot be built"
  }
  say "built $1 in $((SECONDS - start)) s: $("${store[@]}" images --format '{{.Size}}' "tutelage:$1")"
}
build cpu
build weights --build-arg MODELS="all-minilm-l6-v2 smollm2-135m-instruct"

# What the runs are given: the weights, two small jobs, and a folder for what they write.
weights=$("${store[@]}" mount "$("${store[@]}" from tutelage:weights)")
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
sed -e 's/^name: .*/name: recorded/' -e 's/^teacher: .*/teacher: {engine: recorded, model: the experts, columns: [label_experts]}/' \
  "$here/job/live.yaml" >"$here/job/recorded.yaml"

# As it is meant to run: a read-only root, no capabilities, no network. Without podman and runc: a mere chroot.
if command -v podman >/dev/null && command -v runc >/dev/null; then
  say "running it with podman: read-only, without capabilities and network"
  engine=(podman --root "$here/storage" --runroot "$here/run" --storage-driver overlay --runtime runc
    --cgroup-manager cgroupfs --events-backend file)
else
  say "running it in a chroot: podman or runc is not here, so that read-only and capabilities stay untried"
  engine=()
  chroot=$("${store[@]}" from tutelage:cpu)
fi
use() { # PROGRAM ARGUMENTS...
  local places=(-v "$here/job:/work/job:ro" -v "$here/runs:/work/runs" -v "$weights:/cache/tutelage:ro")
  if [[ "${engine[*]}" ]]; then
    "${engine[@]}" run --rm --pull=never --read-only --tmpfs /tmp --shm-size 2g --cap-drop all --network none \
      --security-opt no-new-privileges --ulimit "nofile=$(ulimit -n):$(ulimit -n)" --ulimit nproc=4096:4096 \
      "${places[@]}" --entrypoint "$1" tutelage:cpu "${@:2}"
  else
    "${store[@]}" run --isolation chroot "${places[@]}" "$chroot" -- "$@"
  fi
}

use tutelage validate job/live.yaml job/recorded.yaml || fail "validate failed in the image"
use python3 -c 'import shutil as s; exit(any(map(s.which, ("cc", "gcc", "g++", "clang"))))' || fail "a compiler is in the image"
use sh -c '! [ -s /etc/pip.conf ]' || fail "pip's settings are in the image"
for job in recorded live; do
  start=$SECONDS
  use tutelage run --quiet "job/$job.yaml" || fail "job/$job.yaml does not run in the image"
  [[ "$(stat -c %u:%g "$here/runs/$job/run.json")" == 10001:10001 ]] || fail "the run folder belongs to somebody else"
  say "ran $job.yaml in $((SECONDS - start)) s"
done
say "fine"
