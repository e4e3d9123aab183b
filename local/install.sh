#!/usr/bin/env bash
# Make the virtual environment .venv and install requirement files into it, unless that was done.
# usage: local/install.sh FILE...        (PYTHON chooses the interpreter, VENV the folder)
# CONSTRAINTS names the file of exact versions; CONSTRAINTS= takes whatever the requirement files
# allow: what is installed and fits stays, the rest is the newest.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}
constraints=${CONSTRAINTS-constraints.txt}
arguments=()
if [ -n "$constraints" ]; then
  [ -f "$constraints" ] || {
    echo "install.sh: there is no file $constraints. Fix: CONSTRAINTS=FILE, or CONSTRAINTS= for none" >&2
    exit 2
  }
  arguments=(-c "$constraints")
fi
versions=$(cat /dev/null ${constraints:+"$constraints"} | cksum | cut -d' ' -f1)
stamp="$venv/.installed-$versions-$(cat "$@" | cksum | cut -d' ' -f1)"
[ -f "$stamp" ] && exit 0
if [ ! -x "$venv/bin/python" ]; then
  "${PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    { echo "install.sh: Python 3.10 or newer is needed. Fix: PYTHON=python3.11 egs/espeak/run.sh" >&2; exit 2; }
  echo "making the virtual environment $venv"
  "${PYTHON:-python3}" -m venv "$venv" || {
    rm -rf "$venv" # half an environment would be taken for a whole one
    echo "install.sh: no virtual environment could be made. Fix: install Python's venv module" \
      "(Debian: apt install python3-venv), or choose another interpreter with PYTHON=..." >&2
    exit 2
  }
fi
echo "installing $* into $venv (once; torch is a download of several GB)"
for file in "$@"; do arguments+=(-r "$file"); done
# What was installed with other versions is no longer what its stamp says.
find "$venv" -maxdepth 1 -name '.installed-*' ! -name ".installed-$versions-*" -delete
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check "${arguments[@]}"
touch "$stamp"
