"""The list of corpora."""

from __future__ import annotations

from pathlib import Path

import pytest

from zipasr.base.errors import UserError
from zipasr.corpora.corpus import CORPORA, CorpusOptions, get_corpus

OPTIONS = CorpusOptions(recipe_dir=Path("egs/espeak"), audio_dir=Path("audio"))


def test_an_unknown_corpus_is_answered_with_the_list() -> None:
    with pytest.raises(UserError) as raised:
        get_corpus("espaek", OPTIONS)
    message = str(raised.value)
    assert (
        "no corpus 'espaek'; there are espeak, gigaspeech, librispeech, manifests, own." in message
    )
    assert "did you mean 'espeak'" in message


def test_a_corpus_goes_by_its_key() -> None:
    assert set(CORPORA) == {"espeak", "gigaspeech", "librispeech", "manifests", "own"}
    assert get_corpus("espeak", OPTIONS).name == "espeak"
    options = CorpusOptions(recipe_dir=Path("egs/x"), audio_dir=Path("x"), settings={"from": "x"})
    assert get_corpus("manifests", options).name == "manifests"
