"""Report of an import as Markdown, and as a page on which transcripts are heard."""

from __future__ import annotations

import base64
import io
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import soundfile
from jinja2 import Environment, PackageLoader, StrictUndefined

from zipasr.audio.audio_info import CLIPPED_SHARE
from zipasr.audio.loading import AS_IT_IS, treatment
from zipasr.base.constants import SAMPLING_RATE
from zipasr.base.files import write_text
from zipasr.base.progress import clock
from zipasr.corpora.custom.checks import ScannedCorpus
from zipasr.corpora.custom.utterances import Dropped, Utterance, purpose_of
from zipasr.text.characters import characters_text, count_characters

REPORT = "import-report.md"
PAGE = "import-report.html"

BY_CHANNEL = "each taken for itself"
_FEW = 5
# Of each kind; quarantine.tsv has all that are left out.
_MANY = 200
_IDS = (
    "An utterance keeps the id that the source gives it. Others are called after their file, "
    "folders included, then the milliseconds of start and end and the channel, as far as the "
    "source gives them. Where that is the id of another utterance, -2, -3 ... is added, in the "
    "order of the source."
)


def short_report(seen: ScannedCorpus) -> str:
    """Format a report for a terminal: counts, and a few examples of each kind."""
    suspicious = [
        f"  worth a look, {len(one.examples)}: {one.kind}, e.g. "
        + ", ".join(utterance.id for utterance, _ in one.examples[:_FEW])
        for one in seen.suspects
    ]
    unused, odd = "; ".join(_unused(seen)), _unusual(seen)
    lines = [
        *_found(seen),
        *(f"  {note}" for note in (*seen.found.notes_text(), *seen.respelled)),
        *([f"  not used: {unused}"] if unused else []),
        *_dropped_lines(seen.dropped),
        *suspicious,
        *([f"  unusual files, {len(odd)}: {'; '.join(odd[:_FEW])}"] if odd else []),
        *seen.told,
        *_splits(seen),
        _characters(seen),
    ]
    return "\n".join(lines)


def write_report(folder: Path, seen: ScannedCorpus) -> Path:
    """Write ``import-report.md`` with file and line of all that is worth a look; return its path.

    Args:
        folder: of the report.
        seen: after its scan, with splits or without.
    """
    path = folder / REPORT
    write_text(path, "\n".join(_paragraphs(seen)) + "\n")
    return path


def _paragraphs(seen: ScannedCorpus) -> list[str]:
    made = [*seen.told, *(_splits(seen) if all(u.split for u in seen.utterances) else [])]
    lost = sum(one.lost for one in seen.dropped)
    odd = [_plain(line) for line in _unusual(seen)]
    return [
        "# Import report",
        "",
        *_list(line.strip() for line in _found(seen)),
        *_section("Splits", made),
        *_section("Changed", [*seen.found.notes_text(), *map(_example, seen.respelled)]),
        *_section("Not used", _unused(seen)),
        *_section(f"Left out: {lost}", _all_dropped(seen.dropped)),
        *_section("Worth a look", _all_suspects(seen)),
        *_section("Unusual sound files", [*odd[:_MANY], *_more(len(odd), "")]),
        *_section("Ids", [_IDS]),
        *_section("Listen", [f"[Ten transcripts beside their sound]({PAGE})"]),
    ]


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return ["", f"## {title}", "", *_list(lines or ["nothing"])]


def _list(lines: Iterable[str]) -> list[str]:
    return [line if line.startswith("  ") else f"- {line}" for line in lines]


def _example(line: str) -> str:
    """Return a line on spellings; examples stand below the one that they belong to."""
    return f"  - {_plain(line)}" if line.startswith("  ") else _plain(line)


def _found(seen: ScannedCorpus) -> list[str]:
    """Say what a source holds: hours, rates, channels."""
    sound = [of_file for of_file in seen.facts.values() if not of_file.fault]
    length = clock(sum(of_file.seconds for of_file in sound))
    spoken = clock(sum(map(seen.seconds, seen.utterances)))
    lines = [
        f"{seen.found.kind}: {len(seen.utterances)} utterances, {spoken}; {len(sound)} files, "
        f"{length}"
    ]
    by_channel = {u.audio for u in seen.utterances if u.channel is not None}
    kinds = Counter(
        (f.rate, len(f.energies), BY_CHANNEL if path in by_channel else treatment(f))
        for path, f in seen.facts.items() if not f.fault
    )  # fmt: skip
    lines += [_row_of_kind(*kind, count) for kind, count in sorted(kinds.items())]
    clipped = sum(of_file.clipped > CLIPPED_SHARE for of_file in sound)
    if clipped:
        lines.append(f"  {clipped} files are clipped: more than 0.1 % of the samples at full scale")
    return lines


def _row_of_kind(rate: int, channels: int, what: str, count: int) -> str:
    to_rate = "" if rate == SAMPLING_RATE else f" -> {SAMPLING_RATE} Hz"
    narrow = "; narrow-band: nothing above half its rate" if rate < SAMPLING_RATE else ""
    plural = "channel" if channels == 1 else "channels"
    how = "" if what == AS_IT_IS else f", {what}"
    return f"  {rate} Hz, {channels} {plural}: {count} files{to_rate}{how}{narrow}"


