"""What was found in a corpus of one's own, as tables for people."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from zipasr.audio.audio_info import AudioInfo
from zipasr.audio.loading import AS_IT_IS, SAMPLING_RATE, treatment
from zipasr.audio.quarantine import LeftOut
from zipasr.base.progress import clock
from zipasr.corpora.splits import purpose_of
from zipasr.corpora.utterances import Found, Utterance
from zipasr.text.character_table import characters_text, count_characters

_MAX_EXAMPLES = 5
_CLIPPED_SHARE = 1e-3


def found_text(found: Found, facts: Mapping[Path, AudioInfo], left_out: Sequence[LeftOut]) -> str:
    """Format what a source holds: rates and channels, what was put right, what is left out."""
    sound = [of_file for of_file in facts.values() if not of_file.fault]
    length = clock(sum(of_file.seconds for of_file in sound))
    lines = [f"{found.kind}: {len(found.utterances)} utterances, {len(sound)} files, {length}"]
    kinds = Counter((f.rate, len(f.energies), treatment(f)) for f in sound)
    lines += [_row_of_kind(*kind, count) for kind, count in sorted(kinds.items())]
    clipped = sum(of_file.clipped > _CLIPPED_SHARE for of_file in sound)
    if clipped:
        lines.append(f"  {clipped} files are clipped: more than 0.1 % of the samples at full scale")
    lines += [f"  {count} {what}" for what, count in sorted(found.notes.items())]
    return "\n".join([*lines, *left_out_lines(left_out)])


def left_out_lines(left_out: Sequence[LeftOut]) -> list[str]:
    """Format what is left out: one line for each reason, with a count and examples."""
    groups: dict[str, list[str]] = defaultdict(list)
    for row in left_out:
        groups[row.reason].append(row.utterance or row.path)
    return [
        f"  left out {len(names)}: {reason}, e.g. {', '.join(names[:_MAX_EXAMPLES])}"
        for reason, names in sorted(groups.items(), key=lambda item: -len(item[1]))
    ]


def splits_text(
    splits: Mapping[str, Sequence[Utterance]], seconds: Callable[[Utterance], float]
) -> str:
    """Format the splits, and the characters of the training transcripts."""
    lines = []
    for split, rows in sorted(splits.items()):
        speakers = {row.speaker for row in rows} - {None}
        known = f", {len(speakers)} speakers" if speakers else ""
        length = clock(sum(map(seconds, rows)))
        lines.append(f"split {split}: {len(rows)} utterances, {length}{known}")
    is_training = {split: purpose_of(split) == "train" for split in splits}
    texts = {
        wanted: [row.text for split, rows in splits.items() for row in rows
                 if is_training[split] is wanted]
        for wanted in (True, False)
    }  # fmt: skip
    counts = count_characters(texts[True])
    lines.append(characters_text(counts, count_characters(texts[False])))
    return "\n".join(lines)


def _row_of_kind(rate: int, channels: int, what: str, count: int) -> str:
    to_rate = "" if rate == SAMPLING_RATE else f" -> {SAMPLING_RATE} Hz"
    narrow = "; narrow-band: nothing above half its rate" if rate < SAMPLING_RATE else ""
    plural = "channel" if channels == 1 else "channels"
    how = "" if what == AS_IT_IS else f", {what}"
    return f"  {rate} Hz, {channels} {plural}: {count} files{to_rate}{how}{narrow}"
