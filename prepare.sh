#!/usr/bin/env bash
# Prepare the data of a recipe: numbered stages, each done once and marked; run again to go on.
set -euo pipefail
cd "$(dirname "$0")"

usage() {
  cat <<'USAGE'
usage: ./prepare.sh [--recipe NAME] [--stage N] [--stop-stage N] [--num-jobs N] [--force]

  --recipe NAME    a folder in egs (default: espeak, speech made on this machine)
  --stage N        first stage (default 1)
  --stop-stage N   last stage (default 4)
  --num-jobs N     processes that work side by side (default: the number of cores)
  --force          do the stages again even where they are marked as done

stages
  1  corpus     audio and transcripts -> data/NAME/manifests
  2  features   manifests -> 80-bin fbank in data/NAME/fbank
  3  tokenizer  training transcripts -> the folder --lang-dir of the recipe (data/NAME/lang_bpe_SIZE)
  4  validate   checks manifests and features, reports what training would drop and why

A finished stage leaves a mark in data/NAME/.done; remove the mark (or use --force) to do it again.
USAGE
}

die() {
  echo "prepare.sh: $1" >&2
  exit 2
}

recipe=espeak stage=1 stop_stage=4 force=false
num_jobs=$(getconf _NPROCESSORS_ONLN)
while [ $# -gt 0 ]; do
  case "$1" in
    --help | -h) usage; exit 0 ;;
    --force) force=true; shift; continue ;;
    --recipe | --stage | --stop-stage | --num-jobs) ;;
    *) die "unknown option $1. Fix: ./prepare.sh --help lists the options." ;;
  esac
  [ $# -ge 2 ] || die "$1 needs a value."
  name=${1#--} && printf -v "${name//-/_}" '%s' "$2"
  shift 2
done
for number in "$stage" "$stop_stage" "$num_jobs"; do
  [[ $number =~ ^[0-9]+$ ]] || die "expected a whole number, got '$number'."
done
[ "$stage" -ge 1 ] && [ "$stage" -le 4 ] && [ "$stop_stage" -ge "$stage" ] ||
  die "there is nothing to do from stage $stage to stage $stop_stage. Fix: the stages are 1 to 4."
case "$recipe" in
  */*) folder=$recipe ;;
  *) folder=egs/$recipe ;;
esac
[ -f "$folder/recipe.toml" ] || die "no recipe '$recipe': $folder/recipe.toml does not exist; egs has:\
$(for file in egs/*/recipe.toml; do printf ' %s' "$(basename "$(dirname "$file")")"; done)."

python=${PYTHON:-python3}
data=data/$(basename "$folder")
marks=$data/.done
find_packages="import sys, importlib.util as u
sys.exit(not (u.find_spec('torch') and u.find_spec('lhotse')))"
mkdir -p "$marks"

# run_stage NUMBER "what it does" OUTPUT COMMAND...
run_stage() {
  local number=$1 what=$2 output=$3
  shift 3
  if [ "$number" -lt "$stage" ] || [ "$number" -gt "$stop_stage" ]; then
    return 0
  fi
  if [ "$force" = false ] && [ -f "$marks/$number" ]; then
    echo "stage $number: done before, see $output"
    return 0
  fi
  if [ "$number" -gt 1 ] && [ ! -f "$marks/$((number - 1))" ]; then
    die "stage $number needs what stage $((number - 1)) makes. Fix: run stage $((number - 1)) first:\
 ./prepare.sh --recipe $recipe --stage $((number - 1))"
  fi
  "$python" -c "$find_packages" ||
    die "$python lacks packages. Fix: local/install.sh requirements.txt && source .venv/bin/activate"
  local later
  for later in 1 2 3 4; do # what was made from the old output is out of date
    [ "$later" -lt "$number" ] || rm -f "$marks/$later"
  done
  echo "stage $number: $what"
  local begun=$SECONDS
  "$python" -m "$@" --recipe "$recipe"
  touch "$marks/$number"
  echo "stage $number: took $((SECONDS - begun)) s, wrote $output ($(du -sh "$output" | cut -f1))"
}

run_stage 1 "corpus -> manifests (espeak: about a minute)" "$data/manifests" \
  local.prepare_corpus --num-jobs "$num_jobs"
run_stage 2 "manifests -> fbank features (about 5 s an hour of speech and core)" "$data/fbank" \
  local.compute_fbank --num-jobs "$num_jobs"
run_stage 3 "training transcripts -> tokenizer (seconds)" "$data" local.train_bpe
run_stage 4 "check everything, report what would be dropped (seconds)" "$data" local.validate_data
