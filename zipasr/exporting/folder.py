"""Files beside the exported models: tokens, settings, results, a sample, a README."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import soundfile
from lhotse.cut import Cut

from zipasr.audio.loading import resampled
from zipasr.base.constants import SAMPLING_RATE
from zipasr.base.errors import ResourceError, UserError, is_disk_full
from zipasr.base.files import flush_files
from zipasr.base.lock import only_run_in
from zipasr.encoder.protocol import ExportLayout
from zipasr.exporting.parity import Check, table
from zipasr.model.config import ModelConfig
from zipasr.recognition.config import KINDS, Kind
from zipasr.recognition.exported_files import kind_of, modeling_unit
from zipasr.text.bpe import vocab_text
from zipasr.text.tokenizer import Tokenizer, tokens_text

#: File that says, with its key "checks", that a folder was made here.
SETTINGS = "config.json"
LICENCE_NOTE = "LICENSE.md"
#: The export in the making and the one that it replaces, in a folder beside it.
_NEW, _OLD = "new", "old"
#: Entry of the settings with the flag --modeling-unit of sherpa-onnx.
_UNIT = "modeling_unit"
SAMPLE, SAMPLE_TEXT = "test_wavs/0.wav", "test_wavs/trans.txt"

#: All that an export writes.
_WRITTEN = (
    SETTINGS,
    LICENCE_NOTE,
    "README.md",
    "RESULTS.txt",
    "pretrained.pt",
    "jit_script*.pt",
    "*.onnx",
    "tokens.txt",
    "bpe.model",
    "bpe.vocab",
    SAMPLE,
    SAMPLE_TEXT,
)


def features_of(mel_bins: int) -> dict[str, object]:
    """Return how the features that the files take are made."""
    return {
        "sampling_rate": SAMPLING_RATE,
        "num_mel_bins": mel_bins,
        "low_freq": 20,
        "high_freq": -400,
        "snip_edges": False,
        "dither": 0,
        "window": "povey",
        "padding": -23.025851,
    }


LICENCE = """The program that made these files sets no terms for them. The weights were learned
from a corpus: before you pass them on, put the terms of that corpus, and your own, in place of
this note.
"""


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a folder to fill that gets its name when all went well, else it is removed.

    It takes the place of an earlier export, but for the note on licences, which people fill in. The
    earlier one is there until the new one is whole: when an export is killed between the two
    renames, the next one puts it back before it does anything else.

    Raises:
        UserError: there is a folder of that name with something that was not written here.
        ResourceError: the disk is full, or another export writes to the folder.
    """
    work = path.with_name(f".tmp-{path.name}")
    try:
        with only_run_in(work, "--output-dir", user="export", shown=path), _in_place(path, work):
            new = work / _NEW
            new.mkdir()
            yield new
            if (path / LICENCE_NOTE).is_file():
                shutil.copyfile(path / LICENCE_NOTE, new / LICENCE_NOTE)
            flush_files(new)
            if path.exists():
                path.rename(work / _OLD)
            new.rename(path)
    except OSError as problem:
        if not is_disk_full(problem):
            raise
        raise ResourceError(
            f"{path} cannot be written: {problem.strerror}.",
            "free some disk space, or choose another --output-dir.",
        ) from problem
    finally:
        with suppress(OSError):  # it is there when another export holds it, or needs it next
            work.rmdir()


@contextmanager
def _in_place(path: Path, work: Path) -> Iterator[None]:
    """Have a whole export under its name before and after the block, if there ever was one."""
    _tidy(path, work)
    check_replaceable(path)
    try:
        yield
    finally:
        _tidy(path, work)


def _tidy(path: Path, work: Path) -> None:
    """Put back the export that was about to be replaced; remove the rest of a failed one."""
    if (work / _OLD).exists() and not path.exists():
        (work / _OLD).rename(path)
    for rest in (_NEW, _OLD):
        shutil.rmtree(work / rest, ignore_errors=True)


def check_replaceable(path: Path) -> None:
    """Leave alone what an export did not write: training runs have a config.json too.

    Raises:
        UserError: the folder holds something else.
    """
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file, not a folder.", "choose another --output-dir.")
    strange = (n for n in _names(path) if not any(fnmatch(n, known) for known in _WRITTEN))
    if name := next(strange, ""):
        raise UserError(
            f"{path} was not made by export.py alone: it holds {name}.",
            "choose another --output-dir.",
        )
    if next(_names(path), "") and not _is_export(path / SETTINGS):
        raise UserError(f"{path} was not made by export.py.", "choose another --output-dir.")


def _names(path: Path) -> Iterator[str]:
    """Yield what is in a folder and the folders below; of a large one only as much as is asked."""
    return (file.relative_to(path).as_posix() for file in path.rglob("*") if not file.is_dir())


