from hypothesis import given
from hypothesis import strategies as st

from zipasr.text.characters import characters_text, count_characters, normalisation_effect
from zipasr.text.normalise import normalise


def test_the_effect_of_normalisation_is_told() -> None:
    told = {"A": "kept", "a": "becomes A", "-": "becomes a space", "ß": "becomes SS"}
    told |= {" ": "separates words", "\u2019": "becomes '", "'": "kept", "7": "kept"}
    assert {char: normalisation_effect(char) for char in told} == told


@given(st.characters(exclude_categories=["Cs"]))
def test_what_is_said_to_be_kept_is_kept(char: str) -> None:
    if normalisation_effect(char) == "kept":
        assert normalise(f"X{char}X") == f"X{char}X"


def test_the_table_has_counts_and_what_training_never_sees() -> None:
    counts = count_characters(["ab a", "b"])
    assert counts == {"a": 2, "b": 2, " ": 1}
    text = characters_text(counts, unseen="abß")
    assert text.splitlines()[0].endswith("3 different")
    assert "1 in other splits are never seen in training: ß (latin small letter sharp s)" in text


def test_rare_characters_share_a_line() -> None:
    text = characters_text(count_characters("".join(map(chr, range(0x4E00, 0x4E00 + 70)))))
    assert "and 10 rarer ones" in text
    assert len(text.splitlines()) == 62
