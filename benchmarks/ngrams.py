"""Reading of ARPA files, their size in memory, and opening what the first reading left.

Run from the repository root:

    OMP_NUM_THREADS=1 taskset -c 1 python -m benchmarks.ngrams
    OMP_NUM_THREADS=1 taskset -c 1 python -m benchmarks.ngrams --counts 7000000,7000000,6000000

Random n-grams, of which frequent words have more, are written as an ARPA file and read in a process
of its own: as text, and from the arrays that this leaves. ``--kenlm-python`` names an interpreter
that has KenLM (``pip install kenlm``), whose reading of the same file into memory is the peer.
Times are of the wall and of the processor; memory is the peak above what the process had with
everything imported, and the arrays themselves.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zipasr.lm.arpa import write_arpa
from zipasr.lm.ngram import END, NEVER, START, UNKNOWN, NgramLm, Ngrams
from zipasr.lm.ngram_levels import ngram_lm

_TIMED = """
import json, sys, time
from pathlib import Path
def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
{imported}
before, wall, cpu = peak(), time.perf_counter(), time.process_time()
model = {read}
took = [time.perf_counter() - wall, time.process_time() - cpu, peak() - before]
print(json.dumps([*took, {size}]))
"""
_OURS = {
    "imported": "import numba\nfrom zipasr.lm.ngram_file import open_ngrams",
    "read": "open_ngrams(Path(sys.argv[1]))",
    "size": "sum(a.nbytes for a in vars(model).values() if hasattr(a, 'nbytes'))",
}
_KENLM = {"imported": "import kenlm", "read": "kenlm.Model(sys.argv[1])", "size": "0"}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--words", type=int, default=200_000, help="single words")
    parser.add_argument("--counts", default="1000000,1000000", help="2-grams, 3-grams and so on")
    parser.add_argument("--kenlm-python", help="interpreter that has KenLM")
    args = parser.parse_args(argv)
    counts = tuple(map(int, args.counts.split(",")))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "g.arpa"
        model = random_ngrams([f"W{n}" for n in range(args.words)], counts)
        num = len(model.keys)
        write_arpa(path, model)
        del model
        print(f"{num / 1e6:.1f} M n-grams, {path.stat().st_size / 1e6:.0f} MB")
        times = {"ours, text": timed(sys.executable, _OURS, path)}
        times["ours, arrays"] = timed(sys.executable, _OURS, path)
        if args.kenlm_python:
            times["KenLM, text"] = timed(args.kenlm_python, _KENLM, path)
    for name, (wall, cpu, peak, size) in times.items():
        ratio = times["KenLM, text"][1] / cpu if args.kenlm_python else float("nan")
        print(f"{name:14}{wall:8.2f} s wall {cpu:8.2f} s cpu {peak:8.0f} MiB peak", end="")
        print(f"{size / num:6.1f} bytes an n-gram, KenLM / this {ratio:.2f}")


def timed(python: str, code: dict[str, str], path: Path) -> list[float]:
    """Run a reader in a process of its own: wall, processor, MiB, bytes of arrays."""
    command = [python, "-c", _TIMED.format(**code), str(path)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    took: list[float] = json.loads(done.stdout)
    return took


def random_ngrams(words: Sequence[str], counts: Sequence[int]) -> NgramLm:
    """Draw a model that has about so many 2-grams, 3-grams and so on."""
    draw = np.random.default_rng(0)
    names = [END, START, UNKNOWN, *words]
    ids = np.arange(len(names), dtype=np.int32)[:, None]
    by_length = [_valued(ids, draw)]
    by_length[0].log_probs[1] = NEVER
    for count in counts:
        # What is frequent comes first: words, and the contexts made of them.
        can_begin = ids[ids[:, -1] != 0]
        context = (draw.pareto(0.7, count) * len(can_begin) / 50).astype(np.int64) % len(can_begin)
        word = 2 + (draw.pareto(0.8, count) * 3).astype(np.int64) % (len(names) - 2)
        word[word == 2] = 0
        context, word = np.divmod(np.unique(context * len(names) + word), len(names))
        ids = np.concatenate((can_begin[context], word[:, None].astype(np.int32)), axis=1)
        by_length.append(_valued(ids, draw))
    return ngram_lm(names, by_length)


def _valued(ids: np.ndarray, draw: np.random.Generator) -> Ngrams:
    log_probs = (-0.2 - 5 * draw.random(len(ids))).astype(np.float32)
    weights = np.where(ids[:, -1] == 0, np.nan, -draw.random(len(ids))).astype(np.float32)
    return Ngrams(ids, log_probs, weights)


if __name__ == "__main__":
    main()
