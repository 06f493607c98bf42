#!/usr/bin/env bash
# From a trained checkpoint to what ships: bundle, report, reference answers. Run it again after a stop, it goes on.
#
#   models/nano/ship.sh CHECKPOINT WORK OUT        e.g. runs/nano/checkpoint runs/nano models/nano
#
# WORK/ship-<hash of the checkpoint>/ holds everything found on the way, WORK/bench/ the sim bench. OUT gets checkpoint/,
# bundle/, report.json and reference.answers.*, and the figures in its README.md, all at the end.
#   COUNTS=10,8,6 DEPTH_COUNT=20    a smaller bench, for trying this out
set -euo pipefail

if [[ $# -ne 3 ]]; then
  sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
checkpoint=$1 work=$2 out=$3
max_mb=80

step() { printf '\n== %s (%d s so far)\n' "$*" "$SECONDS" >&2; "$@"; }

hash=$(cd "$checkpoint" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c1-12)
found=$work/ship-$hash
bench=$work/bench${COUNTS:+-$COUNTS}
mkdir -p "$found"

# A bundle is complete or absent.
[[ -f $found/fp/manifest.json ]] || step roborefer-edge export "$checkpoint" "$found/fp" --name nano-fp
[[ -f $found/nano/manifest.json ]] ||
  step roborefer-edge quantize "$found/fp" "$found/nano" --recipe cpu-int8 --name nano

size_mb=$(du -cm "$checkpoint" "$found/nano" | tail -1 | cut -f1)
if ((size_mb > max_mb)); then
  echo "checkpoint and bundle take $size_mb MB, at most $max_mb may ship" >&2
  exit 6
fi

for set in main noisy; do
  step roborefer-edge train simulate --bench "$bench/$set" --set "$set" ${COUNTS:+--count "$COUNTS"}
done
step roborefer-edge train simulate --bench "$bench/depth" --set depth ${DEPTH_COUNT:+--count "$DEPTH_COUNT"}

ask() { # NAME SET FLAGS...: report and answers in $found/NAME
  step roborefer-edge bench accuracy "$bench/$2" --out "$found/$1" --by noun "${@:3}" >&2
}
for modality in rgbd rgb; do
  ask "reference-$modality" main --bundle "$found/fp" --modality "$modality"
  ask "bundle-$modality" main --bundle "$found/nano" --modality "$modality"
  ask "depth-$modality" depth --bundle "$found/nano" --modality "$modality"
done
ask noisy-rgbd noisy --bundle "$found/nano" --modality rgbd
ask blank main --baseline blank --bundle "$found/nano"
ask centre main --baseline centre
ask random-object main --baseline random-object

compare() { # NAME REFERENCE SUBJECT SET: "worse" is a finding, not a failure
  local code=0
  step roborefer-edge bench compare "$found/$2/answers.jsonl" "$found/$3/answers.jsonl" --data "$bench/$4" --json \
    >"$found/.$1.partial" || code=$?
  ((code == 0 || code == 6)) || exit "$code"
  tail -1 "$found/.$1.partial" >"$found/$1.json"
  rm "$found/.$1.partial"
}
compare compare-quantized reference-rgbd bundle-rgbd main
compare compare-depth depth-rgb depth-rgbd depth

card=()
[[ -f $out/README.md ]] && card=(--card "$out/README.md")
step python -m bench.nano_report "$found" "$found/report.json" "${card[@]}"

put() { # FILE_OR_FOLDER NAME: whole or not at all, but for the moment between two renames
  rm -rf "$out/.$2.new" "$out/.$2.old"
  cp -r "$1" "$out/.$2.new"
  [[ ! -e $out/$2 ]] || mv "$out/$2" "$out/.$2.old"
  mv "$out/.$2.new" "$out/$2"
  rm -rf "$out/.$2.old"
}
mkdir -p "$out"
[[ $checkpoint -ef $out/checkpoint ]] || put "$checkpoint" checkpoint
put "$found/nano" bundle
put "$found/report.json" report.json
put "$found/reference-rgbd/answers.jsonl" reference.answers.jsonl
put "$found/reference-rgbd/answers.about.json" reference.answers.about.json
echo "shipped to $out: $size_mb MB of at most $max_mb" >&2
