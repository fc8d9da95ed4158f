#!/usr/bin/env bash
# What a build says of itself is true: layers are brought to the disk in the name of the step they are of, before the
# step that needs them begins; what was matched by its key alone is CACHED; a cache is imported when something is to be
# looked up in it; provenance tells what steps used.
. "$(dirname "$0")/lib.sh"

start_registry
push_image "$(busybox_tar)" base
kilnd_config='[registry."'$registry'"]
http = true'
start_kilnd

# raw DIR FLAGS…: builds, with the progress as JSON in $scratch/raw.
raw() {
  local dir=$1; shift
  kilnctl build --progress=rawjson --frontend dockerfile.v0 --local context="$dir" --local dockerfile="$dir" "$@" \
    2>"$scratch/raw" >&2 || { cat "$scratch/raw"; fail "the build failed"; }
}
fresh() { stop_kilnd; rm -rf "$state"; start_kilnd; }
# judge CODE: Python over `steps` (name → last told vertex), `first` (names in their order), `statuses` (id, step's name).
judge() {
  python3 - "$scratch/raw" <<PY || { cat "$scratch/raw"; fail "$1"; }
import json, sys
from datetime import datetime
steps, first, named, statuses = {}, [], {}, []
def when(text):  # nanoseconds are more than datetime has
    return text[:26].rstrip("Z")
decoder = json.JSONDecoder()
for line in open(sys.argv[1]):
    line = line.strip()
    if not line.startswith("{"): continue
    told = json.loads(line)
    for v in told.get("vertexes") or []:
        named[v["digest"]] = v["name"]
        if v.get("started") and v["name"] not in first: first.append(v["name"])
        steps.setdefault(v["name"], []).append(v)
    for s in told.get("statuses") or []:
        statuses.append((s["id"], named.get(s["vertex"]), s))
last = {name: all[-1] for name, all in steps.items()}
$2
PY
  checks=$((checks + 1))
}

mkdir "$scratch/app"
cat >"$scratch/app/Dockerfile" <<D
FROM $registry/base
WORKDIR /there
RUN echo one >one
COPY Dockerfile /copied
RUN echo two >two
D

say "layers"
raw "$scratch/app"
judge "layers are of the FROM step, and the step that needs them begins later" '
where = {step for id, step, s in statuses if id.startswith(("extracting ", "sha256:"))}
assert where and all("FROM" in step for step in where), where
pull = last[where.pop()]
assert pull.get("completed"), pull
done = max(when(s["completed"]) for id, step, s in statuses if id.startswith("extracting ") and s.get("completed"))
begun = [v for name, all in steps.items() if "WORKDIR" in name for v in all if v.get("started")]
assert begun and all(when(v["started"]) >= done for v in begun), (begun, done)
assert when(pull["completed"]) >= done, pull
assert pull["name"] and not pull.get("cached"), pull'

say "an imported cache"
raw "$scratch/app" --export-cache type=inline --output "type=image,name=$registry/app:cached,push=true,registry.insecure=true"
fresh
raw "$scratch/app" --import-cache "type=registry,ref=$registry/app:cached"
judge "every step is told to be cached" '
mine = [n for n in last if n.startswith("[") and "internal" not in n and "FROM" not in n]
assert len(mine) == 4, mine
assert all(last[n].get("cached") and last[n].get("completed") for n in mine), {n: last[n] for n in mine}'
judge "the import comes when something is to be looked up" '
at = [i for i, n in enumerate(first) if n.startswith("importing cache manifest")]
assert at and at[0] > 0 and "load build definition" in first[0], first'
# Only the last step is made anew: its base comes from the imported cache, in the name of the steps it is of.
sed -i 's/echo two/echo three/' "$scratch/app/Dockerfile"
fresh
raw "$scratch/app" --import-cache "type=registry,ref=$registry/app:cached"
judge "layers of an imported cache are of the steps that made them" '
where = {step for id, step, s in statuses if id.startswith("extracting ")}
assert where and not any("three" in step for step in where), where
begun = [v for v in steps["[5/5] RUN echo three >two"] if v.get("started")]
done = max(when(s["completed"]) for id, step, s in statuses if id.startswith("extracting ") and s.get("completed"))
assert begun and all(when(v["started"]) >= done for v in begun), (begun, done)'

say "what steps used"
printf 'FROM %s/base\nRUN i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done\n' "$registry" >"$scratch/app/Dockerfile"
must_build "$scratch/app" --opt attest:provenance=mode=max,capture-usage=true,version=v1 --output "type=local,dest=$scratch/out"
check "provenance tells what was used" jq -e '
  .predicate.buildDefinition.internalParameters.buildConfig.llbDefinition
  | map(select(.op.Op.exec)) | .[0].resourceUsage.samples[-1].cpuStat.usageNanos > 1000000' "$scratch/out/provenance.json" >/dev/null
check "of the machine, too" jq -e '.predicate.runDetails.metadata.buildkit_metadata.sysUsage | length > 0' \
  "$scratch/out/provenance.json" >/dev/null
must_build "$scratch/app" --no-cache --opt attest:provenance=mode=max,version=v1 --output "type=local,dest=$scratch/unasked"
check_absent "only where it is asked for" "$(cat "$scratch/unasked/provenance.json")" resourceUsage
stop_kilnd
