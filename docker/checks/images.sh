# shellcheck shell=bash
# What each image is, looked at by itself. Sourced by check.sh.

# A program in an image as it is meant to run: a read-only root, no capabilities, no network. Without podman and runc: a
# mere chroot.
use() { # TARGET PROGRAM ARGUMENTS...
  local places=(-v "$here/job:/work/job:ro" -v "$here/runs:/work/runs" -v "$weights:/cache/tutelage:ro")
  if [[ "$hardened" ]]; then
    "${engine[@]}" run --rm --pull=never --read-only --tmpfs /tmp --shm-size 2g --cap-drop all --network none \
      --security-opt no-new-privileges "${limits[@]}" "${places[@]}" --entrypoint "$2" "tutelage:$1" "${@:3}"
  else
    "${store[@]}" run --isolation chroot "${places[@]}" "$("${store[@]}" from "tutelage:$1")" -- "${@:2}"
  fi
}

# Kubernetes' operators start what they run by a shell, some by a login shell, which reads Debian's profile.
finds_its_programs() { # TARGET
  local flag program
  for flag in -c -lc; do
    for program in ray tutelage python; do
      [[ "$(use "$1" bash "$flag" "command -v $program")" == "/opt/tutelage/bin/$program" ]] ||
        fail "$1: bash $flag finds another $program than the image's, or none"
    done
  done
  say "$1: bash -c and bash -lc find ray, tutelage and python"
}

keeps_nothing_of_the_build() { # TARGET
  use "$1" python3 -c 'import shutil as s; exit(any(map(s.which, ("cc", "gcc", "g++", "clang"))))' ||
    fail "$1: a compiler is in the image"
  use "$1" sh -c '! [ -s /etc/pip.conf ]' || fail "$1: pip's settings are in the image"
}

environment() { # TARGET
  "${store[@]}" inspect --type image --format '{{range .OCIv1.Config.Env}}{{println .}}{{end}}' "tutelage:$1"
}

asks_for_no_gpu() { # TARGET
  ! environment "$1" | grep -q '^NVIDIA_VISIBLE_DEVICES=' || fail "$1: the image asks for GPUs by itself"
}

finds_its_driver() { # TARGET
  environment "$1" | grep -qx 'LD_LIBRARY_PATH=/usr/local/nvidia/lib64:/usr/local/nvidia/lib' ||
    fail "$1: the folder of the GPU's driver is not in LD_LIBRARY_PATH"
  environment "$1" | grep -qx 'NVIDIA_DRIVER_CAPABILITIES=compute,utility' ||
    fail "$1: the parts of the GPU's driver are not named"
  say "$1: $(environment "$1" | grep -E '^(LD_LIBRARY_PATH|NVIDIA)' | tr '\n' ' ')"
}

needs_no_torch() {
  use head python3 -c 'import importlib.util as u; exit(any(map(u.find_spec, ("torch", "vllm", "transformers"))))' ||
    fail "head: torch, vllm or transformers is in the image"
}
