#!/usr/bin/env bash
# Prepare the data of a recipe: numbered stages, each done once and marked; run again to go on.
set -euo pipefail
started_in=$PWD
cd "$(dirname "$0")"

usage() {
  cat <<'USAGE'
usage: ./prepare.sh [--recipe NAME] [--stage N] [--stop-stage N] [OPTIONS]
       ./prepare.sh [--recipe NAME] --from PATH [--encoding NAME] [OPTIONS]      speech of your own

  --recipe NAME      a folder in egs (default: espeak, speech made on this machine)
  --stage N          first stage (default 1, or what the recipe says)
  --stop-stage N     last stage (default 4, or what the recipe says)
  --num-jobs N       processes that work side by side (default: the number of cores)
  --vocab-size N     tokens of the vocabulary, kept in a folder lang_bpe_N of its own
  --dl-dir DIR       where downloads are, and where they go (default: download)
  --giga-dir DIR     GigaSpeech: where your copy is (default: GigaSpeech in --dl-dir)
  --mirror URL       server to download from, instead of the publisher's
  --keep-archives 0  delete each archive when it is unpacked
  --full-libri 0     LibriSpeech: train on the 100 clean hours alone
  --mini-libri 1     LibriSpeech: the five hours of mini LibriSpeech
  --from PATH        a table (.tsv or .csv with the columns audio and text; id, start, end, speaker,
                     split if known), a folder of sound files with .txt files of the same names, a
                     Kaldi data directory, or lhotse manifests. Any rate, any channels. Writes
                     egs/NAME/recipe.toml (NAME: my, unless given), then does the stages
  --encoding NAME    of the text in PATH, if it is not UTF-8
  --force            do the stages again even where they are marked as done
  --dry-run          say what would be done and what it needs, and end
  --status           say which stages are done, and end

stages
  0  download   archives of a published corpus -> --dl-dir, checked and unpacked
  1  corpus     audio and transcripts -> data/NAME/manifests
  2  features   manifests -> 80-bin fbank in data/NAME/fbank, noise included
  3  tokenizer  training transcripts -> the folder --lang-dir of the recipe (data/NAME/lang_bpe_SIZE)
  4  validate   checks manifests and features, reports what training would drop and why
  5  lm         text for a language model -> data/NAME/lm

A finished stage leaves a mark in data/NAME/.done; remove the mark (or use --force) to do it again.
USAGE
}

die() {
  echo "prepare.sh: $1" >&2
  exit 2
}

recipe='' from='' encoding='' stage='' stop_stage='' force=false dry_run=false status=false
vocab_size='' dl_dir=download giga_dir='' mirror='' keep_archives=1 full_libri=1 mini_libri=0
num_jobs=$(getconf _NPROCESSORS_ONLN)
while [ $# -gt 0 ]; do
  case "$1" in
    --help | -h) usage; exit 0 ;;
    --force | --dry-run | --status)
      name=${1#--} && printf -v "${name//-/_}" true
      shift
      continue
      ;;
    --recipe | --stage | --stop-stage | --num-jobs | --vocab-size | --from | --encoding) ;;
    --dl-dir | --giga-dir | --mirror | --keep-archives | --full-libri | --mini-libri) ;;
    *) die "unknown option $1. Fix: ./prepare.sh --help lists the options." ;;
  esac
  [ $# -ge 2 ] || die "$1 needs a value."
  name=${1#--} && printf -v "${name//-/_}" '%s' "$2"
  shift 2
done
recipe=${recipe:-$([ -n "$from" ] && echo my || echo espeak)}
case "$recipe" in
  */*) folder=$recipe ;;
  *) folder=egs/$recipe ;;
esac

python=${PYTHON:-python3}
find_packages="import sys, importlib.util as u
sys.exit(not (u.find_spec('torch') and u.find_spec('lhotse')))"
need_packages() {
  "$python" -c "$find_packages" ||
    die "$python lacks packages. Fix: local/install.sh requirements.txt && source .venv/bin/activate"
}

[ -z "$encoding" ] || [ -n "$from" ] || die "--encoding is about the text of --from PATH."
if [ -n "$from" ] && [ "$status$dry_run" = falsefalse ]; then
  need_packages
  case "$from" in # a relative path counts from where the script was started
    /*) ;;
    *) [ "$started_in" = "$PWD" ] || from=$started_in/$from ;;
  esac
  "$python" -m local.import_corpus --recipe "$recipe" --from "$from" --num-jobs "$num_jobs" \
    ${encoding:+--encoding "$encoding"}
fi
[ -f "$folder/recipe.toml" ] || die "no recipe '$recipe': $folder/recipe.toml does not exist; egs has:\
$(for file in egs/*/recipe.toml; do printf ' %s' "$(basename "$(dirname "$file")")"; done)."

# The recipe says which stages it has: stages = [FIRST, LAST].
own_stages=$(sed -n 's/^stages *= *\[ *\([0-9]\) *, *\([0-9]\) *\].*/\1 \2/p' "$folder/recipe.toml")
read -r first last <<<"${own_stages:-1 4}"
stage=${stage:-$first}
for number in "$stage" "${stop_stage:-0}" "$num_jobs" "${vocab_size:-0}"; do
  [[ $number =~ ^[0-9]+$ ]] || die "expected a whole number, got '$number'."
done
stop_stage=${stop_stage:-$((stage > last ? stage : last))}
[ "$stop_stage" -le 5 ] && [ "$stop_stage" -ge "$stage" ] ||
  die "there is nothing to do from stage $stage to stage $stop_stage. Fix: the stages are 0 to 5."

# A subset has marks of its own.
subset='' choice=()
case "$full_libri" in
  1 | true | True | yes) ;;
  0 | false | False | no) subset=-clean-100 choice=(--full-libri 0) ;;
  *) die "expected 1 or 0 after --full-libri, got '$full_libri'." ;;
