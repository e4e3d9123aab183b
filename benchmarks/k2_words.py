"""The process of ``benchmarks.words`` that runs k2: an HLG graph and its pruned search.

k2 lives in an environment of its own (Python 3.9, torch 1.13), so this file must run there: it
imports nothing of the project. The graph is composed as icefall composes it.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import k2
import torch


def graph(folder: Path, about: dict[str, Any]) -> Any:
    """Compose HLG of the graphs in a folder, or read what an earlier run composed."""
    kept = folder / "HLG.pt"
    if kept.is_file():
        return k2.Fsa.from_dict(torch.load(kept))
    lexicon = k2.Fsa.from_openfst((folder / "L.fst.txt").read_text(), acceptor=False)
    grammar = k2.Fsa.from_openfst((folder / "G.fst.txt").read_text(), acceptor=False)
    lg = k2.compose(k2.arc_sort(lexicon), k2.arc_sort(grammar))
    lg = k2.connect(k2.determinize(k2.connect(lg)))
    labels, words = lg.labels.clone(), lg.aux_labels.values
    labels[labels >= about["first_token_mark"]] = 0
    words[words >= about["first_word_mark"]] = 0
    lg.labels = labels
    lg = k2.connect(k2.remove_epsilon(lg))
    lg.aux_labels = lg.aux_labels.remove_values_eq(0)
    topology = k2.ctc_topo(about["first_token_mark"] - 1)
    hlg = k2.connect(k2.compose(topology, k2.arc_sort(lg), inner_labels="tokens"))
    torch.save(hlg.as_dict(), kept)
    return hlg


def flat(labels: Any) -> list[int]:
    """Words of the arcs of a path, of which each has none, one or several."""
    values = labels.values if isinstance(labels, k2.RaggedTensor) else labels
    return values.tolist()


def main() -> None:
    """Serve: the words of the batch at first, then the time of a search for each line of input."""
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    about = json.loads((folder / "about.json").read_text())
    start = time.process_time()
    hlg = graph(folder, about)
    hlg.scores *= about["scale"]
    took = time.process_time() - start
    log_probs = torch.load(folder / "log_probs.pt")
    rows = [[n, 0, length] for n, length in enumerate(about["lens"])]
    dense = k2.DenseFsaVec(log_probs, torch.tensor(rows, dtype=torch.int32))

    def search() -> Any:
        lattice = k2.intersect_dense_pruned(
            hlg, dense, search_beam=about["beam"], output_beam=about["output_beam"],
            min_active_states=30, max_active_states=about["max_states"],
        )  # fmt: skip
        return k2.shortest_path(lattice, use_double_scores=True)

    best = search()
    words = [[w for w in flat(best[n].aux_labels) if w > 0] for n in range(len(rows))]
    scores = best.get_tot_scores(use_double_scores=True, log_semiring=False).tolist()
    sizes = {"arcs": hlg.num_arcs, "loading": took}
    print(json.dumps({"words": words, "scores": scores, **sizes}), flush=True)
    for _ in sys.stdin:
        start = time.process_time()
        search()
        print(json.dumps(time.process_time() - start), flush=True)


if __name__ == "__main__":
    main()
