"""Decoding of the test sets of a recipe as streams: result files, log, error rates, latencies."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace

from lhotse import CutSet

from zipasr.base.files import sweep
from zipasr.base.log import setup_logging
from zipasr.base.progress import Progress
from zipasr.data.loaders import Loader, test_loader
from zipasr.encoder.protocol import SECONDS_PER_FEATURE_FRAME, Geometry
from zipasr.recognition.acoustic_model import AcousticModel
from zipasr.recognition.best_average import with_checkpoints
from zipasr.recognition.config import RecognitionConfig
from zipasr.recognition.decode_sets import (
    check_complete,
    introduce,
    load_test_sets,
    lost_of,
    setting_of,
    tell_hot_words,
    tell_report,
    write_results,
)
from zipasr.recognition.recogniser import (
    Recognised,
    Recogniser,
    load_recogniser,
    transcript_of,
    words_of,
)
from zipasr.recognition.resources import check_resources
from zipasr.recognition.result_names import ResultFiles, file_suffix, streaming_key_of
from zipasr.recognition.streaming import ChunkRecogniser, Stream, chunk_recogniser, through_streams
from zipasr.scoring.decodings import Decoding, UtteranceRecord, write_decoding
from zipasr.scoring.latency import latency_lines
from zipasr.scoring.result_files import ResultRow, results_table
from zipasr.scoring.run_report import records_of, word_ends
from zipasr.search.protocol import Utterance

logger = logging.getLogger(__name__)


def decode_streams(config: RecognitionConfig) -> None:
    """Decode every test set as streams and write the result files; print a table.

    Beside the error rate it tells how long the first and the last word of an utterance take to be
    shown for good, and how many words change after they were shown.

    Raises:
        UserError: the model is not causal, or the method needs whole utterances.
        DataError: utterances could not be read; the results of the others are written.
    """
    setup_logging()
    check_resources(config)
    test_sets = load_test_sets(config)
    sweep(config.exp_dir, levels=3)
    config = with_checkpoints(config, sys.stdout)
    # Streams always have what --pad-look-ahead adds, so that their results are not named after it.
    config = replace(config, decoding=replace(config.decoding, pad_look_ahead=False))
    recogniser = load_recogniser(config)
    acoustics = recogniser.acoustics
    chunkwise = chunk_recogniser(acoustics, recogniser.method, recogniser.search)
    folder = config.exp_dir / "streaming" / config.decoding.decoding_method
    label = config.streaming.label
    suffix = file_suffix(config, acoustics) + (f"-{label}" if label else "")
    files = ResultFiles(folder, suffix, streaming_key_of(config), is_streaming=True)
    setup_logging(folder / f"log-decode-{suffix}")
    introduce(recogniser)
    computing = chunkwise.warm_up()
    rows = [
        _decode_set(config, recogniser, chunkwise, (name, cuts), files, computing)
        for name, cuts in test_sets.items()
    ]
    if not config.decoding.skip_scoring:
        sys.stdout.write(results_table(rows))
        tell_report(config.exp_dir)
    check_complete(rows)


def _decode_set(
    config: RecognitionConfig,
    recogniser: Recogniser[AcousticModel],
    chunkwise: ChunkRecogniser,
    named_cuts: tuple[str, CutSet],
    files: ResultFiles,
    computing: float,
) -> ResultRow:
    """Decode one test set and write its files; ``computing``: seconds of a chunk of one stream."""
    name, cuts = named_cuts

    def words_of_one(found: Utterance) -> list[str]:
        (words,) = words_of(recogniser.tokenizer, [found])
        return words

    texts = {cut.id: " ".join(s.text or "" for s in cut.supervisions) for cut in cuts}
    done: list[Stream] = []
    spent = 0.0
    most = config.streaming.num_decode_streams
    with Progress(f"streaming {name}", len(texts)) as progress:
        waiting = _streams(test_loader(cuts, config.sets.loading), recogniser.geometry)
        for over, seconds in through_streams(chunkwise, waiting, most, words_of_one):
            spent += seconds
            for stream in over:
                done.append(stream)
                progress.step(f"{len(done)} utterances")
    transcripts = [
        transcript_of(recogniser, one.name, texts[one.name], one.found, one.shown.words)
        for one in done
    ]
    found = Recognised({"": transcripts}, spent, sum(stream.seconds for stream in done))
    row, scored = write_results(files, name, found, config)
    lost = lost_of(cuts, transcripts)
    row = row._replace(method=f"streaming {row.method}", lost=lost)
    records = with_latency(records_of(scored, cuts), done, cuts)
    if not config.decoding.skip_scoring:
        setting = replace(
            setting_of(config, recogniser, row, files.suffix),
            chunk_seconds=chunkwise.size.step * SECONDS_PER_FEATURE_FRAME,
            chunk_computing=round(computing, 5),
        )
        decoding = Decoding(setting, records)
        write_decoding(files.folder, decoding)
        tell_hot_words(decoding)
    for line in latency_lines(records, computing):
        sys.stdout.write(f"{name}: {line}\n")
        logger.info("%s: %s", name, line)
    return row


def _streams(loader: Loader, geometry: Geometry) -> Iterator[Stream]:
    for batch in loader:
        for name, features, length in zip(
            batch.cut_ids, batch.features, batch.feature_lens.tolist(), strict=True
        ):
            yield Stream(name, features[:length].clone(), geometry)


def with_latency(
    records: Iterable[UtteranceRecord], done: Iterable[Stream], cuts: CutSet
) -> list[UtteranceRecord]:
    """Return records with what is known of when their words were said and shown."""
    shown = {stream.name: stream.shown for stream in done}
    ends = {cut.id: word_ends(cut) for cut in cuts}
    return [
        replace(
            record,
            shown=[round(moment, 3) for moment in shown[record.id].since],
            changed=shown[record.id].changed,
            ref_ends=ends[record.id],
        )
        for record in records
    ]
