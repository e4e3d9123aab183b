"""Contents of the result files of a decoding run, and tables; normalisation before scoring."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from zipasr.scoring.word_errors import GAP, AlignedPair, WordErrors, align, count_errors, errors_of
from zipasr.text.normalise import normalise
from zipasr.text.scripts import joined, units_of

SHOWN_GAP = "*"


class Transcript(NamedTuple):
    """One decoded utterance.

    Attributes:
        cut_id: name of its cut.
        ref: the words that were said.
        hyp: the words recognised.
        tokens: pieces recognised, if they were kept.
        times: for each of them, seconds from the beginning.
        log_prob: of ``tokens``, in nats.
        confidences: of the recognised words, if they are known.
    """

    cut_id: str
    ref: Sequence[str]
    hyp: Sequence[str]
    tokens: Sequence[str] = ()
    times: Sequence[float] = ()
    log_prob: float | None = None
    confidences: Sequence[float] = ()


class ResultRow(NamedTuple):
    """One line of the results table.

    Attributes:
        test_set: name of it.
        method: that it was decoded with.
        errors: that were made.
        rtf: decoding time over audio time, if measured.
        lost: names of utterances that could not be read, so that the errors are of the others.
        wer: rate of the words between blanks in percent, where characters are counted.
    """

    test_set: str
    method: str
    errors: WordErrors
    rtf: float | None = None
    lost: tuple[str, ...] = ()
    wer: float | None = None


class WordCount(NamedTuple):
    """Counts of one word, as a reference word and as a recognised word."""

    word: str
    correct: int
    errors: int
    in_ref: int
    in_hyp: int


def recogs_text(transcripts: Iterable[Transcript]) -> str:
    """Reference and result of each utterance, two lines each, sorted by cut id."""
    return "".join(
        f"{t.cut_id}:\tref={list(t.ref)}\n{t.cut_id}:\thyp={list(t.hyp)}\n"
        for t in sorted(transcripts, key=lambda transcript: transcript.cut_id)
    )


def errs_text(transcripts: Sequence[Transcript]) -> str:
    """Every error: utterance by utterance in the order given, then by kind, then by word."""
    alignments = [align(transcript.ref, transcript.hyp) for transcript in transcripts]
    utterances = [
        f"{transcript.cut_id}:\t{_marked(alignment)}"
        for transcript, alignment in zip(transcripts, alignments, strict=True)
    ]
    pairs = [pair for alignment in alignments for pair in alignment]
    wrong = Counter(pair for pair in pairs if not pair.is_correct)
    subs = [(n, f"{ref} -> {hyp}") for (ref, hyp), n in wrong.items() if GAP not in (ref, hyp)]
    dels = [(n, ref) for (ref, hyp), n in wrong.items() if hyp == GAP]
    ins = [(n, hyp) for (ref, hyp), n in wrong.items() if ref == GAP]
    sections = [
        _errs_head(errors_of(alignments)),
        "\n".join(["PER-UTT DETAILS: corr or (ref->hyp)  ", *utterances]),
        _counted("SUBSTITUTIONS: count ref -> hyp", subs),
        _counted("DELETIONS: count ref", dels),
        _counted("INSERTIONS: count hyp", ins),
        _per_word(pairs),
    ]
    return "\n\n".join(sections) + "\n"


def wer_summary(rates: Mapping[str, float], metric: str = "WER") -> str:
    """One line for each setting, best first; ``rates`` are in percent."""
    lines = [f"{key}\t{rate:.2f}" for key, rate in _best_first(rates)]
    return "\n".join([f"settings\t{metric}", *lines]) + "\n"


def wer_log_text(test_set: str, rates: Mapping[str, float], metric: str = "WER") -> str:
    """List the settings for the log, best first; ``rates`` are in percent."""
    lines = [f"{key}\t{rate:.2f}" for key, rate in _best_first(rates)]
    if lines:
        lines[0] += f"\tbest for {test_set}"
    return "\n".join([f"For {test_set}, {metric} of different settings are:", *lines])


def wer_log_line(test_set: str, key: str, errors: WordErrors) -> str:
    """Sum up one test set under one setting in one line."""
    return (
        f"[{test_set}-{key}] %{errors.metric} {errors.rate:.2f}% "
        f"[{errors.total} / {errors.ref_words}, "
        f"{errors.ins} ins, {errors.dels} del, {errors.subs} sub ]"
    )


def results_table(rows: Sequence[ResultRow]) -> str:
    """Align the results in columns for the terminal; the names left, the numbers right."""
    metrics = {row.errors.metric: row.errors.unit for row in rows} or {"WER": "words"}
    rate, counted = " or ".join(metrics), " or ".join(metrics.values())
    head = ["set", "method", f"{rate} %", "ins", "del", "sub", f"ref {counted}", "RTF"]
    table = [head, *(_cells(row) for row in rows)]
    if any(row.wer is not None for row in rows):
        others = ["-" if row.wer is None else f"{row.wer:.2f}" for row in rows]
        table = [[*line, cell] for line, cell in zip(table, ["WER %", *others], strict=True)]
        head = table[0]
    widths = [max(len(line[column]) for line in table) for column in range(len(head))]
    lines = []
    for line in table:
        names = [cell.ljust(width) for cell, width in zip(line[:2], widths[:2], strict=True)]
        numbers = [cell.rjust(width) for cell, width in zip(line[2:], widths[2:], strict=True)]
        lines.append("  ".join(names + numbers))
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines) + "\n"


def _cells(row: ResultRow) -> list[str]:
    errors = row.errors
    counts = [errors.ins, errors.dels, errors.subs, errors.ref_words]
    rtf = "-" if row.rtf is None else f"{row.rtf:.4f}"
    return [row.test_set, row.method, f"{errors.rate:.2f}", *map(str, counts), rtf]


def _best_first(rates: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(rates.items(), key=lambda item: item[1])


def _errs_head(errors: WordErrors) -> str:
    correct = errors.ref_words - errors.dels - errors.subs
    return (
        f"%{errors.metric} = {errors.rate:.2f}\n"
        f"Errors: {errors.ins} insertions, {errors.dels} deletions, {errors.subs} substitutions, "
        f"over {errors.ref_words} reference {errors.unit} ({correct} correct)\n"
        "Search below for sections starting with "
        "PER-UTT DETAILS:, SUBSTITUTIONS:, DELETIONS:, INSERTIONS:, PER-WORD STATS:"
    )


def _marked(alignment: Sequence[AlignedPair]) -> str:
    """Write an alignment as words, with neighbouring errors as one ``(ref->hyp)``."""
    parts: list[str] = []
    for is_correct, run in groupby(alignment, key=lambda pair: pair.is_correct):
        pairs = list(run)
        if is_correct:
            parts += [pair.ref for pair in pairs]
            continue
        ref = " ".join(pair.ref for pair in pairs if pair.ref != GAP)
        hyp = " ".join(pair.hyp for pair in pairs if pair.hyp != GAP)
        parts.append(f"({ref or SHOWN_GAP}->{hyp or SHOWN_GAP})")
    return " ".join(parts)


def _counted(title: str, entries: Iterable[tuple[int, str]]) -> str:
    return "\n".join([title, *(f"{n}   {text}" for n, text in sorted(entries, reverse=True))])


def _per_word(pairs: Sequence[AlignedPair]) -> str:
    lines = ["PER-WORD STATS: word  corr tot_errs count_in_ref count_in_hyp"]
    for word, *counts in sorted(_word_counts(pairs), key=_by_errors, reverse=True):
        lines.append(f"{word}   {' '.join(map(str, counts))}")
    return "\n".join(lines)


def _by_errors(count: WordCount) -> tuple[int, str]:
    return count.errors, count.word


def _word_counts(pairs: Sequence[AlignedPair]) -> list[WordCount]:
    correct = Counter(pair.ref for pair in pairs if pair.is_correct)
    in_ref = Counter(pair.ref for pair in pairs if pair.ref != GAP)
    in_hyp = Counter(pair.hyp for pair in pairs if pair.hyp != GAP)
    return [
        WordCount(
            word=word,
            correct=correct[word],
            # A wrong word counts on each side where it stands.
            errors=in_ref[word] + in_hyp[word] - 2 * correct[word],
            in_ref=in_ref[word],
            in_hyp=in_hyp[word],
        )
        for word in in_ref | in_hyp
    ]


def word_rate(transcripts: Sequence[Transcript], errors: WordErrors) -> float | None:
    """Return the rate of the words between blanks in percent; None where nothing else is counted.

    Args:
        transcripts: of a test set.
        errors: of them.
    """
    if errors.metric == "WER":
        return None
    words = ((joined(t.ref).split(), joined(t.hyp).split()) for t in transcripts)
    return count_errors(words).rate


AS_WRITTEN = "words are compared as they are written"
NORMALISED = "words are compared in upper case and without punctuation"


def normalised(transcript: Transcript) -> Transcript:
    """Return the same with reference and recognised words in one spelling."""
    ref, hyp = (units_of(normalise(joined(words))) for words in (transcript.ref, transcript.hyp))
    return transcript._replace(ref=ref, hyp=hyp)


# Spelling is told of when it makes up more of the errors than that.
_SPELLING_SHARE = 0.1


def spelling_line(test_set: str, transcripts: Sequence[Transcript], errors: WordErrors) -> str:
    """Say how much of a word error rate is case and punctuation; nothing up to a tenth of it.

    Args:
        test_set: name of it.
        transcripts: as they are written.
        errors: of them.
    """
    if not errors.total:
        return ""
    plain = count_errors((t.ref, t.hyp) for t in map(normalised, transcripts))
    share = 1.0 - plain.rate / errors.rate
    if share <= _SPELLING_SHARE:
        return ""
    return (
        f"{test_set}: {100 * share:.0f} % of the error rate is case and punctuation: "
        f"{errors.rate:.2f} % as written, {plain.rate:.2f} % in one spelling, which "
        "--score-normalised 1 scores"
    )
