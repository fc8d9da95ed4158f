#!/usr/bin/env bash
# The soak (soak.py tells what it does):  soak.sh [SECONDS]  or  soak.sh kills [N].  SEED=… repeats one.
# FAULTS=kill,prune for only these. FRONTEND=IMAGE.tar, an OCI archive of a frontend image, adds builds by it.
. "$(dirname "$0")/../interop/lib.sh"
here=$(cd "$(dirname "$0")" && pwd)
seed=${SEED:-$RANDOM}
case "${1:-}" in
  kills) amount=(--kills "${2:-1000}") ;;
  *) amount=(--seconds "${1:-180}") ;;
esac
say "seed $seed"

start_registry
push_image "$(busybox_tar)" library/busybox:latest
options=(--faults "${FAULTS:-}")
if [ -x "$build_dir/tiny_frontend" ]; then
  push_program "$build_dir/tiny_frontend" /bin/frontend soak/tiny
  options+=(--tiny-frontend "$registry/soak/tiny:latest")
fi
if [ -n "${FRONTEND:-}" ]; then
  skopeo copy -q --dest-tls-verify=false "oci-archive:$FRONTEND" "docker://$registry/soak/frontend:latest"
  options+=(--frontend "$registry/soak/frontend:latest")
fi

say "sources for ADD: files and a repository, on loopback"
mkdir "$scratch/served" "$scratch/work"
for i in 0 1; do head -c 200000 /dev/urandom >"$scratch/served/file$i"; done
git_at() { git -C "$scratch/work" -c user.name=soak -c user.email=soak@localhost "$@"; }
git_at init -q -b main
for i in 0 1; do
  echo "version $i" >"$scratch/work/data"
  git_at add data
  git_at commit -q -m "version $i"
  git_at tag "v$i"
done
git clone -q --bare "$scratch/work" "$scratch/served/repository.git"
git -C "$scratch/served/repository.git" update-server-info
port=$(free_port)
python3 -m http.server --bind 127.0.0.1 --directory "$scratch/served" "$port" >/dev/null 2>&1 &
pids+=($!)
wait_for 10 curl -fsS "http://127.0.0.1:$port/file0" -o /dev/null || fail "the file server does not answer"

say "secrets and keys of clients"
echo "a secret of $seed" >"$scratch/secret"
gcc -static -O1 -o "$scratch/ask_agent" "$here/ask_agent.c"
eval "$(ssh-agent -a "$scratch/agent.sock")" >/dev/null
pids+=("$SSH_AGENT_PID")
ssh-keygen -q -t ed25519 -N '' -f "$scratch/key"
ssh-add -q "$scratch/key"

python3 -B "$here/soak.py" --scratch "$scratch" --kilnd "$kilnd" --kilnctl "$kilnctl" --registry "$registry" \
  --files-url "http://127.0.0.1:$port" --secret "$scratch/secret" --ssh-agent "$scratch/agent.sock" \
  --ask-agent "$scratch/ask_agent" --seed "$seed" "${amount[@]}" "${options[@]}" || fail "see WRONG above"
checks=$((checks + 1))
