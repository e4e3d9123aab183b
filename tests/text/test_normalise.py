import pytest
from hypothesis import given
from hypothesis import strategies as st

from zipasr.text.normalise import (
    NORMALISATIONS,
    Normaliser,
    normalise,
    normalised_transcript,
    read_steps,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("don\u2019t stop", "DON'T STOP"),
        ("  Hello,   world! ", "HELLO WORLD"),
        ("'tis the boys' turn", "'TIS THE BOYS' TURN"),
        ("rock ' n ' roll", "ROCK N ROLL"),
        ("twenty-one", "TWENTY ONE"),
        ("ﬁle №2", "FILE NO2"),
        ("cafe\u0301", "CAF\u00c9"),
        ("under_score", "UNDER SCORE"),
        ("", ""),
    ],
)
def test_spellings(text: str, expected: str) -> None:
    assert normalise(text) == expected


@given(st.text(max_size=30))
def test_twice_is_once(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert once == " ".join(once.split())


@pytest.mark.parametrize(
    ("value", "steps"),
    [
        ("none", ()),
        ("0", ()),
        ("upper", ("upper",)),
        ("no-punctuation, Lower", ("lower", "no-punctuation")),
        ("upper,no-punctuation", ("upper", "no-punctuation")),
        ("1", ("upper", "no-punctuation")),
    ],
)
def test_steps_of_an_import(value: str, steps: tuple[str, ...]) -> None:
    assert read_steps(value) == steps


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("uper", "'uper' is none of none, upper, lower, no-punctuation"),
        ("", "'' is none of"),
        ("upper,lower", "give upper or lower"),
        ("none,upper", "none stands alone"),
    ],
)
def test_steps_that_cannot_be(value: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^--normalise {value}: {message}"):
        read_steps(value)


@pytest.mark.parametrize(
    ("steps", "text", "expected"),
    [
        ("none", " cafe\u0301\u00a0 x\tﬁ ", "caf\u00e9 x ﬁ"),
        ("upper", "stra\u00dfe, ½ l!", "STRASSE, ½ L!"),
        ("lower", "\u039f\u0394\u039f\u03a3 É", "\u03bf\u03b4\u03bf\u03c2 é"),
        ("no-punctuation", "\u201cDon\u2019t\u201d \u2014 'tis No. 5!", "Don't 'tis No 5"),
        ("upper,no-punctuation", "Twenty-one, ﬁ.", "TWENTY ONE FI"),
        ("no-punctuation", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645.", None),
        ("no-punctuation", "a\u200c \u200c ''", "a"),
    ],
)
def test_transcripts_of_an_import(steps: str, text: str, expected: str | None) -> None:
    changed = normalised_transcript(text, read_steps(steps))
    assert changed == (text[:-1] if expected is None else expected)


@given(st.text(max_size=30), st.sampled_from(NORMALISATIONS))
def test_an_import_twice_is_once(text: str, value: str) -> None:
    steps = read_steps(value)
    once = normalised_transcript(text, steps)
    assert normalised_transcript(once, steps) == once
    assert once == " ".join(once.split())


def test_what_an_import_changes_is_counted_and_shown() -> None:
    change = Normaliser(read_steps("upper,no-punctuation"))
    texts = ["FINE", "Fine.", " cafe\u0301 ", "...", ""]
    assert [change(text) for text in texts] == ["FINE", "FINE", "CAF\u00c9", "", ""]
    assert change.lines() == [
        "2 of 5 transcripts: in upper case",
        "  'Fine.' became 'FINE.'",
        "  'caf\u00e9' became 'CAF\u00c9'",
        "2 of 5 transcripts: without punctuation",
        "  'FINE.' became 'FINE'",
        "  '...' became ''",
        "1 of 5 transcripts: in composed Unicode form (NFC)",
        "  ' cafe\u0301 ' became ' caf\u00e9 '",
        "1 of 5 transcripts: nothing is left",
        "  '...' became ''",
    ]
