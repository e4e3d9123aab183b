#!/usr/bin/env bash
# Prepare the data of a recipe; --help lists the options. The work is in zipasr/cli/stages.py.
set -euo pipefail
started_in=$PWD
cd "$(dirname "$0")"
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || {
  echo "prepare.sh: $python is no Python 3.10 or newer. Fix: PYTHON=python3.11 ./prepare.sh" >&2
  exit 2
}
exec "$python" -m local.prepare "$started_in" "$@"
