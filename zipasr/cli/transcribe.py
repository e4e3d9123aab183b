"""Write down what is said in recordings of any length, rate and common format."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from zipasr.audio.loading import Samples, Sound, load_sound
from zipasr.audio.mono import SAMPLING_RATE
from zipasr.audio.windows import Window
from zipasr.base.errors import DataError, ResourceError, UserError
from zipasr.base.files import atomic_path
from zipasr.base.log import setup_logging
from zipasr.cli.best_average import with_checkpoints
from zipasr.cli.chunkwise import ChunkRecogniser, chunk_recogniser
from zipasr.cli.commands import TRANSCRIBE, TranscribeConfig, read
from zipasr.cli.flags import guarded
from zipasr.cli.live import LiveStream, LiveText, in_pieces, pcm_pieces
from zipasr.cli.long_form import Cutting, timed_words, within, words_in
from zipasr.cli.recogniser import Recogniser, load_recogniser
from zipasr.data.live_fbank import WINDOW
from zipasr.search.methods import check_method
from zipasr.search.types import DecodingConfig
from zipasr.text.formats import FORMATS
from zipasr.text.words import Word

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
    config = run[TranscribeConfig]
    check_method(run[DecodingConfig].decoding_method)
    paths = [Path(word) for word in run.operands]
    check_names(paths, config)
    make_output_dir(config.output_dir)
    setup_logging()
    run = with_checkpoints(run, sys.stderr)
    recogniser = load_recogniser(run)
    if config.word_times == "ctc" and recogniser.model.ctc_output is None:
        raise UserError("--word-times ctc needs a CTC head, which this model has not.")
    if config.streaming or STDIN in run.operands:
        live = chunk_recogniser(run, recogniser)
        return each(paths, config, lambda path: transcribe_live(recogniser, live, path))
    return each(paths, config, lambda path: transcribe(recogniser, path, load_sound(path), config))


def each(
    paths: Sequence[Path], config: TranscribeConfig, recognise: Callable[[Path], list[Word]]
) -> int:
    """Recognise and write file by file.

    Raises:
        DataError: files could not be read; the others are done.
    """
    failed: list[str] = []
    for path in paths:
        try:
            words = recognise(path)
        except DataError as problem:
            if len(paths) == 1:
                raise
            failed.append(str(path))
            sys.stderr.write(f"{problem}\n")
            continue
        write(path, words, config)
    if failed:
        raise DataError(
            f"{len(failed)} of {len(paths)} files could not be read: {', '.join(failed[:5])}.",
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


def has_sound(samples: Samples) -> bool:
    """Say whether there is anything to recognise: models make words of silence, too."""
    return len(samples) >= WINDOW and bool(samples.any())


def transcribe(
    recogniser: Recogniser, path: Path, sound: Sound, config: TranscribeConfig
) -> list[Word]:
    """Recognise one recording; windows are told on the error stream as they are done."""
    sys.stderr.write(f"{path}: {sound.seconds:.1f} s, {sound.about}\n")
    begun = time.monotonic()
    cutting = Cutting(config.window, config.overlap, config.batch_windows)
    words = []
    if has_sound(sound.samples):
        words = words_in(recogniser, sound, cutting, config.word_times, _tell)
    spent = time.monotonic() - begun
    rtf = spent / max(sound.seconds, 1e-9)
    sys.stderr.write(f"{path}: {len(words)} words in {spent:.1f} s, RTF {rtf:.4f}\n")
    return words


def transcribe_live(recogniser: Recogniser, chunkwise: ChunkRecogniser, path: Path) -> list[Word]:
    """Recognise a file, or the standard input, as it comes; show the text as it grows.

    Raises:
        DataError: the file cannot be read, or nothing came.
    """
    if str(path) == STDIN:
        pieces = pcm_pieces(sys.stdin.buffer)
    else:
        pieces = in_pieces(load_sound(path).samples)
    stream, text, num_samples, is_silent = LiveStream(chunkwise), LiveText(), 0, True
    for samples in pieces:
        num_samples += len(samples)
        is_silent = is_silent and not samples.any()
        text.show(recogniser.tokenizer.decode([stream.push(samples).tokens])[0])
    if not num_samples:
        raise DataError(f"{path}: no sound came.", "see that the program before the pipe records.")
    seconds = num_samples / SAMPLING_RATE
    words = within(timed_words(recogniser.tokenizer, stream.finish()), seconds)
    text.close()
    sys.stderr.write(f"{path}: {seconds:.1f} s of sound\n")
    return [] if is_silent or num_samples < WINDOW else words


def write(path: Path, words: Sequence[Word], config: TranscribeConfig) -> None:
    """Write the transcript in each format: to files, or to the standard output."""
    for name in config.format:
        text = FORMATS[name](path.name, words)
        if config.output_dir is None:
            print_text(text)
            continue
        with atomic_path(config.output_dir / f"{path.stem}.{name}") as temporary:
            temporary.write_text(text, encoding="utf-8")


def print_text(text: str) -> None:
    """Write to the standard output; end when nobody reads it any more, as in ``| head``."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left in the buffer must not fail once more when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from None


def _tell(window: Window, text: str) -> None:
    sys.stderr.write(f"  {window.start:8.1f} to {window.end:8.1f} s  {text}\n")
