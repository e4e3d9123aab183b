"""The pages about the model and the library say what these do: tables, pictures, names, claims."""

from __future__ import annotations

import pkgutil
import re
import runpy
import sys
from dataclasses import fields
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

from docs import demonstrations as demo
from docs import layers, plots, refresh, shapes
from zipasr.encoder.zipformer.config import ZipformerConfig
from zipasr.encoder.zipformer.front_end import Conv2dSubsampling
from zipasr.model.config import ModelConfig
from zipasr.optim.config import EdenConfig, OptimizerConfig
from zipasr.training.config import TrainConfig

DOCS = refresh.PAGE.parent
PAGE = refresh.PAGE.read_text(encoding="utf-8")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.M | re.S)
IMAGE = re.compile(r"!\[[^\]]+\]\(images/(\w+)\.png\)")
MAX_PICTURE_BYTES = 120_000


@pytest.fixture(scope="module")
def printed() -> dict[str, str]:
    return refresh.printed()


@pytest.fixture(scope="module")
def facts(printed: dict[str, str]) -> dict[str, float]:
    return dict(numbers(printed["numbers"]))


# The page ------------------------------------------------------------------------------------


def test_the_shape_tables_are_what_the_model_does(printed: dict[str, str]) -> None:
    assert refresh.block("shapes", PAGE)[1].strip() == printed["shapes"].strip(), (
        "run: python -m docs.refresh"
    )


def numbers(table: str) -> list[tuple[str, float]]:
    rows = re.findall(r"^\| (.+?) +\| +(-?[\d.e-]+) \|$", table, re.M)
    return [(name, float(value)) for name, value in rows]


def test_the_numbers_are_what_the_scripts_print(printed: dict[str, str]) -> None:
    on_page, now = numbers(refresh.block("numbers", PAGE)[1]), numbers(printed["numbers"])
    assert [name for name, _ in on_page] == [name for name, _ in now], "run: python -m docs.refresh"
    assert len(now) > 30
    # Other processors round otherwise, and a frame may fall on the other side of a limit.
    assert dict(on_page) == pytest.approx(dict(now), rel=0.03)


def test_the_text_repeats_the_numbers_of_the_table(facts: dict[str, float]) -> None:
    text = " ".join(PAGE.split())
    whiten = "Whiten, 64 channels, limit 5.0: metric"
    before, after = facts[f"{whiten} before"], facts[f"{whiten} after 250 steps"]
    assert f"falls from {before:.1f} to {after:.3g}" in text
    few = "Balancer, too few positives: share"
    assert f"from {facts[f'{few} before']:.2g} to {facts[f'{few} after 1 step']:.2g}" in text
    assert f"is met at {facts[f'{few} after 400 steps']:.0%}".replace("%", " %") in text
    length = facts["BiasNorm, bias 8 in one of 64 channels: the same"]
    assert f"{length:.2f} times as long" in text


def test_every_name_of_the_library_exists() -> None:
    names = set(re.findall(r"`(zipasr(?:\.\w+)+)`", PAGE))
    assert len(names) > 8
    for name in names:
        pkgutil.resolve_name(name)


def test_every_flag_exists() -> None:
    configs = (ZipformerConfig, ModelConfig, TrainConfig, OptimizerConfig, EdenConfig)
    known = {f"--{f.name.replace('_', '-')}" for config in configs for f in fields(config)}
    known |= {"--preset", "--frames", "--utterances"}
    assert set(re.findall(r"`(--[a-z-]+)", PAGE)) <= known


def anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_lead_somewhere() -> None:
    targets = LINK.findall(FENCE.sub("", PAGE))
    assert len(targets) > 40
    for target in targets:
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        assert (DOCS / path).exists(), target
        page = (DOCS / path).read_text(encoding="utf-8") if anchor and path else PAGE
        assert not anchor or anchor in anchors(page), target


