"""Exported models in sherpa-onnx: error rate and real-time factor of each file, on one thread.

Run from the repository root, when a recipe is trained and exported:

    ./export.py --recipe espeak --epoch 6 --avg 2
    python -m benchmarks.exports --recipe espeak --folders exp/espeak/export-epoch-6-avg-2

``--folders`` takes several, such as one of a causal model (``--chunk-size 16
--left-context-frames 128``), whose files are fed as speech comes; models of either encoder, and
CTC files beside those of a transducer. sherpa-onnx computes its own features from the sound; the
words of ``decode.py`` are in the recipe's result files.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sherpa_onnx
from lhotse import CutSet
from numpy.typing import NDArray

from zipasr.base.recipe import load_recipe
from zipasr.data.filters import text_of
from zipasr.data.loaders import load_cuts
from zipasr.export.names import kind_of
from zipasr.scoring.align import count_errors

RATE = 16000
PARTS = ("encoder", "decoder", "joiner")
METHODS = ("greedy_search", "modified_beam_search")
# sherpa-onnx keeps the last words inside its last chunk unless more sound comes.
TAIL = np.zeros(RATE // 2, dtype=np.float32)
PIECE = RATE // 10  # samples that a stream is given at a time


class Row(NamedTuple):
    """One line of the table."""

    folder: str
    files: str
    method: str
    megabytes: float
    rate: float
    rtf: float


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="espeak")
    parser.add_argument("--folders", required=True, help="exported folders, a comma list")
    parser.add_argument("--split", default="test")
    parser.add_argument("--utterances", type=int, default=0, help="0: all")
    args = parser.parse_args()
    recipe = load_recipe(args.recipe)
    cuts = load_cuts(Path(str(recipe.flags["manifest-dir"])), recipe.corpus, [args.split])
    if args.utterances:
        cuts = cuts.subset(first=args.utterances)
    print("| folder | files | search | MB | WER % | RTF |\n|---|---|---|---|---|---|")
    for folder in map(Path, args.folders.split(",")):
        for row in rows(folder, cuts):
            name, files, method, size, rate, rtf = row
            print(
                f"| {name} | {files} | {method} | {size:.1f} | {rate:.2f} | {rtf:.4f} |", flush=True
            )


def rows(folder: Path, cuts: CutSet) -> Iterator[Row]:
    """Measure each set of files with each search: transducers of each precision, then CTC."""
    for encoder in sorted(folder.glob("encoder-*.onnx")):
        parts = [encoder.with_name(encoder.name.replace("encoder", part, 1)) for part in PARTS]
        for method in METHODS:
            yield row_of(parts, cuts, method, transducer(parts, method))
    for model in sorted(folder.glob("model*.onnx")):
        if (recogniser := ctc(model)) is not None:
            yield row_of([model], cuts, "ctc greedy", recogniser)


def row_of(files: Sequence[Path], cuts: CutSet, method: str, recogniser: Any) -> Row:
    """Measure one set of files with one search."""
    streaming = is_streaming(files[0])
    rate, rtf = measure(recogniser, cuts, streaming)
    name = f"{'streaming ' * streaming}{kind_of(files[0].name) or 'float32'}"
    size = sum(path.stat().st_size for path in files) / 1e6
    return Row(files[0].parent.name, name, method, size, rate, rtf)


def is_streaming(path: Path) -> bool:
    """Say whether a file works on speech as it comes."""
    return "-chunk-" in path.name


def transducer(parts: Sequence[Path], method: str) -> Any:
    """Return a recogniser of sherpa-onnx, of either encoder."""
    kind = sherpa_onnx.OnlineRecognizer if is_streaming(parts[0]) else sherpa_onnx.OfflineRecognizer
    return kind.from_transducer(
        **{part: str(path) for part, path in zip(PARTS, parts, strict=True)},
        tokens=str(parts[0].with_name("tokens.txt")),
        num_threads=1,
        decoding_method=method,
    )


def ctc(model: Path) -> Any:
    """Return a recogniser of sherpa-onnx that uses the CTC head.

    It would end this process if it were given one of the first Zipformer to stream: ``None``.
    """
    given = {"tokens": str(model.with_name("tokens.txt")), "model": str(model), "num_threads": 1}
    if not is_streaming(model):
        return sherpa_onnx.OfflineRecognizer.from_zipformer_ctc(**given)
    if "encoder_dims" in json.loads(model.with_name("config.json").read_text())["encoder"]:
        return None
    return sherpa_onnx.OnlineRecognizer.from_zipformer2_ctc(**given)


def measure(recogniser: Any, cuts: CutSet, is_streaming: bool) -> tuple[float, float]:
    """Return the word error rate in percent, and seconds of computing per second of speech."""
    hear = heard_as_it_comes if is_streaming else heard
    pairs, spent, speech = [], 0.0, 0.0
    for cut in cuts:
        samples = cut.resample(RATE).load_audio()[0].astype(np.float32)
        begun = time.perf_counter()
        text = hear(recogniser, samples)
        spent += time.perf_counter() - begun
        speech += cut.duration
        pairs.append((text_of(cut).split(), text.split()))
    return count_errors(pairs).rate, spent / speech


def heard(recogniser: Any, samples: NDArray[np.float32]) -> str:
    """Recognise a whole recording."""
    stream = recogniser.create_stream()
    stream.accept_waveform(RATE, samples)
    recogniser.decode_stream(stream)
    return str(stream.result.text)


def heard_as_it_comes(recogniser: Any, samples: NDArray[np.float32]) -> str:
    """Recognise a recording that is given a tenth of a second at a time."""
    stream = recogniser.create_stream()
    for start in range(0, len(samples), PIECE):
        stream.accept_waveform(RATE, samples[start : start + PIECE])
        while recogniser.is_ready(stream):
            recogniser.decode_stream(stream)
    stream.accept_waveform(RATE, TAIL)
    stream.input_finished()
    while recogniser.is_ready(stream):
        recogniser.decode_stream(stream)
    return str(recogniser.get_result(stream))


if __name__ == "__main__":
    main()
