"""Reports on records that nobody wrote by hand, or that are damaged: a page, or one line."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.mutated import EXAMPLES, mutated, read_or_refused
from tests.scoring.decoded import decoding
from zipasr.base.errors import DataError
from zipasr.scoring.decodings import Decoding, UtteranceRecord, read_decodings, write_decoding
from zipasr.scoring.run_report import load_report, short_report, write_report

FEW = decoding("greedy_search", 0.4, 1)
FEW = replace(FEW, records=FEW.records[:3])
FACTS = "utterances-test-epoch-1_greedy_search.jsonl"
SETTING = "setting-test-epoch-1_greedy_search.json"
ATTACK = "</p><script>alert(1)</script><img src=x onerror=alert(1)>"


def one_record(folder: Path, **values: Any) -> Path:
    """Write a run with an utterance whose record has these values."""
    write_decoding(folder / "greedy_search", FEW)
    record = {**asdict(FEW.records[0]), **values}
    (folder / "greedy_search" / FACTS).write_text(json.dumps(record) + "\n", encoding="utf-8")
    return folder


BAD = {
    "id": [None, 1, ["x"]],
    "ref": ["A B", ["A", ""], ["A", 1], None, {"A": 1}, [["A"]]],
    "hyp": ["A", [""], [None], 3],
    "duration": [float("nan"), float("inf"), -1.0, "1", None, True, 1e300, 10**400],
    "speaker": [3, None, ["x"]],
    "audio": [None, 3, ["x"]],
    "start": [float("nan"), "0", None, [0]],
    "tokens": ["A", [1], None],
    "times": [["0.1"], [float("nan")], [None], 3, [True]],
    "log_prob": ["-1", [1]],
    "confidences": [0.5, ["0.5"], [1.5], [-0.1], [float("nan")], [True]],
}


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, values in BAD.items() for v in values])
def test_a_value_that_cannot_be_is_named_with_its_line(
    field: str, value: Any, tmp_path: Path
) -> None:
    one_record(tmp_path, **{field: value})
    with pytest.raises(DataError, match=rf"{FACTS}, line 1 is not a decoded utterance: {field}: "):
        write_report(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "3",
        "null",
        '"x"',
        "{}",
        '{"id": "x"}',
        "[" * 100_000,
        "{" * 100_000,
        '{"id": 1}',
        "\0",
    ],
)
def test_what_is_no_record_is_one_line(content: str, tmp_path: Path) -> None:
    one_record(tmp_path)
    (tmp_path / "greedy_search" / FACTS).write_text(f"\n{content}\n")
    with pytest.raises(DataError, match=r"jsonl, line 2 is not a decoded utterance: ") as refusal:
        write_report(tmp_path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "change",
    [
        {"test_set": "../x"},
        {"test_set": ""},
        {"suffix": "a/b"},
        {"suffix": "a\0b"},
        {"key": 3},
        {"rtf": "fast"},
        {"rtf": [1]},
        {"model": None},
        {"scoring": 1},
    ],
)
def test_a_setting_that_cannot_be_is_one_line(change: dict[str, Any], tmp_path: Path) -> None:
    write_decoding(tmp_path, FEW)
    path = tmp_path / SETTING
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match=rf"{SETTING} is damaged: {next(iter(change))}: "):
        read_decodings(tmp_path)


ODD: list[dict[str, Any]] = [
    {"ref": [], "hyp": []},
    {"ref": ["\ud83d"], "hyp": ["\udce9"], "speaker": "\ud800"},
    {"duration": 0, "start": -0.5, "times": [-0.01], "tokens": ["▁A"]},
    {"log_prob": float("nan")},
    {"audio": "x" * 5000},
    {"audio": "a\0b"},
    {"audio": "/dev/zero"},
    {"audio": "\ud800"},
    {"audio": "caf\udce9.wav"},
    {"duration": 3e6, "start": 3e6},
    {"id": "", "speaker": "`|\n#"},
    {"times": [0.1], "tokens": ["▁A", "▁B", "▁C"]},
    {"unknown": {"of": ["another", "version"]}},
]


@pytest.mark.parametrize("values", ODD)
def test_what_is_odd_and_possible_is_shown(values: dict[str, Any], tmp_path: Path) -> None:
    for path in write_report(one_record(tmp_path, **values)):
        assert path.read_text(encoding="utf-8")


def test_sound_that_is_none_is_left_out(tmp_path: Path) -> None:
    sound = tmp_path / "text.wav"
    sound.write_text("no sound")
    one_record(tmp_path, audio=str(sound), hyp=["X"], start=1e7, duration=0.5)
    assert load_report(tmp_path, 10.0).sounds == {
        FEW.records[0].id: "text.wav#t=10000000.00,10000000.50"
    }


def test_line_separators_in_a_name_break_no_line(tmp_path: Path) -> None:
    record = UtteranceRecord(id="a\u2028b\x85c", ref=["A"], hyp=["B"], audio="caf\udce9.wav")
    record = replace(record, tokens=[], times=[], shown=[], ref_ends=[], confidences=[])
    write_decoding(tmp_path, Decoding(FEW.setting, [record]))
    (found,) = read_decodings(tmp_path)
    assert found.records == [record]


class Tags(HTMLParser):
    """Collects the tags of a text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)
        assert not {name for name, _ in attrs if name.startswith("on")}


def test_no_tag_of_a_transcript_reaches_a_report(tmp_path: Path) -> None:
    words = ATTACK.split()
    setting = replace(FEW.setting, key=ATTACK, model=ATTACK, scoring=ATTACK)
    record = UtteranceRecord(
        id=ATTACK, ref=words, hyp=[*words, "x"], speaker=ATTACK, tokens=words, times=[0.1] * 3
    )
    folder = tmp_path / "<b>run"
    write_decoding(folder, Decoding(setting, [record]))
    page, short = (path.read_text(encoding="utf-8") for path in write_report(folder))
    assert "img" not in Tags(page).found
    assert page.count("<script>") == 1  # the page's own
    assert Tags(short).found == set()


def test_marks_of_markdown_are_shown_as_they_are() -> None:
    words = ["*a*", "_b_", "`c`", "[d](e)", "f|g", "\\h", "~i~", "$j$"]
    record = UtteranceRecord(id="a`b", ref=words, hyp=["k"])
    report = load_report_of(Decoding(FEW.setting, [record]))
    shown = r"\*a\* \_b\_ \`c\` \[d\](e) f\|g \\h \~i\~ \$j\$"
    assert f"- a\\`b (8 errors): *{shown}* as *k*" in short_report(report)


def load_report_of(decoding: Decoding) -> Any:
    from zipasr.scoring.html_report import Report

    return Report(title="t", subtitle="", decodings=[decoding])


@settings(
    max_examples=EXAMPLES // 4,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data(), name=st.sampled_from([FACTS, SETTING]))
def test_damage_is_shown_or_refused_in_one_line(
    data: st.DataObject, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("run")
    write_decoding(folder, FEW)
    (folder / name).write_bytes(data.draw(mutated((folder / name).read_bytes())))
    read_or_refused(lambda: write_report(folder))
