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
from zipasr.audio.sound_profile import PROFILE
from zipasr.base.constants import SAMPLING_RATE
from zipasr.base.errors import ResourceError, UserError, is_disk_full
from zipasr.base.files import flush_files
from zipasr.base.lock import only_run_in
from zipasr.encoder.protocol import ExportLayout
from zipasr.exporting.clients import (
    KEYWORDS,
    MODELING_UNIT,
    ONNX_ASR,
    PAGE,
    UNIT,
    ExportedFiles,
    page_of_commands,
)
from zipasr.exporting.parity import Check, table
from zipasr.model.config import ModelConfig
from zipasr.recognition.export_check import (
    CONFIDENCE,
    FILES,
    SAMPLE,
    SAMPLE_TEXT,
    SETTINGS,
    stamps_of,
)
from zipasr.recognition.exported_files import modeling_unit
from zipasr.text.bpe import vocab_text
from zipasr.text.tokenizer import Tokenizer, tokens_text, unit_of

LICENCE_NOTE = "LICENSE.md"
#: The export in the making and the one that it replaces, in a folder beside it.
_NEW, _OLD = "new", "old"

#: All that an export writes, and the links that a command of its README makes.
_WRITTEN = (
    SETTINGS,
    LICENCE_NOTE,
    "README.md",
    "RESULTS.txt",
    PROFILE,
    CONFIDENCE,
    "pretrained.pt",
    "jit_script*.pt",
    "*.onnx",
    "tokens.txt",
    "bpe.model",
    "bpe.vocab",
    SAMPLE,
    SAMPLE_TEXT,
    PAGE,
    KEYWORDS,
    f"{ONNX_ASR}/*",
    "log.txt",  # of the server
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
            _write_stamps(new)
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
    """Leave alone what an export did not write: other programs write a config.json too.

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
    units = {UNIT: unit_of(pieces), MODELING_UNIT: modeling_unit(pieces)}
    texts = {
        "tokens.txt": tokens_text(pieces),
        SETTINGS: json.dumps(dict(settings) | units, indent=2, default=str) + "\n",
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


def _write_stamps(folder: Path) -> None:
    """Add sizes and hashes of the files to the settings: loading the folder compares them."""
    path = folder / SETTINGS
    settings = json.loads(path.read_text(encoding="utf-8")) | {FILES: stamps_of(folder)}
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def client_limits(layout: ExportLayout, heads: ModelConfig) -> list[str]:
    """Return what sherpa-onnx will not do with the files of a model, for the user."""
    lines = []
    if heads.use_attention_decoder:
        lines = ["the attention decoder is in pretrained.pt alone: no client runs it."]
    return [*lines, *layout.limits, *(layout.ctc_limits if heads.use_ctc else ())]


def write_readme(about: str, checks: Sequence[Check], files: ExportedFiles) -> None:
    """Write how the files are used, and how they compare with the model.

    Args:
        about: the model, in a line.
        checks: of the files.
        files: the folder; commands are for a shell in it.
    """
    if any(files.folder.glob("*.onnx")):
        shutil.copyfile(Path(__file__).with_name(PAGE), files.folder / PAGE)
    lines = [f"# {about}", "", *page_of_commands(files)]
    if checks:
        lines += ["## Compared with the model", "", "When the files were made:", ""]
        lines += ["```", table(checks) + "```"]
    (files.folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
