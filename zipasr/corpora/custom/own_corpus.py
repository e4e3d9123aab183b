"""Import of a corpus of one's own: sound checked and converted, manifests, report."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from lhotse import AudioSource, Recording, RecordingSet, SupervisionSegment, SupervisionSet

from zipasr.audio.audio_info import SURVEY, AudioInfo, scan_files
from zipasr.audio.loading import convert, converted_name, is_converted, needs_conversion
from zipasr.audio.quarantine import write_quarantine
from zipasr.base.constants import SAMPLING_RATE
from zipasr.base.errors import DataError, UserError, nearest
from zipasr.base.progress import Progress
from zipasr.corpora.config import ImportConfig
from zipasr.corpora.custom.checks import (
    ScannedCorpus,
    channels_from_zero,
    check_utterances,
    odd_files,
)
from zipasr.corpora.custom.import_report import short_report, write_page, write_report
from zipasr.corpora.custom.kaldi import is_written, run_command
from zipasr.corpora.custom.readers import read_source, what_to_do
from zipasr.corpora.custom.recipe_file import with_splits
from zipasr.corpora.custom.suspects import find_leaks, find_suspects, refuse_file_names
from zipasr.corpora.custom.utterances import NO_TEXT, UNSPOKEN, Dropped, Utterance
from zipasr.corpora.manifest_files import (
    MOST_WITHOUT_TEXT,
    TOLERATED,
    refuse_silence,
    write_manifests,
)
from zipasr.text.normalise import Normaliser, read_steps
from zipasr.text.text_io import check_encoding

logger = logging.getLogger(__name__)


def run_commands(
    utterances: Sequence[Utterance], num_jobs: int, force: bool = False
) -> dict[Path, str]:
    """Let the commands of Kaldi's ``wav.scp`` write their sound.

    Args:
        utterances: some of which name commands.
        num_jobs: threads.
        force: run those as well whose sound is there and made from the same files: what a command
            fetches from elsewhere may have changed.

    Returns:
        The files that could not be written, and why.
    """
    commands = {
        u.audio: u.command
        for u in utterances
        if u.command and (force or not is_written(u.audio, u.command))
    }
    with ThreadPoolExecutor(num_jobs, "pipe") as pool:
        faults = pool.map(run_command, commands, commands.values())
    return {path: fault for path, fault in zip(commands, faults, strict=True) if fault}


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


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCorpus:
    """Utterances from a table, a folder, a Kaldi data directory or lhotse manifests.

    Attributes:
        source: the file or folder.
        audio_dir: where sound is written that has another rate or number of channels.
        encoding: of text files.
        seed: of the splits that are made here.
        normalise: spelling of the transcripts, as ``normalise.read_steps`` takes it.
        max_bad: percentage of the utterances that may be left out.
        strict_rate: refuse sound of another rate than that of models instead of resampling it.
        force: run commands again whose sound is there; see ``run_commands``.
    """

    source: Path
    audio_dir: Path
    encoding: str = "utf-8"
    seed: int = 42
    normalise: str = ImportConfig().normalise
    max_bad: float = ImportConfig().max_bad
    strict_rate: bool = ImportConfig().strict_rate
    force: bool = False
    name: ClassVar[str] = "own"

    @classmethod
    def from_settings(cls, audio_dir: Path, settings: Mapping[str, Any]) -> OwnCorpus:
        """Read the recipe's options: ``from``, and if wanted those of ``ImportConfig``.

        Raises:
            UserError: ``from`` is missing, or an option is unknown or of the wrong kind.
        """
        kinds: dict[str, type | tuple[type, ...]] = {
            "from": str, "encoding": str, "seed": int, "normalise": str, "max-bad": (float, int),
            "strict-rate": bool,
        }  # fmt: skip
        if isinstance(settings.get("normalise"), bool):  # of recipes of earlier versions
            settings = {**settings, "normalise": str(int(settings["normalise"]))}
        for key, value in settings.items():
            if key not in kinds:
                hint = nearest(key, kinds) or f"the options are {', '.join(kinds)}."
                raise UserError(f"corpus 'own' has no option {key!r}.", hint)
            kind = kinds[key]
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                name = kind.__name__ if isinstance(kind, type) else "number"
                raise UserError(f"corpus-options: {key} = {value!r} is no {name}.")
        if "from" not in settings:
            raise UserError("corpus 'own' does not know where it is.", "give 'from = \"...\"'.")
        options = {key.replace("-", "_"): value for key, value in settings.items() if key != "from"}
        check_encoding(options.get("encoding", "utf-8"))
        return cls(source=Path(settings["from"]), audio_dir=audio_dir, **options)

    def prepare(self, manifest_dir: Path, num_jobs: int) -> dict[str, int]:
        """Convert the sound that needs it and write the manifests; see ``Corpus.prepare``.

        What cannot be used goes to ``quarantine.tsv``; ``import-report.md`` and
        ``import-report.html`` beside the folder of the manifests say what was found, and a short
        form of it is logged.

        Raises:
            DataError: more of the utterances than ``max_bad`` (and than ten) cannot be used; or
                a file has another rate, and ``strict_rate``.
        """
        seen = self.survey(manifest_dir, num_jobs)
        files = convert_audio(seen.utterances, seen.facts, self._target, num_jobs)
        write_page(manifest_dir.parent, seen, files, self.seed)
        report = write_report(manifest_dir.parent, seen)
        logger.info("%s  %s tells more\n", short_report(seen), report)
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
        faults = run_commands(found.utterances, num_jobs, self.force)
        faults |= odd_files(found.utterances)
        paths = dict.fromkeys(u.audio for u in found.utterances if u.audio not in faults)
        facts = scan_files(paths, manifest_dir / SURVEY, num_jobs)
        if self.strict_rate:
            _refuse_other_rates(facts)
        spell = Normaliser(read_steps(self.normalise))
        utterances = [
            replace(one, text=spell(one.text))
            for one in channels_from_zero(found.utterances, facts, found.notes)
        ]
        kept = [u for u in utterances if u.text or u.is_held_out]
        usable, unusable = check_utterances(kept, facts, faults)
        emptied = [
            Dropped(reason=NO_TEXT, detail="--normalise", where=u.where, utterance=u.id)
            for u in utterances
            if not (u.text or u.is_held_out)
        ]
        dropped = [*found.dropped, *emptied, *unusable]
        listed = write_quarantine(manifest_dir, [one.left_out() for one in dropped], "import")
        spoken = [u for u in usable if u.text]
        seen = ScannedCorpus(
            found, facts, usable, dropped, find_suspects(spoken, facts), [], spell.lines()
        )
        self._stop_when_too_many(seen, listed)
        self._stop_when_too_silent(seen)
        refuse_file_names(spoken)
        first = {facts[path].digest: path for path in sorted(facts, reverse=True)}
        originals = {path: first[one.digest] for path, one in facts.items() if one.digest}
        shared, told = with_splits(usable, seen.seconds, self.seed, originals)
        suspects = [*find_leaks(shared, facts), *seen.suspects]
        return seen._replace(utterances=shared, told=told, suspects=suspects)

    def _target(self, path: Path, channel: int | None) -> Path:
        """Return where the sound of a file goes that has to be written anew."""
        inside = Path(os.path.abspath(path))  # noqa: PTH100, which leaves ".." where it is
        folder = self.source if self.source.is_dir() else self.source.parent
        parts = ("elsewhere", *inside.parts[1:])
        for root in (self.audio_dir, folder):
            if inside.is_relative_to(os.path.abspath(root)):  # noqa: PTH100
                parts = inside.relative_to(os.path.abspath(root)).parts  # noqa: PTH100
                break
        return self.audio_dir / Path(*parts).with_name(converted_name(path.name, channel))

    def _stop_when_too_many(self, seen: ScannedCorpus, listed: Path) -> None:
        """Refuse a corpus of which more cannot be used than is tolerated.

        Raises:
            DataError: it is so.
        """
        usable = len(seen.utterances)
        bad = [one for one in seen.dropped if one.is_fault or not usable]
        lost = sum(one.lost for one in bad)
        within_share = 100 * lost <= self.max_bad * (usable + lost)
        if usable and (within_share or lost <= min(TOLERATED, usable)):
            return
        report = write_report(listed.parent.parent, seen)
        raise DataError(
            f"{lost} of {usable + lost} utterances cannot be used; {listed} lists them, {report} "
            f"tells about them; the first: {_named(bad[0])}.",
            self._what_to_do(bad, lost, usable),
        )

    def _stop_when_too_silent(self, seen: ScannedCorpus) -> None:
        """Refuse a dev or test set of which many utterances have no text.

        Raises:
            DataError: there is one.
        """
        most = max(MOST_WITHOUT_TEXT, self.max_bad)
        for name, utterances in seen.splits().items():
            silent = [u for u in utterances if not u.text]
            share = -(-100 * len(silent) // len(utterances))
            names = [f"{u.id} [{u.where}]" for u in silent]
            fix = f"; if nobody speaks in them, add --max-bad {share}"
            refuse_silence(name, names, len(utterances), most, fix)
            for one in names:
                seen.found.note(UNSPOKEN, one)

    def _what_to_do(self, bad: Sequence[Dropped], lost: int, usable: int) -> str:
        if 2 * sum(one.reason == NO_TEXT for one in bad) > lost:
            return "see that the column of the transcripts is the right one."
        if not usable:
            return what_to_do(self.source, [one.reason for one in bad])
        percentage = -(-100 * lost // (usable + lost))
        return (
            f"mend the corpus, or go on without them: ./prepare.sh --from {self.source} --max-bad "
            f"{percentage}"
        )


def _refuse_other_rates(facts: Mapping[Path, AudioInfo]) -> None:
    """Refuse sound files that would have to be resampled.

    Raises:
        DataError: there is one; says how many there are of each rate.
    """
    others = {path: one.rate for path, one in facts.items() if not one.fault}
    others = {path: rate for path, rate in others.items() if rate != SAMPLING_RATE}
    if others:
        counts = sorted(Counter(others.values()).items())
        raise DataError(
            f"{len(others)} of {len(facts)} sound files do not have {SAMPLING_RATE} Hz: "
            f"{', '.join(f'{count} of {rate} Hz' for rate, count in counts)}; the first: "
            f"{next(iter(others))}.",
            "leave --strict-rate out, and they are resampled.",
        )


def _manifests(
    utterances: Sequence[Utterance],
    files: Mapping[Utterance, Path],
    facts: Mapping[Path, AudioInfo],
) -> tuple[RecordingSet, SupervisionSet]:
    recordings: dict[tuple[Path, str], Recording] = {}
    segments = []
    taken: set[str] = set()
    for utterance in utterances:
        path = files[utterance]
        # A file that is listed twice is two recordings: lhotse suspects utterances that start at
        # the same time of one.
        key = (path, utterance.id if utterance.is_whole else "")
        if key not in recordings:
            name = utterance.id if utterance.is_whole else _free_name(path, taken)
            recordings[key] = _recording(name, path, num_samples(facts[utterance.audio]))
            taken.add(name)
        recording = recordings[key]
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


def _named(dropped: Dropped) -> str:
    """Return what is left out and why, its place once."""
    name = dropped.audio or dropped.utterance
    if not name or (dropped.where and dropped.where in name):
        return dropped.why
    return f"{name}: {dropped.why}"
