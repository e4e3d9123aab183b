"""Exported models in sherpa-onnx: error rate, other words and real-time factor, on one thread.

The real-time factors count seconds of the processor, so that other programs on the machine have
little part in them. "RTF here" is that of our model in float32 with torch, on the same sound, from
samples to words; the two take turns utterance by utterance, or with ``--batch 16`` sixteen by
sixteen, where a model for whole recordings gets utterances of like length together in both.

Run from the repository root, when a recipe is trained and exported:

    ./export.py --recipe espeak --epoch 6 --avg 2
    OMP_NUM_THREADS=1 python -m benchmarks.exports --folders exp/espeak/export-epoch-6-avg-2

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
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sherpa_onnx
import torch
from lhotse import CutSet
from numpy.typing import NDArray

from zipasr.audio.log_mel import log_mel
from zipasr.base.recipe import load_recipe
from zipasr.cli.command_flags import read
from zipasr.cli.recognition_commands import DECODE, recognition_config
from zipasr.data.config import DataConfig
from zipasr.data.filters import text_of
from zipasr.data.loaders import load_cuts, test_loader
from zipasr.recognition.acoustic_model import AcousticModel, padded_batch
from zipasr.recognition.exported_files import kind_of
from zipasr.recognition.recogniser import Recogniser, load_recogniser, recognise
from zipasr.scoring.word_errors import count_errors

RATE, MEL_BINS = 16000, 80
PARTS = ("encoder", "decoder", "joiner")
METHODS = ("greedy_search", "modified_beam_search")
# sherpa-onnx keeps the last words inside its last chunk unless more sound comes: enough for
# chunks of 32, the 77 feature frames of one and the 23 of silence that decode.py's encoder sees.
TAIL = np.zeros(RATE, dtype=np.float32)
PIECE = RATE // 10  # samples that a stream is given at a time
HEAD = (
    "| folder | files | search | MB | WER % | other words | other than decode.py | RTF | RTF here |"
)

Sound = NDArray[np.float32]
Words = Mapping[str, list[str]]


class Ours(NamedTuple):
    """Our model with one search, and the words that decode.py finds, by utterance."""

    recogniser: Recogniser[AcousticModel]
    decoded: Words


class Heard(NamedTuple):
    """The words of one system, by utterance, and seconds of the processor."""

    words: dict[str, list[str]]
    seconds: list[float]


class Row(NamedTuple):
    """One line of the table."""

    folder: str
    files: str
    method: str
    megabytes: float
    client: Heard
    ours: Heard


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="espeak")
    parser.add_argument("--folders", required=True, help="exported folders, a comma list")
    parser.add_argument("--split", default="test")
    parser.add_argument("--utterances", type=int, default=0, help="0: all")
    parser.add_argument(
        "--compare", type=int, default=1, help="0: leave our model out, in less time"
    )
    parser.add_argument("--batch", type=int, default=1, help="whole recordings at a time")
    parser.add_argument("--show", type=int, default=0, help="1: the words that are other")
    args = parser.parse_args()
    torch.set_num_threads(1)
    recipe = load_recipe(args.recipe)
    cuts = load_cuts(Path(str(recipe.flags["manifest-dir"])), recipe.corpus, [args.split])
    if args.utterances:
        cuts = cuts.subset(first=args.utterances)
    print(f"{HEAD}\n|{'---|' * (HEAD.count('|') - 1)}")
    for folder in map(Path, args.folders.split(",")):
        ours: dict[str, Ours] = {}
        for files, method, client in clients(folder):
            if method not in ours and args.compare:
                ours[method] = our_model(args.recipe, folder, method, cuts)
            row = row_of(files, cuts, client, ours.get(method), args.batch)
            tell(row._replace(method=method), ours.get(method), cuts, bool(args.show))


def tell(row: Row, ours: Ours | None, cuts: CutSet, show: bool) -> None:
    """Print a line of the table and, if asked for, the words that are other."""
    found, speech = row.client.words, sum(cut.duration for cut in cuts)
    rate = count_errors((text_of(cut).split(), found[cut.id]) for cut in cuts).rate
    compared = (row.ours.words, ours.decoded) if ours else ()
    other = [{name for name in found if found[name] != words[name]} for words in compared]
    cells = (row.folder, row.files, row.method, f"{row.megabytes:.1f}", f"{rate:.2f}")
    figures = [str(len(names)) for names in other] or ["", ""]
    figures += [f"{sum(x) / speech:.4f}" if x else "" for x in (row.client[1], row.ours[1])]
    print(f"| {' | '.join((*cells, *figures))} |", flush=True)
    if ours is None:
        return
    for name in sorted(set.union(*other)) if show else ():
        lines = found[name], row.ours.words[name], ours.decoded[name]
        sys.stderr.write("\n  ".join((name, *map(" ".join, lines))) + "\n")


def clients(folder: Path) -> Iterator[tuple[list[Path], str, Any]]:
    """Load each set of files with each search: transducers of each precision, then CTC."""
    for encoder in sorted(folder.glob("encoder-*.onnx")):
        parts = [encoder.with_name(encoder.name.replace("encoder", part, 1)) for part in PARTS]
        for method in METHODS:
            yield parts, method, transducer(parts, method)
    for model in sorted(folder.glob("model*.onnx")):
        if (recogniser := ctc(model)) is not None:
            yield [model], "ctc_greedy_search", recogniser


def row_of(files: Sequence[Path], cuts: CutSet, client: Any, ours: Ours | None, batch: int) -> Row:
    """Measure one set of files, and our model on the same sound; the search is filled in later."""
    streaming = is_streaming(files[0])
    name = f"{'streaming ' * streaming}{kind_of(files[0].name) or 'float32'}"
    size = sum(path.stat().st_size for path in files) / 1e6
    row = Row(files[0].parent.name, name, "", size, Heard({}, []), Heard({}, []))
    systems = [(row.client, partial(heard_as_it_comes if streaming else heard, client))]
    if ours:
        systems.append((row.ours, partial(said, ours.recogniser, streaming)))
    groups = groups_of(cuts, 1 if streaming else batch)
    for _, hear in systems:
        hear([samples_of(cut) for cut in groups[0]])  # what is compiled or loaded on first use
    for group in groups:
        sounds = [samples_of(cut) for cut in group]
        for system, hear in systems:
            begun = time.process_time()
            texts = hear(sounds)
            system.seconds.append(time.process_time() - begun)
            words = map(str.split, texts)
            system.words.update(zip((cut.id for cut in group), words, strict=True))
    return row


def groups_of(cuts: CutSet, batch: int) -> list[list[Any]]:
    """Split the utterances into groups, of like length where there are several in each."""
    ordered = list(cuts) if batch == 1 else sorted(cuts, key=lambda cut: cut.duration)
    return [ordered[start : start + batch] for start in range(0, len(ordered), batch)]


def our_model(recipe: str, folder: Path, method: str, cuts: CutSet) -> Ours:
    """Load the model that was exported, and decode with it as decode.py does."""
    encoder = json.loads((folder / "config.json").read_text())["encoder"]
    flags = ["--recipe", recipe, "--checkpoint", str(folder / "pretrained.pt")]
    flags += ["--decoding-method", method]
    if encoder["causal"]:
        names = ("chunk_size", "left_context_frames", "decode_chunk_len")
        for name in (name for name in names if name in encoder):
            value = encoder[name]
            flags += [f"--{name.replace('_', '-')}", str(value if name in names[2:] else value[0])]
    run = read(DECODE, flags)
    recogniser = load_recogniser(recognition_config(run))
    loader = test_loader(cuts, run[DataConfig])
    found = recognise(recogniser, loader, method, len(cuts)).by_setting[""]
    return Ours(recogniser, {transcript.cut_id: list(transcript.hyp) for transcript in found})


@torch.inference_mode()
def said(
    recogniser: Recogniser[AcousticModel], streaming: bool, sounds: Sequence[Sound]
) -> list[str]:
    """Return the texts of our model on the sound that the client gets."""
    acoustics, parts = recogniser.acoustics, []
    if streaming:
        sounds = [np.concatenate([samples, TAIL]) for samples in sounds]
    features, lens = padded_batch([log_mel(samples, MEL_BINS) for samples in sounds])
    if streaming:
        (length, step, _), state = (
            acoustics.model.chunk_encoder.size(),
            acoustics.model.init_state(1),
        )
        # The client waits until there is more than one chunk.
        for start in range(0, features.size(1) - length, step):
            chunk = features[:, start : start + length]
            frames, _, state = acoustics.advance(chunk, torch.tensor([length]), state)
            parts.append(frames)
        frames = torch.cat(parts, dim=1)
        lens = torch.tensor([frames.size(1)])
    elif acoustics.geometry.tail:
        # The client puts no silence behind a recording, as recognition does for a causal model.
        encoded = acoustics.model.encode(features, lens)
        frames, lens = encoded.frames, encoded.lens
    else:
        frames, lens = acoustics.encode(features, lens)
    return recogniser.tokenizer.decode([x.tokens for x in recogniser.search(frames, lens)])


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


def heard(recogniser: Any, sounds: Sequence[Sound]) -> list[str]:
    """Recognise whole recordings."""
    streams = []
    for samples in sounds:
        streams.append(recogniser.create_stream())
        streams[-1].accept_waveform(RATE, samples)
    recogniser.decode_streams(streams)
    return [str(stream.result.text) for stream in streams]


def heard_as_it_comes(recogniser: Any, sounds: Sequence[Sound]) -> list[str]:
    """Recognise one recording that is given a tenth of a second at a time."""
    (samples,) = sounds
    stream = recogniser.create_stream()
    for start in range(0, len(samples), PIECE):
        stream.accept_waveform(RATE, samples[start : start + PIECE])
        while recogniser.is_ready(stream):
            recogniser.decode_stream(stream)
    stream.accept_waveform(RATE, TAIL)
    stream.input_finished()
    while recogniser.is_ready(stream):
        recogniser.decode_stream(stream)
    return [str(recogniser.get_result(stream))]


if __name__ == "__main__":
    main()
