"""Import of a corpus of one's own: checks, conversion of audio, tables for people."""

from __future__ import annotations

import logging
import subprocess
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from lhotse import AudioSource, Recording, RecordingSet, SupervisionSegment, SupervisionSet

from zipasr.audio.audio_info import AudioInfo, scan_files
from zipasr.audio.loading import AS_IT_IS, convert, is_converted, needs_conversion, treatment
from zipasr.audio.quarantine import LeftOut, write_quarantine
from zipasr.base.constants import SAMPLING_RATE
from zipasr.base.errors import DataError, UserError, nearest
from zipasr.base.files import atomic_path
from zipasr.base.progress import Progress, clock
from zipasr.corpora.custom.readers import read_source
from zipasr.corpora.custom.recipe import purpose_of, with_splits
from zipasr.corpora.custom.table import NO_TEXT, ImportedCorpus, Utterance
from zipasr.corpora.manifests import write_manifests
from zipasr.text.character_table import characters_text, count_characters
from zipasr.text.normalise import normalise
from zipasr.text.text_io import check_encoding


def run_commands(utterances: Sequence[Utterance], num_jobs: int) -> None:
    """Let the commands of Kaldi's ``wav.scp`` write their sound; what is there already is kept.

    Raises:
        DataError: a command fails.
    """
    commands = {u.audio: u.command for u in utterances if u.command and not u.audio.is_file()}
    with ThreadPoolExecutor(num_jobs, "pipe") as pool:
        list(pool.map(_run, commands, commands.values()))


def _run(target: Path, command: str) -> None:
    with atomic_path(target) as temporary:
        # A line of the user's own data directory: Kaldi gives it to the shell as well.
        with temporary.open("wb") as out:
            done = subprocess.run(
                command, shell=True, stdout=out, stderr=subprocess.PIPE, text=True, check=False
            )
        if done.returncode != 0:
            said = " ".join(done.stderr.split())[:200]
            raise DataError(f"wav.scp: {command!r} ended with {done.returncode}: {said}.")


