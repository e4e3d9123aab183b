import pytest

from zipasr.base.errors import UserError
from zipasr.search.beam import modified_beam_search
from zipasr.search.ctc import ctc_greedy_search
from zipasr.search.greedy import greedy_search
from zipasr.search.methods import NOT_YET, SEARCHES, check_method, search_for
from zipasr.search.steps import TransducerSteps
from zipasr.search.types import DecodingConfig

from .tiny import tiny_batch, tiny_steps


def build(decoder, joiner, ctc_output=None, **flags):
    return search_for(DecodingConfig(**flags), decoder, joiner, ctc_output)


def test_settings_reach_the_searches():
    steps = tiny_steps(0, blank_penalty=1.5, temperature=2.0)
    parts = steps.decoder, steps.joiner
    frames, lens = tiny_batch(0, [20, 15])
    flags = {"blank_penalty": 1.5, "temperature": 2.0}
    plain = TransducerSteps(*parts)

    greedy = build(*parts, max_sym_per_frame=3, **flags)(frames, lens)
    assert greedy == greedy_search(frames, lens, steps=steps, max_sym_per_frame=3)
    assert greedy != greedy_search(frames, lens, steps=plain, max_sym_per_frame=3)

    beam = build(*parts, decoding_method="modified_beam_search", beam_size=2, **flags)(frames, lens)
    assert beam == modified_beam_search(frames, lens, steps=steps, beam_size=2)
    assert beam != modified_beam_search(frames, lens, steps=steps, beam_size=4)
    assert beam != modified_beam_search(frames, lens, steps=plain, beam_size=2)

    ctc = build(None, None, lambda x: x, decoding_method="ctc_greedy_search", **flags)(frames, lens)
    assert ctc == ctc_greedy_search(frames, lens, ctc_output=lambda x: x, **flags)


def test_unknown_method_lists_the_names_and_the_nearest():
    with pytest.raises(UserError, match="did you mean 'modified_beam_search'") as caught:
        check_method("modifed_beam_serach")
    message = str(caught.value)
    assert "\n" not in message
    for name, method in SEARCHES.items():
        assert f"{name} ({method.meaning})" in message


def test_unknown_method_that_resembles_nothing():
    with pytest.raises(UserError, match=r"unknown --decoding-method 'zzz'[.] Fix: choose one of"):
        check_method("zzz")


@pytest.mark.parametrize("name", NOT_YET)
def test_methods_to_come_are_refused(name):
    with pytest.raises(UserError, match=f"{name} is not available yet"):
        build(None, None, decoding_method=name)


@pytest.mark.parametrize("name", SEARCHES)
def test_missing_parts_are_explained(name):
    with pytest.raises(UserError, match="this model has none"):
        build(None, None, decoding_method=name)
