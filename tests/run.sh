#!/usr/bin/env bash
# Install what is missing, then check style, types, floors and behaviour. Flags go to pytest.
# JOBS is the number of processes that test side by side; files begin in their order, so that the
# trainings of end_to_end do not wait for the end.
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
local/install.sh requirements.txt egs/espeak/requirements.txt export-requirements.txt \
  dask-requirements.txt tests/requirements.txt
bin=${VENV:-.venv}/bin
"$bin/ruff" format --check .
"$bin/ruff" check .
"$bin/mypy"
"$bin/lint-imports"
"$bin/python" -m pytest -n "${JOBS:-2}" --dist loadfile --no-loadscope-reorder "$@"
