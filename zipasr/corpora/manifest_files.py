"""Lhotse manifests: check, write and count them; the corpus of given ones; a folder of noise."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, cast

from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet
from lhotse.qa import validate_recordings_and_supervisions

from zipasr.base.errors import DataError, UserError, nearest
from zipasr.base.files import atomic_path
from zipasr.corpora.custom.audio_files import files_below, is_sound

logger = logging.getLogger(__name__)

#: So many utterances that cannot be used are tolerated in a corpus of any size.
TOLERATED = 10
#: Percentage of a split; more utterances without a text suggest that it is elsewhere.
MOST_WITHOUT_TEXT = 5.0
_EXAMPLES = 5

Manifest: TypeAlias = RecordingSet | SupervisionSet


@dataclass(frozen=True, slots=True)
class ManifestsCorpus:
    """Recordings and supervisions that are there already.

    Attributes:
        source: folder with ``{split}_recordings.jsonl.gz`` and ``{split}_supervisions.jsonl.gz``;
            every split found there is taken. Relative audio paths in them count from the working
            directory, as everywhere in lhotse.
    """

    source: Path
    name: ClassVar[str] = "manifests"

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> ManifestsCorpus:
        """Read the one setting, ``from``: the folder of the manifests.

        Raises:
            UserError: ``from`` is missing, or there are other settings.
        """
        unknown = sorted(set(settings) - {"from"})
        if unknown:
            hint = nearest(unknown[0], ["from"]) or "the only option is 'from'."
            raise UserError(f"corpus 'manifests' has no option {unknown[0]!r}.", hint)
        if not isinstance(settings.get("from"), str):
            raise UserError(
                "corpus 'manifests' does not know where the manifests are.",
                "give their folder as 'from = \"...\"' among the recipe's corpus options.",
            )
        return cls(Path(settings["from"]))

    def prepare(self, manifest_dir: Path, num_jobs: int) -> dict[str, int]:
        """Check the manifests and write them under the standard names; see ``Corpus.prepare``."""
        del num_jobs  # nothing here takes long enough
        return {
            split: write_manifests(
                manifest_dir,
                self.name,
                split,
                cast("RecordingSet", self._read("recordings", split)),
                self._supervisions(split),
            )
            for split in self._splits()
        }

    def _supervisions(self, split: str) -> SupervisionSet:
        supervisions = cast("SupervisionSet", self._read("supervisions", split))
        silent = [segment.id for segment in supervisions if not (segment.text or "").strip()]
        refuse_silence(split, silent, len(supervisions))
        if silent:
            logger.warning(
                "%s: %d of %d utterances have no text, such as %s; they are not trained on, and in "
                "a test or validation set all that is recognised there is insertions",
                split,
                len(silent),
                len(supervisions),
                ", ".join(silent[:_EXAMPLES]),
            )
        return supervisions

    def _splits(self) -> list[str]:
        ending = "_recordings.jsonl.gz"
        found = sorted(path.name.removesuffix(ending) for path in self.source.glob(f"*{ending}"))
        if not found:
            raise DataError(
                f"{self.source} has no manifest called <split>{ending}.",
                "correct 'from' in the recipe's corpus options, or put the manifests there.",
            )
        return found

    def _read(self, kind: str, split: str) -> Manifest:
        path = self.source / f"{split}_{kind}.jsonl.gz"
        if not path.is_file():
            raise DataError(f"{path} does not exist.", f"every split needs its {kind}.")
        reader = RecordingSet if kind == "recordings" else SupervisionSet
        try:
            manifest = cast("Manifest", reader.from_file(path).to_eager())
            for item in manifest:
                _check_item(item)
            return manifest
        # lhotse raises whatever its parsers, gzip and constructors raise.
        except Exception as problem:
            why = _one_line(problem)
            raise DataError(f"{path} is not a manifest of {kind}: {why}.") from problem


def write_manifests(
    folder: Path, corpus: str, split: str, recordings: RecordingSet, supervisions: SupervisionSet
) -> int:
    """Check the two manifests of a split, write them, and return the number of supervisions.

    Args:
        folder: where to write.
        corpus: first part of the files' names.
        split: last part of the files' names.
        recordings: audio of the split.
        supervisions: what is said where; each has to lie inside its recording.

    Raises:
        DataError: the manifests are empty, contradict themselves or each other.
    """
    check_manifests(f"{corpus}, split {split}", recordings, supervisions)
    both: dict[str, Manifest] = {"recordings": recordings, "supervisions": supervisions}
    for kind, manifest in both.items():
        with atomic_path(folder / f"{corpus}_{kind}_{split}.jsonl.gz") as temporary:
            manifest.to_file(temporary)
    return len(supervisions)


def check_manifests(where: str, recordings: RecordingSet, supervisions: SupervisionSet) -> None:
    """Raise ``DataError`` unless there are supervisions and lhotse accepts the pair."""
    if not len(supervisions):
        raise DataError(f"{where}: there is no supervision at all.")
    try:
        validate_recordings_and_supervisions(recordings, supervisions)
    except (AssertionError, TypeError, ValueError, AttributeError) as problem:
        why = _one_line(problem)
        raise DataError(f"{where}: the manifests contradict themselves: {why}.") from problem


def refuse_silence(
    where: str, silent: Sequence[str], total: int, most: float = MOST_WITHOUT_TEXT, fix: str = ""
) -> None:
    """Refuse a split of which so many utterances have no text that it is probably elsewhere.

    Args:
        where: name of the split.
        silent: ids of the utterances without a text.
        total: number of all utterances.
        most: percentage that is taken; so are ten, unless they are the most of the split.
        fix: what else to do about it.

    Raises:
        DataError: there are more.
    """
    if len(silent) > max(most * total / 100, min(TOLERATED, total - len(silent))):
        raise DataError(
            f"{where}: {len(silent)} of {total} utterances have no text, such as "
            f"{', '.join(silent[:_EXAMPLES])}.",
            f"see that the column of the transcripts is the right one{fix}.",
        )


def _check_item(item: Any) -> None:
    """Refuse a recording or a supervision with values of other kinds, which lhotse lets pass.

    Raises:
        ValueError: names the item and the value.
    """
    texts, numbers = ["id"], ["duration"]
    if isinstance(item, Recording):
        numbers += ["sampling_rate", "num_samples"]
    elif isinstance(item, SupervisionSegment):
        texts, numbers = [*texts, "recording_id", "text", "speaker"], [*numbers, "start"]
    else:
        raise ValueError(f"a row is a {type(item).__name__}")
    for name in texts:
        value = getattr(item, name)
        # Half a character cannot be written to a file.
        if value is not None and not (isinstance(value, str) and _is_writable(value)):
            raise ValueError(f"{item.id!r}: its {name} is {value!r}")
    for name in numbers:
        value = getattr(item, name)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{item.id!r}: its {name} is {value!r}")


def _is_writable(text: str) -> bool:
    return text == text.encode("utf-8", "replace").decode("utf-8")


def _one_line(problem: Exception) -> str:
    return " ".join(str(problem).split()).rstrip(".") or type(problem).__name__


#: Where ``zipasr.data.noise_features`` looks for them.
NOISE_MANIFEST = "musan_recordings_folder.jsonl.gz"


def write_folder_manifest(folder: Path, manifest_dir: Path) -> int:
    """List the sound files below a folder as noise, and return how many there are.

    What cannot be read is told and left out; of several channels the first is used.

    Raises:
        DataError: there is no such folder, or no sound in it.
    """
    if not folder.is_dir():
        raise DataError(f"--noise-dir {folder} is no folder.", "see that the path is right.")
    recordings, faults = [], 0
    for path in files_below(folder):
        if not is_sound(path):
            continue
        name = str(path.relative_to(folder)).replace("/", "-")
        try:
            recordings.append(Recording.from_file(path, recording_id=f"noise-{name}"))
        except Exception as problem:
            faults += 1
            logger.warning(
                "--noise-dir: %s cannot be read: %s", path, str(problem).partition("\n")[0]
            )
    if not recordings:
        raise DataError(
            f"--noise-dir {folder} has no sound that can be read ({faults} files cannot).",
            "give a folder of .wav, .flac, .ogg or .mp3 files.",
        )
    hours = sum(recording.duration for recording in recordings) / 3600
    logger.info("noise: %d files of %s, %.2f hours", len(recordings), folder, hours)
    manifest_dir.mkdir(parents=True, exist_ok=True)
    with atomic_path(manifest_dir / NOISE_MANIFEST) as temporary:
        RecordingSet.from_recordings(recordings).to_file(temporary)
    return len(recordings)
