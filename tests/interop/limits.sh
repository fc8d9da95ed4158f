#!/usr/bin/env bash
# Limits of open files: the daemon takes all that it may have, steps and programs of others get what it was given.
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || skip "needs root"
start_registry
push_image "$(busybox_tar)" library/busybox:latest
ulimit -Sn 777
ulimit -Hn 7777
start_kilnd
check_same "limits of the daemon" "$(awk '/^Max open files/ { print $4, $5 }' "/proc/$kilnd_pid/limits")" "7777 7777"

context=$scratch/context
mkdir "$context"
cat >"$context/Dockerfile" <<DOCKER
FROM $registry/library/busybox:latest AS made
RUN { ulimit -Sn; ulimit -Hn; } >/limits
FROM scratch
COPY --from=made /limits /
DOCKER
limits_of_step() { # limits_of_step FLAG…: what a step sees
  must_build "$context" "$@" --output "type=local,dest=$scratch/out"
  limits=$(tr '\n' ' ' <"$scratch/out/limits")
}
limits_of_step
check_same "limits of a step" "$limits" "777 7777 "
limits_of_step --opt ulimit=nofile=1000:2000
check_same "limits of a step that asks for others" "$limits" "1000 2000 "
stop_kilnd
