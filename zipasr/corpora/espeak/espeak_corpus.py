"""A speech corpus out of nothing: sentences of a grammar, spoken offline in many voices."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TextIO, cast

from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet
from tqdm import tqdm

from zipasr.base.errors import DataError, ResourceError, UserError, nearest
from zipasr.base.files import write_text
from zipasr.corpora.config import EspeakConfig
from zipasr.corpora.espeak import voice as espeak_voice
from zipasr.corpora.espeak.text import (
    SAMPLE_RATE,
    SPLITS,
    PlannedUtterance,
    checksum,
    load_grammar,
    load_voices,
    make_plan,
    plan_table,
)
from zipasr.corpora.espeak.voice import NoiseKind
from zipasr.corpora.manifest_files import write_manifests

LOADER = "espeakng-loader==0.2.4"
# With a log instead of a progress bar: a line each time this share of the utterances is done.
LOG_SHARE = 0.1

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EspeakCorpus:
    """Sentences of a grammar of our own, spoken by the eSpeak NG library.

    Attributes:
        recipe_dir: folder of ``grammar.toml`` and ``voices.toml``.
        audio_dir: where ``plan.tsv`` and ``{split}/{id}.flac`` are written.
        config: how much, and how varied.
    """

    recipe_dir: Path
    audio_dir: Path
    config: EspeakConfig
    name: ClassVar[str] = "espeak"

    @classmethod
    def from_settings(
        cls, recipe_dir: Path, audio_dir: Path, settings: Mapping[str, Any]
    ) -> EspeakCorpus:
        """Build the corpus from the recipe's options, which are fields of ``EspeakConfig``.

        Raises:
            UserError: an option is unknown or its value out of range.
        """
        return cls(recipe_dir, audio_dir, config_from(settings))

    def plan(self) -> list[PlannedUtterance]:
        """Return what will be said, by whom and how; see ``make_plan``."""
        grammar = load_grammar(self.recipe_dir / "grammar.toml")
        return make_plan(self.config, grammar, load_voices(self.recipe_dir / "voices.toml"))

    def prepare(self, manifest_dir: Path, num_jobs: int) -> dict[str, int]:
        """Speak what is not there yet and write the manifests; see ``Corpus.prepare``.

        A file that is there is whole (they appear by renaming) and right (its name has a digest of
        its plan), so it is kept. The plan is left in ``audio_dir/plan.tsv``.

        Raises:
            DataError: the eSpeak NG library is not installed, or utterances failed.
            ResourceError: this system cannot fork.
        """
        plan = self.plan()
        missing = [utterance for utterance in plan if not self.audio_path(utterance).exists()]
        digest = checksum(plan)
        logger.info("espeak: plan %s, %d of %d to be spoken", digest, len(missing), len(plan))
        write_text(self.audio_dir / "plan.tsv", plan_table(plan))
        if missing:
            require_espeak()
            synthesise([self.order(utterance) for utterance in missing], num_jobs)
        return {split: self._write_manifests(manifest_dir, split, plan) for split in SPLITS}

    def audio_path(self, utterance: PlannedUtterance) -> Path:
        """Return the file of ``utterance``, relative to the working directory if the folder is."""
        return self.audio_dir / utterance.split / f"{utterance.id}.flac"

    def order(self, utterance: PlannedUtterance) -> espeak_voice.Order:
        """Return what the synthesiser is asked for to make the file of ``utterance``."""
        return espeak_voice.Order(
            id=utterance.id,
            path=str(self.audio_path(utterance).absolute()),
            text=utterance.text,
            accent=utterance.accent,
            variant=utterance.variant,
            rate=utterance.rate,
            pitch=utterance.pitch,
            size=utterance.size,
            noise=cast("NoiseKind", utterance.noise),
            snr_db=utterance.snr_db,
            level_dbfs=utterance.level_dbfs,
            seed=utterance.seed,
            sample_rate=SAMPLE_RATE,
        )

    def _write_manifests(
        self, manifest_dir: Path, split: str, plan: Sequence[PlannedUtterance]
    ) -> int:
        chosen = [utterance for utterance in plan if utterance.split == split]
        recordings = [_recording(self.audio_path(utterance), utterance.id) for utterance in chosen]
        return write_manifests(
            manifest_dir,
            self.name,
            split,
            RecordingSet.from_recordings(recordings),
            SupervisionSet.from_segments(map(_supervision, chosen, recordings)),
        )


def config_from(settings: Mapping[str, Any]) -> EspeakConfig:
    """Return the default configuration with some fields replaced.

    Args:
        settings: field of ``EspeakConfig`` (underscores or dashes) -> value; lists become tuples.

    Raises:
        UserError: a field is unknown or its value out of range.
    """
    known = [field.name for field in dataclasses.fields(EspeakConfig)]
    given = {name.replace("-", "_"): value for name, value in settings.items()}
    unknown = sorted(set(given) - set(known))
    if unknown:
        hint = nearest(unknown[0], known) or "choose one of these."
        what = f"corpus 'espeak' has no option {unknown[0]!r}; there are {', '.join(known)}."
        raise UserError(what, hint)
    values: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in given.items()
    }
    try:
        return EspeakConfig(**values)
    except ValueError as refusal:
        raise UserError(f"corpus 'espeak': {refusal}.") from refusal


def require_espeak() -> None:
    """Raise unless this system can run the eSpeak NG library the way we need it.

    Raises:
        DataError: the package with the library is not installed.
        ResourceError: there is no ``os.fork``.
    """
    if importlib.util.find_spec("espeakng_loader") is None:
        raise DataError(
            "the speech synthesiser of this corpus (eSpeak NG, package espeakng-loader) is not "
            "installed.",
            f"{sys.executable} -m pip install {LOADER}",
        )
    if not hasattr(os, "fork"):
        raise ResourceError(
            "this corpus is made by forking processes, which this system cannot do.",
            "use Linux, macOS, or Linux under Windows (WSL).",
        )


def synthesise(orders: Sequence[espeak_voice.Order], num_jobs: int) -> None:
    """Have ``orders`` fulfilled by ``num_jobs`` processes, and show how far they are.

    Raises:
        DataError: some utterance failed, or a process ended before its work was done.
    """
    num_shards = max(1, min(num_jobs, len(orders)))
    shards = [orders[shard::num_shards] for shard in range(num_shards)]
    reader, writer = os.pipe()
    with ExitStack() as stack, os.fdopen(reader) as outcomes:
        # One pipe for all: a line is far below the size up to which writes to it are atomic.
        with os.fdopen(writer, "w") as pipe:
            jobs = [stack.enter_context(_start(pipe)) for _ in shards]
        try:
            for job, shard in zip(jobs, shards, strict=True):
                _send(job, shard)
            failed = [line.split()[1] for line in _shown(outcomes, len(orders))]
        finally:
            for job in jobs:
                job.terminate()
    unheard = [order.id for order in orders if not Path(order.path).exists()]
    if failed or unheard:
        raise DataError(
            f"{len(unheard)} of {len(orders)} utterances could not be spoken, the first is "
            f"{(failed + unheard)[0]}.",
            "read the messages above, then run this stage again: it does only what is missing.",
        )


def _start(output: TextIO) -> subprocess.Popen[str]:
    # Started from the folder of the package, so that the process finds it whether it is installed
    # or not; with one thread, because forking a process that has more is not safe.
    return subprocess.Popen(
        [sys.executable, "-m", espeak_voice.__name__],
        cwd=Path(__file__).resolve().parents[3],
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=output,
        text=True,
    )


def _send(job: subprocess.Popen[str], orders: Sequence[espeak_voice.Order]) -> None:
    assert job.stdin is not None
    # A process that could not start says so itself; what is missing is counted at the end.
    try:
        with job.stdin:
            job.stdin.writelines(map(espeak_voice.to_line, orders))
    except BrokenPipeError:
        logger.warning("a synthesis process ended before it was told what to say")


def _shown(outcomes: TextIO, total: int) -> Iterator[str]:
    """Pass on the failures among ``outcomes``, and show progress: a bar, or lines in a log."""
    log_every = max(1, round(total * LOG_SHARE))
    is_terminal = sys.stderr.isatty()
    bar = tqdm(outcomes, total=total, desc="speaking", unit="utt", disable=not is_terminal)
    for count, line in enumerate(bar, start=1):
        if not is_terminal and (count % log_every == 0 or count == total):
            logger.info("espeak: %d of %d utterances spoken", count, total)
        if line.startswith("failed"):
            yield line


def _recording(path: Path, recording_id: str) -> Recording:
    try:
        return Recording.from_file(path, recording_id=recording_id)
    # lhotse tries several readers in turn and each has errors of its own.
    except Exception as problem:
        raise DataError(
            f"{path} cannot be read as audio.", "delete it and run this stage again."
        ) from problem


def _supervision(utterance: PlannedUtterance, recording: Recording) -> SupervisionSegment:
    return SupervisionSegment(
        id=utterance.id,
        recording_id=recording.id,
        start=0.0,
        duration=recording.duration,
        channel=0,
        text=utterance.text,
        language="English",
        speaker=utterance.variant,
        custom={
            "accent": utterance.accent,
            "rate": utterance.rate,
            "pitch": utterance.pitch,
            "size": utterance.size,
            "noise": utterance.noise,
            "snr": utterance.snr_db,
            "level": utterance.level_dbfs,
        },
    )
