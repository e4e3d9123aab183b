import pytest
from hypothesis import given
from hypothesis import strategies as st

from zipasr.text.normalise import normalise


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
