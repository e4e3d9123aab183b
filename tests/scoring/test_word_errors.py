import kaldialign
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zipasr.scoring.word_errors import GAP, WordErrors, align, count_errors

words = st.lists(st.sampled_from("ABCD"), max_size=8)


def edit_distance(ref, hyp):
    """Textbook dynamic programme over prefixes."""
    row = list(range(len(hyp) + 1))
    for i, said in enumerate(ref, start=1):
        diagonal, row[0] = row[0], i
        for j, heard in enumerate(hyp, start=1):
            diagonal, row[j] = (
                row[j],
                min(row[j] + 1, row[j - 1] + 1, diagonal + (said != heard)),
            )
    return row[-1]


@pytest.mark.parametrize(
    ("ref", "hyp", "want"),
    [
        ("THE CAT SAT", "THE CAT SAT", WordErrors(0, 0, 0, 3)),
        ("THE CAT SAT", "THE SAT", WordErrors(0, 1, 0, 3)),
        ("THE CAT", "THE BIG CAT", WordErrors(1, 0, 0, 2)),
        ("THE CAT", "THE DOG", WordErrors(0, 0, 1, 2)),
        ("", "UH", WordErrors(1, 0, 0, 0)),
        ("HI", "", WordErrors(0, 1, 0, 1)),
        ("", "", WordErrors(0, 0, 0, 0)),
    ],
)
def test_known_pairs(ref, hyp, want):
    assert count_errors([(ref.split(), hyp.split())]) == want


def test_sums_over_utterances():
    pairs = [(list("ABC"), list("AXCD")), (list("AB"), ["A"])]
    errors = count_errors(iter(pairs))
    assert errors == WordErrors(ins=1, dels=1, subs=1, ref_words=5)
    assert errors.total == 3
    assert errors.rate == 60.0


def test_rate_without_reference_words():
    assert count_errors([]).rate == 0.0
    assert WordErrors(ins=2, dels=0, subs=0, ref_words=0).rate == 200.0


@given(words)
def test_equal_words_have_no_errors(ref):
    assert count_errors([(ref, ref)]).rate == 0.0


@given(words, words)
def test_total_is_the_edit_distance(ref, hyp):
    assert count_errors([(ref, hyp)]).total == edit_distance(ref, hyp)


@given(words, words)
def test_insertions_and_deletions_swap_with_the_arguments(ref, hyp):
    there, back = count_errors([(ref, hyp)]), count_errors([(hyp, ref)])
    assert there.total == back.total
    assert there.ins - there.dels == back.dels - back.ins == len(hyp) - len(ref)


@given(words, words)
def test_alignment_keeps_the_words_and_is_the_usual_one(ref, hyp):
    pairs = align(ref, hyp)
    assert [pair.ref for pair in pairs if pair.ref != GAP] == ref
    assert [pair.hyp for pair in pairs if pair.hyp != GAP] == hyp
    usual = kaldialign.align(ref, hyp, "*")
    assert [tuple("*" if word == GAP else word for word in pair) for pair in pairs] == usual


def test_a_star_in_the_text_is_a_word():
    assert count_errors([(["*", "A"], ["A"])]) == WordErrors(0, 1, 0, 2)
    assert count_errors([(["*"], ["A"])]) == WordErrors(0, 0, 1, 1)
