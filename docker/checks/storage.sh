# shellcheck shell=bash
# Where images are built: a storage of their own, pip's settings, and a stand-in for the base image. Sourced by check.sh.

here=${kept:-$(mktemp -d "${TMPDIR:-/tmp}/image-check.XXXXXX")}
store=(buildah --root "$here/storage" --runroot "$here/run" --storage-driver overlay)
engine=(podman --root "$here/storage" --runroot "$here/run" --storage-driver overlay --runtime runc
  --cgroup-manager cgroupfs --events-backend file)
# Of open files and processes no more than this shell may have: without them podman asks for more.
limits=(--ulimit "nofile=$(ulimit -Hn):$(ulimit -Hn)" --ulimit nproc=4096:4096)
mounts=()

leave() {
  leave_cluster
  if [[ "$keep" == --keep ]]; then
    say "kept in $here"
    return
  fi
  # The storage mounts its own folders, and those of containers; the innermost go first.
  awk -v here="$here/" 'index($2, here) == 1 { print $2 }' /proc/self/mounts | sort -r | xargs --no-run-if-empty umount || true
  rm -rf "$here"
}

# The same settings as pip has here, in one file; a later line of pip's list gives way to an earlier one. Folders and files
# that it names are mounted; of an index in a folder the parent, as its pages link to files beside it.
settings_of_pip() {
  local path
  "${PYTHON:-python3}" -m pip config list | sed -nE "s/^(:env:|global|install|download)\.+([a-z-]+)='(.*)'$/\2 = \3/p" |
    awk -F ' = ' 'BEGIN { print "[global]" } !seen[$1]++' >"$here/pip.conf"
  while read -r path; do
    [[ "$path" != file://* ]] || path=$(dirname "${path#file://}")
    [[ ! -e "$path" ]] || mounts+=(-v "$path:$path:ro")
  done < <(tr ' ' '\n' <"$here/pip.conf" | grep -E '^(file://)?/' | sort -u)
}

base_image() {
  local empty
  [[ ! "${BASE_IMAGE:-}" ]] || return 0
  BASE_IMAGE=localhost/tutelage-base
  ! "${store[@]}" inspect --type image "$BASE_IMAGE" >/dev/null 2>&1 || return 0
  say "making $BASE_IMAGE, a stand-in for the base image"
  mmdebstrap --quiet --variant=minbase --include=ca-certificates,netbase,python3,python3-venv,tzdata \
    bookworm "$here/base.tar"
  empty=$("${store[@]}" from scratch)
  "${store[@]}" add --quiet "$empty" "$here/base.tar" / >/dev/null
  "${store[@]}" commit --quiet --rm "$empty" "$BASE_IMAGE" >/dev/null
  rm "$here/base.tar"
}

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

# The files of an image, mounted; where they lie is printed.
files_of() { # TARGET
  "${store[@]}" mount "$("${store[@]}" from "tutelage:$1")"
}
