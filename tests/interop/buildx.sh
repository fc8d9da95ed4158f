#!/usr/bin/env bash
# The real docker-buildx, remote driver: build, bake, cache, push.
. "$(dirname "$0")/lib.sh"

# From a newer Debian suite, unpacked into the cache directory; the machine's own apt is not touched.
fetch_buildx() {
  buildx=$cache_dir/buildx/usr/libexec/docker/cli-plugins/docker-buildx
  [ -x "$buildx" ] && return 0
  local apt=$cache_dir/apt mirror suite
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -n 1)
  for suite in sid trixie; do
    rm -rf "$apt"
    mkdir -p "$apt"/{state/lists/partial,cache/archives/partial,empty}
    echo "deb [trusted=yes] $mirror $suite main" >"$apt/sources.list"
    local options=(-o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts="$apt/empty"
      -o Dir::State="$apt/state" -o Dir::State::status=/dev/null -o Dir::Cache="$apt/cache")
    apt-get "${options[@]}" update -qq >"$apt/log" 2>&1 || continue
    (cd "$apt" && apt-get "${options[@]}" download -qq docker-buildx) >>"$apt/log" 2>&1 || continue
    dpkg -x "$apt"/docker-buildx_*.deb "$cache_dir/buildx" && [ -x "$buildx" ] && { rm -rf "$apt"; return 0; }
  done
  skip "no docker-buildx package to be had: $(tail -n 1 "$apt/log")"
}
fetch_buildx
start_registry
push_image "$(busybox_tar)" library/busybox:latest
kilnd_config="[registry.\"docker.io\"]
mirrors = [\"$registry\"]"
start_kilnd
export BUILDX_CONFIG=$scratch/buildx BUILDX_BAKE_ENTITLEMENTS_FS=0
check "create a remote builder" "$buildx" create --name kiln --driver remote "unix://$socket" --use
inspect=$("$buildx" inspect kiln) || fail "inspect failed"
check_contains "the builder runs" "$inspect" "running"

dir=$scratch/app
mkdir "$dir"
cat >"$dir/Dockerfile" <<'DOCKER'
FROM busybox AS app
ARG WHO=world
COPY data.txt /
RUN echo "hello $WHO" > /greeting && cat data.txt >> /greeting
FROM scratch AS files
COPY --from=app /greeting /
DOCKER
echo data >"$dir/data.txt"
cat >"$dir/docker-bake.hcl" <<HCL
group "default" { targets = ["app", "files"] }
target "app" {
  context = "$dir"
  target = "app"
  tags = ["$registry/app:bake"]
  output = ["type=registry"]
}
target "files" {
  context = "$dir"
  target = "files"
  args = { WHO = "bake" }
  output = ["type=local,dest=$scratch/bake"]
}
HCL
bx() { "$buildx" "$@" >"$scratch/o" 2>&1 || fail "buildx $*: $(cat "$scratch/o")"; checks=$((checks + 1)); }
bx build --progress=plain --target files -o "type=local,dest=$scratch/out" "$dir"
check_same "the result" "$(cat "$scratch/out/greeting")" $'hello world\ndata'
bx build --progress=plain --target files -o "type=local,dest=$scratch/out" "$dir"
check "everything is cached" test "$(grep -c CACHED "$scratch/o")" -ge 3
bx build --progress=plain --target app -t "$registry/app:1" --push --metadata-file "$scratch/meta.json" "$dir"
check_same "pushed what the metadata says" "$(jq -r '."containerimage.digest"' "$scratch/meta.json")" \
  "sha256:$(curl -fsS -H 'Accept: application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json' "http://$registry/v2/app/manifests/1" | sha256sum | cut -d' ' -f1)"
bx bake --progress=plain -f "$dir/docker-bake.hcl"
check_same "bake's files" "$(cat "$scratch/bake/greeting")" $'hello bake\ndata'
check "bake's image" skopeo inspect --tls-verify=false "docker://$registry/app:bake" --format ok
bx du
bx prune -f
