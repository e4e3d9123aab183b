"""The report page: what stands in it, and that it needs nothing from outside."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.scoring.decoded import decoding
from zipasr.scoring.breakdown import hot_word_errors
from zipasr.scoring.calibration import reliability, word_outcomes
from zipasr.scoring.decodings import Decoding, UtteranceRecord, labels
from zipasr.scoring.html_report import Report, alignment, comparison_page, html_page, matching
from zipasr.scoring.run_report import short_report
from zipasr.scoring.training_facts import TrainingFacts
from zipasr.scoring.word_errors import align

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
# A tenth of a second of silence.
SOUND = "data:audio/wav;base64,UklGRiQAAABXQVZFZm10IBAAAAABAAEAgD4AAAB9AAACABAAZGF0YQAAAAA="
VOID = {"meta", "input", "br", "link", "img"}

GOOD = decoding("modified_beam_search_beam-size-4", 0.15, 1)
PLAIN = decoding("greedy_search", 0.3, 2)
REPORT = Report(
    title="exp/<run>",
    subtitle="a model",
    decodings=[GOOD, PLAIN],
    sounds={record.id: SOUND for record in GOOD.records},
    training=TrainingFacts([("Command", "train.py --recipe <b>")], "data:image/png;base64,cG5n"),
)


class Balance(HTMLParser):
    """Fails where tags are not closed in order; collects what would be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(text: str) -> Balance:
    balance = Balance()
    balance.feed(text)
    assert balance.open == []
    return balance


@pytest.mark.parametrize("text", [html_page(REPORT), comparison_page(REPORT, REPORT)])
def test_page_is_whole_and_fetches_nothing(text: str) -> None:
    fetched = parsed(text).fetched
    assert fetched
    assert all(address.startswith(("#", "data:")) for address in fetched)
    assert "@import" not in text
    assert "url(" not in text
    assert "<run>" not in text


def test_the_confidence_of_words_is_plotted_where_it_is_known() -> None:
    draws = random.Random(3)
    records = [
        replace(one, confidences=[draws.uniform(0.8, 1) for _ in one.hyp]) for one in GOOD.records
    ]
    certain = reliability(*word_outcomes(records))
    setting = replace(GOOD.setting, calibration="confidence is calibrated on dev: 9 words, 1 wrong")
    text = html_page(replace(REPORT, decodings=[Decoding(setting, records), PLAIN]))
    parsed(text)
    told = (
        f"Expected calibration error {certain.error:.2f} % over {certain.words} words; confidence"
    )
    assert told in text
    dots = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r=', text)
    assert len(dots) == len(certain.bins) > 1
    # The axes begin at a tenth below all dots, and end at 100 %.
    first = math.floor(10 * min(min(one.confidence, one.right) for one in certain.bins)) / 10
    for (x, y), one in zip(dots, certain.bins, strict=True):
        assert float(x) == pytest.approx(200 * (one.confidence - first) / (1 - first), abs=0.06)
        assert float(y) == pytest.approx(200 - 200 * (one.right - first) / (1 - first), abs=0.06)
    assert f"{certain.error:.2f} % ({certain.words} words)" in short_report(
        replace(REPORT, decodings=[Decoding(setting, records)])
    )
    assert "<circle" not in html_page(REPORT)
    assert "calibration" not in short_report(REPORT)


def test_errors_are_marked_by_more_than_colour() -> None:
    text = alignment(align(["A", "B", "C"], ["A", "X", "C", "D"]), [0.5, 1.0, 1.5, 2.0])
    assert text == (
        '<p class="alignment"><span title="0.50 s">A</span> '
        '<span class="e s" title="1.00 s"><del>B</del><ins>X</ins></span> '
        '<span title="1.50 s">C</span> <span class="e i" title="2.00 s"><ins>D</ins></span></p>'
    )
    assert '<span class="e d"><del>B</del></span>' in alignment(align(["A", "B"], ["A"]))


def test_other_methods_stand_beside_the_best() -> None:
    text = html_page(REPORT)
    assert text.count("<article") == sum(r.errors.total > 0 for r in GOOD.records)
    assert "<dt>greedy_search, " in text
    assert re.search(r"WER %.*95 % interval", text)


def made_with(plain: Decoding, suffix: str, streamed: bool = False) -> Decoding:
    setting = replace(plain.setting, suffix=suffix)
    return replace(plain, setting=setting, is_streamed=streamed)


def test_what_tells_decodings_of_one_method_apart_stands_beside_its_name() -> None:
    simulated = made_with(PLAIN, "epoch-9_avg-2_chunk-16_use-averaged-model")
    several = [
        GOOD,
        simulated,
        made_with(PLAIN, "epoch-9_avg-2_chunk-32_use-averaged-model"),
        made_with(PLAIN, simulated.setting.suffix, streamed=True),
    ]
    assert labels(several) == [
        "modified_beam_search_beam-size-4",
        "greedy_search chunk-16",
        "greedy_search chunk-32",
        "greedy_search streamed chunk-16",
    ]
    text = html_page(replace(REPORT, decodings=several))
    # One transcript of three decodings is shown once.
    assert text.count("<dt>greedy_search chunk-16<br>greedy_search chunk-32<br>greedy") > 10
    # Each is compared with its like; else the best of a method with the best.
    pairs = matching(several, several)
    assert [(a, b) for _, a, b in pairs] == [(one, one) for one in several]
    assert [name for name, _, _ in pairs][1] == "test greedy_search chunk-16"
    later = [made_with(PLAIN, "epoch-10"), made_with(PLAIN, "epoch-11")]
    assert matching(several, later) == [("test", simulated, later[0])]


