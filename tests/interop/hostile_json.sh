#!/usr/bin/env bash
# JSON nested a hundred thousand deep, wherever the daemon reads JSON of others: an error, and the daemon carries on.
. "$(dirname "$0")/lib.sh"
start_registry
push_image "$(busybox_tar)" library/busybox:latest
start_kilnd
dir=$scratch/app
mkdir "$dir"
deep() { python3 -c 'import sys; n = 100000; sys.stdout.write(sys.argv[1] + "[" * n + "]" * n + sys.argv[2])' "$1" "$2"; }
put() {  # put REPOSITORY blob|MEDIATYPE FILE; its digest in $digest
  digest=sha256:$(sha256sum "$3" | cut -d' ' -f1)
  if [ "$2" = blob ]; then
    local location
    location=$(curl -fsS -D - -o /dev/null -X POST "http://$registry/v2/$1/blobs/uploads/" | tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
    curl -fsS -o /dev/null -X PUT -H 'Content-Type: application/octet-stream' --data-binary "@$3" "$location&digest=$digest"
  else
    curl -fsS -o /dev/null -X PUT -H "Content-Type: $2" --data-binary "@$3" "http://$registry/v2/$1/manifests/latest"
  fi
}
image() {  # image REPOSITORY CONFIG-FILE: without layers
  local oci=application/vnd.oci.image
  put "$1" blob "$2"
  printf '{"schemaVersion":2,"mediaType":"%s.manifest.v1+json","config":{"mediaType":"%s.config.v1+json","digest":"%s","size":%d},"layers":[]}' \
    "$oci" "$oci" "$digest" "$(stat -c %s "$2")" >"$scratch/manifest"
  put "$1" "$oci.manifest.v1+json" "$scratch/manifest"
}
alive() {
  kill -0 "$kilnd_pid" || fail "$1 brought the daemon down"
  printf 'FROM %s/library/busybox\nRUN true\n' "$registry" >"$dir/Dockerfile"
  must_build "$dir"
}

say "an image config"
deep '{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]},"config":{"Env":[]},"x":' '}' >"$scratch/config"
image deep "$scratch/config"
printf 'FROM %s/deep\nCOPY Dockerfile /\n' "$registry" >"$dir/Dockerfile"
must_fail "$dir"
check_contains "said so" "$out" "nested deeper than"
alive "an image config"

say "a frontend image's config"
printf '# syntax=%s/deep\nFROM scratch\n' "$registry" >"$dir/Dockerfile"
must_fail "$dir"
check_contains "said so" "$out" "nested deeper than"
alive "a frontend image's config"

say "a cache to import"
printf 'FROM %s/library/busybox\nRUN true\n' "$registry" >"$dir/Dockerfile"
build "$dir" --import-cache "type=registry,ref=$registry/deep"
alive "a cache to import"

say "an option of a frontend"
deep '[' ']' >"$scratch/option"
printf 'FROM scratch\nCOPY Dockerfile /\n' >"$dir/Dockerfile"
must_fail "$dir" --opt "cache-imports=$(head -c 100000 "$scratch/option")"
alive "an option of a frontend"

say "a client's own files"
printf 'FROM scratch\nCOPY Dockerfile /\n' >"$dir/Dockerfile"
deep '{"rules":' '}' >"$scratch/policy.json"
must_fail "$dir" --source-policy-file "$scratch/policy.json"
check_contains "the file is named" "$out" "policy.json"
deep '{"auths":' '}' >"$DOCKER_CONFIG/config.json"
must_build "$dir"
check_contains "a warning" "$out" "Error loading config file"
rm "$DOCKER_CONFIG/config.json"

say "a Dockerfile's own JSON"
{ printf 'FROM %s/library/busybox\nCMD ' "$registry"; deep '' ''; echo; } >"$dir/Dockerfile"
build "$dir"
alive "a Dockerfile's own JSON"
{ deep '{"syntax":' '}'; } >"$dir/Dockerfile"
build "$dir"
alive "a Dockerfile that is JSON"
