# shellcheck shell=bash
# A rendered job in two containers that reach one another and nobody else: the head in `head`, a worker in `cpu`, submitted
# from `head`, with Ray's token. Sourced by check.sh.

readonly HEAD_IP=10.213.1.1 WORKER_IP=10.213.1.2
spaces=(tutelage-head-$$ tutelage-worker-$$)

# Two networks with a cable between them, and no way out of either: a node's default route ends at the other, and is there
# because Ray finds its own address by it.
network() {
  local head=${spaces[0]} worker=${spaces[1]}
  ip netns add "$head" && ip netns add "$worker" &&
    ip -n "$head" link add name eth0 type veth peer name eth0 netns "$worker" &&
    plugged "$head" $HEAD_IP $WORKER_IP && plugged "$worker" $WORKER_IP $HEAD_IP
}

plugged() { # SPACE ADDRESS OTHER
  ip -n "$1" link set lo up && ip -n "$1" link set eth0 up && ip -n "$1" addr add "$2/24" dev eth0 &&
    ip -n "$1" route add default via "$3"
}

pod() { # NAME TARGET SPACE OPTIONS... -- COMMAND...
  local name=$1 target=$2 space=$3 options=()
  shift 3
  while [[ "$1" != -- ]]; do options+=("$1") && shift; done
  "${engine[@]}" run --name "$name" --pull=never --read-only --tmpfs /tmp --tmpfs /cache:mode=1777 --shm-size 1g \
    --cap-drop all --security-opt no-new-privileges "${limits[@]}" --network "ns:/var/run/netns/$space" \
    --env-file "$here/pods/$name.env" --env-file "$here/pods/token.env" -v "$here/pods:/etc/tutelage:ro" -v "$here/volume:/mnt/tutelage" \
    -v "$weights:/mnt/tutelage/models:ro" -v "$here/pods/resolv.conf:/etc/resolv.conf:ro" "${options[@]}" --entrypoint bash "tutelage:$target" "${@:2}"
}

leave_cluster() {
  local space
  [[ ! -e "$here/pods" ]] || "${engine[@]}" rm --force --ignore --time 5 head worker submitter >/dev/null 2>&1 || true
  for space in "${spaces[@]}"; do ip netns del "$space" 2>/dev/null || true; done
}

prepare_pods() {
  mkdir -p "$here/pods" "$here/volume/data" "$here/volume/models" "$here/volume/runs"
  cp "$here/job/train.csv" "$here/job/test.csv" "$here/volume/data"
  chown -R 10001:10001 "$here/volume" "$here/pods"
  use cpu tutelage render job/cluster.yaml >"$here/pods/manifest.yaml" 2>"$here/render.log" ||
    fail "the job for a cluster is not rendered"
  "${engine[@]}" run --rm --pull=never --network none "${limits[@]}" -v "$here/pods:/pods" \
    -v "$PWD/docker/checks/rendered.py:/rendered.py:ro" --entrypoint python tutelage:head \
    /rendered.py /pods/manifest.yaml /pods || fail "the rendered job is not understood"
  cp "$here/pods/head.env" "$here/pods/submitter.env"
  # There are no names to find; so that nobody waits for an answer, the server is one that refuses at once.
  echo 'nameserver 127.0.0.1' >"$here/pods/resolv.conf"
  echo "RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(tr -dc a-f0-9 </dev/urandom | head -c 64)" >"$here/pods/token.env"
}

runs_on_a_cluster() {
  local start=$SECONDS
  if ! network; then
    say "a rendered job on a head and a worker stays untried: no network of two containers can be made here"
    return
  fi
  prepare_pods
  # Like pods they are started again, and the job is submitted when both are ready by the probes that KubeRay gives them.
  pod head head "${spaces[0]}" --detach --restart on-failure:5 -- /etc/tutelage/head.sh >/dev/null
  pod worker cpu "${spaces[1]}" --detach --restart on-failure:5 -- /etc/tutelage/worker.sh >/dev/null
  pod submitter head "${spaces[0]}" --rm -- -c "
    answers() { python -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=5)' \"http://\$1\" 2>/dev/null; }
    until answers $HEAD_IP:52365/api/healthz && answers $WORKER_IP:52365/api/healthz &&
      answers $HEAD_IP:8265/api/gcs_healthz; do sleep 2; done
    ray job submit --address http://$HEAD_IP:8265 -- $(cat "$here/pods/entrypoint")" >"$here/submitter.log" 2>&1 &
  wait_for "$!" 900 || { tail -n 40 "$here/submitter.log" >&2 && fail "the rendered job does not run with a head of its own"; }
  [[ -s "$here/volume/runs/cluster/report.html" ]] || fail "the rendered job left no report"
  say "ran a rendered job on a head (head) and a worker (cpu) in $((SECONDS - start)) s"
}

wait_for() { # PROCESS SECONDS
  local end=$((SECONDS + $2))
  while kill -0 "$1" 2>/dev/null; do
    ((SECONDS < end)) || return 1
    sleep 1
  done
  wait "$1"
}
