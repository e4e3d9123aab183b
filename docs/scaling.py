"""Steps, bytes, cores, storage, time and cost of trainings on one machine and on many.

``python -m docs.refresh`` writes these tables into the page docs/scaling.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from docs.flag_tables import table
from zipasr.encoder.zipformer.config import ZipformerConfig

GPUS = (1, 8, 64)
#: Hours of speech -> passes over it; the more there is, the fewer are needed.
EPOCHS: Mapping[int, int] = MappingProxyType({1_000: 40, 10_000: 20, 100_000: 6})
SPEEDS = 3  # copies of an utterance with --perturb-speed 1
LARGE = 100_000  # hours from which on nobody varies the speed


@dataclass(frozen=True, slots=True)
class Figure:
    """A number that the tables are worked out from.

    Attributes:
        value: in ``unit``.
        unit: of it.
        what: it is.
        source: where it was measured or counted, or why it is assumed.
    """

    value: float
    unit: str
    what: str
    source: str


PARAMETERS = Figure(65.5e6, "", "parameters of the medium model", "counted")
BATCH = Figure(
    ZipformerConfig.published_batches["medium", "transducer"][1],
    "s",
    "of speech in a batch of each GPU",
    "published for this model",
)
MOVED = Figure(
    168e9 / 840,
    "B",
    "moved in the memory of a GPU for a second of speech",
    "counted on a pretended device, 2026-11-30",
)
BANDWIDTH = Figure(4.8e12, "B/s", "memory of a GPU", "data sheet of the H200")
SHARE = Figure(0.4, "", "of the bandwidth is reached", "assumed: no GPU has run this code")
LINK = Figure(50e9, "B/s", "network, each GPU", "assumed: 400 Gb/s for each GPU")
KEPT = Figure(0.95, "", "of the speed is kept by eight times as many GPUs", "assumed")
CORE = Figure(
    2100,
    "s/s",
    "of stored features that a core masks and mixes",
    "measured on a 2-core Xeon, 2026-11",
)
FBANK = Figure(
    725, "h/h", "of speech that a core makes features of", "`[needs]` of the LibriSpeech recipe"
)
FEATURES = Figure(30e6, "B/h", "of stored features", "`[needs]` of the LibriSpeech recipe")
SOUND = Figure(60e6, "B/h", "of sound, 16 kHz FLAC", "size of LibriSpeech's archives")
PRICE = Figure(2.5, "$/h", "price of a GPU with its host", "assumed: rented, 2026")
FIGURES = (
    PARAMETERS, BATCH, MOVED, BANDWIDTH, SHARE, LINK, KEPT, CORE, FBANK, FEATURES, SOUND, PRICE,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """A training of the medium model on so many GPUs and hours of speech."""

    gpus: int
    hours: int

    @property
    def seconds_of_epoch(self) -> float:
        """Speech of an epoch, with the copies at other speeds."""
        return 3600.0 * self.hours * (1 if self.hours >= LARGE else SPEEDS)

    @property
    def steps(self) -> int:
        """Updates of an epoch."""
        return round(self.seconds_of_epoch / (BATCH.value * self.gpus))

    @property
    def epochs(self) -> int:
        """Passes over the speech."""
        return EPOCHS[self.hours]

    @property
    def time(self) -> float:
        """Hours of the run."""
        return self.epochs * self.seconds_of_epoch / speed(self.gpus) / 3600

    @property
    def cost(self) -> float:
        """Price of the run, in dollars."""
        return self.time * self.gpus * PRICE.value

    @property
    def sent(self) -> float:
        """Bytes that each GPU sends in an epoch."""
        return self.steps * sent_in_step(self.gpus)


def speed_of_one() -> float:
    """Return the seconds of speech that a GPU trains on in a second."""
    return SHARE.value * BANDWIDTH.value / MOVED.value


def speed(gpus: int) -> float:
    """Return the seconds of speech that GPUs train on together in a second."""
    eights = {1: 0, 8: 1, 64: 2}[gpus]
    return gpus * speed_of_one() * KEPT.value**eights


def sent_in_step(gpus: int) -> float:
    """Return the bytes that each GPU sends in a step: gradients in float32, summed in a ring.

    Source: Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms" (JPDC, 2009).
    """
    return 2 * (gpus - 1) / gpus * 4 * PARAMETERS.value


def assumptions() -> str:
    """Return the figures that all others come from."""
    rows = [(one.what, f"{one.value:.3g} {one.unit}".strip(), one.source) for one in FIGURES]
    rows.append(
        ("of speech that a GPU trains on", f"{speed_of_one():.0f} s/s", "from the figures above")
    )
    return table(["figure", "value", "measured or assumed"], rows)


def runs() -> str:
    """Return steps, time and cost."""
    head = ["hours", "GPUs", "an update", "updates an epoch", "epochs", "updates", "time", "cost"]
    rows = []
    for hours in EPOCHS:
        for gpus in GPUS:
            run = Run(gpus, hours)
            rows.append(
                (
                    f"{hours:,}",
                    str(gpus),
                    f"{BATCH.value * gpus:,.0f} s",
                    f"{run.steps:,}",
                    str(run.epochs),
                    f"{run.steps * run.epochs:,}",
                    f"{run.time:,.1f} h",
                    f"${run.cost:,.0f}",
                )
            )
    return table(head, rows)


def network() -> str:
    """Return what goes over the network, and the time that it takes beside a step."""
    head = ["GPUs", "each sends in a step", "at the speed of the link", "a step takes"]
    head += [f"an epoch of {hours:,} h" for hours in EPOCHS]
    rows = [
        (
            str(gpus),
            f"{sent_in_step(gpus) / 1e6:.0f} MB",
            f"{1e3 * sent_in_step(gpus) / LINK.value:.0f} ms",
            f"{1e3 * BATCH.value / speed_of_one():.0f} ms",
            *(f"{Run(gpus, hours).sent / 1e12:.2f} TB" for hours in EPOCHS),
        )
        for gpus in GPUS
    ]
    return table(head, rows)


def feeding() -> str:
    """Return what must be read and computed for the GPUs."""
    read = FEATURES.value / 3600
    rows = [
        (
            str(gpus),
            f"{speed(gpus):,.0f} s/s",
            f"{speed(gpus) / CORE.value:.0f}",
            f"{speed(gpus) * read / 1e6:,.0f} MB/s",
        )
        for gpus in GPUS
    ]
    return table(["GPUs", "speech", "cores that load", "features to read"], rows)


def storage() -> str:
    """Return the size of corpora and what their features take."""
    rows = []
    for hours in EPOCHS:
        copies = 1 if hours >= LARGE else SPEEDS
        rows.append(
            (
                f"{hours:,}",
                f"{hours * SOUND.value / 1e12:.2f} TB",
                f"{copies}",
                f"{hours * copies * FEATURES.value / 1e12:.2f} TB",
                f"{hours * copies / FBANK.value:.0f}",
            )
        )
    head = ["hours", "sound", "speeds", "features", "core-hours to make them"]
    return table(head, rows)


def printed() -> dict[str, str]:
    """Return the tables by the names of their marks."""
    return {
        "figures": assumptions(),
        "runs": runs(),
        "network": network(),
        "feeding": feeding(),
        "storage": storage(),
    }
