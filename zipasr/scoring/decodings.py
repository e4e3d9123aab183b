"""Decoded test sets as files for reports: one JSON object per utterance and a line of figures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from zipasr.base.errors import DataError, UserError
from zipasr.base.files import atomic_path, write_text
from zipasr.scoring.record_checks import RECORD_CHECKS, SETTING_CHECKS, checked
from zipasr.scoring.result_files import AS_WRITTEN
from zipasr.scoring.word_errors import AlignedPair, WordErrors, align, errors_of
from zipasr.text.timed_words import Token, Word, words_of_tokens


@dataclass(frozen=True, kw_only=True)
class UtteranceRecord:
    """One utterance as it was decoded.

    Attributes:
        id: of the cut.
        ref: words that were said.
        hyp: words recognised.
        duration: seconds.
        speaker: empty if unknown.
        audio: path of the recording; empty if unknown.
        start: second of the recording at which the utterance begins.
        tokens: pieces recognised.
        times: for each piece, seconds from the beginning of the utterance.
        log_prob: of ``tokens``, in nats.
        shown: of a stream, for each recognised word the second at which it was shown for good.
        changed: of a stream, how many words were replaced or taken back after they were shown.
        ref_ends: for each word that was said, the second at which its sound ends; empty if that
            is not known.
        confidences: of ``hyp``, 0 to 1; empty if they are unknown.
    """

    id: str
    ref: Sequence[str]
    hyp: Sequence[str]
    duration: float = 0.0
    speaker: str = ""
    audio: str = ""
    start: float = 0.0
    tokens: Sequence[str] = ()
    times: Sequence[float] = ()
    log_prob: float | None = None
    shown: Sequence[float] = ()
    changed: int = 0
    ref_ends: Sequence[float] = ()
    confidences: Sequence[float] = ()

    @cached_property
    def alignment(self) -> list[AlignedPair]:
        """Reference and recognised words side by side."""
        return align(self.ref, self.hyp)

    @cached_property
    def errors(self) -> WordErrors:
        """Errors of this utterance."""
        return errors_of([self.alignment])

    @property
    def word_times(self) -> list[float]:
        """For each recognised word, the second of its first token; empty if they do not fit."""
        return [word.start for word in self._timed_words]

    @property
    def emitted(self) -> list[float]:
        """For each recognised word, the second of its last token; empty if they do not fit."""
        return [word.end for word in self._timed_words]

    @property
    def _timed_words(self) -> list[Word]:
        tokens = [Token(p, t, t) for p, t in zip(self.tokens, self.times, strict=False)]
        words = words_of_tokens(tokens)
        return words if len(words) == len(self.hyp) else []


def records_name(test_set: str, suffix: str) -> str:
    """Return the name of the file of one test set, beside its other result files."""
    return f"utterances-{test_set}-{suffix}.jsonl"


def write_records(path: Path, records: Iterable[UtteranceRecord]) -> None:
    """Write a file with one record per line."""
    # Half a character, as names have that are not UTF-8, is written as JSON escapes it.
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace") as file,
    ):
        for record in records:
            file.write(json.dumps(asdict(record), ensure_ascii=False) + "\n")


def read_records(path: Path) -> list[UtteranceRecord]:
    """Read what ``write_records`` wrote.

    Raises:
        DataError: the file is missing, or a line is not a record.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as problem:
        raise DataError(f"{path} cannot be read: {problem}.", "run decode.py first.") from problem
    records = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            records.append(UtteranceRecord(**checked(json.loads(line), RECORD_CHECKS)))
        except (ValueError, TypeError, RecursionError) as problem:
            raise DataError(
                f"{path}, line {number} is not a decoded utterance: {problem}.",
                "run decode.py again.",
            ) from problem
    return records


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Test set, method and settings of a decoding.

    Attributes:
        test_set: name of the split.
        key: method and its numbers, and the language model's.
        suffix: of the result files.
        model: a line on the model.
        rtf: seconds of computing per second of speech.
        decoded_at: date and time, for people.
        scoring: how words were compared.
        chunk_seconds: of new sound in a chunk, if it was streamed.
        chunk_computing: seconds that a chunk of one stream took to compute, if it was streamed.
        calibration: what the confidence of words was calibrated on; empty if it was not.
        hot_words: words of the phrases that the search preferred; empty without any.
    """

    test_set: str
    key: str
    suffix: str
    model: str = ""
    rtf: float | None = None
    decoded_at: str = ""
    scoring: str = ""
    chunk_seconds: float | None = None
    chunk_computing: float | None = None
    calibration: str = ""
    hot_words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decoding:
    """A decoding setting with its results.

    Attributes:
        setting: how a test set was decoded.
        records: its utterances.
        is_streamed: whether they were decoded chunk by chunk, as speech comes.
    """

    setting: Setting
    records: Sequence[UtteranceRecord]
    is_streamed: bool = False

    @property
    def details(self) -> list[str]:
        """All that is known of how it was made, a word for each fact."""
        return ["streamed"] * self.is_streamed + self.setting.suffix.replace("_", " ").split()


def write_decoding(folder: Path, decoding: Decoding) -> None:
    """Write the two files of a decoding into the folder of its method."""
    setting = decoding.setting
    write_records(folder / records_name(setting.test_set, setting.suffix), decoding.records)
    write_text(folder / _setting_name(setting), json.dumps(asdict(setting), indent=1) + "\n")


def decoding_files(exp_dir: Path) -> list[Path]:
    """Return the files of the decodings of a training run."""
    return sorted(exp_dir.glob("**/setting-*.json"))


def read_decodings(exp_dir: Path) -> list[Decoding]:
    """Read all decodings of a training run, sorted by test set and error rate.

    An oracle, which has seen the reference, is no result and comes after them.

    Raises:
        UserError: there is none, or no such folder.
        DataError: a file is damaged or missing.
    """
    decodings = [_read(exp_dir, path) for path in decoding_files(exp_dir)]
    if not exp_dir.is_dir():
        raise UserError(f"the folder {exp_dir} does not exist.", "choose another --exp-dir.")
    if not decodings:
        raise UserError(f"{exp_dir} holds no decoding to report on.", "run decode.py first.")
    return sorted(decodings, key=_by_set_and_rate)


def by_test_set(decodings: Iterable[Decoding]) -> dict[str, list[Decoding]]:
    """Group decodings by test set."""
    groups: dict[str, list[Decoding]] = {}
    for decoding in decodings:
        groups.setdefault(decoding.setting.test_set, []).append(decoding)
    return groups


def labels(decodings: Sequence[Decoding]) -> list[str]:
    """Name each decoding of a test set by its method, and by what no other of this method has.

    Epoch, chunk size and whether speech was streamed are told where several decodings differ in
    them, and nowhere else; that words were not compared as they are written, where some were.
    """
    names, scorings = [], {decoding.setting.scoring for decoding in decodings}
    for decoding in decodings:
        key = decoding.setting.key
        alike = [set(other.details) for other in decodings if other.setting.key == key]
        common = set.intersection(*alike)
        name = " ".join([key, *(word for word in decoding.details if word not in common)])
        is_told = len(scorings) > 1 and decoding.setting.scoring != AS_WRITTEN
        names.append(f"{name} ({decoding.setting.scoring})" if is_told else name)
    return names


def _setting_name(setting: Setting) -> str:
    return f"setting-{setting.test_set}-{setting.suffix}.json"


def _read(exp_dir: Path, path: Path) -> Decoding:
    try:
        setting = Setting(**checked(json.loads(path.read_text(encoding="utf-8")), SETTING_CHECKS))
    except (OSError, ValueError, TypeError, RecursionError) as problem:
        raise DataError(f"{path} is damaged: {problem}.", "run decode.py again.") from problem
    name = records_name(setting.test_set, setting.suffix)
    is_streamed = "streaming" in path.relative_to(exp_dir).parts
    # Whatever the order of decoding, the same results give the same intervals.
    records = sorted(read_records(path.with_name(name)), key=lambda record: record.id)
    return Decoding(setting, records, is_streamed)


def _by_set_and_rate(decoding: Decoding) -> tuple[str, bool, float, str]:
    errors = sum(record.errors.total for record in decoding.records)
    words = sum(record.errors.ref_words for record in decoding.records)
    key = decoding.setting.key
    return decoding.setting.test_set, "oracle" in key, errors / max(1, words), key