def test_the_pictures_are_there_and_small() -> None:
    pages = [path.read_text(encoding="utf-8") for path in DOCS.glob("*.md")]
    linked = {name for page in pages for name in IMAGE.findall(page)}
    pictures = {path.stem: path for path in (DOCS / "images").iterdir()}
    assert linked == set(pictures) == {*plots.FIGURES, "layers", "report"}
    assert set(IMAGE.findall(PAGE)) == set(plots.FIGURES) - {"data_flow", "zapformer"}
    for path in pictures.values():
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size <= MAX_PICTURE_BYTES, path.name


def test_the_papers_numbers_are_named_as_such() -> None:
    rate = re.compile(r"\d\.\d\d\s/\s\d\.\d\d")
    table = PAGE[PAGE.index("## What the paper measured") :]
    streaming = {"2.27 / 5.10", "2.81 / 7.15", "3.06 / 7.81"}
    assert len(rate.findall(table)) == 14
    assert set(rate.findall(PAGE)) == {*rate.findall(table), *streaming}
    for paragraph in PAGE.split("\n\n"):
        if paragraph.startswith("**Ablation") and rate.search(paragraph):
            assert paragraph.startswith("**Ablation (the paper's"), paragraph


# The scripts ---------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "descend", partial(demo.descend, steps=3))
    monkeypatch.setattr(demo, "balance", partial(demo.balance, steps=3))
    monkeypatch.setitem(plots.SETTINGS, "figure.dpi", 30)


@pytest.mark.usefixtures("quick")
def test_every_picture_can_be_drawn(tmp_path: Path) -> None:
    plots.main(["--out", str(tmp_path / "images")])
    assert {path.stem for path in (tmp_path / "images").iterdir()} == set(plots.FIGURES)


@pytest.mark.usefixtures("quick")
def test_a_picture_is_the_same_each_time(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        plots.main(["--out", str(tmp_path / folder), "--only", "balancer"])
    first, second = (next((tmp_path / f).iterdir()).read_bytes() for f in ("a", "b"))
    assert first == second


def test_without_matplotlib_one_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "docs.plots")
    with pytest.raises(SystemExit, match=r"^docs.plots needs matplotlib. Fix: pip install"):
        runpy.run_module("docs.plots", run_name="__main__")


def test_shapes_takes_any_preset_and_length(capsys: pytest.CaptureFixture[str]) -> None:
    shapes.main(["--frames", "97", "--utterances", "2"])
    out = capsys.readouterr().out
    assert re.search(r"^\| result of `encode` +\| N, T', C +\| 2, 23, 256 +\|$", out, re.M)
    with pytest.raises(SystemExit):
        shapes.main(["--frames", "8"])


def test_numbers_come_out_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    sys.stdout.write(demo.as_markdown([("a", 0.5), ("b", -1e-9)]))
    assert numbers(capsys.readouterr().out + "\n") == [("a", 0.5), ("b", 0.0)]


