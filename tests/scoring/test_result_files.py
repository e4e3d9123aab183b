from hypothesis import given
from hypothesis import strategies as st

from zipasr.scoring.result_files import (
    ResultRow,
    Transcript,
    errs_text,
    recogs_text,
    results_table,
    spelling_line,
    wer_log_line,
    wer_log_text,
    wer_summary,
)
from zipasr.scoring.word_errors import WordErrors, count_errors

TRANSCRIPTS = [
    Transcript(
        "u1", ["THE", "CAT", "SAT", "ON", "THE", "MAT"], ["THE", "CAT", "SIT", "ON", "MAT", "MAT"]
    ),
    Transcript("u2", ["A", "B", "C"], ["A", "X", "Y", "C", "D"]),
    Transcript("u3", ["HI"], []),
]

# The layout of the reference implementation, written for these three utterances.
ERRS = """\
%WER = 60.00
Errors: 2 insertions, 1 deletions, 3 substitutions, over 10 reference words (6 correct)
Search below for sections starting with PER-UTT DETAILS:, SUBSTITUTIONS:, DELETIONS:, \
INSERTIONS:, PER-WORD STATS:

PER-UTT DETAILS: corr or (ref->hyp)\x20\x20
u1:\tTHE CAT (SAT->SIT) ON (THE->MAT) MAT
u2:\tA (B->X Y) C (*->D)
u3:\t(HI->*)

SUBSTITUTIONS: count ref -> hyp
1   THE -> MAT
1   SAT -> SIT
1   B -> X

DELETIONS: count ref
1   HI

INSERTIONS: count hyp
1   Y
1   D

PER-WORD STATS: word  corr tot_errs count_in_ref count_in_hyp
Y   0 1 0 1
X   0 1 0 1
THE   1 1 2 1
SIT   0 1 0 1
SAT   0 1 1 0
MAT   1 1 1 2
HI   0 1 1 0
D   0 1 0 1
B   0 1 1 0
ON   1 0 1 1
CAT   1 0 1 1
C   1 0 1 1
A   1 0 1 1
"""

words = st.lists(st.sampled_from("ABCD"), max_size=6)
several = st.lists(st.tuples(words, words), max_size=4)


def test_errs_text_byte_for_byte():
    assert errs_text(TRANSCRIPTS).encode() == ERRS.encode()


def test_errs_text_keeps_the_order_given():
    lines = errs_text(TRANSCRIPTS[::-1]).splitlines()
    assert [line[:3] for line in lines if line[:1] == "u"] == ["u3:", "u2:", "u1:"]


def test_errs_text_of_nothing_and_of_no_errors():
    assert errs_text([]).startswith("%WER = 0.00\nErrors: 0 insertions, 0 deletions")
    text = errs_text([Transcript("u", ["A"], ["A"])])
    assert "SUBSTITUTIONS: count ref -> hyp\n\nDELETIONS: count ref\n\nINSERTIONS" in text
    assert text.endswith("\nA   1 0 1 1\n")


@given(several)
def test_errs_sections_agree_with_the_counts(pairs):
    errors = count_errors(pairs)
    text = errs_text([Transcript(f"u{n}", ref, hyp) for n, (ref, hyp) in enumerate(pairs)])
    sections = text.split("\n\n")
    listed = [
        sum(int(line.split()[0]) for line in section.splitlines()[1:]) for section in sections[2:5]
    ]
    assert listed == [errors.subs, errors.dels, errors.ins]
    per_word = [list(map(int, line.split()[1:])) for line in sections[5].splitlines()[1:]]
    correct, wrong, in_ref, in_hyp = (sum(row[k] for row in per_word) for k in range(4))
    assert in_ref == errors.ref_words
    assert in_hyp == sum(len(hyp) for _, hyp in pairs)
    assert correct == errors.ref_words - errors.dels - errors.subs
    assert wrong == errors.ins + errors.dels + 2 * errors.subs


def test_recogs_text_is_sorted_by_cut():
    transcripts = [Transcript("u2", ["A"], []), Transcript("u1", ["IT'S", "B"], ["THE", "CAT"])]
    assert recogs_text(transcripts) == (
        "u1:\tref=[\"IT'S\", 'B']\nu1:\thyp=['THE', 'CAT']\nu2:\tref=['A']\nu2:\thyp=[]\n"
    )


def test_wer_summary_and_log():
    rates = {"b": 2.5, "a": 2.214}
    assert wer_summary(rates) == "settings\tWER\na\t2.21\nb\t2.50\n"
    assert wer_log_text("dev", rates) == (
        "For dev, WER of different settings are:\na\t2.21\tbest for dev\nb\t2.50"
    )
    assert wer_log_text("dev", {}) == "For dev, WER of different settings are:"


def test_wer_log_line():
    errors = WordErrors(ins=138, dels=89, subs=936, ref_words=52576)
    assert wer_log_line("test-clean", "greedy_search", errors) == (
        "[test-clean-greedy_search] %WER 2.21% [1163 / 52576, 138 ins, 89 del, 936 sub ]"
    )


def test_results_table():
    rows = [
        ResultRow("test", "greedy_search", WordErrors(2, 1, 3, 10), 0.0123),
        ResultRow("dev", "modified_beam_search_beam-size-4", WordErrors(0, 0, 0, 1200)),
    ]
    assert results_table(rows) == (
        "set   method                            WER %  ins  del  sub  ref words     RTF\n"
        "----  --------------------------------  -----  ---  ---  ---  ---------  ------\n"
        "test  greedy_search                     60.00    2    1    3         10  0.0123\n"
        "dev   modified_beam_search_beam-size-4   0.00    0    0    0       1200       -\n"
    )


def test_case_and_punctuation_are_told_when_they_are_more_than_a_tenth() -> None:
    def line(*pairs: tuple[str, str]) -> str:
        transcripts = [Transcript("u", ref.split(), hyp.split()) for ref, hyp in pairs]
        return spelling_line("test", transcripts, count_errors((t.ref, t.hyp) for t in transcripts))

    assert line(("Hello, world!", "HELLO WORLD"), ("A B", "A C")) == (
        "test: 67 % of the error rate is case and punctuation: 75.00 % as written, "
        "25.00 % in one spelling, which --score-normalised 1 scores"
    )
    assert line(("a b", "A B")).startswith("test: 100 % of the error rate")
    # Nine words and one in another case: a tenth is not more than a tenth.
    assert line(("A B C D E F G H I j", "X X X X X X X X X J")) == ""
    assert line(("A B C D E F G H i j", "X X X X X X X X I J")) != ""
    assert line(("A B", "A B"), ("A", "")) == ""
    assert line(("", "")) == ""
    # Splitting at a hyphen may even make more errors.
    assert line(("A-B", "C")) == ""