esac
case "$mini_libri" in
  1 | true | True | yes) subset=-mini-libri choice=(--mini-libri 1) ;;
  0 | false | False | no) ;;
  *) die "expected 1 or 0 after --mini-libri, got '$mini_libri'." ;;
esac

data=data/$(basename "$folder")
marks=$data/.done$subset
places=(--dl-dir "$dl_dir")
sizes=() vocabulary=()
if [ -n "$vocab_size" ]; then
  lang=$data/lang_bpe_$vocab_size$subset
  sizes=(--vocab-size "$vocab_size" --lang-dir "$lang")
  vocabulary=(--bpe-model "$lang/bpe.model")
fi

# The mark of a stage; another vocabulary is other work.
mark_of() {
  case "$1" in
    3 | 4) echo "$marks/$1${vocab_size:+-$vocab_size}" ;;
    *) echo "$marks/$1" ;;
  esac
}

# What the recipe says about the time and the disk of a stage, under [needs].
needs_of() {
  sed -n '/^\[needs'"${subset:+\\.${subset#-}}"'\]/,/^\[/s/^'"$1"' *= *"\(.*\)".*/\1/p' \
    "$folder/recipe.toml"
}

# run_stage NUMBER "what it does" OUTPUT COMMAND...
run_stage() {
  local number=$1 what=$2 output=$3 mark needs
  shift 3
  mark=$(mark_of "$number") needs=$(needs_of "$number")
  [ -z "$needs" ] || what="${what% (*)}; needs $needs"
  if [ "$status" = true ]; then
    if [ -f "$mark" ]; then
      echo "stage $number: done $(date -r "$mark" '+%Y-%m-%d %H:%M'), see $output"
    elif [ "$number" -ge "$first" ] && [ "$number" -le "$last" ]; then
      echo "stage $number: to do: $what"
    fi
    return 0
  fi
  if [ "$number" -lt "$stage" ] || [ "$number" -gt "$stop_stage" ]; then
    return 0
  fi
  if [ "$force" = false ] && [ -f "$mark" ]; then
    echo "stage $number: done before, see $output"
    return 0
  fi
  if [ "$dry_run" = true ]; then
    echo "stage $number: would do: $what"
    return 0
  fi
  if [ "$number" -gt 1 ] && [ ! -f "$(mark_of $((number - 1)))" ]; then
    die "stage $number needs what stage $((number - 1)) makes. Fix: run stage $((number - 1)) first:\
 ./prepare.sh --recipe $recipe${choice[*]:+ ${choice[*]}} --stage $((number - 1))"
  fi
  need_packages
  mkdir -p "$marks"
  local later
  for later in 0 1 2 3 4 5; do # what was made from the old output is out of date
    [ "$later" -lt "$number" ] || rm -f "$(mark_of "$later")"
  done
  echo "stage $number: $what"
  local begun=$SECONDS
  "$python" -m "$@" --recipe "$recipe" ${choice[@]+"${choice[@]}"}
  touch "$mark"
  echo "stage $number: took $((SECONDS - begun)) s, wrote $output ($(du -sh "$output" | cut -f1))"
}

run_stage 0 "download, check and unpack the corpus" "$dl_dir" \
  local.download_corpus "${places[@]}" --keep-archives "$keep_archives" ${mirror:+--mirror "$mirror"}
run_stage 1 "corpus -> manifests" "$data/manifests" \
  local.prepare_corpus --num-jobs "$num_jobs" "${places[@]}" ${giga_dir:+--giga-dir "$giga_dir"}
run_stage 2 "manifests -> fbank features (about 5 s an hour of speech and core)" "$data/fbank" \
  local.compute_fbank --num-jobs "$num_jobs"
run_stage 3 "training transcripts -> tokenizer (seconds)" "$data" \
  local.train_bpe "${places[@]}" ${sizes[@]+"${sizes[@]}"}
run_stage 4 "check everything, report what would be dropped (seconds)" "$data" \
  local.validate_data ${vocabulary[@]+"${vocabulary[@]}"}
run_stage 5 "text for a language model" "$data/lm$subset" local.prepare_lm_text "${places[@]}"

if [ -n "$from" ] && [ "$stop_stage" -ge 4 ] && [ "$status$dry_run" = falsefalse ]; then
  cat <<NEXT
next: ./train.py --recipe $recipe --dry-run 1      what the training will take
      ./train.py --recipe $recipe --world-size 1   train; run it again to go on
      ./decode.py --recipe $recipe                 word error rates of the test sets
NEXT
fi
