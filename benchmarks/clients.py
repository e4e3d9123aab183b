"""Transcripts of an exported transducer in each client, beside those of ``decode.py``.

Each client computes its own features from the sound, one recording at a time. With
``--context-file`` sherpa-onnx hears with hot-words, and the decoding is one with the same file.
"Not decode.py's" counts the sentences of which the client says something else; ``decode.py`` has
them one by one with ``--max-duration 1``, and in the precision of the files with ``--use-bf16 0``.

    ./export.py --recipe espeak
    folder=exp/espeak/export-epoch-11-avg-2
    one="--checkpoint $folder/pretrained.pt --use-bf16 0 --max-duration 1 --exp-dir exp/clients"
    ./decode.py --recipe espeak $one
    ./decode.py --recipe espeak $one --decoding-method modified_beam_search
    python -m benchmarks.clients --recipe espeak --folder $folder --decoded exp/clients

onnx-asr is left out where it is not installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import runpy
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import sherpa_onnx
from lhotse import CutSet
from numpy.typing import NDArray

from zipasr.base.recipe import load_recipe
from zipasr.data.loaders import load_cuts
from zipasr.recognition.config import PARTS
from zipasr.recognition.export_check import TABLE
from zipasr.recognition.exported_files import files_in, modeling_unit
from zipasr.scoring.decodings import read_decodings
from zipasr.scoring.word_errors import count_errors
from zipasr.search.config import HotWordsConfig
from zipasr.text.tokenizer import read_tokens

RATE = 16000
HEAD = "| client | search | WER % | not decode.py's | RTF |"

Sound = NDArray[np.float32]
Client = tuple[str, str, Callable[[Sound], str]]


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="espeak")
    parser.add_argument("--folder", type=Path, required=True, help="from export.py, not streaming")
    parser.add_argument("--decoded", type=Path, required=True, help="--exp-dir of decode.py")
    parser.add_argument("--context-file", type=Path, help="of decode.py")
    parser.add_argument("--split", default="test")
    args = parser.parse_args()
    recipe = load_recipe(args.recipe)
    cuts = load_cuts(Path(str(recipe.flags["manifest-dir"])), recipe.corpus, [args.split])
    decoded = {one.setting.key.split("_beam-size")[0]: one for one in read_decodings(args.decoded)}
    print(f"{HEAD}\n|{'---|' * (HEAD.count('|') - 1)}")
    for name, search, hear in clients(args.folder, args.context_file):
        if decoding := next((decoded[key] for key in decoded if key.startswith(search)), None):
            records = {record.id: record for record in decoding.records}
            words, rtf = heard(hear, cuts)
            other = sum(words[key] != list(records[key].hyp) for key in records)
            rate = count_errors((records[key].ref, words[key]) for key in records).rate
            print(f"| {name} | {search} | {rate:.2f} | {other} of {len(records)} | {rtf:.4f} |")


def heard(hear: Callable[[Sound], str], cuts: CutSet) -> tuple[dict[str, list[str]], float]:
    """Return the words of each utterance, and seconds of the processor for a second of speech."""
    words, seconds, speech = {}, 0.0, 0.0
    for cut in cuts:
        samples = cut.resample(RATE).load_audio()[0].astype(np.float32)
        begun = time.process_time()
        words[cut.id] = hear(samples).split()
        seconds += time.process_time() - begun
        speech += cut.duration
    return words, seconds / speech


def clients(folder: Path, context_file: Path | None) -> Iterator[Client]:
    """Yield name, search and recognition of a recording of each client."""
    yield (
        "sherpa-onnx",
        "modified_beam_search",
        sherpa(folder, "modified_beam_search", context_file),
    )
    if context_file is not None:
        return
    yield "sherpa-onnx", "greedy_search", sherpa(folder, "greedy_search", None)
    if importlib.util.find_spec("onnx_asr"):
        yield "onnx-asr", "greedy_search", onnx_asr(folder)
    page = runpy.run_path(str(folder / "onnxruntime_client.py"))
    files = [page["load"](part) for part in PARTS]

    def alone(samples: Sound) -> str:
        frames = page["encode"](files[0], page["features_of"](samples))
        return str(page["text_of"](page["transducer_search"](frames, *files[1:])))

    yield "onnxruntime alone", "greedy_search", alone


def sherpa(folder: Path, method: str, context_file: Path | None) -> Callable[[Sound], str]:
    """Return the recognition of sherpa-onnx."""
    hot = {}
    if context_file is not None:
        unit = modeling_unit(read_tokens(folder / TABLE))
        hot = {"hotwords_file": str(context_file), "modeling_unit": unit}
        hot |= {"bpe_vocab": str(folder / "bpe.vocab")} if "bpe" in unit else {}
    files = dict(zip(PARTS, map(str, files_in(folder, prefers_ctc=False)), strict=True))
    recogniser: Any = sherpa_onnx.OfflineRecognizer.from_transducer(
        **files,
        tokens=str(folder / TABLE),
        num_threads=1,
        decoding_method=method,
        hotwords_score=HotWordsConfig().context_score,
        **hot,
    )

    def hear(samples: Sound) -> str:
        stream = recogniser.create_stream()
        stream.accept_waveform(RATE, samples)
        recogniser.decode_stream(stream)
        return str(stream.result.text)

    return hear


def onnx_asr(folder: Path) -> Callable[[Sound], str]:
    """Return the recognition of onnx-asr, which knows files by names of its own."""
    import onnx_asr as package
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as place:
        files = Path(place) / "files"
        files.mkdir()
        for part, path in zip(PARTS, files_in(folder, prefers_ctc=False), strict=True):
            shutil.copyfile(path, files / f"{part}.onnx")
        shutil.copyfile(folder / TABLE, files / TABLE)
        model = package.load_model("kaldi-rnnt", place, sess_options=options)
    return lambda samples: str(model.recognize(samples, sample_rate=RATE))


if __name__ == "__main__":
    main()