def num_samples(facts: AudioInfo) -> int:
    """Return the length of a file at the rate of the recipes."""
    return -(-facts.num_samples * SAMPLING_RATE // facts.rate)


def convert_audio(
    utterances: Sequence[Utterance],
    facts: Mapping[Path, AudioInfo],
    target_of: Callable[[Path, int | None], Path],
    num_jobs: int,
) -> dict[Utterance, Path]:
    """Return the file of each utterance: 16 kHz, one channel.

    Files that are so already are used where they are. The others are written anew, unless that
    was done and they have not changed since.

    Args:
        utterances: of files without faults.
        facts: about the files.
        target_of: where to write a file, or one channel of it.
        num_jobs: threads.
    """
    sources = dict.fromkeys((u.audio, u.channel) for u in utterances)
    targets = {
        key: target_of(*key) if needs_conversion(key[0], facts[key[0]]) else key[0]
        for key in sources
    }
    missing = [
        key
        for key in sources
        if targets[key] != key[0] and not is_converted(facts[key[0]], targets[key], key[1])
    ]

    def write(key: tuple[Path, int | None]) -> None:
        convert(key[0], facts[key[0]], targets[key], key[1])

    with (
        ThreadPoolExecutor(num_jobs, "convert") as pool,
        Progress("converting audio files", len(missing)) as progress,
    ):
        for _ in pool.map(write, missing):
            progress.step()
    return {u: targets[u.audio, u.channel] for u in utterances}


_MAX_EXAMPLES = 5
_CLIPPED_SHARE = 1e-3


def import_summary(
    found: ImportedCorpus, facts: Mapping[Path, AudioInfo], left_out: Sequence[LeftOut]
) -> str:
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


OUTSIDE = "ends after its file"
SURVEY = "audio.jsonl"

_TOLERATED = 3
_TOLERATED_SHARE = 0.05
# Times in tables are rounded; an end so far beyond the file is the end of the file.
_ROUNDING_SECONDS = 0.1


class ScannedCorpus(NamedTuple):
    """A corpus after its scan, before its audio is converted.

    Attributes:
        found: by reading the source.
        facts: about each file.
        utterances: those that can be used, each with its split.
        left_out: the others.
        told: what was done to make splits.
    """

    found: ImportedCorpus
    facts: dict[Path, AudioInfo]
    utterances: list[Utterance]
    left_out: list[LeftOut]
    told: list[str]

    def seconds(self, utterance: Utterance) -> float:
        """Return the length of an utterance."""
        return seconds_of(utterance, self.facts[utterance.audio])

    def splits(self) -> dict[str, list[Utterance]]:
        """Return the utterances of each split."""
        splits: dict[str, list[Utterance]] = {}
        for utterance in self.utterances:
            splits.setdefault(str(utterance.split), []).append(utterance)
        return splits


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCorpus:
    """Utterances from a table, a folder, a Kaldi data directory or lhotse manifests.

    Attributes:
        source: the file or folder.
        audio_dir: where sound is written that has another rate or number of channels.
        encoding: of text files.
        seed: of the splits that are made here.
        normalise: write transcripts in upper case and without punctuation.
    """

    source: Path
    audio_dir: Path
    encoding: str = "utf-8"
    seed: int = 42
    normalise: bool = False
    name: ClassVar[str] = "own"

    @classmethod
    def from_settings(cls, audio_dir: Path, settings: Mapping[str, Any]) -> OwnCorpus:
        """Read the recipe's options: ``from``, and if wanted ``encoding``, ``seed``, ``normalise``.

        Raises:
            UserError: ``from`` is missing, or an option is unknown or of the wrong kind.
        """
        kinds = {"from": str, "encoding": str, "seed": int, "normalise": bool}
        for key, value in settings.items():
            if key not in kinds:
                hint = nearest(key, kinds) or f"the options are {', '.join(kinds)}."
                raise UserError(f"corpus 'own' has no option {key!r}.", hint)
            if not isinstance(value, kinds[key]):
                raise UserError(f"corpus-options: {key} = {value!r} is no {kinds[key].__name__}.")
        if "from" not in settings:
            raise UserError("corpus 'own' does not know where it is.", "give 'from = \"...\"'.")
        options = {key: value for key, value in settings.items() if key != "from"}
        check_encoding(options.get("encoding", "utf-8"))
        return cls(source=Path(settings["from"]), audio_dir=audio_dir, **options)

    def prepare(self, manifest_dir: Path, num_jobs: int) -> dict[str, int]:
        """Convert the sound that needs it and write the manifests; see ``Corpus.prepare``.

        What cannot be used goes to ``quarantine.tsv``. Tables of what was found are logged.

        Raises:
            DataError: more than 5 % of the utterances (and more than 3) cannot be used.
        """
        seen = self.survey(manifest_dir, num_jobs)
        logging.info("%s", import_summary(seen.found, seen.facts, seen.left_out))
        for line in seen.told:
            logging.info("%s", line)
        logging.info("%s", splits_text(seen.splits(), seen.seconds))
        files = convert_audio(seen.utterances, seen.facts, self._target, num_jobs)
        return {
            split: write_manifests(
                manifest_dir, self.name, split, *_manifests(utterances, files, seen.facts)
            )
            for split, utterances in sorted(seen.splits().items())
        }

    def survey(self, manifest_dir: Path, num_jobs: int) -> ScannedCorpus:
        """Read all text and all sound, part what is usable from what is not, make the splits.

        Writes ``quarantine.tsv`` and what was found in each sound file to ``manifest_dir``.

        Raises:
            DataError: see ``prepare``.
        """
        found = read_source(self.source, self.encoding, self.audio_dir / "piped")
        run_commands(found.utterances, num_jobs)
        paths = dict.fromkeys(utterance.audio for utterance in found.utterances)
        facts = scan_files(paths, manifest_dir / SURVEY, num_jobs)
        usable, unusable = check_utterances(found.utterances, facts)
        left_out = [*found.left_out, *unusable]
        listed = write_quarantine(manifest_dir, left_out, "import")
        _stop_when_too_many(left_out, len(usable), listed)
        spelt = [self._spelt(utterance) for utterance in usable]
        shared, told = with_splits(spelt, lambda u: seconds_of(u, facts[u.audio]), self.seed)
        return ScannedCorpus(found, facts, shared, left_out, told)

    def _spelt(self, utterance: Utterance) -> Utterance:
        return replace(utterance, text=normalise(utterance.text)) if self.normalise else utterance

    def _target(self, path: Path, channel: int | None) -> Path:
        """Return where the sound of a file goes that has to be written anew."""
        root = (self.source if self.source.is_dir() else self.source.parent).absolute()
        inside = path.absolute()
        parts = inside.relative_to(root).parts if inside.is_relative_to(root) else inside.parts[1:]
        ending = "" if channel is None else f".{channel}"
        return self.audio_dir / Path(*parts).with_suffix(f"{path.suffix}{ending}.flac")


def check_utterances(
    utterances: Sequence[Utterance], facts: Mapping[Path, AudioInfo]
) -> tuple[list[Utterance], list[LeftOut]]:
    """Part the utterances with sound from those without, and say why; true up their ends."""
    usable: list[Utterance] = []
    left_out: list[LeftOut] = []
    refused: set[Path] = set()
    for utterance in utterances:
        of_file = facts[utterance.audio]
        if of_file.fault:
            if utterance.audio not in refused:
                left_out.append(LeftOut(str(utterance.audio), of_file.fault))
            refused.add(utterance.audio)
        elif max(utterance.start, utterance.end or 0.0) > of_file.seconds + _ROUNDING_SECONDS:
            reason = f"{OUTSIDE} of {of_file.seconds:.2f} s"
            left_out.append(LeftOut(str(utterance.audio), reason, utterance.id))
        elif (utterance.channel or 0) >= len(of_file.energies):
            reason = f"its file has no channel {utterance.channel}"
            left_out.append(LeftOut(str(utterance.audio), reason, utterance.id))
        else:
            usable.append(utterance)
    return usable, left_out


def seconds_of(utterance: Utterance, facts: AudioInfo) -> float:
    """Return the length of an utterance; it ends with its file at the latest."""
    end = facts.seconds if utterance.end is None else min(utterance.end, facts.seconds)
    return end - utterance.start


def _manifests(
    utterances: Sequence[Utterance],
    files: Mapping[Utterance, Path],
    facts: Mapping[Path, AudioInfo],
) -> tuple[RecordingSet, SupervisionSet]:
    recordings: dict[Path, Recording] = {}
    segments = []
    taken: set[str] = set()
    for utterance in utterances:
        path = files[utterance]
        if path not in recordings:
            name = utterance.id if utterance.is_whole else _free_name(path, taken)
            recordings[path] = _recording(name, path, num_samples(facts[utterance.audio]))
            taken.add(name)
        recording = recordings[path]
        end = recording.duration if utterance.end is None else utterance.end
        end = min(end, recording.duration)
        segments.append(
            SupervisionSegment(
                id=utterance.id,
                recording_id=recording.id,
                start=utterance.start,
                duration=round(end - utterance.start, 6),
                text=utterance.text,
                speaker=utterance.speaker,
            )
        )
    return RecordingSet.from_recordings(recordings.values()), SupervisionSet.from_segments(segments)


def _recording(name: str, path: Path, samples: int) -> Recording:
    source = AudioSource(type="file", channels=[0], source=str(path))
    return Recording(name, [source], SAMPLING_RATE, samples, samples / SAMPLING_RATE)


def _free_name(path: Path, taken: set[str]) -> str:
    stem = path.name.split(".")[0]
    names = (stem, *(f"{stem}-{count}" for count in range(2, len(taken) + 3)))
    return next(name for name in names if name not in taken)


def _stop_when_too_many(left_out: Sequence[LeftOut], num_usable: int, listed: Path) -> None:
    if not left_out:
        return
    tolerated = max(_TOLERATED, int(_TOLERATED_SHARE * (num_usable + len(left_out))))
    if num_usable and len(left_out) <= tolerated:
        return
    first = left_out[0]
    without_text = sum(row.reason == NO_TEXT for row in left_out)
    fix = "mend the corpus, or take the rows out of it on purpose."
    if without_text > tolerated:
        fix = "see that the column of the transcripts is the right one."
    raise DataError(
        f"{len(left_out)} of {num_usable + len(left_out)} utterances cannot be used; {listed} "
        f"lists them; the first: {first.path or first.utterance}: {first.reason}.",
        fix,
    )
