#!/usr/bin/env bash
# From nothing to a word error rate: install, synthesise, prepare, train, decode, report.
# Run it again: only what is missing is done. Flags are passed on to train.py.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_WAIT_POLICY=PASSIVE # spinning threads would steal the core of the other process

local/install.sh requirements.txt egs/espeak/requirements.txt
python=${VENV:-.venv}/bin/python
SECONDS=0
PYTHON=$python ./prepare.sh --recipe espeak

cores=$(getconf _NPROCESSORS_ONLN)
world=$((cores < 2 ? 1 : 2)) # two one-thread processes are faster than one with two threads
if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then world=1; fi

"$python" train.py --recipe espeak --world-size "$world" "$@"
"$python" decode.py --recipe espeak --decoding-method greedy_search --calibrate 1
"$python" decode.py --recipe espeak --decoding-method modified_beam_search --calibrate 1
echo
echo "done in $((SECONDS / 60)) min $((SECONDS % 60)) s, installation apart"
echo "model and checkpoints   exp/espeak/*.pt"
echo "curves                  .venv/bin/tensorboard --logdir exp/espeak/tensorboard"
echo "transcripts and errors  exp/espeak/greedy_search, exp/espeak/modified_beam_search"
