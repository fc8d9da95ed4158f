#!/usr/bin/env bash
# Several outputs of one build: each gets its own image, and under its own name.
. "$(dirname "$0")/lib.sh"
start_registry
start_kilnd
dir=$scratch/app
mkdir "$dir"
echo text >"$dir/file"
printf 'FROM scratch\nCOPY file /file\n' >"$dir/Dockerfile"

index_of() { jq -r "$2" "$1/index.json"; }
# The directory's index must name a manifest that is in it, of OCI types, under that name.
check_directory() {  # check_directory DESCRIPTION DIRECTORY NAME
  local digest
  digest=$(index_of "$2" '.manifests[0].digest')
  check_same "$1: manifests" "$(index_of "$2" '.manifests | length')" 1
  check "$1: the manifest is there" [ -f "$2/blobs/sha256/${digest#sha256:}" ]
  check_same "$1: its type" "$(jq -r .mediaType "$2/blobs/sha256/${digest#sha256:}")" \
    application/vnd.oci.image.manifest.v1+json
  check_same "$1: the type in the index" "$(index_of "$2" '.manifests[0].mediaType')" \
    application/vnd.oci.image.manifest.v1+json
  check_same "$1: the name" "$(index_of "$2" '.manifests[0].annotations["io.containerd.image.name"] // "none"')" "$3"
  check "$1: skopeo reads it" skopeo inspect --raw "oci:$2" >/dev/null
}

# Whatever the order; the pushed image has other types, hence another digest.
image="type=image,name=$registry/some/image:tag,push=true,oci-mediatypes=false"
round=0
for order in "oci image" "image oci"; do
  for name in "" ",name=example.com/mine:1"; do
    round=$((round + 1))
    layout=$scratch/layout$round
    outputs=()
    for output in $order; do
      case $output in
        oci) outputs+=(--output "type=oci,tar=false,dest=$layout$name") ;;
        image) outputs+=(--output "$image") ;;
      esac
    done
    must_build "$dir" "${outputs[@]}" --metadata-file "$scratch/metadata"
    wanted=${name#,name=}
    check_directory "$order$name" "$layout" "${wanted:-none}"
    check_same "$order$name: the pushed image's type" \
      "$(skopeo inspect --raw --tls-verify=false "docker://$registry/some/image:tag" | jq -r .mediaType)" \
      application/vnd.docker.distribution.manifest.v2+json
  done
done

# All kinds at once.
layout=$scratch/layout-all
must_build "$dir" --output "type=docker,dest=$scratch/docker.tar,name=example.com/docker:2" \
  --output "type=oci,tar=false,dest=$layout" --output "type=oci,dest=$scratch/oci.tar,name=example.com/oci:3" \
  --output "type=local,dest=$scratch/tree" --output "type=tar,dest=$scratch/tree.tar" --output "$image"
check_directory "all kinds" "$layout" none
check_same "the docker archive's tag" "$(tar -xOf "$scratch/docker.tar" manifest.json | jq -r '.[0].RepoTags[0]')" example.com/docker:2
check_same "the OCI archive's name" \
  "$(tar -xOf "$scratch/oci.tar" index.json | jq -r '.manifests[0].annotations["io.containerd.image.name"]')" example.com/oci:3
check_same "the tree" "$(cat "$scratch/tree/file")" text
check_same "the tar" "$(tar -xOf "$scratch/tree.tar" file)" text
stop_kilnd
