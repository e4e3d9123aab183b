"""Write down what is said in recordings of any length, rate and common format."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from zipasr.audio.loading import load_sound
from zipasr.audio.segmentation import Window
from zipasr.base.constants import SAMPLING_RATE
from zipasr.base.errors import DataError, ResourceError, UserError
from zipasr.base.files import sweep, write_text
from zipasr.base.log import setup_logging
from zipasr.cli.command_flags import read
from zipasr.cli.config import TranscribeConfig
from zipasr.cli.entry import guarded
from zipasr.cli.live import LiveText, pcm_pieces
from zipasr.cli.recognition_commands import TRANSCRIBE, recognition_config
from zipasr.recognition.config import (
    EndpointConfig,
    LongFormConfig,
    ModelFileConfig,
    RecognitionConfig,
)
from zipasr.recognition.exported_files import check_settings
from zipasr.recognition.long_form import Cutting
from zipasr.recognition.sherpa_model import load_sherpa_model, sherpa_config
from zipasr.recognition.speech_stream import in_pieces
from zipasr.search.methods import method_of
from zipasr.text.timed_words import Word
from zipasr.text.transcript_formats import ALIGNMENT_FORMATS, FORMATS, Format

if TYPE_CHECKING:
    from zipasr.recognition.speech_model import Model

Work: TypeAlias = Callable[[Path], Sequence[Word] | None]
"""Words of the recording in a file; none where they have been written already."""

STDIN = "-"


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Transcribe files one after the other; one that cannot be read does not stop the others.

    Raises:
        UserError: flags are wrong, or two files would be written to one.
        ResourceError: the results cannot be written.
        CheckpointError: no such model.
        DataError: files could not be read; the others are done.
    """
    run = read(TRANSCRIBE, argv)
    config, settings = run[TranscribeConfig], recognition_config(run)
    method_of(settings.decoding.decoding_method)
    paths = [Path(word) for word in run.operands]
    check_names(paths, config)
    transcript = None if config.align is None else transcript_of(config.align)
    check_operands(run.operands, config)
    make_output_dir(config.output_dir)
    setup_logging()
    model = load(run[ModelFileConfig], settings, run[LongFormConfig], config)
    if transcript is not None:
        return each(paths, config, aligner(model, transcript), ALIGNMENT_FORMATS)
    is_live = config.streaming or STDIN in run.operands or model.hears_chunks
    if is_live:
        model.stream()  # refuses a model that cannot
    work: Work = partial(transcribe, model)
    if is_live:
        is_told = config.format == ("txt",) and config.output_dir is None
        work = partial(transcribe_live, model, run[EndpointConfig], is_told=is_told)
    return each(paths, config, work, FORMATS)


def load(
    place: ModelFileConfig,
    settings: RecognitionConfig,
    long: LongFormConfig,
    config: TranscribeConfig,
) -> Model:
    """Load the model that the flags name: an exported one without torch, if that can be.

    Args:
        place: exported files, if any.
        settings: of model and search.
        long: how recordings are cut, and where words begin.
        config: what is written where.
    """
    cutting, times = Cutting(long.window, long.overlap, config.batch_windows), long.word_times
    if place.is_given:
        check_settings(place, settings)
        is_plain = config.align is None and not config.streaming and times != "ctc"
        client = sherpa_config(place, settings, {*config.format} == {"txt"}) if is_plain else None
        if client is not None and place.model is not None:
            return load_sherpa_model(place.model, client, cutting)
    # Nothing above needs torch, whose import takes longer than a sentence.
    from zipasr.checkpoint.checkpoint_file import reader_of_parts
    from zipasr.recognition.best_average import with_checkpoints
    from zipasr.recognition.torch_model import load_model_file, load_torch_model

    if place.is_given:
        needs_ctc = config.align is not None and times != "transducer"
        return load_model_file(place, settings, cutting, times, needs_ctc)
    read = reader_of_parts()
    settings = with_checkpoints(settings, sys.stderr, read)
    model = load_torch_model(settings, cutting, times, read)
    calibration = model.recogniser.calibration
    is_shown = "json" in config.format and config.align is None
    if calibration is not None and is_shown:
        sys.stderr.write(f"{calibration.about}\n")
    return model


def transcript_of(text: str) -> str:
    """Return the words of --align: what the file of that name holds, or the words themselves.

    Raises:
        DataError: the file is missing or no text, or there are no words.
    """
    words = text
    if _is_file(text):
        try:
            words = Path(text).read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as problem:
            raise DataError(f"--align {text} is not UTF-8 text.", "convert it first.") from problem
    elif text.endswith(".txt"):
        raise DataError(f"there is no file --align {text}.", "see that the path is right.")
    if not words.split():
        raise DataError("--align: there are no words in the transcript.", "give what was said.")
    return " ".join(words.split())


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a name, or with characters that no name has
        return False


def check_operands(operands: Sequence[str], config: TranscribeConfig) -> None:
    """Refuse what a transcript cannot be aligned with.

    Raises:
        UserError: there are several recordings, or one that is still to come.
    """
    if config.align is None:
        return
    if len(operands) > 1:
        raise UserError(
            f"--align is the transcript of one recording, there are {len(operands)}.",
            "align them one after the other.",
        )
    if STDIN in operands:
        raise UserError("--align needs the whole recording.", "give the name of a file.")


