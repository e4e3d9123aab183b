#!/usr/bin/env bash
# From nothing to a word error rate: install, synthesise, prepare, train, decode, report.
# Run it again: only what is missing is done. --demo as the first flag takes a few minutes: digits and
# a smaller model (egs/digits). Flags are passed on to train.py.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_WAIT_POLICY=PASSIVE # spinning threads would steal the core of the other process

recipe=espeak
if [ "${1-}" = --demo ]; then
  recipe=digits
  shift
fi
local/install.sh requirements.txt egs/espeak/requirements.txt
python=${VENV:-.venv}/bin/python
SECONDS=0
PYTHON=$python ./prepare.sh --recipe "$recipe"

cores=$(getconf _NPROCESSORS_ONLN)
world=$((cores < 2 ? 1 : 2)) # two one-thread processes are faster than one with two threads
if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then world=1; fi
if [ "$recipe" = digits ]; then world=1; fi # as many updates as its settings are for

"$python" train.py --recipe "$recipe" --world-size "$world" "$@"
"$python" decode.py --recipe "$recipe" --decoding-method greedy_search --calibrate 1
"$python" decode.py --recipe "$recipe" --decoding-method modified_beam_search --calibrate 1
echo
echo "done in $((SECONDS / 60)) min $((SECONDS % 60)) s, installation apart"
echo "model and checkpoints   exp/$recipe/*.pt"
echo "report                  exp/$recipe/report.html"
echo "curves                  .venv/bin/tensorboard --logdir exp/$recipe/tensorboard"
echo "transcripts and errors  exp/$recipe/greedy_search, exp/$recipe/modified_beam_search"