def _is_export(settings: Path) -> bool:
    try:
        return "checks" in json.loads(settings.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def write_texts(
    folder: Path,
    pieces: Sequence[str],
    tokenizer: Tokenizer | None,
    settings: Mapping[str, Any],
    results: str,
) -> None:
    """Write tokens, the tokenizer if there is one, settings, error rates, the note on licences."""
    texts = {
        "tokens.txt": tokens_text(pieces),
        SETTINGS: json.dumps(dict(settings) | {_UNIT: modeling_unit(pieces)}, indent=2, default=str)
        + "\n",
        LICENCE_NOTE: LICENCE,
        "RESULTS.txt": results or "No test set has been decoded with this model yet.\n",
    }
    if tokenizer is not None:
        texts["bpe.vocab"] = vocab_text(tokenizer)
        (folder / "bpe.model").write_bytes(tokenizer.model_bytes)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def write_sample(folder: Path, cuts: Sequence[Cut]) -> bool:
    """Write the first recording that can be read, and what is said in it; say if there was one."""
    for cut in cuts:
        try:
            samples = resampled(cut.load_audio()[0], cut.sampling_rate)
        except Exception:  # whatever the sound library says of a file
            continue
        sound = io.BytesIO()
        soundfile.write(sound, samples, SAMPLING_RATE, format="WAV")
        (folder / SAMPLE).parent.mkdir()
        (folder / SAMPLE).write_bytes(sound.getvalue())
        text = " ".join(s.text or "" for s in cut.supervisions)
        (folder / SAMPLE_TEXT).write_text(f"0.wav {text}\n", encoding="utf-8")
        return True
    return False


def client_limits(layout: ExportLayout, heads: ModelConfig) -> list[str]:
    """Return what sherpa-onnx will not do with the files of a model, for the user."""
    lines = []
    if heads.use_attention_decoder:
        lines = ["the attention decoder is in pretrained.pt alone: no client runs it."]
    return [*lines, *layout.client_limits(heads.use_ctc)]


def write_readme(
    folder: Path,
    about: str,
    checks: Sequence[Check],
    layout: ExportLayout,
    has_client: bool = True,
) -> None:
    """Write how the files are used, and how they compare with the model.

    Args:
        folder: of the files.
        about: the model, in a line.
        checks: of the files.
        layout: of the files.
        has_client: whether sherpa-onnx takes what the files take.
    """
    names = sorted(path.name for path in folder.iterdir())
    wave = SAMPLE if (folder / SAMPLE).is_file() else "YOUR.wav"
    lines = [f"# {about}", ""]
    models = [words for kind in KINDS for words in _model_flags(names, kind, layout)]
    if models and has_client and layout.has_client:
        lines += _commands(models, wave, layout.is_streaming)
        if models[0][0].startswith("--encoder"):
            lines += _hot_words(folder)
    if checks:
        lines += ["Compared with the model when they were made:", "", "```", table(checks) + "```"]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _model_flags(names: Sequence[str], kind: Kind, layout: ExportLayout) -> Iterator[list[str]]:
    """Yield the flags that give the files of one precision to sherpa-onnx, for each head."""

    def file(part: str) -> str:
        fit = (n for n in names if n.startswith((f"{part}-", f"{part}.")) and n.endswith(".onnx"))
        return next((n for n in fit if kind_of(n) == kind), "")

    if file("encoder"):
        yield [f"--{part}={file(part)}" for part in ("encoder", "decoder", "joiner")]
    streaming, model = layout.is_streaming, file("model")
    if model and (layout.streams_ctc or not streaming):
        yield [f"--zipformer{'2' if streaming else ''}-ctc-model={model}"]


def _commands(models: Sequence[list[str]], wave: str, streaming: bool) -> list[str]:
    """Return how the files are run on a recording, and the first of them as a server."""
    program = "sherpa-onnx" if streaming else "sherpa-onnx-offline"
    server = f"sherpa-onnx-{'online' if streaming else 'offline'}-websocket-server --port=6006"
    lines = ["`pip install sherpa-onnx-bin` brings the programs.", ""]
    for flags in models:
        lines += _command(program, *flags, wave)
    return [*lines, "A server:", "", *_command(server, *models[0])]


def _hot_words(folder: Path) -> list[str]:
    """Return which flags cut hot-words into tokens as the model does, if the client can."""
    unit = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))[_UNIT]
    vocabulary = "" if unit == "cjkchar" else " --bpe-vocab=bpe.vocab"
    if vocabulary and not (folder / "bpe.vocab").is_file():
        return []
    flags = f"--hotwords-file=FILE --modeling-unit={unit}{vocabulary}"
    return [f"Hot-words: `--decoding-method=modified_beam_search {flags}`.", ""]


def _command(program: str, *words: str) -> list[str]:
    return ["```bash", " \\\n  ".join([f"{program} --tokens=tokens.txt", *words]), "```", ""]
