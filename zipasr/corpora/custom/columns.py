"""Columns of tables and fields of JSON lines: their known names, and utterances made of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from zipasr.corpora.custom.audio_files import is_sound
from zipasr.corpora.custom.utterances import NO_TEXT, RowFault, Utterance, is_held_out

# The first name is ours; the others are what well-known corpora call the same thing.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "audio": (
        "audio", "audio_filepath", "audio_path", "audio_file", "audio_filename", "audio_file_path",
        "path", "file", "filepath", "file_path", "filename", "file_name", "wav", "wav_path",
        "wav_file", "wav_filepath", "wav_filename", "sound", "clip", "recording",
    ),
    "text": (
        "text", "transcript", "transcription", "sentence", "normalized_text", "raw_text",
        "tgt_text", "wrd", "txt", "raw_transcription", "normalized_transcript", "label",
    ),
    "id": ("id", "utt_id", "utt", "utterance", "utterance_id", "uttid", "segment_id", "key"),
    "start": ("start", "begin", "start_time", "begin_time", "onset", "offset"),
    "end": ("end", "stop", "end_time", "stop_time"),
    "duration": ("duration", "dur"),
    "speaker": ("speaker", "speaker_id", "spk", "spk_id", "client_id", "speaker_name"),
    "split": ("split", "subset", "set", "partition"),
    "channel": ("channel", "channel_id", "chan", "ch", "channel_selector"),
}  # fmt: skip
TIMES = ("start", "end", "duration")

NO_AUDIO = "no sound file is named"
NOT_A_TIME = "a time that is no number of seconds"
REVERSED = "ends before it starts"
NEGATIVE = "starts before its file"
NO_START = "its start is empty, its end is not"
CONTRADICTION = "start and duration give another end than the column of ends"
NOT_A_CHANNEL = "a channel that is no number from 0 and no letter"

# Times in tables are rounded.
ROUNDING_SECONDS = 0.1

_UNIT = re.compile(r"[_ ]?[\[(]?(?:_|\b)(ms|msec|millis|milliseconds|s|sec|secs|seconds)[\])]?$")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_CLOCK = re.compile(r"(\d{1,4}):([0-5]\d):([0-5]\d(?:[.,]\d+)?)", re.ASCII)
_EMPTY = {"", "nan", "none", "null", "na", "n/a", "<na>", "nat", "-"}
_LETTERS = {"left": 0, "right": 1, "l": 0, "r": 1}
_LOOKS_LIKE_TIME = re.compile(r"start|begin|end|stop|onset|offset|dur|time|sample|frame|length")


@dataclass(frozen=True, slots=True)
class Column:
    """A column that is used.

    Attributes:
        index: place in the row.
        name: as the source writes it.
        factor: seconds of one unit, for times.
    """

    index: int
    name: str
    factor: float = 1.0


class Columns(NamedTuple):
    """Columns by what they mean, and the names of those that are not used."""

    known: dict[str, Column]
    unused: list[str]


def match_columns(names: Sequence[str]) -> Columns:
    """Find the columns that are understood; upper case, blanks and hyphens do not matter."""
    plain = [_plain(name) for name in names]
    known: dict[str, Column] = {}
    for ours, aliases in _aliases(plain).items():
        for alias in aliases:
            places = [i for i, name in enumerate(plain) if name == alias and i not in _used(known)]
            if not places and ours in TIMES:
                places = [i for i, name in enumerate(plain) if _without_unit(name)[0] == alias]
            if places:
                factor = _without_unit(plain[places[0]])[1] if ours in TIMES else 1.0
                known[ours] = Column(places[0], names[places[0]], factor)
                break
    return Columns(known, [_unused(names, plain, i, known) for i in range(len(names))
                           if i not in _used(known)])  # fmt: skip


def _used(known: Mapping[str, Column]) -> set[int]:
    return {column.index for column in known.values()}


def _aliases(plain: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    # "offset" is where NeMo's utterances start; beside "onset" it is where they end.
    if "onset" in plain and "offset" in plain:
        return {**COLUMNS, "start": ("onset",), "end": ("offset",)}
    return COLUMNS


def _plain(name: str) -> str:
    return re.sub(r"[\s\-]+", "_", name.strip().lower())


def _without_unit(name: str) -> tuple[str, float]:
    match = _UNIT.search(name)
    if not match:
        return name, 1.0
    return name[: match.start()].rstrip("_"), 1e-3 if match[1].startswith("m") else 1.0


def _unused(
    names: Sequence[str], plain: Sequence[str], index: int, known: Mapping[str, Column]
) -> str:
    if not plain[index]:
        return f"column {index + 1}, which has no name"
    said = f"{names[index]!r}"
    if plain.count(plain[index]) > 1:
        return f"{said} (column {index + 1}; there are several of that name)"
    for ours, aliases in COLUMNS.items():
        if plain[index] in aliases and ours in known:
            return f"{said} ({known[ours].name!r} is used for the same)"
    if _LOOKS_LIKE_TIME.search(plain[index]):
        return f"{said} (if it is a time, call it start, end or duration and give seconds)"
    return said


def utterance_of(
    values: Mapping[str, str],
    columns: Columns,
    find: Callable[[str], Path],
    where: str,
) -> Utterance:
    """Make an utterance of a row.

    Args:
        values: meaning (key of ``COLUMNS``) -> field, blanks at its ends removed.
        columns: of the source.
        find: returns the sound file of a name; raises ``RowFault`` when there is none.
        where: file and line.

    Raises:
        RowFault: the row cannot be used.
    """
    name = values.get("audio") or values.get("id", "")
    if not name:
        raise RowFault(NO_AUDIO)
    split = _name(values.get("split"))
    if not (values.get("text") or is_held_out(split)):
        raise RowFault(NO_TEXT)
    start, end = _times(values, columns)
    channel = channel_of(values.get("channel", ""))
    return Utterance(
        id=values.get("id") or id_of(name, start, end, channel),
        audio=find(name),
        text=values.get("text", ""),
        start=start or 0.0,
        end=end,
        channel=channel,
        speaker=_name(values.get("speaker")),
        split=split,
        where=where,
    )


def _name(word: str | None) -> str | None:
    return None if word is None or word.lower() in _EMPTY else word


def _times(values: Mapping[str, str], columns: Columns) -> tuple[float | None, float | None]:
    """Return start and end in seconds; None where the row says nothing."""
    start, end, duration = (
        seconds_of_word(values.get(name, ""), columns.known[name].factor)
        if name in columns.known else None
        for name in TIMES
    )  # fmt: skip
    if start is None and "start" in columns.known and (end, duration) != (None, None):
        raise RowFault(NO_START, f"it ends at {end:g} s" if end is not None else "")
    if duration is not None:
        if duration <= 0:
            raise RowFault(REVERSED, f"its duration is {duration:g} s")
        by_duration = round((start or 0.0) + duration, 6)
        if end is not None and abs(end - by_duration) > ROUNDING_SECONDS:
            raise RowFault(CONTRADICTION, f"{by_duration:g} s and {end:g} s")
        end = by_duration if end is None else end
    return check_times(start, end)


def check_times(start: float | None, end: float | None) -> tuple[float | None, float | None]:
    """Return the times of an utterance, a start within rounding as 0.

    Raises:
        RowFault: there is nothing between them, or it lies before the file.
    """
    if start is not None and start < 0:
        if start < -ROUNDING_SECONDS:
            raise RowFault(NEGATIVE, f"at {start:g} s")
        start = 0.0
    if end is not None and end <= (start or 0.0):
        raise RowFault(REVERSED, f"{start or 0.0:g} s to {end:g} s")
    return start, end


def seconds_of_word(word: str, factor: float = 1.0) -> float | None:
    """Return the seconds that a field gives; None when it is empty (or nan, null ...).

    Hours, minutes and seconds may be written as in 1:02:03.5; 2:03 could be hours or minutes.

    Raises:
        RowFault: it is no number.
    """
    word = word.strip()
    if word.lower() in _EMPTY:
        return None
    if clock := _CLOCK.fullmatch(word):
        hours, minutes, seconds = clock.groups()
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds.replace(",", "."))
    if not (word.isascii() and _NUMBER.fullmatch(word)):
        raise RowFault(NOT_A_TIME, repr(word[:40]))
    value = float(word) * factor
    # More than ten years: the field is something else.
    if abs(value) > 3e8:
        raise RowFault(NOT_A_TIME, repr(word[:40]))
    return value


def channel_of(word: str) -> int | None:
    """Return the number of a channel, from 0; None when none is named.

    Letters count from A, as in telephone corpora.

    Raises:
        RowFault: it is no channel.
    """
    plain = word.strip().lower()
    if plain in _EMPTY or plain == "-1":
        return None
    if plain in _LETTERS:
        return _LETTERS[plain]
    if len(plain) == 1 and "a" <= plain <= "h":
        return ord(plain) - ord("a")
    if re.fullmatch(r"[0-9]{1,3}(\.0*)?", plain):
        return int(float(plain))
    raise RowFault(NOT_A_CHANNEL, repr(word[:40]))


def id_of(name: str, start: float | None, end: float | None, channel: int | None) -> str:
    """Name an utterance after its file, folders included, its milliseconds and its channel."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    stem = "-".join(part for part in parts if part not in ("/", ".", ".."))
    stem = stem.removesuffix(PurePosixPath(stem).suffix) if is_sound(stem) else stem
    words = [stem.strip("-.") or "utterance"]
    if start is not None:
        words += [f"{round(time * 1000):07d}" for time in (start, end) if time is not None]
    if channel is not None:
        words.append(f"ch{channel}")
    return "-".join(words)
