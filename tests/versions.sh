#!/usr/bin/env bash
# Run the tests that are not slow with the oldest and the newest versions that the requirements
# allow, each in an environment of its own under VERSIONS_DIR (two times 6 GB). Flags go to pytest.
# usage: tests/versions.sh [oldest|newest] [FLAG...]
# OLDEST_PYTHON and NEWEST_PYTHON choose the interpreters; JOBS is the number of processes.
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=1
folder=${VERSIONS_DIR:-.venv-versions}
names=(oldest newest)
case ${1:-} in oldest | newest) names=("$1"); shift ;; esac
files=(requirements.txt egs/espeak/requirements.txt export-requirements.txt dask-requirements.txt
  tests/requirements.txt)
mkdir -p "$folder"
# The lower bounds of what users install, of torchaudio, which belongs to one torch, and of
# pymdown-extensions, whose newest the mkdocstrings of Python 3.10 does not know; other tools of the
# tests are the newest.
{
  cat requirements.txt egs/espeak/requirements.txt export-requirements.txt
  grep -E '^(torchaudio|pymdown)' tests/requirements.txt
} | sed -n 's/ *[;#].*//; s/>=/==/p' >"$folder/oldest.txt"

for name in "${names[@]}"; do
  if [ "$name" = oldest ]; then
    python=${OLDEST_PYTHON:-python3.10} constraints=$folder/oldest.txt
  else
    python=${NEWEST_PYTHON:-python3.13} constraints=
  fi
  PYTHON=$python VENV=$folder/$name CONSTRAINTS=$constraints local/install.sh "${files[@]}"
  bin=$folder/$name/bin
  "$bin/python" -c 'import sys, torch; print("Python", sys.version.split()[0], "torch", torch.__version__)'
  "$bin/python" -m pytest -n "${JOBS:-2}" -m "not slow" --dist loadfile --no-loadscope-reorder "$@"
done
