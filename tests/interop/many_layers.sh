#!/usr/bin/env bash
# More layers than the kernel stacks: 700 steps on each other, as many merged, and an image of them pulled again.
. "$(dirname "$0")/lib.sh"
start_registry
push_image "$(busybox_tar)" library/busybox:latest
kilnd_config="[registry.\"docker.io\"]
mirrors = [\"$registry\"]"
start_kilnd
dir=$scratch/app
mkdir -p "$dir/files"
for i in $(seq 700); do echo "file $i" >"$dir/files/$i"; done

# The last word on `shared` has the last step; every tenth is a RUN, which sees what all before it did.
{
  echo 'FROM busybox'
  for i in $(seq 700); do
    if [ $((i % 10)) -eq 0 ]; then echo "RUN cat /made/$((i - 1)) > /made/$i && rm /made/$((i - 1)) && echo $i > /shared"
    else echo "COPY files/$i /made/$i"; fi
  done
} >"$dir/Dockerfile"
must_build "$dir" --output type=local,dest="$scratch/chain" --output "type=image,name=$registry/many:chain,push=true"
check_same "files of the chain" "$(find "$scratch/chain/made" -type f | wc -l)" 630
check_same "the last RUN's" "$(cat "$scratch/chain/made/700")" "file 699"
check_same "what it removed" "$(ls "$scratch/chain/made/699" 2>/dev/null)" ""
check_same "the shared file" "$(cat "$scratch/chain/shared")" 700
# More steps on the same ground, cached up to them.
echo 'RUN cat /made/700 /shared > /more' >>"$dir/Dockerfile"
must_build "$dir" --output type=local,dest="$scratch/more"
check_same "the step after them" "$(tr '\n' ' ' <"$scratch/more/more")" "file 699 700 "

# Pulled by a daemon that has none of it.
kilnctl prune --all >/dev/null
printf 'FROM %s/many:chain\nRUN ls /made | wc -l > /count; cat /shared >> /count; rm /made/1\n' "$registry" >"$dir/Dockerfile"
must_build "$dir" --output type=local,dest="$scratch/pulled"
check_same "what the pulled image shows" "$(tr '\n' ' ' <"$scratch/pulled/count")" "630 700 "
check "what the step removed" [ ! -e "$scratch/pulled/made/1" ]
check_same "the rest" "$(diff -r "$scratch/chain/made" "$scratch/pulled/made" | grep -cv ': 1$' || true)" 0

# As many independent layers, merged.
{
  echo 'FROM busybox'
  for i in $(seq 600); do echo "COPY --link files/$i /made/$i"; done
  echo 'RUN ls /made | wc -l > /count'
} >"$dir/Dockerfile"
must_build "$dir" --output type=local,dest="$scratch/merged"
check_same "what the merged step sees" "$(cat "$scratch/merged/count")" 600
check_same "files of the merge" "$(cat "$scratch/merged"/made/* | sort -k 2n | sed -n '600p')" "file 600"

kilnctl prune --all >/dev/null
check_same "what is left" "$(kilnctl du | sed -n 's/^Total:[[:space:]]*//p')" "0B"
stop_kilnd
