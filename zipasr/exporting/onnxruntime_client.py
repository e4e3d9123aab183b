"""Greedy search with the ONNX files of an export, in onnxruntime alone: a page to start from.

It stands beside the files and needs neither torch nor zipasr:

    pip install onnxruntime kaldi-native-fbank soundfile
    python onnxruntime_client.py test_wavs/0.wav

It reads sound of 16 kHz, and runs transducers and CTC models, for whole recordings, of any length
or of one (``--static-shapes``), and for speech as it comes.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kaldi_native_fbank
import numpy as np
import onnxruntime
import soundfile
from numpy.typing import NDArray

Array = NDArray[np.float32]

FOLDER = Path(__file__).resolve().parent
RATE, MEL_BINS, BLANK = 16000, 80, 0
SILENCE = -23.025851  # log(1e-10), a feature of no sound at all
TAIL = 30  # feature frames of silence after which a streaming model has said its last word
DTYPES = {"tensor(float)": np.float32, "tensor(int32)": np.int32, "tensor(int64)": np.int64}


def load(part: str) -> Any:
    """Return the float32 file of ``encoder``, ``decoder``, ``joiner`` or ``model`` (CTC)."""
    names = [path for path in FOLDER.glob(f"{part}*.onnx") if len(path.suffixes) == 1]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # more for a large model
    return onnxruntime.InferenceSession(str(min(names)), options, ["CPUExecutionProvider"])


def features_of(samples: Array) -> Array:
    """Return log-mel features (T, 80) of samples between -1 and 1."""
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.snip_edges = False
    options.mel_opts.num_bins = MEL_BINS
    options.mel_opts.high_freq = -400
    fbank = kaldi_native_fbank.OnlineFbank(options)
    fbank.accept_waveform(RATE, samples.tolist())
    fbank.input_finished()
    frames = [fbank.get_frame(i) for i in range(fbank.num_frames_ready)]
    return np.array(frames, dtype=np.float32).reshape(-1, MEL_BINS)


def encode_whole(encoder: Any, features: Array) -> Array:
    """Return the frames (T', C) of a whole utterance, or what CTC makes of them."""
    first, *lengths = encoder.get_inputs()
    room = first.shape[1]  # a name, unless the file takes one length alone
    if isinstance(room, int):
        if len(features) > room:
            raise SystemExit(f"the file takes {room / 100} s; cut the recording into parts.")
        padding = ((0, room - len(features)), (0, 0))
        padded = np.pad(features, padding, constant_values=SILENCE)
    else:
        padded = features
    given = {first.name: padded[None]}
    given |= {one.name: np.array([len(features)], DTYPES[one.type]) for one in lengths}
    (frames, *_), *nums = encoder.run(None, given)
    whole: Array = frames
    return whole[: nums[0][0]] if nums else whole


def encode_chunks(encoder: Any, features: Array, about: dict[str, str]) -> Iterator[Array]:
    """Yield the frames (T', C) of each chunk; a microphone would bring the features."""
    length, step = int(about["T"]), int(about["decode_chunk_len"])
    first, *rest = encoder.get_inputs()
    states = {}
    for one in rest:  # zeros, unless the file says another number
        shape = [size if isinstance(size, int) else 1 for size in one.shape]
        states[one.name] = np.full(shape, about.get(f"initial_{one.name}", 0), DTYPES[one.type])
    total = len(features) + TAIL
    padded = np.pad(features, ((0, TAIL + length), (0, 0)), constant_values=SILENCE)
    for start in range(0, total, step):
        chunk = padded[None, start : start + length]
        frames, *after = encoder.run(None, {first.name: chunk} | states)
        states = dict(zip(states, after, strict=True))
        yield frames[0]


def encode(encoder: Any, features: Array) -> Array:
    """Return all frames (T', C), as a whole or chunk by chunk."""
    about = encoder.get_modelmeta().custom_metadata_map
    if "decode_chunk_len" in about:
        return np.concatenate(list(encode_chunks(encoder, features, about)))
    return encode_whole(encoder, features)


def transducer_search(frames: Array, decoder: Any, joiner: Any) -> list[int]:
    """Return the tokens of frames (T', C): at most one a frame."""
    (context,) = decoder.get_inputs()
    size = context.shape[1]
    tokens = [-1] * (size - 1) + [BLANK]

    def predict() -> Any:
        last = np.array([tokens[-size:]], DTYPES[context.type])
        return decoder.run(None, {"y": last})[0]

    prediction = predict()
    for frame in frames:
        (logits,) = joiner.run(None, {"encoder_out": frame[None], "decoder_out": prediction})
        token = int(logits.argmax())
        if token != BLANK:
            tokens.append(token)
            prediction = predict()
    return tokens[size:]


def ctc_search(log_probs: Array) -> list[int]:
    """Return the tokens of log-probabilities (T', V): repeats and blanks are left out."""
    best = log_probs.argmax(axis=1)
    return [
        int(one) for i, one in enumerate(best) if one != BLANK and (not i or one != best[i - 1])
    ]


def text_of(tokens: list[int]) -> str:
    """Return the text of tokens that are pieces of words, characters, or pieces of bytes."""
    lines = (FOLDER / "tokens.txt").read_text(encoding="utf-8").splitlines()
    pieces = {int(number): piece for piece, number in (line.rsplit(maxsplit=1) for line in lines)}
    named = (pieces[token] for token in tokens)
    written = (piece for piece in named if not (piece[0] == "<" and piece[-1] == ">"))
    text = "".join(written).replace("\u2581", " ")
    if json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))["unit"] == "byte-bpe":
        codes = range(256, 512)
        others = (chr(code) for code in codes if unicodedata.is_normalized("NFKC", chr(code)))
        byte_of = {chr(i) if 32 <= i < 127 else next(others): i for i in range(256)}
        text = bytes(byte_of[char] for char in text).decode("utf-8", "ignore")
    return text.strip()


def main() -> None:
    """Print what is said in sound files."""
    is_transducer = any(FOLDER.glob("encoder*.onnx"))
    encoder = load("encoder" if is_transducer else "model")
    heads = (load("decoder"), load("joiner")) if is_transducer else ()
    for name in sys.argv[1:]:
        samples, rate = soundfile.read(name, dtype="float32")
        if rate != RATE:
            raise SystemExit(f"{name} has {rate} Hz, not {RATE}.")
        frames = encode(encoder, features_of(samples))
        tokens = transducer_search(frames, *heads) if heads else ctc_search(frames)
        sys.stdout.write(f"{name}: {text_of(tokens)}\n")


if __name__ == "__main__":
    main()
