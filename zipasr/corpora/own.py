"""A corpus of one's own: whatever it looks like, brought into the form of the recipes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from lhotse import AudioSource, Recording, RecordingSet, SupervisionSegment, SupervisionSet

from zipasr.audio.audio_info import AudioInfo, scan_files
from zipasr.audio.loading import SAMPLING_RATE
from zipasr.audio.quarantine import LeftOut, write_quarantine
from zipasr.base.errors import DataError, UserError, nearest
from zipasr.corpora.manifests import write_manifests
from zipasr.corpora.own_audio import converted, num_samples, run_commands
from zipasr.corpora.own_report import found_text, splits_text
from zipasr.corpora.sources import read_source
from zipasr.corpora.splits import with_splits
from zipasr.corpora.utterances import NO_TEXT, Found, Utterance
from zipasr.text.normalise import normalise
from zipasr.text.text_io import check_encoding

OUTSIDE = "ends after its file"
SURVEY = "audio.jsonl"

_TOLERATED = 3
_TOLERATED_SHARE = 0.05
# Times in tables are rounded; an end so far beyond the file is the end of the file.
_ROUNDING_SECONDS = 0.1


class Surveyed(NamedTuple):
    """All there is to know about a corpus before its sound is converted.

    Attributes:
        found: by reading the source.
        facts: about each file.
        utterances: those that can be used, each with its split.
        left_out: the others.
        told: what was done to make splits.
    """

    found: Found
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
        logging.info("%s", found_text(seen.found, seen.facts, seen.left_out))
        for line in seen.told:
            logging.info("%s", line)
        logging.info("%s", splits_text(seen.splits(), seen.seconds))
        files = converted(seen.utterances, seen.facts, self._target, num_jobs)
        return {
            split: write_manifests(
                manifest_dir, self.name, split, *_manifests(utterances, files, seen.facts)
            )
            for split, utterances in sorted(seen.splits().items())
        }

    def survey(self, manifest_dir: Path, num_jobs: int) -> Surveyed:
        """Read all text and all sound, part what is usable from what is not, make the splits.

        Writes ``quarantine.tsv`` and what was found in each sound file to ``manifest_dir``.

        Raises:
            DataError: see ``prepare``.
        """
        found = read_source(self.source, self.encoding, self.audio_dir / "piped")
        run_commands(found.utterances, num_jobs)
        paths = dict.fromkeys(utterance.audio for utterance in found.utterances)
        facts = scan_files(paths, manifest_dir / SURVEY, num_jobs)
        usable, unusable = checked(found.utterances, facts)
        left_out = [*found.left_out, *unusable]
        listed = write_quarantine(manifest_dir, left_out, "import")
        _stop_when_too_many(left_out, len(usable), listed)
        spelt = [self._spelt(utterance) for utterance in usable]
        shared, told = with_splits(spelt, lambda u: seconds_of(u, facts[u.audio]), self.seed)
        return Surveyed(found, facts, shared, left_out, told)

    def _spelt(self, utterance: Utterance) -> Utterance:
        return replace(utterance, text=normalise(utterance.text)) if self.normalise else utterance

    def _target(self, path: Path, channel: int | None) -> Path:
        """Return where the sound of a file goes that has to be written anew."""
        root = (self.source if self.source.is_dir() else self.source.parent).absolute()
        inside = path.absolute()
        parts = inside.relative_to(root).parts if inside.is_relative_to(root) else inside.parts[1:]
        ending = "" if channel is None else f".{channel}"
        return self.audio_dir / Path(*parts).with_suffix(f"{path.suffix}{ending}.flac")


def checked(
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
