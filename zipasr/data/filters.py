"""Cuts that cannot be trained on: the reason in a line, and counts by reason."""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from operator import eq
from pathlib import Path
from typing import Any, NamedTuple

from lhotse.cut import Cut

from zipasr.base.constants import FRAMES_PER_SECOND
from zipasr.base.errors import DataError

# lhotse lists what each of its audio libraries said; the first of them is the one that counts.
_FIRST_LIBRARY = re.compile(r"Exception #0 .*?: <class '[^']*'>: ([^\n]*)")
_MAX_CHARACTERS = 200

# What reading a manifest raises that is cut off, or is something else.
BROKEN_MANIFEST = (
    OSError,
    EOFError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    zlib.error,
)


class Failure(NamedTuple):
    """A cut that could not be read."""

    cut_id: str
    path: str
    reason: str


def reason_of_error(error: BaseException) -> str:
    """Return what an exception says in one line; its type when it says nothing."""
    said = _FIRST_LIBRARY.search(str(error))
    # lhotse adds the arguments of its calls.
    text = (said[1] if said else str(error)).partition("[extra info]")[0]
    text = " ".join(text.split()) or type(error).__name__
    return text if len(text) <= _MAX_CHARACTERS else text[: _MAX_CHARACTERS - 3] + "..."


def broken_manifest(path: Path, error: BaseException) -> DataError:
    """Return the error that says that a manifest is damaged."""
    return DataError(
        f"{path} is not a readable manifest of cuts: {reason_of_error(error)}.",
        "delete it and run ./prepare.sh --stage 2 again",
    )


def failure_of_cut(cut: Cut, error: BaseException) -> Failure:
    """Describe the failure of a cut, with the file that its audio is in."""
    recording = getattr(cut, "recording", None)
    sources = recording.sources if recording is not None else []
    path = str(sources[0].source) if sources and isinstance(sources[0].source, str) else ""
    # The audio library only says "System error".
    missing = path and "://" not in path and not Path(path).exists()
    return Failure(cut.id, path, "the file does not exist" if missing else reason_of_error(error))


def quarantine_text(failures: Iterable[Failure]) -> str:
    """Format the table of failures: a header, then cut, path and reason between tabs."""
    rows = [Failure("cut", "path", "reason"), *failures]
    return "".join("\t".join(row) + "\n" for row in rows)


TOO_SHORT = "shorter than --min-cut-duration"
TOO_LONG = "longer than --max-cut-duration"
NO_TEXT = "no text"
MORE_TOKENS_THAN_FRAMES = "more tokens than encoder frames"

# What to look at where much is lost for a reason.
_REMEDIES: Mapping[str, str] = {
    TOO_SHORT: "lower --min-cut-duration, or see that the times of segments are seconds",
    TOO_LONG: "raise --max-cut-duration as far as memory allows, cut them at pauses, or see that "
    "the times of segments are seconds",
    NO_TEXT: "see that the column of the transcripts is the right one",
    MORE_TOKENS_THAN_FRAMES: "see that the times of segments are right; if they are, take tokens "
    "that are longer (--unit bpe in place of char, a larger --vocab-size), or --perturb-speed 0: "
    "the copies at 1.1 are a tenth shorter",
}
# Share of the speech.
_MOST_LOST = 0.02

_MAX_EXAMPLES = 5

# Frames that CTC needs beyond the number of tokens: the margin of the published recipe.
_CTC_MARGIN = 2


def num_frames(cut: Cut) -> int:
    """Return T of a cut, also when its features are not computed yet (10 ms frames)."""
    frames = cut.num_frames
    if frames is not None:
        return int(frames)
    return math.floor(float(cut.num_samples / cut.sampling_rate) * FRAMES_PER_SECOND + 0.5)


def text_of(cut: Cut) -> str:
    """Return the transcript of a cut; several supervisions (joined cuts) are read in order."""
    return " ".join(supervision.text or "" for supervision in cut.supervisions).strip()


def keep_duration(cut: Cut, minimum: float = 1.0, maximum: float = 20.0) -> bool:
    """Say whether the cut lasts from ``minimum`` to ``maximum`` seconds, both included."""
    return bool(minimum <= cut.duration <= maximum)


def keep_alignable(
    frames: int,
    tokens: Sequence[int],
    output_lens: Callable[[int], int],
    *,
    use_ctc: bool,
) -> bool:
    """Say whether some path writes all tokens within the frames that the encoder returns.

    A transducer with one symbol per frame needs T' >= S. CTC needs a blank between equal
    neighbours too, and the published recipe leaves two frames more.

    Args:
        frames: T, feature frames of the utterance.
        tokens: (S,) ids of its transcript.
        output_lens: the length function of the encoder, T to T'.
        use_ctc: a CTC loss is part of the training.
    """
    length = int(output_lens(frames))
    if not use_ctc:
        return length >= max(len(tokens), 1)
    repeats: int = sum(map(eq, tokens, tokens[1:]))
    return length >= len(tokens) + max(repeats, _CTC_MARGIN)


