"""Parts of a test set add up to the whole, and records come back from their files."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.scoring.decoded import decoding
from zipasr.base.errors import DataError, UserError
from zipasr.scoring.breakdown import (
    by_duration,
    by_speaker,
    by_words,
    confusions,
    hot_word_errors,
    overview,
    worst,
)
from zipasr.scoring.decodings import (
    Decoding,
    Setting,
    UtteranceRecord,
    read_decodings,
    read_records,
    records_name,
    write_decoding,
)
from zipasr.scoring.word_errors import GAP, count_errors

RECORDS = decoding("greedy_search", 0.3, 1).records


def test_overview_is_what_counting_gives() -> None:
    found = overview(RECORDS)
    assert found.errors == count_errors((r.ref, r.hyp) for r in RECORDS)
    assert found.utterances == 40
    assert found.sentence_rate == 100 * sum(list(r.ref) != list(r.hyp) for r in RECORDS) / 40
    assert found.hours == pytest.approx(sum(r.duration for r in RECORDS) / 3600)
    characters = count_errors((list(" ".join(r.ref)), list(" ".join(r.hyp))) for r in RECORDS)
    assert (found.other_metric, found.other_rate) == ("CER", characters.rate)


def test_where_characters_are_counted_the_other_rate_is_that_of_words() -> None:
    def record(ref: str, hyp: str) -> UtteranceRecord:
        return UtteranceRecord(id=ref, ref=[*ref], hyp=[*hyp], duration=1.0)

    records = [record("今天天气", "今天天"), record("我们", "我们")]
    found = overview(records)
    assert (found.errors.metric, found.errors.rate) == ("CER", pytest.approx(100 / 6))
    assert (found.other_metric, found.other_rate) == ("WER", 50.0)
    assert [part.name for part in by_words(records)] == ["2 to 3 characters", "4 to 5 characters"]


@pytest.mark.parametrize("split", [by_duration, by_words, by_speaker])
def test_parts_add_up(split: object) -> None:
    assert callable(split)
    parts = split(RECORDS)
    whole = overview(RECORDS)
    assert sum(part.utterances for part in parts) == whole.utterances
    sums = tuple(sum(column) for column in zip(*(part.errors for part in parts), strict=True))
    assert sums == whole.errors


def test_what_is_recognised_where_nobody_speaks_is_insertions() -> None:
    silent = UtteranceRecord(id="a", ref=[], hyp=["OH", "NO"], duration=1.0)
    spoken = UtteranceRecord(id="b", ref=["A", "B"], hyp=["A", "B"], duration=1.0)
    found = overview([silent, spoken])
    assert found.errors == (2, 0, 0, 2, 0)
    assert (found.errors.rate, found.sentence_rate) == (100.0, 50.0)
    assert found.interval.low == 0.0
    assert found.interval.high <= 400.0
    alone = overview([silent])
    assert (alone.errors.rate, alone.interval) == (200.0, (200.0, 200.0))
    assert alone.errors.metric == "WER"
    unheard = overview([replace(silent, hyp=[])])
    assert (unheard.errors.rate, unheard.interval) == (0.0, (0.0, 0.0))


def test_errors_in_listed_words_and_in_others() -> None:
    records = [
        UtteranceRecord(id="a", ref=["CALL", "ANNA", "NOW"], hyp=["CALL", "HANNA", "NOW"]),
        UtteranceRecord(id="b", ref=["GO", "HOME"], hyp=["ANNA", "GO", "HOME", "NOW"]),
    ]
    plain = Decoding(Setting(test_set="t", key="k", suffix="s"), records)
    hot = replace(plain, setting=replace(plain.setting, hot_words=("ANNA", "BEN")))
    other = replace(plain, setting=replace(plain.setting, hot_words=("HOME",)))
    assert hot_word_errors([("plain", plain)]) == []
    found = hot_word_errors([("hot", hot), ("plain", plain)])
    assert [row.name for row in found] == ["hot", "plain"]
    for row in found:
        assert row.listed == (1, 0, 1, 1, 0)
        assert row.others == (1, 0, 0, 4, 0)
        assert (row.listed.rate, row.others.rate) == (200.0, 25.0)
    # Of two lists none is that of a decoding without.
    found = hot_word_errors([("hot", hot), ("plain", plain), ("other", other)])
    assert [(row.name, row.listed.ref_words) for row in found] == [("hot", 1), ("other", 1)]


def test_names_of_the_classes() -> None:
    def record(words: int, seconds: float) -> UtteranceRecord:
        return UtteranceRecord(
            id=f"{words}", ref=["A"] * words, hyp=["A"] * words, duration=seconds
        )

    few = [record(0, 1.0), record(1, 1.0), record(2, 1.1), record(3, 30.0), record(51, 30.5)]
    assert [part.name for part in by_words(few)] == ["0 words", "1 word", "2 to 3 words", "more"]
    assert [part.name for part in by_duration(few)] == [
        "0 to 1 s",
        "1 to 2 s",
        "20 to 30 s",
        "longer",
    ]
    assert by_speaker(few) == []


def test_confusions_are_counted() -> None:
    pairs = Counter(p for r in RECORDS for p in r.alignment if not p.is_correct)
    found = confusions(RECORDS, 1000)
    assert {(c.ref, c.hyp): c.times for kind in found for c in kind} == pairs
    assert all(c.hyp == GAP for c in found.deletions)
    assert all(c.ref == GAP for c in found.insertions)
    times = [c.times for c in found.substitutions]
    assert times == sorted(times, reverse=True)
    assert len(confusions(RECORDS, 2).deletions) == 2


def test_worst_come_first() -> None:
    totals = [record.errors.total for record in worst(RECORDS, 100)]
    assert totals == sorted(totals, reverse=True)
    assert 0 not in totals
    assert len(worst(RECORDS, 3)) == 3


def test_time_of_a_word_is_that_of_its_first_piece() -> None:
    pieces = ["\u2581", "HE", "LLO", "\u2581WOR", "LD", "\u2581A"]
    record = UtteranceRecord(
        id="u", ref=[], hyp=["HELLO", "WORLD", "A"], tokens=pieces, times=[0, 1, 2, 3, 4, 5]
    )
    assert record.word_times == [1, 3, 5]
    assert (
        UtteranceRecord(id="u", ref=[], hyp=["A", "B"], tokens=["\u2581A"], times=[0]).word_times
        == []
    )


def test_decodings_come_back_best_first(tmp_path: Path) -> None:
    good, bad = decoding("beam", 0.1, 2), decoding("greedy_search", 0.5, 3)
    oracle = decoding("nbest-oracle", 0.0, 4)
    for one in (bad, good, oracle):
        backwards = replace(one, records=one.records[::-1])
        write_decoding(tmp_path / one.setting.key, backwards)
    found = read_decodings(tmp_path)
    # What has seen the reference comes last.
    assert [d.setting for d in found] == [good.setting, bad.setting, oracle.setting]
    assert [list(r.hyp) for r in found[0].records] == [list(r.hyp) for r in good.records]
    (tmp_path / "beam" / records_name("test", "epoch-1_beam")).write_text("{}\n")
    with pytest.raises(DataError, match=r"line 1 is not a decoded utterance"):
        read_decodings(tmp_path)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no decoding to report on"):
        read_decodings(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        read_records(tmp_path / "none.jsonl")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "setting-a.json").write_text("[]")
    with pytest.raises(DataError, match="is damaged"):
        read_decodings(tmp_path)