def _unusual(seen: ScannedCorpus) -> list[str]:
    facts = seen.facts.items()
    return [f"{path}: {of_file.told}" for path, of_file in facts if of_file.told]


def _unused(seen: ScannedCorpus) -> list[str]:
    return [f"{what} ({', '.join(where)})" for what, where in seen.found.unused.items()]


def _dropped_lines(dropped: Sequence[Dropped]) -> list[str]:
    """Format what is left out: one line for each reason, with a count and examples."""
    lines = []
    for reason, group in _by_reason(dropped):
        names = map(_named, group[:_FEW])
        detail = next((f" ({one.detail})" for one in group if one.detail), "")
        lost = sum(one.lost for one in group)
        lines.append(f"  left out {lost}: {reason}, e.g. {'; '.join(names)}{detail}")
    return lines


def _named(one: Dropped) -> str:
    name = one.utterance or one.audio
    return f"{name} [{one.where}]" if name and one.where not in name else name or one.where


def _by_reason(dropped: Sequence[Dropped]) -> list[tuple[str, list[Dropped]]]:
    groups: dict[str, list[Dropped]] = defaultdict(list)
    for one in dropped:
        groups[one.reason].append(one)
    return sorted(groups.items(), key=lambda item: -len(item[1]))


def _all_dropped(dropped: Sequence[Dropped]) -> list[str]:
    lines = []
    for reason, group in _by_reason(dropped):
        lines.append(f"{sum(one.lost for one in group)}: {_plain(reason)}")
        for one in group[:_MANY]:
            said = [one.where, one.utterance, one.audio, one.detail]
            lost = [f"{one.lost} utterances"] if one.lost > 1 else []
            lines.append(f"  - {_plain('; '.join([*filter(None, said), *lost]))}")
        lines += _more(len(group), "manifests/quarantine.tsv has all")
    return lines


def _all_suspects(seen: ScannedCorpus) -> list[str]:
    lines = []
    for suspect in seen.suspects:
        lines.append(f"{len(suspect.examples)}: {suspect.kind}")
        for utterance, detail in suspect.examples[:_MANY]:
            said = [utterance.where, utterance.id, detail, f'"{utterance.text[:80]}"']
            lines.append(f"  - {_plain('; '.join(filter(None, said)))}")
        lines += _more(len(suspect.examples), "")
    return lines


def _more(count: int, where: str) -> list[str]:
    more = count - _MANY
    return [f"  - and {more} more{f': {where}' if where else ''}"] if more > 0 else []


def _plain(text: str) -> str:
    """Return a text that Markdown shows as it is."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", " ".join(text.split()))


def _splits(seen: ScannedCorpus) -> list[str]:
    lines = []
    for split, rows in sorted(seen.splits().items()):
        speakers = {row.speaker for row in rows} - {None}
        known = f", {len(speakers)} speakers" if speakers else ""
        length = clock(sum(map(seen.seconds, rows)))
        lines.append(f"split {split}: {len(rows)} utterances, {length}{known}")
    return lines


def _characters(seen: ScannedCorpus) -> str:
    """Format the characters of the training transcripts, and those that training never sees."""

    def count(*, training: bool) -> Counter[str]:
        return count_characters(
            row.text for row in seen.utterances if _is_training(row) is training
        )

    return characters_text(count(training=True), count(training=False))


def _is_training(utterance: Utterance) -> bool:
    return purpose_of(str(utterance.split)) == "train"


_TRANSCRIPTS = 10
_LONGEST_SECONDS = 12.0


class Sample(NamedTuple):
    """An utterance of the page.

    Attributes:
        utterance: with its transcript.
        seconds: of its sound.
        sound: the beginning of it as a data address.
        is_cut: it goes on.
    """

    utterance: Utterance
    seconds: float
    sound: str
    is_cut: bool


def write_page(
    folder: Path, seen: ScannedCorpus, files: Mapping[Utterance, Path], seed: int
) -> None:
    """Write ``import-report.html``: ten utterances that the seed chooses, with players.

    Args:
        folder: of the page.
        seen: the corpus.
        files: sound of each utterance, as training reads it.
        seed: of the choice.
    """
    chosen = random.Random(seed).sample(
        sorted(files, key=lambda one: one.id), min(_TRANSCRIPTS, len(files))
    )
    environment = Environment(
        loader=PackageLoader("zipasr.corpora.custom", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    page = environment.get_template("listening.html").render(
        kind=seen.found.kind,
        report=REPORT,
        samples=[_sample(one, files[one], seen.seconds(one)) for one in chosen],
        longest=_LONGEST_SECONDS,
    )
    write_text(folder / PAGE, page)


def _sample(utterance: Utterance, file: Path, seconds: float) -> Sample:
    shown = min(seconds, _LONGEST_SECONDS)
    with soundfile.SoundFile(file) as sound:
        sound.seek(min(round(utterance.start * SAMPLING_RATE), sound.frames))
        samples = sound.read(round(shown * SAMPLING_RATE), dtype="float32")
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, SAMPLING_RATE, format="WAV", subtype="PCM_16")
    address = "data:audio/wav;base64," + base64.b64encode(buffer.getvalue()).decode()
    return Sample(utterance, seconds, address, is_cut=shown < seconds)
