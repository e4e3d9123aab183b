#!/usr/bin/env bash
# Run the tests as processors with other instructions round, and with other numbers of threads: a
# test that fails in one of these runs hangs on rounding. Not part of tests/run.sh: it takes about
# twice as long. Flags go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."

# What each run sets: instructions of torch, of its matrix products, of compiled loops; threads.
machines=(
  "ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 NUMBA_CPU_NAME=generic OMP_NUM_THREADS=4"
  "ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 NUMBA_CPU_NAME=generic OMP_NUM_THREADS=1"
)
status=0
for machine in "${machines[@]}"; do
  # Loops that were compiled for another processor are not taken from the cache.
  cache=$(mktemp -d)
  read -ra settings <<< "$machine"
  echo "== $machine"
  if env "${settings[@]}" NUMBA_CACHE_DIR="$cache" tests/run.sh "$@"; then
    echo "== passed: $machine"
  else
    echo "== FAILED: $machine" >&2
    status=1
  fi
  rm -rf "$cache"
done
exit $status
