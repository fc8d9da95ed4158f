#!/usr/bin/env bash
# The realistic build: Debian from a registry, apt-get install of a compiler in a RUN, a C project built
# with a cache mount, the result in a scratch stage, pushed, pulled and run by crun.
. "$(dirname "$0")/lib.sh"
start_registry
push_image "$(debian_tar)" library/debian:bookworm
kilnd_config="[registry.\"docker.io\"]
mirrors = [\"$registry\"]"
start_kilnd

dir=$scratch/app
mkdir "$dir"
cp "$source_dir"/examples/hello/{Makefile,hello.c,adjective.c} "$dir"
cat >"$dir/Dockerfile" <<'DOCKER'
FROM debian:bookworm AS build
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev make
WORKDIR /src
COPY Makefile *.c ./
RUN --mount=type=cache,target=/objects make OBJECTS=/objects
FROM scratch
COPY --from=build /src/hello /hello
ENV GREETING="Hello from the registry"
ENTRYPOINT ["/hello"]
DOCKER
must_build "$dir" --output "type=image,name=$registry/hello:1,push=true" --metadata-file "$scratch/meta.json"
check_same "the metadata names the digest pushed" "$(jq -r '."containerimage.digest"' "$scratch/meta.json")" \
  "$(skopeo inspect --tls-verify=false --format '{{.Digest}}' "docker://$registry/hello:1")"
skopeo copy -q --src-tls-verify=false "docker://$registry/hello:1" "oci:$scratch/pulled:1"
umoci unpack --image "$scratch/pulled:1" "$scratch/bundle" >/dev/null 2>&1
check_same "the pulled image runs" "$("$source_dir/examples/run-bundle" "$scratch/bundle")" \
  "Hello from the registry, on one warm machine."

say "changing one source file re-runs the compile, not the install"
sed -i s/warm/fast/ "$dir/adjective.c"
must_build "$dir" --output "type=image,name=$registry/hello:2,push=true"
install=$(sed -n 's/^\(#[0-9]*\) .*RUN apt-get.*/\1/p' <<<"$out" | head -n 1)
check_contains "the install is cached" "$out" "$install CACHED"
check_contains "make compiled the changed file" "$out" "adjective.c"
check_absent "and only that" "$out" "cc -O2 -Wall -c -o /objects/hello.o"