@dataclass(slots=True)
class DropReport:
    """How much was kept, and what was dropped, by reason."""

    kept: int = 0
    kept_seconds: float = 0.0
    dropped: Counter[str] = field(default_factory=Counter)
    dropped_seconds: float = 0.0
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, cut: Cut | JudgedCut, reason: str | None) -> None:
        """Count one cut; ``reason`` is None when it is kept."""
        if reason is None:
            self.kept += 1
            self.kept_seconds += cut.duration
            return
        self.dropped[reason] += 1
        self.dropped_seconds += cut.duration
        examples = self.examples.setdefault(reason, [])
        if len(examples) < _MAX_EXAMPLES:
            examples.append(f"{cut.id} ({cut.duration:.2f} s)")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return values | {"dropped": dict(self.dropped)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DropReport:
        """Read back what ``to_dict`` gave."""
        return cls(**{**values, "dropped": Counter(values["dropped"])})

    def include(self, other: DropReport) -> None:
        """Add the counts of another report."""
        self.kept += other.kept
        self.kept_seconds += other.kept_seconds
        self.dropped += other.dropped
        self.dropped_seconds += other.dropped_seconds
        for reason, names in other.examples.items():
            known = self.examples.setdefault(reason, [])
            known += names[: _MAX_EXAMPLES - len(known)]

    def warning(self) -> str:
        """Explain the loss where it is more than 2 % of the hours; empty where it is not."""
        lost = self.dropped_seconds / max(self.kept_seconds + self.dropped_seconds, 1e-9)
        if lost <= _MOST_LOST:
            return ""
        reasons = (f"{reason}: {_REMEDIES[reason]}" for reason, _ in self.dropped.most_common())
        return f"{100 * lost:.1f} % of the hours are not trained on ({'; '.join(reasons)})"

    def text(self) -> str:
        """Format the counts: one line for what was kept, one for each reason to drop."""
        total = self.kept + sum(self.dropped.values())
        hours = (self.kept_seconds + self.dropped_seconds) / 3600
        lines = [
            f"kept {self.kept} of {total} cuts, {self.kept_seconds / 3600:.2f} of {hours:.2f} h"
        ]
        for reason, count in self.dropped.most_common():
            lines.append(f"  dropped {count}: {reason}, e.g. {', '.join(self.examples[reason])}")
        return "\n".join(lines)


class JudgedCut(NamedTuple):
    """What is noted of a cut when it was judged.

    Attributes:
        id: of the cut.
        duration: in seconds.
        reason: why it cannot be trained on; None when it can.
        tokens: number of its tokens; 0 when nobody asked for them.
        shard: that holds its features; empty when it is dropped, or they are not in one.
    """

    id: str
    duration: float
    reason: str | None
    tokens: int
    shard: str


class FilterResult(NamedTuple):
    """Whether a cut is kept, and the reason if not.

    Attributes:
        reason: why it cannot be trained on; None when it can.
        tokens: number of its tokens; 0 when nobody asked for them.
    """

    reason: str | None
    tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainFilter:
    """Filter of training cuts: kept, or dropped for a reason.

    Args:
        encode: transcripts to token ids (``Tokenizer.encode``); None skips the length test.
        output_lens: T to T', the length function of the encoder; None skips the length test.
        use_ctc: a CTC loss is part of the training.
        min_duration: seconds.
        max_duration: seconds.
    """

    encode: Callable[[list[str]], list[list[int]]] | None = None
    output_lens: Callable[[int], int] | None = None
    use_ctc: bool = False
    min_duration: float = 1.0
    max_duration: float = 20.0

    def judge(self, cut: Cut) -> FilterResult:
        """Return why the cut cannot be trained on, if so, and the number of its tokens."""
        return self.judge_all([cut])[0]

    def judge_all(self, cuts: Sequence[Cut]) -> list[FilterResult]:
        """Judge many cuts, whose transcripts are encoded in one call, which is faster."""
        worded = [self._reason_and_text(cut) for cut in cuts]
        results = [FilterResult(reason) for reason, _ in worded]
        if self.encode is None or self.output_lens is None:
            return results
        left = [place for place, (reason, _) in enumerate(worded) if reason is None]
        encoded = self.encode([worded[place][1] for place in left]) if left else []
        for place, tokens in zip(left, encoded, strict=True):
            results[place] = self._with_tokens(cuts[place], tokens, self.output_lens)
        return results

    def _reason_and_text(self, cut: Cut) -> tuple[str | None, str]:
        """Return why the cut cannot be trained on whatever its tokens are, and its transcript."""
        if not keep_duration(cut, self.min_duration, self.max_duration):
            return TOO_SHORT if cut.duration < self.min_duration else TOO_LONG, ""
        text = text_of(cut)
        return None if text else NO_TEXT, text

    def _with_tokens(
        self, cut: Cut, tokens: Sequence[int], output_lens: Callable[[int], int]
    ) -> FilterResult:
        if keep_alignable(num_frames(cut), tokens, output_lens, use_ctc=self.use_ctc):
            return FilterResult(None, len(tokens))
        return FilterResult(MORE_TOKENS_THAN_FRAMES, len(tokens))

    def reason_to_drop(self, cut: Cut) -> str | None:
        """Return why the cut cannot be trained on, or None when it can."""
        return self.judge(cut).reason
