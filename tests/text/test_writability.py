"""What a tokenizer cannot write of transcripts, and which normalisation helps."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.text.test_tokenizer import TEXTS
from zipasr.text.bpe import train_bpe
from zipasr.text.config import BpeConfig
from zipasr.text.tokenizer import Tokenizer
from zipasr.text.writability import best_normalisation, check_writable


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return train_bpe(TEXTS, BpeConfig(lang_dir=tmp_path_factory.mktemp("lang"), vocab_size=60))


def test_all_of_its_own_text_is_written(tokenizer: Tokenizer) -> None:
    found = check_writable([*TEXTS, "", "  TURN\u00a0ON  "], tokenizer)
    assert found.is_whole
    assert found.is_usable
    assert list(found.lines()) == []
    assert found.transcripts == len(TEXTS) + 2
    assert found.characters == len("".join("".join(TEXTS).split())) + 6


def test_characters_are_counted_one_by_one(tokenizer: Tokenizer) -> None:
    found = check_writable(["TURN éé ON", "É,TURN", "ON"], tokenizer)
    assert found.unwritable == {"é": 2, "É": 1, ",": 1}
    assert (found.with_unwritable, found.characters) == (2, 16)
    assert found.unwritable_share == 4 / 16
    assert found.transcript_share == 2 / 3
    assert not found.is_usable
    assert found.unwritable_text() == (
        "25 % of the characters, in 66.7 % of the transcripts, such as 'é' (2), 'É' (1), ',' (1)"
    )
    assert list(found.lines())[1:] == [
        "  'TURN éé ON' comes back as 'TURN ⁇ ON'",
        "  'É,TURN' comes back as '⁇ TURN'",
    ]


def test_a_rare_character_is_no_reason_to_stop(tokenizer: Tokenizer) -> None:
    found = check_writable(["TURN THE LIGHT ON"] * 50 + ["CAFÉ"], tokenizer)
    assert found.is_usable
    assert next(found.lines()).startswith("the tokenizer cannot write 0.142 % of the characters")
    # A full stop at every end is rare among the characters, and yet in each transcript.
    long = " ".join(TEXTS)
    found = check_writable([f"{long}."] * 5, tokenizer)
    assert found.unwritable_share < 0.01
    assert not found.is_usable


def test_the_mildest_normalisation_that_helps(tokenizer: Tokenizer) -> None:
    def best(*texts: str) -> str | None:
        found = best_normalisation(texts, tokenizer)
        return found and found.name

    assert best("turn the light on") == "upper"
    assert best("TURN THE LIGHT, ON!") == "no-punctuation"
    assert best("Turn the light, on!") == "upper,no-punctuation"
    assert best("свет") is None
    assert best("?!") is None


def test_another_rule_of_an_existing_model_shows(tmp_path: Path) -> None:
    """A model with sentencepiece's usual rule keeps it; what it rewrites is counted."""
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*TEXTS, "½ ﬁne"]),
        model_writer=model,
        vocab_size=60,
        character_coverage=1.0,
        user_defined_symbols=["<blk>", "<sos/eos>"],
        unk_id=2,
        bos_id=-1,
        eos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    found = check_writable(["½ ﬁne", "TURN ON"], Tokenizer.from_bytes(model.getvalue()))
    assert found.changed == 1
    assert list(found.lines()) == [
        "1 transcripts come back otherwise from the tokenizer",
        "  '½ ﬁne' comes back as '1⁄2 fine'",
    ]
