#!/usr/bin/env bash
# Write docker/locks/*.lock: what each image holds, out of pyproject.toml, near to requirements.lock. Needs uv, which must
# see PyTorch's wheels for processors (UV_FIND_LINKS or UV_EXTRA_INDEX_URL) for the targets cpu and student-cpu.
set -euo pipefail
cd "${0%/*}/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Triton is for GPUs: on processors nothing here loads it, and it is a third of what is installed.
(cat requirements.overrides && echo "triton ; sys_platform == 'never'") >"$work/cpu.overrides"
grep -vE '^(torch|nvidia)' requirements.overrides >"$work/gpu.overrides"
# The head of a cluster and who submits to it compute nothing: what does is left out.
(cat "$work/cpu.overrides" && printf "%s ; sys_platform == 'never'\n" accelerate gguf torch transformers) >"$work/head.overrides"
sed -n 's/^torch==[^+]*$/&+cpu/p' requirements.lock >"$work/torch-cpu"

lock() { # TARGET WORDS OPTIONS...
  local file=docker/locks/$1.lock
  cp requirements.lock "$work/$1"  # uv keeps these versions where it can
  uv pip compile pyproject.toml --extra s3 --extra carbon --python-version 3.11 \
    --python-platform x86_64-manylinux_2_28 --no-annotate --no-header --no-emit-index-url --no-emit-find-links \
    --quiet --output-file "$work/$1" "${@:3}"
  {
    echo "# Exact versions for the target $1: $2."
    echo "# Made by \`make lock\`; installed without dependencies: the list is complete."
    sed 's/+cpu$//' "$work/$1"
  } >"$file"
}
lock cpu "requirements.lock without the development tools and Triton" \
  --extra cpu --override "$work/cpu.overrides" --constraint requirements.lock
lock student-cpu "what of cpu.lock is there without vLLM" \
  --override "$work/cpu.overrides" --constraint requirements.lock --constraint "$work/torch-cpu"
lock head "what of student-cpu.lock a driver of Ray needs, which computes nothing" \
  --override "$work/head.overrides" --constraint requirements.lock --constraint docker/locks/student-cpu.lock
lock gpu "vLLM and torch for CUDA" \
  --extra gpu --override "$work/gpu.overrides"
lock student-gpu "what of gpu.lock is there without vLLM" \
  --override "$work/gpu.overrides" --constraint docker/locks/gpu.lock
