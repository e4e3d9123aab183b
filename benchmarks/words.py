"""Search over words (``1best``) against k2, with lexicons and n-grams of many words.

Run from the repository root:

    OMP_NUM_THREADS=1 python -m benchmarks.words --k2-python .venv-k2/bin/python
    OMP_NUM_THREADS=1 python -m benchmarks.words --words 200000 --bigrams 1000000 --trigrams 1000000

``benchmarks.transducer_loss`` says how the environment of k2 is made. Words are random spellings of
500 tokens, n-grams are random ones of which frequent words have more, and the log-probabilities of
a CTC head are sharp at the tokens of sentences that follow the n-grams, with one frame in eight
that is not sure. Both systems have the same beams, 20 and 8, and at most 10000 states; k2 searches
the graph HLG, composed as icefall does. Both run on one thread, in turns. Times are the best of all
repeats in seconds of the processor. What is kept in ``--folder`` is found again by the next run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.ngrams import random_ngrams
from zipasr.lm.arpa import write_arpa
from zipasr.lm.ngram import END, LN10, START, NgramLm
from zipasr.lm.ngram_file import open_ngrams
from zipasr.search.config import LatticeConfig
from zipasr.search.graph_search import CtcAcousticScorer, GraphLimits, graph_search
from zipasr.search.lexicon_graph import WordGraph, word_graph
from zipasr.search.rescoring import BestPath

TOKENS, SCALE, FRAMES_PER_SECOND = 500, 0.6, 25
LIMITS = LatticeConfig()

Lexicon = list[tuple[str, list[int]]]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--words", type=int, default=20_000, help="of the lexicon")
    parser.add_argument("--bigrams", type=int, default=100_000, help="of the grammar")
    parser.add_argument("--trigrams", type=int, default=100_000, help="of the grammar")
    parser.add_argument("--batch", type=int, default=8, help="utterances")
    parser.add_argument("--frames", type=int, default=250, help="of the longest one")
    parser.add_argument("--repeats", type=int, default=3, help="searches, in turns")
    parser.add_argument("--k2-python", help="interpreter that has k2; without it there is no peer")
    parser.add_argument("--folder", type=Path, default=Path("benchmarks/data/words"))
    args = parser.parse_args(argv)

    torch.set_num_threads(1)
    folder = args.folder / f"{args.words}-{args.bigrams}-{args.trigrams}"
    lexicon = random_lexicon(args.words)
    arpa = folder / "g.arpa"
    if not arpa.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_arpa(arpa, random_ngrams([w for w, _ in lexicon], (args.bigrams, args.trigrams)))
    open_ngrams(arpa)  # leaves arrays
    start = time.process_time()
    grammar = open_ngrams(arpa)
    graph = word_graph(lexicon, grammar, SCALE)
    took = time.process_time() - start
    print(
        f"{args.words} words, {len(grammar.keys)} n-grams: graph in {took:.1f} s, {peak_mib()} MiB"
    )
    log_probs, lens = random_sound(grammar, lexicon, args.batch, args.frames)
    if args.k2_python is None:
        times = [(math.nan, time_of(ours(graph), log_probs, lens)) for _ in range(args.repeats + 1)]
    else:
        write_peer(folder, grammar, lexicon, log_probs, lens)
        times = in_turns(args.k2_python, folder, graph, (log_probs, lens), args.repeats)
    theirs, own = (min(column) for column in zip(*times, strict=True))
    rtf = own / int(lens.sum()) * FRAMES_PER_SECOND
    print(f"k2 {theirs:.3f} s, ours {own:.3f} s, RTF {rtf:.5f}, k2 / ours {theirs / own:.2f}")


def in_turns(
    python: str,
    folder: Path,
    graph: WordGraph,
    sound: tuple[torch.Tensor, torch.Tensor],
    repeats: int,
) -> list[tuple[float, float]]:
    """Compare what k2 and we find, and return the times of both."""
    search, number = ours(graph), {word: n for n, word in enumerate(graph.words, start=1)}
    found = search(*sound)
    command = [python, str(Path(__file__).with_name("k2_words.py")), str(folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as peer:
        assert peer.stdin is not None
        assert peer.stdout is not None
        said = json.loads(peer.stdout.readline())
        print(f"k2: HLG of {said['arcs']} arcs, in {said['loading']:.1f} s")
        own = [[number[word] for word in one.words or ()] for one in found]
        gaps = [one.log_prob - score for one, score in zip(found, said["scores"], strict=True)]
        print(f"{sum(map(list.__eq__, own, said['words']))} of {len(own)} the same, ", end="")
        print(f"log-probability above k2's by {min(gaps):.4f} to {max(gaps):.4f}")
        times: list[tuple[float, float]] = []
        for _ in range(repeats):
            peer.stdin.write("\n")
            peer.stdin.flush()
            theirs = json.loads(peer.stdout.readline())
            times.append((theirs, time_of(search, *sound)))
        peer.stdin.close()
    return times


def ours(graph: WordGraph) -> BestPath:
    """The search of the decoding method ``1best``."""
    limits = LIMITS.search_beam, LIMITS.max_active_states
    kept = GraphLimits(*limits, output_beam=LIMITS.output_beam)
    return BestPath(
        lambda log_probs, lens: graph_search(CtcAcousticScorer(log_probs, lens), graph, kept),
        graph.words,
    )


def random_lexicon(num_words: int) -> Lexicon:
    """Words of one to six tokens; some are said alike, and many begin others."""
    draw = np.random.default_rng(1)
    lens = draw.integers(1, 7, num_words) if num_words < 1000 else draw.integers(2, 6, num_words)
    # Frequent tokens come often, as pieces of words do.
    ids = 1 + (draw.pareto(1.0, int(lens.sum())) * 20).astype(int) % (TOKENS - 1)
    parts = np.split(ids, lens.cumsum()[:-1])
    return [(f"W{number}", part.tolist()) for number, part in enumerate(parts)]


def random_sound(
    grammar: NgramLm, lexicon: Lexicon, batch: int, frames: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities (N, T, V) of sentences of the grammar, and lengths (N,)."""
    draw = np.random.default_rng(2)
    spelling, noise = dict(lexicon), torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(batch, frames, TOKENS, generator=noise)
    lens = torch.linspace(frames, frames // 2, batch).long()
    marks = {grammar.number(mark) for mark in (START, END, "<unk>")}
    for row, length in enumerate(lens.tolist()):
        symbols: list[int] = []
        context = grammar.start
        while len(symbols) < length:
            word = next_word(grammar, context, draw, marks)
            context = grammar.step(context, word)[1]
            for token in spelling[grammar.names[word]]:
                symbols += [token, *[0] * int(draw.integers(1, 4))]
        sure = torch.from_numpy(np.where(draw.random(length) < 1 / 8, 5.0, 14.0)).float()
        logits[row, torch.arange(length), torch.tensor(symbols[:length])] += sure
    return logits.log_softmax(-1), lens


def next_word(grammar: NgramLm, context: int, draw: np.random.Generator, marks: set[int]) -> int:
    """Draw one of the words that n-grams of a context end with; any word where there is none."""
    num = len(grammar.names)
    first, last = grammar.keys.searchsorted([context * num, (context + 1) * num])
    words = [w for w in (grammar.keys[first:last] - context * num).tolist() if w not in marks]
    return int(draw.choice(words)) if words else int(draw.integers(3, num))


def write_peer(
    folder: Path, grammar: NgramLm, lexicon: Lexicon, log_probs: torch.Tensor, lens: torch.Tensor
) -> None:
    """Write what k2 is given: the graphs L and G, and the sound."""
    about = {
        "first_token_mark": TOKENS, "first_word_mark": len(lexicon) + 1, "scale": SCALE,
        "lens": lens.tolist(), "beam": LIMITS.search_beam, "output_beam": LIMITS.output_beam,
        "max_states": LIMITS.max_active_states,
    }  # fmt: skip
    (folder / "about.json").write_text(json.dumps(about))
    torch.save(log_probs, folder / "log_probs.pt")
    (folder / "L.fst.txt").write_text(lexicon_graph(lexicon))
    (folder / "G.fst.txt").write_text(grammar_graph(grammar, lexicon))


def lexicon_graph(lexicon: Lexicon) -> str:
    """The graph L: a loop for each word, marks where one is or begins another; #0 backs off."""
    counts = Counter(tuple(tokens) for _, tokens in lexicon)
    begun = {sequence[:n] for sequence in counts for n in range(1, len(sequence))}
    used: Counter[tuple[int, ...]] = Counter()
    lines, states = [f"0 0 {TOKENS} {len(lexicon) + 1} 0"], itertools.count(1)
    for number, (_, tokens) in enumerate(lexicon, start=1):
        sequence, labels = tuple(tokens), list(tokens)
        if counts[sequence] > 1 or sequence in begun:
            used[sequence] += 1
            labels.append(TOKENS + used[sequence])
        path = [0, *itertools.islice(states, len(labels) - 1), 0]
        said = [number, *[0] * (len(labels) - 1)]
        lines += map("{} {} {} {} 0".format, path, path[1:], labels, said)
    return "\n".join([*sort_states(lines), "0 0", ""])


def sort_states(lines: list[str]) -> list[str]:
    """Arcs by the state that they leave."""
    return sorted(lines, key=lambda line: int(line.split(" ", 1)[0]))


def grammar_graph(grammar: NgramLm, lexicon: Lexicon) -> str:
    """The graph G: an arc for each n-gram, and one for backing off from each context."""
    number = {word: n for n, (word, _) in enumerate(lexicon, start=1)}
    label = [number.get(name, 0) for name in grammar.names]
    end, back = grammar.number(END), len(lexicon) + 1
    # The start comes first, as the format wants.
    state = {grammar.start: 0, 0: grammar.start}
    contexts, words = np.divmod(grammar.keys, len(grammar.names))
    lines = []
    rows = (contexts.tolist(), words.tolist(), grammar.log_probs.tolist(), grammar.after.tolist())
    for source, word, log10, target in zip(*rows, strict=True):
        cost, source, target = -log10 * LN10, state.get(source, source), state.get(target, target)
        if word == end:
            lines.append(f"{source} {cost:.6f}")
        elif label[word]:
            lines.append(f"{source} {target} {label[word]} {label[word]} {cost:.6f}")
    weights = zip(grammar.backoffs.tolist()[1:], grammar.shorter.tolist()[1:], strict=True)
    for source, (log10, target) in enumerate(weights, start=1):
        source, target = state.get(source, source), state.get(target, target)
        lines.append(f"{source} {target} {back} 0 {-log10 * LN10:.6f}")
    return "\n".join([*sort_states(lines), ""])


def time_of(search: BestPath, log_probs: torch.Tensor, lens: torch.Tensor) -> float:
    """Seconds of the processor."""
    start = time.process_time()
    search(log_probs, lens)
    return time.process_time() - start


def peak_mib() -> int:
    """Peak resident memory of this process."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


if __name__ == "__main__":
    main()
