"""The stages of a corpus that is downloaded, with a server of made-up recordings."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from lhotse import CutSet

from tests import tones
from tests.cli.conftest import Call
from tests.corpora import libri
from tests.corpora.server import Site, serve
from zipasr.cli import prepare
from zipasr.cli.command_flags import read
from zipasr.cli.preparation_commands import BPE
from zipasr.cli.training_commands import TRAIN
from zipasr.corpora import published
from zipasr.data.config import DataConfig
from zipasr.text.config import BpeConfig, TokenizerConfig

RECIPE = """
corpus = "librispeech"
stages = [0, 5]
[corpus-options]
lm = ["librispeech-lexicon.txt"]
[splits]
train = ["train-all-shuf"]
valid = ["dev-clean-2"]
test = ["dev-clean-2"]
[joined]
train-all-shuf = ["train-clean-5", "dev-clean"]
[flags]
manifest-dir = "data/tones/fbank"
lang-dir = "data/tones/lang_bpe_40"
bpe-model = "data/tones/lang_bpe_40/bpe.model"
vocab-size = 40
perturb-speed = 1
min-cut-duration = 0.5
[subsets.mini-libri.splits]
train = ["train-clean-5"]
[subsets.mini-libri.corpus-options]
musan = false
"""
LEXICON = b"ZEBRA Z IY1 B R AH0\nANGOR AE1 N G ER0\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tones").mkdir()
    (tmp_path / "tones" / "recipe.toml").write_text(RECIPE)
    return tmp_path


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three parts of LibriSpeech, and MUSAN."""
    source = tmp_path_factory.mktemp("source")
    for speaker, part in enumerate(("train-clean-5", "dev-clean-2", "dev-clean"), start=1):
        libri.write_part(source / "LibriSpeech", part, speaker=str(speaker))
    libri.write_musan(source)
    return source


@pytest.fixture
def site(source: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "*")
    files = {
        f"/31/{part}.tar.gz": libri.tar_of(source, [f"LibriSpeech/{part}"])
        for part in ("train-clean-5", "dev-clean-2")
    }
    files |= {"/17/musan.tar.gz": libri.tar_of(source, ["musan"])}
    files |= {"/11/librispeech-lexicon.txt": LEXICON}
    with serve(Site(files)) as server:
        yield server


def test_all_stages(
    site: Site, source: Path, folder: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The checksum of this part is known: no server of ours can serve it, but it may be there.
    part = "LibriSpeech/dev-clean"
    shutil.copytree(source / part, folder / "download" / part)
    # Room for 11 GB of noise is not needed here.
    monkeypatch.setattr(published, "_require_room", lambda downloads, keep: None)
    assert call(prepare.download, folder, "--mirror", site.url).status == 0
    assert call(prepare.make_manifests, folder, "--num-jobs", "1").status == 0
    assert call(prepare.compute_features, folder, "--num-jobs", "1").status == 0
    assert call(prepare.train_tokenizer, folder).status == 0
    said = call(prepare.validate, folder)
    assert said.status == 0
    assert "librispeech train-clean-5: sound\n  kept 9 of 9 cuts" in said.out
    assert call(prepare.write_lm_text, folder).status == 0

    features = folder / "data/tones/fbank"
    joined = CutSet.from_file(features / "librispeech_cuts_train-all-shuf.jsonl.gz")
    assert len(joined) == 9 + 3
    assert len(CutSet.from_file(features / "musan_cuts.jsonl.gz")) == 9
    lang = folder / "data/tones/lang_bpe_40"
    spelt = [line.split()[0] for line in (lang / "lexicon.txt").read_text().splitlines()]
    assert "ZEBRA" in spelt
    assert {"ANGOR", "PAIN"} <= {*spelt}
    lines = (folder / "data/tones/lm/train.txt").read_text().splitlines()
    assert sorted(lines) == sorted(libri.TEXTS * 2)


def test_a_server_that_refuses_ends_with_one_line(site: Site, folder: Path, call: Call) -> None:
    site.faults = [403]
    said = call(prepare.download, folder, "--mirror", site.url, "--mini-libri", "1")
    assert said.status == 7
    error = said.err.splitlines()[-1]
    assert error.startswith("error: train-clean-5.tar.gz cannot be downloaded")
    assert "the server answers 403 Forbidden" in error
    assert "put it at download/train-clean-5.tar.gz, and give the same command again" in error
    assert not (folder / "download/LibriSpeech").exists()


def test_what_is_not_published_is_not_downloaded(workdir: Path, call: Call) -> None:
    said = call(prepare.download, workdir)
    assert said.status == 2
    assert "recipe 'tones' has nothing to download" in said.error


def test_a_subset_that_a_recipe_lacks(workdir: Path, call: Call) -> None:
    said = call(prepare.train_tokenizer, workdir, "--mini-libri", "1")
    assert said.status == 2
    assert "recipe 'tones' has no subset 'mini-libri'; it has none" in said.error


def test_a_message_names_the_subset(folder: Path, call: Call) -> None:
    said = call(prepare.train_tokenizer, folder, "--mini-libri", "1")
    assert said.status == 3
    assert "./prepare.sh --recipe ./tones --mini-libri 1 --stage 1" in said.error


def test_the_recipe_of_the_project_says_where_things_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tones.ROOT)
    words = ["--recipe", "librispeech"]
    run = read(TRAIN, words)
    assert str(run[DataConfig].manifest_dir) == "data/librispeech/fbank"
    for more in ([], ["--full-libri", "0"], ["--mini-libri", "1"]):
        model = read(TRAIN, words + more)[TokenizerConfig].bpe_model
        config = read(BPE, words + more)[BpeConfig]
        assert (config.lang_dir / "bpe.model", config.vocab_size) == (model, 500)
    assert read(TRAIN, [*words, "--full-libri", "0"]).recipe.splits["train"] == ["train-clean-100"]
