"""Exported models in sherpa-onnx: error rate, other words and real-time factor, on one thread.

The real-time factor counts seconds of the processor, so that other programs on the machine have
little part in it.

Run from the repository root, when a recipe is trained and exported:

    ./export.py --recipe espeak --epoch 6 --avg 2
    python -m benchmarks.exports --recipe espeak --folders exp/espeak/export-epoch-6-avg-2

``--folders`` takes several, such as one of a causal model (``--chunk-size 16
--left-context-frames 128``), whose files are fed as speech comes; models of either encoder, and
CTC files beside those of a transducer. sherpa-onnx computes its own features from the sound. The
column "other words" counts the utterances of which our model, on the same sound and with the
silence that follows it, says something else; "other than decode.py" those of which ``decode.py``
does, which puts another silence behind the speech of a causal model. ``--show 1`` writes the words
of both kinds to the error stream.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sherpa_onnx
import torch
from lhotse import CutSet
from numpy.typing import NDArray

from zipasr.base.recipe import load_recipe
from zipasr.cli.commands import DECODE, read
from zipasr.cli.recogniser import Recogniser, load_recogniser, recognise
from zipasr.data.extractor import fbank_extractor
from zipasr.data.filters import text_of
from zipasr.data.loaders import DataConfig, load_cuts, test_loader
from zipasr.export.names import kind_of
from zipasr.scoring.align import count_errors

RATE = 16000
PARTS = ("encoder", "decoder", "joiner")
METHODS = ("greedy_search", "modified_beam_search")
# sherpa-onnx keeps the last words inside its last chunk unless more sound comes: enough for
# chunks of 32, the 77 feature frames of one and the 23 of silence that decode.py's encoder sees.
TAIL = np.zeros(RATE, dtype=np.float32)
PIECE = RATE // 10  # samples that a stream is given at a time
HEAD = "| folder | files | search | MB | WER % | other words | other than decode.py | RTF |"

Sound = NDArray[np.float32]
Words = Mapping[str, list[str]]


class Ours(NamedTuple):
    """The words of one search here, by utterance: on the client's sound, and in decode.py."""

    same_sound: Words
    decoded: Words


class Row(NamedTuple):
    """One line of the table."""

    folder: str
    files: str
    method: str
    megabytes: float
    words: Words
    rtf: float


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="espeak")
    parser.add_argument("--folders", required=True, help="exported folders, a comma list")
    parser.add_argument("--split", default="test")
    parser.add_argument("--utterances", type=int, default=0, help="0: all")
    parser.add_argument(
        "--compare", type=int, default=1, help="0: leave our words out, in less time"
    )
    parser.add_argument("--show", type=int, default=0, help="1: the words that are other")
    args = parser.parse_args()
    recipe = load_recipe(args.recipe)
    cuts = load_cuts(Path(str(recipe.flags["manifest-dir"])), recipe.corpus, [args.split])
    if args.utterances:
        cuts = cuts.subset(first=args.utterances)
    print(f"{HEAD}\n|{'---|' * (HEAD.count('|') - 1)}")
    for folder in map(Path, args.folders.split(",")):
        ours: dict[str, Ours] = {}
        for row in rows(folder, cuts):
            if row.method not in ours and args.compare:
                ours[row.method] = our_words(args.recipe, folder, row.method, cuts)
            tell(row, ours.get(row.method), cuts, bool(args.show))


def tell(row: Row, ours: Ours | None, cuts: CutSet, show: bool) -> None:
    """Print a line of the table and, if asked for, the words that are other."""
    rate = count_errors((text_of(cut).split(), row.words[cut.id]) for cut in cuts).rate
    other = [{name for name in row.words if row.words[name] != words[name]} for words in ours or ()]
    cells = (row.folder, row.files, row.method, f"{row.megabytes:.1f}", f"{rate:.2f}")
    figures = (*([str(len(names)) for names in other] or ("", "")), f"{row.rtf:.4f}")
    print(f"| {' | '.join((*cells, *figures))} |", flush=True)
    if ours is None:
        return
    for name in sorted(set.union(*other)) if show else ():
        lines = row.words[name], ours.same_sound[name], ours.decoded[name]
        sys.stderr.write("\n  ".join((name, *map(" ".join, lines))) + "\n")