def aligner(model: Model, transcript: str) -> Work:
    """Return what turns a recording into the words of a transcript with their times.

    Raises:
        DataError: the model has no tokens for the transcript.
        UserError: the model works chunk by chunk.
    """
    from zipasr.recognition.alignment import tokens_of
    from zipasr.recognition.torch_model import TorchModel

    if not isinstance(model, TorchModel):
        raise UserError(
            "--align needs whole recordings, the model in the file works chunk by chunk.",
            "use --checkpoint, or export the model with --chunk-size -1 --left-context-frames -1.",
        )
    tokens_of(transcript, model.tokenizer)  # before any recording is read

    def work(path: Path) -> Sequence[Word]:
        sound = load_sound(path)
        sys.stderr.write(f"{path}: {sound.seconds:.1f} s, {sound.about}\n")
        return model.align((sound.samples, SAMPLING_RATE), transcript)

    return work


def each(
    paths: Sequence[Path],
    config: TranscribeConfig,
    work: Work,
    formats: Mapping[str, Format],
) -> int:
    """Work on file by file, and write what was found.

    Args:
        paths: of the recordings.
        config: what is written where.
        work: turns one recording into words.
        formats: by name, what makes text of the name of a file and words.

    Raises:
        DataError: files could not be read; the others are done.
    """
    failed: list[str] = []
    for path in paths:
        try:
            words = work(path)
        except DataError as problem:
            if len(paths) == 1:
                raise
            failed.append(str(path))
            sys.stderr.write(f"{problem}\n")
            continue
        if words is None:
            continue
        texts = {name: formats[name](path.name, words) for name in config.format}
        write(path, texts, config.output_dir)
    if failed:
        raise DataError(
            f"{len(failed)} of {len(paths)} files could not be read: {', '.join(failed[:5])}"
            f"{' and others' * (len(failed) > 5)}.",
            "the reasons stand above; the other files are done.",
        )
    return 0


def check_names(paths: Sequence[Path], config: TranscribeConfig) -> None:
    """Refuse files whose results would have one name.

    Raises:
        UserError: there are two.
    """
    if config.output_dir is None:
        return
    first: dict[str, Path] = {}
    for path in paths:
        other = first.setdefault(path.stem, path)
        if other != path:
            raise UserError(
                f"the results of {other} and {path} would have the same name.",
                "transcribe them into different --output-dir.",
            )


def make_output_dir(folder: Path | None) -> None:
    """Make the folder of the results; that it cannot be made is known before hours of work.

    Raises:
        ResourceError: it cannot, or cannot be written to.
    """
    if folder is None:
        return
    problem = "it is read-only"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as refusal:
        problem = str(refusal.strerror)
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ResourceError(
            f"--output-dir {folder} cannot be used: {problem}.",
            "name a folder that you may write to.",
        )
    sweep(folder)


def transcribe(model: Model, path: Path) -> list[Word]:
    """Recognise one recording; windows are told on the error stream as they are done."""
    sound = load_sound(path)
    sys.stderr.write(f"{path}: {sound.seconds:.1f} s, {sound.about}\n")
    begun = time.monotonic()
    words = model.words_of(sound, _tell)
    spent = time.monotonic() - begun
    rtf = spent / max(sound.seconds, 1e-9)
    sys.stderr.write(f"{path}: {len(words)} words in {spent:.1f} s, RTF {rtf:.4f}\n")
    return words


def transcribe_live(
    model: Model, rules: EndpointConfig, path: Path, is_told: bool
) -> Sequence[Word] | None:
    """Recognise a file, or the standard input, as it comes; show the text as it grows.

    An utterance that has ended is written at once, as a line with its times.

    Args:
        model: causal.
        rules: which say when an utterance has ended.
        path: of the file.
        is_told: whether these lines are the result, to the standard output; else they are shown
            as what is said so far.

    Returns:
        The words, where the result is still to be written.

    Raises:
        DataError: the file cannot be read, or nothing came.
    """
    is_stdin = str(path) == STDIN
    if is_stdin:
        pieces = pcm_pieces(sys.stdin.buffer)
    else:
        sound = load_sound(path)
        sys.stderr.write(f"{path}: {sound.seconds:.1f} s, {sound.about}\n")
        pieces = in_pieces(sound.samples)
    has_ends = is_stdin if rules.enable_endpoint is None else rules.enable_endpoint
    tell = print_text if is_told else sys.stderr.write
    text = LiveText(tell if has_ends else None)
    stream = model.stream(**asdict(replace(rules, enable_endpoint=has_ends)))
    for samples in pieces:
        stream.accept(samples)
        text.update(stream)
    if not stream.seconds:
        raise DataError(f"{path}: no sound came.", "see that the program before the pipe records.")
    words = stream.finish().words
    text.end(stream)
    if is_stdin:
        sys.stderr.write(f"{path}: {stream.seconds:.1f} s of sound\n")
    return None if has_ends and is_told else words


def write(path: Path, texts: Mapping[str, str], folder: Path | None) -> None:
    """Write the text of each format: to files in a folder, or to the standard output."""
    for name, text in texts.items():
        if folder is None:
            print_text(text)
            continue
        write_text(folder / f"{path.stem}.{name}", text)


def print_text(text: str) -> None:
    """Write to the standard output at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def _tell(window: Window, text: str) -> None:
    sys.stderr.write(f"  {window.start:8.1f} to {window.end:8.1f} s  {text}\n")
