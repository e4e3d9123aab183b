"""Settings of features, data loading and augmentation."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from zipasr.base.config import check_numbers, flag

ExecutorName = Literal["local", "dask"]
GigaSpeechSubset = Literal["XS", "S", "M", "L", "XL"]

SpecAugmentName = Literal["standard", "alternating"]

NUM_MEL_BINS = 80
#: Data-loading processes where nothing asks for more.
USUAL_WORKERS = 2
#: Stands for as many as a GPU is measured to need.
MEASURED_WORKERS = -1
MAX_JOBS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class FbankConfig:
    """Features."""

    num_mel_bins: int = flag(NUM_MEL_BINS, "log-mel bins per frame; the models expect 80")
    num_jobs: int = flag(0, "processes; 0: one for each CPU core, at most 15")
    perturb_speed: bool = flag(
        False,
        "add copies at 0.9 and 1.1 times the speed to the training splits",
    )
    check_audio: bool = flag(True, "decode every file first and leave out damaged ones")
    force: bool = flag(False, "compute features again that are complete already")
    allow_commands: bool = flag(
        False,
        "run the shell commands that manifests name; for manifests that you trust alone",
    )
    noise_dir: Path | None = flag(
        None,
        "folder of sound of any kind to mix into the training, for --enable-musan",
    )
    storage: Literal["lilcom_chunky", "numpy_files", "shar", "none"] = flag(
        "lilcom_chunky",
        "lilcom_chunky: 4 times smaller; numpy_files: exact; shar: sequential reads, for large "
        "corpora; none: nothing stored, for --on-the-fly-feats 1",
    )

    executor: ExecutorName = flag("local", "local: processes on this machine; dask: a Dask cluster")
    scheduler: str | None = flag(None, "address of the Dask scheduler, such as tcp://host:8786")

    def __post_init__(self) -> None:
        if (self.executor == "dask") != (self.scheduler is not None):
            raise ValueError("--executor dask and --scheduler ADDRESS belong together")
        check_numbers(self, "must be positive", "num_mel_bins")
        check_numbers(self, "must not be negative", "num_jobs")

    @property
    def jobs(self) -> int:
        """The number of processes to use on this machine."""
        return self.num_jobs or min(MAX_JOBS, os.cpu_count() or 1)


def cuts_path(folder: Path, corpus: str, split: str) -> Path:
    """Return the manifest of the cuts of a split."""
    return folder / f"{corpus}_cuts_{split}.jsonl.gz"


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentConfig:
    """Augmentation."""

    enable_spec_aug: bool = flag(True, "SpecAugment: time warping, time and frequency masks")
    spec_augment: SpecAugmentName = flag(
        "standard",
        "how the masks are drawn",
        meanings={
            "standard": "as lhotse does, with the numbers and sizes below",
            "alternating": "of the Zapformer recipe, over a third of the frames and of the mel "
            "bins; their number grows with the length, and no flag changes them",
        },
    )
    spec_aug_start_epoch: int = flag(1, "first epoch with SpecAugment")
    spec_aug_time_warp_factor: int = flag(
        80,
        "largest shift of time warping; below 1: no warping",
        unit="frames of 10 ms",
    )
    spec_aug_num_frame_masks: int = flag(10, "largest number of time masks; 0: none")
    spec_aug_frames_mask_size: int = flag(
        100,
        "largest width of a time mask",
        unit="frames of 10 ms",
    )
    spec_aug_max_frames_mask_fraction: float = flag(
        0.15,
        "largest share of frames under time masks",
    )
    spec_aug_num_feature_masks: int = flag(2, "number of frequency masks; 0: none")
    spec_aug_features_mask_size: int = flag(
        27,
        "largest width of a frequency mask",
        unit="mel bins",
    )
    time_mask_ratio: float = flag(
        2.5,
        "with --use-cr-ctc: factor on the number and the share of standard time masks",
    )
    enable_musan: bool = flag(True, "mix in noise, if --manifest-dir has musan_cuts.jsonl.gz")
    musan_snr: tuple[float, ...] = flag(
        (10.0, 20.0),
        "least and most by which the speech is louder than the noise, with a comma",
        unit="dB",
    )
    enable_rir: bool = flag(
        False,
        "let half of the utterances sound as in a room; needs --on-the-fly-feats 1",
    )
    enable_codec: bool = flag(
        False,
        "let three utterances in ten sound as over a telephone; needs --on-the-fly-feats 1",
    )

    join_prob: float = flag(
        0.0,
        "share of the batches whose utterances are joined, two to four in a row, with pauses",
    )
    silence_prob: float = flag(
        0.0,
        "share of the beginnings and ends of utterances that get silence or noise",
    )
    longest_pause: float = flag(
        1.5, "longest pause of --join-prob and --silence-prob; they are of any length", unit="s"
    )
    pause_start_epoch: int = flag(1, "first epoch with --join-prob and --silence-prob")

    def __post_init__(self) -> None:
        shares = "join_prob silence_prob spec_aug_max_frames_mask_fraction"
        check_numbers(self, "must be between 0 and 1", shares)
        counts = "spec_aug_num_frame_masks spec_aug_num_feature_masks"
        check_numbers(self, "must not be negative", f"longest_pause time_mask_ratio {counts}")
        sizes = "spec_aug_frames_mask_size spec_aug_features_mask_size"
        check_numbers(self, "must be at least 1", sizes)
        if len(self.musan_snr) != 2 or self.musan_snr[0] > self.musan_snr[1]:
            raise ValueError("--musan-snr is two numbers, the smaller first, such as 10,20")


#: What the corpus is called in the training, and in the names of its heads.
GIGA = "giga"
#: First part of the names of its files.
GIGASPEECH = "gigaspeech"
_GIGASPEECH_FIX = (
    "prepare it (./prepare.sh --recipe gigaspeech --giga-dir FOLDER), say where it is "
    "(--extra-manifest giga=PATH:0.9 --own-heads giga), or leave --giga-prob out"
)


@dataclass(frozen=True, slots=True)
class Extra:
    """A corpus that is mixed in.

    Attributes:
        name: for messages.
        path: manifest of its cuts, or folder of the pieces of it.
        weight: share of the batches that are its own, above 0 and below 1.
        fix: what to do where there is nothing at ``path``.
        allow_commands: shell commands that the manifest names may run.
    """

    name: str
    path: Path
    weight: float
    fix: str = "correct the path in --extra-manifest"
    allow_commands: bool = False

    @classmethod
    def parse(cls, word: str) -> Extra:
        """Read ``NAME=PATH:WEIGHT``.

        Raises:
            ValueError: the word is something else.
        """
        name, is_given, rest = word.partition("=")
        path, _, weight = rest.rpartition(":")
        try:
            share = float(weight)
        except ValueError:
            share = 0.0
        if not (is_given and name and path and 0.0 < share < 1.0):
            raise ValueError(
                f"--extra-manifest {word}: expected NAME=PATH:WEIGHT, a weight above 0 and below 1"
            )
        return cls(name, Path(path), share)


def gigaspeech_cuts(manifest_dir: Path, subset: str) -> Path:
    """Return the manifest of a subset, or the folder of its pieces.

    It is looked for in ``manifest_dir``, where the published recipe has it, then where ``prepare.sh
    --recipe gigaspeech`` puts it. Where there is none, the first place is returned.
    """
    folders = (manifest_dir, manifest_dir.parent.parent / GIGASPEECH / "fbank")
    for folder in folders:
        whole = cuts_path(folder, GIGASPEECH, subset)
        if whole.is_file():
            return whole
        if pieces := sorted(folder.glob(f"{GIGASPEECH}_{subset}_split_*")):
            return pieces[0]
    return cuts_path(manifest_dir, GIGASPEECH, subset)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """Data loading."""

    manifest_dir: Path = flag(Path("data/fbank"), "folder of the cut manifests")
    max_duration: float = flag(200.0, "audio per batch and process, padding included", unit="s")
    bucketing_sampler: bool = flag(True, "make batches of cuts of similar length")
    num_buckets: int = flag(30, "number of length buckets; fewer if the corpus is small")
    concatenate_cuts: bool = flag(False, "join short cuts to reduce padding")
    duration_factor: float = flag(
        1.0,
        "with --concatenate-cuts: longest joined cut, relative to the longest cut of the batch",
    )
    gap: float = flag(1.0, "with --concatenate-cuts: silence between joined cuts", unit="s")
    on_the_fly_feats: bool = flag(False, "compute features from audio during training")
    shuffle: bool = flag(True, "shuffle the cuts in every epoch")
    drop_last: bool = flag(True, "drop incomplete batches at the end of an epoch")
    return_cuts: bool = flag(True, "not used: a batch always has the ids of its cuts")
    num_workers: int = flag(
        USUAL_WORKERS,
        "data-loading processes; 0: load in the training process; -1: for a training on GPUs as "
        "many as these need and the cores allow, else 2",
    )
    input_strategy: Literal["PrecomputedFeatures", "AudioSamples"] = flag(
        "PrecomputedFeatures",
        "PrecomputedFeatures, or AudioSamples: the same as --on-the-fly-feats 1",
    )
    min_cut_duration: float = flag(1.0, "shortest cut to train on", unit="s")
    max_cut_duration: float = flag(20.0, "longest cut to train on", unit="s")
    allow_commands: bool = flag(
        False,
        "run the shell commands that manifests name (sources of the type command, pipe:...); for "
        "manifests that you trust alone",
    )

    extra_manifest: tuple[str, ...] | None = flag(
        None,
        "other corpora to train on, NAME=PATH:WEIGHT,...; PATH: a cut manifest, or a folder of "
        "the pieces of one; WEIGHT: share of the batches",
        group="Data mixing",
    )
    giga_prob: float | None = flag(
        None,
        "share of the batches from GigaSpeech, at least 0 and below 1, with a transducer head "
        "of their own; none: 0.5 with --own-heads giga, else 0",
        group="Data mixing",
    )
    giga_subset: GigaSpeechSubset = flag(
        "XL",
        "GigaSpeech subset for --giga-prob",
        group="Data mixing",
    )

    def __post_init__(self) -> None:
        check_numbers(self, "must be at least 0 and below 1", "giga_prob")
        more = [Extra.parse(word) for word in self.extra_manifest or ()]
        if sum(extra.weight for extra in more) + (self.giga_prob or 0.0) >= 1.0:
            raise ValueError(
                "--extra-manifest and --giga-prob must leave a share to the recipe's own"
            )
        names = [extra.name for extra in more] + ([GIGA] if self.giga_prob is not None else [])
        if len({*names}) < len(names):
            raise ValueError("--extra-manifest: two corpora have the same name")
        check_numbers(self, "must be positive", "max_duration")
        check_numbers(self, "must be at least 1", "num_buckets")
        if self.num_workers < MEASURED_WORKERS:
            raise ValueError("--num-workers must not be negative, or -1: as many as are needed")
        if not 0 <= self.min_cut_duration <= self.max_cut_duration:
            raise ValueError("--min-cut-duration must be from 0 to --max-cut-duration")

    @property
    def extras(self) -> tuple[Extra, ...]:
        """The corpora that are mixed in."""
        more = tuple(map(Extra.parse, self.extra_manifest or ()))
        if self.giga_prob:
            path = gigaspeech_cuts(self.manifest_dir, self.giga_subset)
            more = (*more, Extra(GIGA, path, self.giga_prob, _GIGASPEECH_FIX))
        return tuple(replace(extra, allow_commands=self.allow_commands) for extra in more)

    @property
    def workers(self) -> int:
        """Data-loading processes."""
        return USUAL_WORKERS if self.num_workers == MEASURED_WORKERS else self.num_workers

    @property
    def from_audio(self) -> bool:
        """Features are computed while loading, not read from disk."""
        return self.on_the_fly_feats or self.input_strategy == "AudioSamples"
