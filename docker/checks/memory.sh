# shellcheck shell=bash
# How much memory `ray health-check` takes in an image. KubeRay runs it before each worker, in the worker's image and with
# its own limits: 0.2 cores and 256 MiB (ray-operator/controllers/ray/common/pod.go, the container wait-gcs-ready). Above
# that the pod fails and is made again, for ever. Sourced by check.sh.

readonly HEALTH_LIMIT=$((256 << 20)) HEALTH_MOST=$((200 << 20))

# A group of our own with those limits, by either version of the kernel's interface; its folders are printed.
small_cgroup() {
  local memory=/sys/fs/cgroup/memory cpu=/sys/fs/cgroup/cpu name=tutelage-check.$$
  if [[ -e $memory/memory.limit_in_bytes ]]; then
    mkdir "$memory/$name" "$cpu/$name" || return 1
    echo "$HEALTH_LIMIT" >"$memory/$name/memory.limit_in_bytes" || return 1
    echo 20000 >"$cpu/$name/cpu.cfs_quota_us" || return 1
    echo "$memory/$name $cpu/$name"
  else
    mkdir "/sys/fs/cgroup/$name" || return 1
    echo "$HEALTH_LIMIT" >"/sys/fs/cgroup/$name/memory.max" || return 1
    echo '20000 100000' >"/sys/fs/cgroup/$name/cpu.max" || return 1
    echo "/sys/fs/cgroup/$name"
  fi 2>/dev/null
}

# What a group has in use that the kernel cannot take back at will: all but the cache of files.
in_use() { # FOLDER
  local all
  all=$(cat "$1/memory.usage_in_bytes" 2>/dev/null || cat "$1/memory.current")
  awk -v all="$all" '/^(in)?active_file / { all -= $2 } END { print all }' "$1/memory.stat"
}

anonymous() { # PROCESS
  awk '/^(RssAnon|RssShmem):/ { sum += $2 * 1024 } END { print sum + 0 }' "/proc/$1/status" 2>/dev/null || echo 0
}

# The check in an image's files, as the user of the image and in groups that are given, as this shell's child. Whether the
# head answers is of no matter here: nobody listens, so that it imports all and then waits in vain.
start_health_check() { # FILES GROUPS...
  local group
  for group in "${@:2}"; do echo "$BASHPID" >"$group/cgroup.procs"; done
  # shellcheck disable=SC2016  # the inner shell's
  exec unshare --mount sh -c 'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" &&
    exec chroot --userspec=10001:10001 "$0" /usr/bin/env -i PATH=/opt/tutelage/bin:/usr/bin:/bin HOME=/tmp \
      ray health-check --address 127.0.0.1:6379' "$1" >/dev/null 2>&1
}

health_check_is_small() { # TARGET
  local files groups process now peak=0 start=$SECONDS killed=0 how="in a group of 256 MiB and 0.2 cores"
  files=$(files_of "$1")
  groups=$(small_cgroup) || groups=""
  [[ "$groups" ]] || how="by the anonymous memory of its process: no control group can be made here"
  # shellcheck disable=SC2086  # two folders
  start_health_check "$files" $groups &
  process=$!
  while kill -0 "$process" 2>/dev/null; do
    if [[ "$groups" ]]; then now=$(in_use "${groups%% *}"); else now=$(anonymous "$process"); fi
    ((now <= peak)) || peak=$now
    sleep 0.2
  done
  wait "$process" || [[ $? != 137 ]] || killed=1
  # shellcheck disable=SC2086
  [[ ! "$groups" ]] || rmdir $groups
  say "$1: ray health-check takes $((peak >> 20)) MiB, $((SECONDS - start)) s, measured $how"
  ((!killed)) || fail "$1: ray health-check was killed for want of memory"
  ((peak > 20 << 20)) || fail "$1: ray health-check did not even start"
  ((peak < HEALTH_MOST)) || fail "$1: ray health-check takes more than 200 MiB of the 256 it is given"
}
