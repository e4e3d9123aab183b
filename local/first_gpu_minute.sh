#!/usr/bin/env bash
# What to run first on a machine with a GPU, in this order: values, then a training, then speed.
# Each step has a limit in seconds; a step that fails or takes longer is told, and the next one runs.
#   local/first_gpu_minute.sh [python]
set -u
cd "$(dirname "$0")/.."
python=${1:-python}
failed=0

step() {
  local limit=$1 title=$2
  shift 2
  printf '\n== %s (at most %s s)\n' "$title" "$limit"
  local begun=$SECONDS
  if timeout "$limit" "$@"; then
    printf '== well, after %s s\n' "$((SECONDS - begun))"
  else
    printf '== FAILED with status %s after %s s: %s\n' "$?" "$((SECONDS - begun))" "$title"
    failed=$((failed + 1))
  fi
}

step 20 "the device" "$python" -c 'import torch
assert torch.cuda.is_available(), "torch sees no GPU"
print(torch.__version__, torch.version.cuda, torch.cuda.get_device_name(), torch.cuda.mem_get_info())'
step 60 "kernels against their definitions" "$python" -c 'import torch
from zipasr.kernels import elementwise
from zipasr.losses import triton_backend
from zipasr.optim import triton_update
from zipasr.search import triton_steps
device = torch.device("cuda", 0)
problems = [check(device) for check in
            (elementwise._problem, triton_backend.self_check, triton_update.self_check,
             triton_steps.self_check)]
print(*problems)
assert problems == [None] * 4'
step 120 "tests that need a GPU" "$python" -m pytest -q -m cuda tests/losses tests/optim tests/nn tests/search
step 60 "a step: values against the CPU, time, waits" "$python" -m benchmarks.device_step --preset small
step 60 "a step of the medium model" "$python" -m benchmarks.device_step --preset medium
step 120 "searches: values against the CPU, time" "$python" -m benchmarks.device_decoding --device cuda --rows 128 --frames 250
exit "$failed"