def rows(folder: Path, cuts: CutSet) -> Iterator[Row]:
    """Measure each set of files with each search: transducers of each precision, then CTC."""
    for encoder in sorted(folder.glob("encoder-*.onnx")):
        parts = [encoder.with_name(encoder.name.replace("encoder", part, 1)) for part in PARTS]
        for method in METHODS:
            yield row_of(parts, cuts, method, transducer(parts, method))
    for model in sorted(folder.glob("model*.onnx")):
        if (recogniser := ctc(model)) is not None:
            yield row_of([model], cuts, "ctc_greedy_search", recogniser)


def row_of(files: Sequence[Path], cuts: CutSet, method: str, recogniser: Any) -> Row:
    """Measure one set of files with one search."""
    streaming = is_streaming(files[0])
    words, rtf = measure(recogniser, cuts, streaming)
    name = f"{'streaming ' * streaming}{kind_of(files[0].name) or 'float32'}"
    size = sum(path.stat().st_size for path in files) / 1e6
    return Row(files[0].parent.name, name, method, size, words, rtf)


def our_words(recipe: str, folder: Path, method: str, cuts: CutSet) -> Ours:
    """Decode with the model that was exported."""
    encoder = json.loads((folder / "config.json").read_text())["encoder"]
    flags = ["--recipe", recipe, "--checkpoint", str(folder / "pretrained.pt")]
    flags += ["--decoding-method", method]
    if encoder["causal"]:
        names = ("chunk_size", "left_context_frames", "decode_chunk_len")
        for name in (name for name in names if name in encoder):
            value = encoder[name]
            flags += [f"--{name.replace('_', '-')}", str(value if name in names[2:] else value[0])]
    run = read(DECODE, flags)
    recogniser = load_recogniser(run)
    found, _ = recognise(recogniser, test_loader(cuts, run[DataConfig]), method, len(cuts))
    streaming = any(map(is_streaming, folder.glob("*.onnx")))
    return Ours(
        {cut.id: said(recogniser, samples_of(cut), streaming) for cut in cuts},
        {transcript.cut_id: list(transcript.hyp) for transcript in found},
    )


@torch.inference_mode()
def said(recogniser: Recogniser, samples: Sound, streaming: bool) -> list[str]:
    """Return the words of our model on the sound that the client gets."""
    model, parts = recogniser.model, []
    sound = np.concatenate([samples, TAIL]) if streaming else samples
    features = torch.from_numpy(fbank_extractor().extract(sound, RATE)).unsqueeze(0)
    if streaming:
        (length, step), state = model.chunk_encoder.size(), model.init_state(1)
        # The client waits until there is more than one chunk.
        for start in range(0, features.size(1) - length, step):
            chunk = features[:, start : start + length]
            encoded, state = model.encode_chunk(chunk, torch.tensor([length]), state)
            parts.append(encoded.frames)
        frames = torch.cat(parts, dim=1)
        lens = torch.tensor([frames.size(1)])
    else:
        frames, lens = model.encode(features, torch.tensor([features.size(1)]))[:2]
    (text,) = recogniser.tokenizer.decode([recogniser.search(frames, lens)[0].tokens])
    return text.split()


def samples_of(cut: Any) -> Sound:
    """Return the sound of an utterance."""
    samples: Sound = cut.resample(RATE).load_audio()[0].astype(np.float32)
    return samples


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


def measure(recogniser: Any, cuts: CutSet, is_streaming: bool) -> tuple[Words, float]:
    """Return the words of each utterance, and seconds of the processor per second of speech."""
    hear = heard_as_it_comes if is_streaming else heard
    words, spent, speech = {}, 0.0, 0.0
    for cut in cuts:
        samples = samples_of(cut)
        begun = time.process_time()
        words[cut.id] = hear(recogniser, samples).split()
        spent += time.process_time() - begun
        speech += cut.duration
    return words, spent / speech


def heard(recogniser: Any, samples: Sound) -> str:
    """Recognise a whole recording."""
    stream = recogniser.create_stream()
    stream.accept_waveform(RATE, samples)
    recogniser.decode_stream(stream)
    return str(stream.result.text)


def heard_as_it_comes(recogniser: Any, samples: Sound) -> str:
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
