"""Weights into a model that has other modules or tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from zipasr.base.errors import CheckpointError, UserError
from zipasr.training.finetune import copy_weights, is_new_module, shared_rows, transfer_table

FILE = Path("x.pt")


def model(tokens: int) -> nn.Module:
    decoder = nn.ModuleDict({"embedding": nn.Embedding(tokens, 2), "conv": nn.Linear(2, 2)})
    heads = {"decoder": decoder, "simple_am_proj": nn.Linear(3, tokens)}
    return nn.ModuleDict({"encoder": nn.Linear(4, 3), **heads})


def test_rows_follow_their_pieces() -> None:
    old, new = ["<blk>", "<unk>", "a", "b"], ["<blk>", "<unk>", "b", "c", "a"]
    rows = shared_rows(old, new)
    assert rows == [(0, 0), (1, 1), (3, 2), (2, 4)]
    source, target = model(4), model(5)
    drawn = target.state_dict()["simple_am_proj.weight"][3].clone()
    done = copy_weights(target, source.state_dict(), FILE, rows=rows)
    ours, theirs = target.state_dict(), source.state_dict()
    for name in done.rows:
        assert [ours[name][b].tolist() for _, b in rows] == [
            theirs[name][a].tolist() for a, _ in rows
        ]
    assert torch.equal(ours["simple_am_proj.weight"][3], drawn)
    assert torch.equal(ours["decoder.conv.weight"], theirs["decoder.conv.weight"])
    assert set(done.rows) == {n for n in ours if is_new_module(n, None, new_tokens=True)}
    lines = transfer_table(done, target, theirs)
    assert [line.split() for line in lines[1:4]] == [
        ["encoder", "15", "0", "0"],
        ["decoder", "14", "2", "0"],
        ["simple_am_proj", "16", "4", "0"],
    ]
    assert lines[-1].startswith("4 of 5 tokens")
    # The other way round a row of the file has no place.
    small, theirs = model(4), model(5).state_dict()
    done = copy_weights(small, theirs, FILE, rows=shared_rows(new, old))
    assert [line.split()[1:] for line in transfer_table(done, small, theirs)[2:4]] == [
        ["14", "0", "2"],
        ["16", "0", "4"],
    ]


def test_one_module_is_taken_and_the_rest_is_told() -> None:
    source, target = model(4), model(4)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    done = copy_weights(target, source.state_dict(), FILE, ["decoder.conv", "encoder"])
    assert done.loaded == (
        "encoder.weight",
        "encoder.bias",
        "decoder.conv.weight",
        "decoder.conv.bias",
    )
    assert done.anew == ("decoder.embedding.weight", "simple_am_proj.weight", "simple_am_proj.bias")
    assert done.ignored == done.anew
    for name, value in target.state_dict().items():
        assert torch.equal(value, before[name] if name in done.anew else source.state_dict()[name])


@pytest.mark.parametrize("tokens", [3, 5])
def test_another_size_is_refused_and_changes_nothing(tokens: int) -> None:
    target = model(4)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"x.pt does not fit to the model: 3 tensors differ"):
        copy_weights(target, model(tokens).state_dict(), FILE)
    assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())


def test_a_module_that_one_side_lacks_is_refused() -> None:
    with pytest.raises(UserError, match=r"decodr: the model .*did you mean 'decoder'"):
        copy_weights(model(4), model(4).state_dict(), FILE, ["decodr"])
    with pytest.raises(UserError, match=r"encoder: x.pt has no such module"):
        copy_weights(model(4), {"decoder.conv.bias": torch.zeros(2)}, FILE, ["encoder"])


@pytest.mark.parametrize(
    "name", ["decoder_giga.embedding.weight", "joiner_giga.output_linear.bias"]
)
def test_heads_of_another_corpus_know_tokens_too(name: str) -> None:
    assert is_new_module(name, None, new_tokens=True)
    assert not is_new_module(
        name.replace("embedding", "conv").replace("output", "x"), None, new_tokens=True
    )