def test_refresh_leaves_a_fresh_page_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = refresh.block("shapes", PAGE)[1]
    copy = tmp_path / "page.md"
    copy.write_text(PAGE.replace(old, "\nold\n\n"), encoding="utf-8")
    texts = {name: refresh.block(name, PAGE)[1] for name in ("shapes", "numbers")}
    flags = tmp_path / "flags.md"
    flags.write_text(refresh.FLAGS_PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(refresh, "PAGE", copy)
    monkeypatch.setattr(refresh, "FLAGS_PAGE", flags)
    monkeypatch.setattr(refresh, "printed", lambda: texts)
    refresh.main()
    # The tables of icefall's flags are of the commands of now.
    now = (DOCS / "coming_from_icefall.md").read_text(encoding="utf-8")
    assert flags.read_text(encoding="utf-8") == now, "run: python -m docs.refresh"
    assert copy.read_text(encoding="utf-8") == PAGE
    with pytest.raises(ValueError, match="no marks for 'other'"):
        refresh.block("other", PAGE)


# The claims ----------------------------------------------------------------------------------


def test_the_long_vector_of_a_frame_is_what_the_linear_layer_takes() -> None:
    width = Conv2dSubsampling(shapes.FEATURE_DIM, 8).out.in_features
    assert re.search(rf"^\| channels and bins, one axis +\| .+ \| 1, 71, {width} +\|$", PAGE, re.M)


def test_the_layer_calls_its_blocks_in_the_order_of_the_picture() -> None:
    assert shapes.layer_order() == [
        "self_attn_weights",
        "feed_forward1",
        "nonlin_attention",
        "self_attn1",
        "conv_module1",
        "feed_forward2",
        "bypass_mid",
        "self_attn2",
        "conv_module2",
        "feed_forward3",
        "norm",
        "bypass",
    ]


def test_whiten_lowers_the_metric_to_its_limit_and_changes_no_value() -> None:
    x = demo.one_strong_direction(num_frames=300, num_channels=32).requires_grad_()
    assert torch.equal(demo.always_whiten(3.0)(x), x)
    done = demo.descend(x.detach(), limit=3.0)
    assert done.metrics[0] > 8.0
    assert 2.8 < done.metrics[-1] < 3.05
    grad = demo.normal(*x.shape)
    assert not demo.added_gradient(demo.always_whiten(30.0), x, grad).any()


def test_whiten_stops_where_classical_whitening_goes_on() -> None:
    x = demo.ellipse()
    assert demo.metric(x) == pytest.approx(1.751, abs=0.03)
    assert demo.descend(x, limit=1.1).metrics[-1] == pytest.approx(1.1, abs=0.02)
    assert demo.metric(demo.classically_whitened(x)) == pytest.approx(1.0)


def test_one_step_along_the_balancer_raises_the_share_of_positives() -> None:
    shares = demo.balance(steps=1).positives
    assert shares[1, 0] > shares[0, 0]
    assert shares[1, 2] == shares[0, 2]
    x = demo.channels().requires_grad_()
    assert torch.equal(demo.always_balance()(x), x)


def test_the_balancers_push_follows_the_gradient_and_points_back() -> None:
    x, push = demo.balancer_push()
    assert push.square().mean(0).sqrt().tolist() == pytest.approx([0.04, 0.04, 0.0])
    assert push[:, 0].mean() < 0.0  # descent goes up
    assert (push[:, 1] * x[:, 1]).min() > -1e-3  # descent goes towards zero
    half = demo.added_gradient(demo.always_balance(), x, torch.full_like(x, -0.5))
    assert torch.allclose(half, 0.5 * push)


def test_swooshes_keep_a_slope_where_swish_has_none(facts: dict[str, float]) -> None:
    assert facts["SwooshL: slope at -8"] == pytest.approx(-0.08, abs=1e-4)
    assert facts["SwooshR: slope at -8"] == pytest.approx(-0.08, abs=1e-3)
    assert abs(facts["Swish: slope at -8"]) < 0.003
    assert demo.curve(demo.swoosh_l).zeros() == pytest.approx([-0.263, 2.771], abs=1e-3)
    assert demo.curve(demo.swoosh_r).zeros() == pytest.approx([-3.815, 0.0], abs=1e-3)


def test_eden_has_the_published_values() -> None:
    found = [demo.learning_rate(*at) for at in ((1, 0), (500, 0), (20_000, 10), (300_000, 29))]
    assert found == pytest.approx([0.004581, 0.044950, 0.015326, 0.002463], abs=5e-7)


# The layers ----------------------------------------------------------------------------------


def test_the_picture_of_the_layers_is_of_this_source() -> None:
    with Image.open(DOCS / "images" / "layers.png") as picture:
        drawn = picture.info["Description"]
    assert drawn == layers.described(layers.imports()), (
        "run: python -m docs.layers docs/images/layers.png"
    )


def test_the_table_of_packages_is_complete_and_its_paths_exist() -> None:
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    packages = [name for row in layers.layers() for name in row]
    assert re.findall(r"^\| `zipasr/(\w+)`", page, re.M) == packages
    library = DOCS.parent / "zipasr"
    for line in re.findall(r"^\| `zipasr/.*", page, re.M):
        package, *files = re.findall(r"`([^`]+)`", line)
        assert all((DOCS.parent / package / file).exists() for file in files[0:]), line
    for path in re.findall(r"`([\w/]+/[\w/]+\.py)", page.partition("## From")[2]):
        assert (library / path).exists() or (DOCS.parent / path).exists(), path