def test_what_was_scored_in_other_ways_is_not_compared() -> None:
    folded = replace(PLAIN, setting=replace(PLAIN.setting, scoring="in upper case"))
    assert labels([GOOD, folded])[1] == "greedy_search (in upper case)"
    assert labels([folded, folded])[1] == "greedy_search"
    assert matching([PLAIN], [folded]) == []
    assert matching([PLAIN, folded], [GOOD, folded]) == [("test", folded, folded)]


def record(ref: str, hyp: str) -> UtteranceRecord:
    return UtteranceRecord(id="only", ref=ref.split(), hyp=hyp.split())


@pytest.mark.parametrize(
    "records", [[], [record("", "")], [record("A B", "A B")], [record("", "NOISE")]]
)
def test_little_to_report_on_is_no_reason_to_fail(records: list[UtteranceRecord]) -> None:
    report = replace(REPORT, decodings=[replace(PLAIN, records=records)])
    parsed(html_page(report))
    assert "greedy_search" in short_report(report)
    assert "no significant difference" in comparison_page(report, report)


def test_errors_in_hot_words_stand_apart() -> None:
    hot = replace(GOOD, setting=replace(GOOD.setting, hot_words=("CAT", "MAT")))
    report = replace(REPORT, decodings=[hot, PLAIN])
    row, other = hot_word_errors([("a", hot), ("b", PLAIN)])
    page = html_page(report)
    parsed(page)
    assert page.count("(B-WER)") == 1
    assert f"<td>{row.listed.rate:.2f}</td><td>{row.listed.ref_words}</td>" in page
    assert f"| {other.listed.rate:.2f} | {other.listed.ref_words} |" in short_report(report)
    assert "B-WER" not in html_page(REPORT) + short_report(REPORT)


def test_comparison_says_who_is_better() -> None:
    other = Report(title="other", subtitle="", decodings=[decoding("greedy_search", 0.6, 5)])
    assert "second is better" in comparison_page(other, REPORT)
    assert "second is worse" in comparison_page(REPORT, other)
    assert "no significant difference" in comparison_page(REPORT, REPORT)


def test_short_report() -> None:
    text = short_report(REPORT)
    assert text.startswith("# exp/&lt;run&gt;\n\na model\n\n## test\n\n40 utterances, ")
    assert " hours\n\n| method | WER % |" in text
    assert "| greedy_search |" in text
    assert "Worst utterances:" in text
    clean = decoding("greedy_search", 0.0, 1)
    assert "Worst" not in short_report(Report(title="t", subtitle="", decodings=[clean]))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.is_file():
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html_page(REPORT), encoding="utf-8")
    return path


def test_page_in_a_browser(browser: Any, report_file: Path) -> None:
    tab = browser.new_page(viewport={"width": 1200, "height": 900}, color_scheme="dark")
    problems: list[str] = []
    tab.on("console", lambda message: problems.append(message.text))
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("request", lambda request: problems.extend([request.url] * ("http" in request.url)))
    tab.goto(report_file.as_uri())
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"
    tab.keyboard.press("t")
    assert tab.evaluate("document.documentElement.dataset.theme") == "light"
    first, second = [
        article.get_attribute("id") for article in tab.query_selector_all("article")[:2]
    ]
    for key, expected in (("j", first), ("j", second), ("k", first)):
        tab.keyboard.press(key)
        assert tab.evaluate("document.activeElement.id") == expected
    tab.keyboard.press("/")
    tab.keyboard.type(str(second))
    shown = [a.get_attribute("id") for a in tab.query_selector_all("article:not([hidden])")]
    assert shown == [second]
    assert tab.inner_text("#found").startswith("1 of ")
    tab.keyboard.press("Escape")
    assert len(tab.query_selector_all("article:not([hidden])")) > 2
    assert problems == []
    tab.close()


def test_narrow_screens_need_no_sideways_scrolling(browser: Any, tmp_path: Path) -> None:
    report_file = tmp_path / "report.html"
    longest = "modified_beam_search_lm_shallow_fusion_beam-size-12"
    report = replace(REPORT, decodings=[GOOD, decoding(longest, 0.4, 4)])
    tab = browser.new_page(viewport={"width": 360, "height": 700})
    for text in (html_page(report), comparison_page(report, report)):
        report_file.write_text(text, encoding="utf-8")
        tab.goto(report_file.as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    tab.close()


def test_errors_can_be_read_without_colours(browser: Any, report_file: Path) -> None:
    tab = browser.new_page()
    tab.goto(report_file.as_uri())
    style = "getComputedStyle(document.querySelector('{}')).textDecorationLine"
    assert tab.evaluate(style.format(".e del")) == "line-through"
    assert tab.evaluate(style.format(".e ins")) == "underline"
    sign = "getComputedStyle(document.querySelector('.e.i'), '::before').content"
    assert "+" in tab.evaluate(sign)
    tab.close()
