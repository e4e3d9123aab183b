"""Check of the audio and the transcripts of a corpus before features are computed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet

from zipasr.audio.audio_info import CLIPPED_SHARE, SURVEY, AudioInfo, scan_files
from zipasr.audio.quarantine import LeftOut, too_many_lost, write_quarantine
from zipasr.base.errors import DataError

DAMAGED = "damaged audio"
WRONG_LENGTH = "the manifest gives another length or rate than the file has"
NO_TEXT = "no transcript"
UNSPOKEN = "no transcript in a test or validation set: all that is recognised counts as insertions"
TEXT_TOO_LONG = "more text than anyone says in that time"
SAME_ID = "an id that another utterance has too"
SAME_SOUND = "the same sound in training and in a test or validation set"
SAME_SPEAKER = "speakers of training who are in a test or validation set too"
CLIPPED = "clipped: more than 0.1 % of the samples at full scale"

FIXES: Mapping[str, str] = {
    DAMAGED: "fetch or copy the files again",
    WRONG_LENGTH: "make the manifests again from the files",
    NO_TEXT: "give them a text, or take them out",
    UNSPOKEN: "nothing, if nobody speaks there; else give them a text",
    TEXT_TOO_LONG: "see that the transcripts belong to these files, and that times are right",
    SAME_ID: "give every utterance an id of its own",
    SAME_SOUND: "nothing: the copies in training are left out",
    SAME_SPEAKER: "choose test speakers who are not in training, if the model is for new voices",
    CLIPPED: "nothing, if there are few; else look at the recording level",
}
# These are told; the utterances stay.
ONLY_TOLD = (UNSPOKEN, SAME_SPEAKER, CLIPPED)

# Seconds; lhotse refuses to read what differs more than that from the manifest.
_TOLERANCE = 0.025
# Fast speech has 20 characters a second; an encoder has 25 frames.
_MOST_CHARACTERS_PER_SECOND = 40.0
_MAX_EXAMPLES = 5


class Finding(NamedTuple):
    """One fault: the file, the utterance (empty: all of the file), and more about it."""

    path: str
    utterance: str
    detail: str = ""


@dataclass(slots=True)
class CorpusReport:
    """What was found in a corpus.

    Attributes:
        files: number of sound files that were read.
        seconds: of sound in them.
        findings: by kind.
        quarantine: table of what is left out.
    """

    files: int = 0
    seconds: float = 0.0
    findings: dict[str, list[Finding]] = field(default_factory=lambda: defaultdict(list))
    quarantine: Path | None = None

    def add(self, kind: str, path: str, utterance: str = "", detail: str = "") -> None:
        """Note one fault."""
        self.findings[kind].append(Finding(path, utterance, detail))

    def stop_when_too_many(self) -> None:
        """Refuse a corpus of which more than 1 % of the files (and more than 3) cannot be used.

        Raises:
            DataError: there are so many.
        """
        damaged = self.findings.get(DAMAGED, []) + self.findings.get(WRONG_LENGTH, [])
        if too_many_lost(len(damaged), self.files):
            raise DataError(
                f"{len(damaged)} of {self.files} sound files cannot be used; {self.quarantine} "
                f"lists them; the first: {damaged[0].path}: {damaged[0].detail}.",
                "restore the audio files, or prepare the corpus again from stage 1",
            )

    def left_out(self) -> Iterator[LeftOut]:
        """Yield a row of the quarantine for each fault that rules a file or utterance out."""
        for kind, findings in self.findings.items():
            for path, utterance, detail in findings if kind not in ONLY_TOLD else ():
                reason = detail if kind in (DAMAGED, WRONG_LENGTH) else kind
                yield LeftOut(path, reason, utterance)

    def text(self) -> str:
        """Format the report for a person: counts, examples, and what to do about each kind."""
        lines = [f"sound: {self.files} files read, {self.seconds / 3600:.2f} h"]
        for kind, findings in sorted(self.findings.items(), key=lambda item: -len(item[1])):
            shown = [one.utterance or one.path for one in findings[:_MAX_EXAMPLES]]
            details = {one.detail for one in findings[:_MAX_EXAMPLES] if one.detail}
            why = f" ({'; '.join(sorted(details))})" if details else ""
            lines.append(f"  {len(findings)}: {kind}, e.g. {', '.join(shown)}{why}")
            lines.append(f"     to do: {FIXES[kind]}")
        if self.quarantine is not None and self.quarantine.is_file():
            lines.append(f"  {self.quarantine} lists what is left out")
        return "\n".join(lines) + "\n"


class _Split(NamedTuple):
    name: str
    is_training: bool
    recordings: dict[str, Recording]
    supervisions: list[SupervisionSegment]


def check_corpus(
    manifest_dir: Path,
    corpus: str,
    training: Sequence[str],
    others: Sequence[str],
    num_jobs: int = 1,
) -> CorpusReport:
    """Decode every sound file, compare with the manifests, and write ``quarantine.tsv``.

    What is known of a file is kept in ``audio.jsonl``; it is read again when it changes. Texts that
    are missing or far too long rule an utterance out of training only: a test set stays whole.

    Args:
        manifest_dir: where the manifests of recordings and supervisions are, and the results go.
        corpus: first part of the file names.
        training: splits that are trained on.
        others: splits to validate with and to test on.
        num_jobs: threads that decode.

    Raises:
        DataError: a manifest is missing.
    """
    splits = [_split(manifest_dir, corpus, name, name in training) for name in (*training, *others)]
    paths = dict.fromkeys(
        Path(path)
        for split in splits
        for path in map(file_of, split.recordings.values())
        if path is not None
    )
    facts = scan_files(paths, manifest_dir / SURVEY, num_jobs)
    report = CorpusReport(len(facts), sum(of_file.seconds for of_file in facts.values()))
    for split in splits:
        _check_files(split, facts, report)
    _check_utterances(splits, report)
    _check_overlap(splits, facts, report)
    report.quarantine = write_quarantine(manifest_dir, report.left_out(), "check")
    return report


def file_of(recording: Recording) -> str | None:
    """Return the file of a recording; None when it is in several, in memory or elsewhere."""
    sources = recording.sources
    is_file = len(sources) == 1 and sources[0].type == "file"
    return str(sources[0].source) if is_file else None


def _split(manifest_dir: Path, corpus: str, name: str, is_training: bool) -> _Split:
    def path(kind: str) -> Path:
        return manifest_dir / f"{corpus}_{kind}_{name}.jsonl.gz"

    for kind in ("recordings", "supervisions"):
        if not path(kind).is_file():
            raise DataError(f"{path(kind)} does not exist.", "run ./prepare.sh --stage 1 first")
    recordings = {r.id: r for r in RecordingSet.from_jsonl_lazy(path("recordings"))}
    return _Split(
        name, is_training, recordings, list(SupervisionSet.from_jsonl_lazy(path("supervisions")))
    )


def _check_files(split: _Split, facts: Mapping[Path, AudioInfo], report: CorpusReport) -> None:
    for recording in split.recordings.values():
        path = file_of(recording)
        if path is None:
            continue
        of_file = facts[Path(path)]
        if of_file.fault:
            report.add(DAMAGED, path, detail=of_file.fault)
        elif recording.transforms:
            continue  # its length and rate are those after the transforms
        elif recording.sampling_rate != of_file.rate:
            told = f"{recording.sampling_rate} Hz in the manifest, {of_file.rate} Hz in the file"
            report.add(WRONG_LENGTH, path, detail=told)
        elif abs(recording.duration - of_file.seconds) > _TOLERANCE:
            told = (
                f"{recording.duration:.2f} s in the manifest, {of_file.seconds:.2f} s in the file"
            )
            report.add(WRONG_LENGTH, path, detail=told)
        if of_file.clipped > CLIPPED_SHARE:
            report.add(CLIPPED, path)


def _check_utterances(splits: Sequence[_Split], report: CorpusReport) -> None:
    seen: set[str] = set()
    for split in splits:
        for segment in split.supervisions:
            path = _path_of(split, segment)
            text = (segment.text or "").strip()
            if segment.id in seen:
                report.add(SAME_ID, path, segment.id, f"in {split.name}")
            seen.add(segment.id)
            if not text:
                report.add(NO_TEXT if split.is_training else UNSPOKEN, path, segment.id)
            elif split.is_training and len(text) > _MOST_CHARACTERS_PER_SECOND * segment.duration:
                told = f"{len(text)} characters in {segment.duration:.1f} s"
                report.add(TEXT_TOO_LONG, path, segment.id, told)


def _check_overlap(
    splits: Sequence[_Split], facts: Mapping[Path, AudioInfo], report: CorpusReport
) -> None:
    held_out = {
        facts[Path(path)].digest: path
        for split in splits
        if not split.is_training
        for path in map(file_of, split.recordings.values())
        if path is not None and not facts[Path(path)].fault
    }
    other_speakers = {
        segment.speaker
        for split in splits
        if not split.is_training
        for segment in split.supervisions
    }
    shared: dict[str, str] = {}
    for split in (split for split in splits if split.is_training):
        for segment in split.supervisions:
            path = _path_of(split, segment)
            digest = facts[Path(path)].digest if Path(path) in facts else ""
            if digest and digest in held_out:
                report.add(SAME_SOUND, path, segment.id, f"as {held_out[digest]}")
            if segment.speaker is not None and segment.speaker in other_speakers:
                shared.setdefault(segment.speaker, path)
    for speaker, path in shared.items():
        report.add(SAME_SPEAKER, path, speaker)


def _path_of(split: _Split, segment: SupervisionSegment) -> str:
    recording = split.recordings.get(segment.recording_id)
    return (file_of(recording) or "") if recording is not None else ""
