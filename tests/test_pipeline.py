"""A whole small study through two real networks, from the command line, on synthetic photos."""

import base64
import functools
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import NOTICE, command, command_here, write_photo
from PIL import Image

from gradcam_adv import (
    FGSM,
    GradCAM,
    flatten,
    load_model,
    metrics,
    overlay,
    perturb,
    predict_logits,
)
from gradcam_adv.app import Pipeline
from gradcam_adv.attacks import SignPerturbations
from gradcam_adv.attacks.noise import random_signs
from gradcam_adv.data import decode_all
from gradcam_adv.explain import resize
from gradcam_adv.files import hashes, read, write
from gradcam_adv.graph.layers import block_ends
from gradcam_adv.models import backbones
from gradcam_adv.paper.claims import CLAIMS
from gradcam_adv.report import layer_sheets, page, sheets
from gradcam_adv.runs import records
from gradcam_adv.runs.tasks import names_by_kind
from gradcam_adv.study import config, perturbed_set
from gradcam_adv.study.columns import read_table
from gradcam_adv.study.plan import ArmPlan
from gradcam_adv.study.stages.explain import _block_ends
from gradcam_adv.study.stages.score import ScoreLayers

STUDY = """
name = "tiny"
image_size = 48
networks = ["vgg16", "resnet50"]
weights = "random"
epochs = 3
epsilons = [0.02, 0.1]
insertion_epsilons = [0.02]
examples = 2
arms = ["plain"]
[layers]
vgg16 = ["block1_conv2", "last"]
resnet50 = ["conv1_relu", -1]
"""


# The folder of the run.
TINY = Path("runs", "tiny")


def succeed(folder: Path, name: str, *arguments: str, study: str = "study.toml") -> str:
    """What a command of a study prints that succeeds."""
    run = command_here if name in ("data", "clean", "export") else command
    result = run(folder, name, study, "--photos", "people", *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


def new_folder(folder: Path) -> Path:
    (folder / "study.toml").write_text(STUDY)
    for person, name in enumerate(("ann", "bob", "cem")):
        for number in range(12):
            write_photo(folder / "people" / name / f"{number}.png", 100 * person + number)
    (folder / "people" / "ann" / "broken.jpg").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a study that has been run once."""
    folder = new_folder(tmp_path_factory.mktemp("run"))
    succeed(folder, "reproduce")
    return folder


def table(folder: Path, name: str) -> pd.DataFrame:
    tables = folder / TINY / "tables"
    place = tables if (tables / f"{name}.csv").exists() else tables / "plain"
    return read_table(place / f"{name}.csv")


def test_a_second_run_finds_nothing_to_do_and_starts_no_tensorflow(run):
    script = (
        "import sys; from gradcam_adv.app import cli\n"
        "try: cli.main(['reproduce', 'study.toml', '--photos', 'people'])\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=run, capture_output=True, text=True, check=True
    )
    assert "nothing to do" in result.stdout


def test_an_earlier_stage_of_a_finished_run_has_nothing_to_do(run):
    manifest = run / TINY / "manifest.json"
    before = read.json(manifest)["tasks"]
    assert "report" in before
    assert "nothing to do, every stage up to attack is done" in succeed(run, "attack")
    assert read.json(manifest)["tasks"] == before


def test_the_numbers_are_those_of_the_public_library(run):
    """Accuracy and NISSIM of the black-box attack, from saved models and public functions."""
    rows = table(run, "photos").query("split == 'test'")
    pixels = decode_all([run / "people" / photo for photo in rows["photo"]], 48)
    labels = rows["label"].to_numpy()
    source, target = (
        load_model(run / "models" / "tiny" / "plain" / f"{name}.keras")
        for name in ("resnet50", "vgg16")
    )
    attacked = perturb(pixels, FGSM(source)(pixels, labels, [0.1])[0.1])

    predicted = predict_logits(target, attacked).argmax(axis=1)
    stated = table(run, "accuracy").query(
        "network == 'vgg16' and attack == 'black-box' and epsilon == 0.1"
    )
    assert stated["right"].tolist() == [(predicted == labels).sum()]

    explain = GradCAM(target, "block5_conv3")
    maps = [resize(explain(x)["block5_conv3"], 48) for x in (pixels, attacked)]
    stated = table(run, "nissim").query(
        "network == 'vgg16' and attack == 'black-box' and epsilon == 0.1"
        " and target == 'predicted' and size == 'input'"
    )
    np.testing.assert_allclose(stated["nissim"], metrics.nissim(*maps), atol=1e-3)
    # Rounding may put single pixels, of 2304, on the other side of half the maximum.
    shift = metrics.region_shift(*maps)
    for name in ("lost", "gained", "moved"):
        np.testing.assert_allclose(stated[name], getattr(shift, name), atol=0.02)
    np.testing.assert_allclose(stated["correlation"], metrics.correlation(*maps), atol=1e-3)
    assert "background" not in stated  # a study without the aligned arm looks for no faces
    mod = table(run, "mod").query(
        "network == 'vgg16' and attack == 'black-box' and epsilon == 0.1"
        " and target == 'predicted' and size == 'input'"
    )
    assert mod["mod"].item() == pytest.approx(stated["nissim"].mean())


@pytest.mark.parametrize("network", ["vgg16", "resnet50"])
def test_the_controls_of_the_gain_are_those_of_the_public_library(run, network):
    """On the source, resnet50, and on another network: NISSIM and the spectrum of the signs."""
    rows = table(run, "photos").query("split == 'test'")
    pixels = decode_all([run / "people" / photo for photo in rows["photo"]], 48)
    model = load_model(run / "models" / "tiny" / "plain" / f"{network}.keras")
    signs = FGSM(model)(pixels, rows["label"].to_numpy(), [0.1]).signs
    people = rows["identity"].to_numpy()
    half = len(people) // 2
    others = [
        next(j for k in range(len(people)) if people[j := (i + half + k) % len(people)] != person)
        for i, person in enumerate(people)
    ]
    scored = table(run, "nissim").query(f"network == '{network}' and target == 'clean'")
    explain = GradCAM(model, backbones.find(network).last_activation)
    classes = predict_logits(model, pixels).argmax(axis=1)
    before = resize(explain(pixels, classes)[explain.layers[0]], 48)
    for attack, epsilon, used in (
        ("white-box", 0.005, signs),
        ("mirrored", 0.05, signs[:, :, ::-1]),
        ("other photo", 0.05, signs[others]),
    ):
        attacked = perturb(pixels, SignPerturbations(used, [epsilon])[epsilon])
        after = resize(explain(attacked, classes)[explain.layers[0]], 48)
        found = scored.query(f"attack == '{attack}' and epsilon == {epsilon} and size == 'input'")
        stated = found.set_index("photo").loc[rows["photo"], "nissim"]
        np.testing.assert_allclose(stated, metrics.nissim(before, after), atol=1e-3)
    spectrum = table(run, "spectrum").query(f"network == '{network}' and attack == 'white-box'")
    share = metrics.low_frequency_share(signs).mean()
    assert spectrum["low_frequency"].item() == pytest.approx(share, abs=1e-3)


def test_unrelated_attacked_photos_are_other_people_s(run):
    """The pairs of the clean control, one per photo, with the second photo attacked."""
    scores = read_table(made(run, "plain/score/vgg16") / "unrelated.csv")
    one = scores.query("attack == 'white-box' and epsilon == 0.1 and target == 'clean'")
    one = one[one["size"] == "input"]
    assert (one["identity"] != one["other_identity"]).all() and one["photo"].is_unique
    clean = scores.query("attack == 'clean'")[["photo", "other"]]
    assert len(one.merge(clean.drop_duplicates(), on=["photo", "other"])) == len(one)
    rows = table(run, "photos").set_index("photo")
    first, second = (
        decode_all([run / "people" / photo for photo in one[column]], 48)
        for column in ("photo", "other")
    )
    model = load_model(run / "models" / "tiny" / "plain" / "vgg16.keras")
    labels = rows.loc[one["other"], "label"].to_numpy()
    attacked = perturb(second, FGSM(model)(second, labels, [0.1])[0.1])
    explain = GradCAM(model, "block5_conv3")
    maps = [
        resize(explain(x, predict_logits(model, clean).argmax(axis=1))["block5_conv3"], 48)
        for x, clean in ((first, first), (attacked, second))
    ]
    np.testing.assert_allclose(one["nissim"], metrics.nissim(*maps), atol=1e-3)
    stated = table(run, "mod").query(
        "network == 'vgg16' and attack == 'white-box' and epsilon == 0.1"
        " and target == 'clean' and size == 'input'"
    )
    assert stated["unrelated_attacked"].item() == pytest.approx(one["nissim"].mean())


def test_on_the_source_black_box_and_white_box_are_the_same(run):
    own = table(run, "nissim").query("network == 'resnet50' and epsilon in (0, 0.02, 0.1)")
    black, white = (own[own["attack"] == name] for name in ("black-box", "white-box"))
    assert len(black) > 0
    pd.testing.assert_frame_equal(
        black.drop(columns="attack").reset_index(drop=True),
        white.drop(columns="attack").reset_index(drop=True),
    )
    other = table(run, "nissim").query("network == 'vgg16' and epsilon == 0.1")
    black, white = (other[other["attack"] == name]["nissim"] for name in ("black-box", "white-box"))
    assert not np.array_equal(black, white)


def test_photos_with_an_unchanged_prediction_have_one_nissim_for_both_targets(run):
    rows = table(run, "nissim").query("size == 'input'")
    keys = ["network", "attack", "epsilon", "photo"]
    both = rows.pivot(index=keys, columns="target", values="nissim")
    flipped = rows.query("target == 'clean'").set_index(keys)["flipped"]
    same = both[~flipped.loc[both.index].to_numpy()]
    np.testing.assert_allclose(same["clean"], same["predicted"], atol=1e-6)
    assert (rows.query("epsilon == 0")["nissim"] == 0).all()


def test_the_layers_of_the_study_are_scored_for_the_examples(run):
    layers = table(run, "layers")
    assert set(layers.query("network == 'vgg16'")["layer"]) == {"block1_conv2", "block5_conv3"}
    assert layers["photo"].nunique() == 2
    assert set(layers["attack"]) == {"black-box", "white-box", "noise"}


def test_the_score_of_the_last_layer_is_that_of_the_whole_test_set(run):
    layers = table(run, "layers").query("layer in ['block5_conv3', 'conv5_block3_out']")
    whole = table(run, "nissim").query("target == 'predicted' and size == 'input'")
    keys = ["network", "attack", "epsilon", "photo"]
    both = layers.merge(whole, on=keys)
    assert len(both) == len(layers) > 0
    np.testing.assert_allclose(both["nissim_x"], both["nissim_y"], atol=1e-4)


def test_the_report_is_short_and_says_what_its_numbers_are_about(run):
    text = (run / TINY / "report.md").read_text()
    assert len(text.splitlines()) <= 150
    assert text.count("RANDOM BASES") == 1
    assert "48 px instead of 224" in text
    assert r"89.86 \| " in text  # the paper's VGG16 at epsilon 0.1, beside this run's
    assert [line for line in text.splitlines() if line.startswith("| ResNet50 ") and "→" in line]
    drawn = ("figure_1", "curves", "transfer", "figure_2", "figure_4", "figure_5", "depth_profile")
    for name in (f"{figure}.png" for figure in drawn):
        with Image.open(run / TINY / "figures" / "plain" / name) as image:
            assert image.width > 600
            assert "RANDOM BASES" in image.text["Description"]


def made(run: Path, task: str) -> Path:
    """The folder of the files of a task."""
    manifest = read.json(run / TINY / records.MANIFEST)
    return run / TINY / manifest["tasks"][task]


def plan_of(run: Path) -> ArmPlan:
    study = config.read(run / "study.toml", photos=str(run / "people"))
    return Pipeline(study, run / TINY, run / "models" / "tiny").plan.arms["plain"]


@pytest.mark.parametrize("network", ["vgg16", "resnet50"])
def test_insertion_and_deletion_are_those_of_the_public_library(run, network):
    """On photos under the network's own attack, which has two names on resnet50, the source."""
    rows = table(run, "photos").query("split == 'test'").reset_index(drop=True)
    pixels = decode_all([run / "people" / photo for photo in rows["photo"]], 48)
    model = load_model(run / "models" / "tiny" / "plain" / f"{network}.keras")
    signs = np.load(made(run, f"plain/attack/{network}") / "0000000.npy")
    explain, logits_of = GradCAM(model), functools.partial(predict_logits, flatten(model))
    (layer,) = explain.layers
    clean_maps = resize(explain(pixels)[layer], 48)
    stated = pd.concat(map(read_table, made(run, f"plain/insertion/{network}").glob("*.csv")))
    keys = ["epsilon", "target", "measure", "order"]
    stated = stated.pivot(index="photo", columns=keys, values="area").loc[rows["photo"]]
    assert stated.shape == (len(rows), 2 * 2 * 4)
    attacked = perturb(pixels, SignPerturbations(signs, [0.02])[0.02])
    for target, classes in (
        ("predicted", logits_of(attacked).argmax(axis=1)),
        ("clean", logits_of(pixels).argmax(axis=1)),
    ):
        maps = {
            "attacked": resize(explain(attacked, classes)[layer], 48),
            "clean": clean_maps,
            "random": np.zeros_like(clean_maps),
        }
        for order, measure in itertools.product(maps, (metrics.insertion, metrics.deletion)):
            areas = measure(logits_of, attacked, maps[order], classes, steps=10)
            found = stated[0.02, target, measure.__name__, order]
            np.testing.assert_allclose(found, areas, atol=1e-4)
    # The map of another photo is the clean one of somebody else.
    assert len(rows) == 3
    others = np.roll(clean_maps, -1, axis=0)
    areas = metrics.deletion(logits_of, attacked, others, classes, steps=10)
    found = stated[0.02, "clean", "deletion", "other photo"]
    np.testing.assert_allclose(found, areas, atol=1e-4)
    summary = table(run, "insertion").query("network == @network and epsilon == 0.02")
    row = summary.query("target == 'clean' and measure == 'deletion' and order == 'other photo'")
    assert row["area"].item() == pytest.approx(areas.mean(), abs=1e-4)
    own = stated[0.02, "clean", "deletion", "attacked"].mean()
    assert row["difference"].item() == pytest.approx(own - areas.mean(), abs=1e-4)
    assert "Does the moved map still explain?" in (run / TINY / "report.html").read_text()


def test_excess_over_all_networks_is_the_mean_of_theirs(run):
    excess = table(run, "excess").query("size == 'input'")
    keys = ["attack", "epsilon", "target"]
    every = excess.query("network == 'all'").set_index(keys)
    # An attack made on one of two networks is no attack on all of them.
    own = ~excess["attack"].str.startswith("from ") & (excess["network"] != "all")
    networks = excess[own].groupby(keys)
    assert len(every) == networks.ngroups > 0
    for column in ("mod", "noise", "excess", "unrelated"):
        expected = networks[column].mean().loc[every.index]
        np.testing.assert_allclose(every[column], expected, atol=1e-12)
    mods = table(run, "mod").set_index(["network", *keys, "size"])["mod"]
    own = excess.query("network == 'vgg16'").set_index(["network", *keys, "size"])
    np.testing.assert_allclose(own["mod"], mods.loc[own.index])


def test_the_depth_profile_has_noise_and_unrelated_photos_of_the_examples(run):
    row = (
        table(run, "depth")
        .query("network == 'vgg16' and layer == 'block5_conv3' and epsilon == 0.1")
        .query("attack == 'black-box'")
        .squeeze()
    )
    maps = {}
    for key in ("clean", "noise 0.1"):
        examples = sorted(made(run, "plain/explain/vgg16").glob("example-*.npz"))
        of_photos = [np.load(path)[f"{key}/block5_conv3"] for path in examples]
        maps[key] = resize(np.stack(of_photos), 48)
    noise = metrics.nissim(maps["clean"], maps["noise 0.1"])
    assert row["mod_noise"] == pytest.approx(noise.mean(), abs=1e-6)
    assert row["unrelated"] == pytest.approx(metrics.nissim(*maps["clean"]), abs=1e-6)


def test_figure_5_shows_each_heatmap_on_its_photo(run):
    plan = plan_of(run)
    figure = sheets.black_box_heatmaps(plan, table(run, "predictions"))
    tiles = [axis.images[0].get_array() for axis in figure.axes[:-1]]
    assert len(tiles) == 6  # two networks, clean and two epsilons
    clean = plan.photos.pixels(plan.photos.test.iloc[:1])
    signs = np.load(made(run, "plain/attack/resnet50") / "0000000.npy")[:1]
    maps = np.load(made(run, "plain/explain/vgg16") / "example-0000000.npz")
    for tile, key, epsilon in ((0, "clean", 0.0), (2, "black-box 0.1", 0.1)):
        photo = perturb(clean, SignPerturbations(signs, [epsilon])[epsilon])
        expected = overlay(photo, maps[f"{key}/block5_conv3"][None])
        np.testing.assert_allclose(tiles[tile], expected[0], atol=0.02)
    assert figure.axes[-1].get_yticklabels()[0].get_text() == "no\nparticipation"


def test_the_arrows_of_figure_1_have_the_lengths_of_the_table(run):
    plan = plan_of(run)
    mod = table(run, "mod")
    # VGG16 gets the largest MOD, so that it is the network on the figure.
    mod.loc[mod["network"] == "vgg16", "mod"] += 1
    figure = sheets.shift_on_examples(plan, table(run, "predictions"), mod)
    count = min(4, len(plan.photos.test))
    attacked = figure.axes[count : 2 * count]
    rows = table(run, "nissim").query(
        "network == 'vgg16' and attack == 'black-box' and epsilon == 0.1"
        " and target == 'predicted' and size == 'input'"
    )
    shown = rows.set_index("photo").loc[plan.photos.test["photo"].iloc[[0, -1]]]
    assert shown["moved"].notna().all()
    for axis, (_, photo) in zip((attacked[0], attacked[-1]), shown.iterrows(), strict=True):
        (arrow,) = axis.texts
        way = (np.array(arrow.xy) - np.array(arrow.xyann)) / 48
        assert np.hypot(*way) == pytest.approx(photo["moved"])
        if photo["moved"]:
            assert np.arctan2(-way[1], way[0]) == pytest.approx(photo["direction"])
        assert f"moved {100 * photo['moved']:.0f} %" in axis.get_xlabel()


def test_the_page_has_the_report_and_the_scores_of_the_examples(run):
    path = run / TINY / "report.html"
    text = path.read_text()
    assert path.stat().st_size < page.LIMIT
    for said in ("RANDOM BASES", "89.86 | ", "ann/broken.jpg", "doi:10.1109/CVPRW56347.2022.00031",
                 "empty file", "How the region of attention shifts"):  # fmt: skip
        assert said in text, said
    for figure in ("figure_1", "transfer", "depth_profile"):
        assert (run / TINY / "figures" / "plain" / f"{figure}.png").is_file()
    assert text.count("<img ") >= 10
    data = json.loads(re.search(r'id="viewer-data">(.*?)</script>', text)[1])
    scored = table(run, "layers").set_index(["network", "attack", "epsilon", "photo", "layer"])
    predicted = table(run, "predictions").set_index(["network", "attack", "epsilon", "photo"])
    names = ["ann", "bob", "cem"]
    (arm,) = data["arms"]
    for name, shown in zip(("vgg16", "resnet50"), arm["networks"], strict=True):
        layers = [layer for layer, _, _ in shown["layers"]]
        assert shown["source"] == (name == "resnet50")
        assert [photo["name"] for photo in shown["photos"]] == sorted(
            {key[3] for key in scored.index}
        )
        for photo in shown["photos"]:
            clean, *attacked = photo["levels"]
            assert (clean["attack"], clean["epsilon"]) == ("clean", 0)
            assert [(level["attack"], level["epsilon"]) for level in attacked] == [
                (attack, epsilon)
                for attack in ("white-box", "black-box", "noise")
                for epsilon in (0.02, 0.1)
            ]
            for level in attacked:
                key = (name, level["attack"], level["epsilon"], photo["name"])
                assert level["predicted"] == names[predicted["predicted"][key]]
                for layer, nissim in zip(layers, level["nissim"], strict=True):
                    assert nissim == pytest.approx(scored["nissim"][(*key, layer)], abs=1e-4)
    # The heatmap of the last layer, as the stage explain wrote it.
    levels = arm["networks"][0]["photos"][0]["levels"]
    (first,) = (one for one in levels if (one["attack"], one["epsilon"]) == ("white-box", 0.1))
    content = zlib.decompress(base64.b64decode(data["maps"][first["maps"]]))
    values = np.frombuffer(content, np.uint8)
    with np.load(made(run, "plain/explain/vgg16") / "example-0000000.npz") as arrays:
        expected = (arrays["white-box 0.1/block5_conv3"] * 255).round()
    np.testing.assert_array_equal(values[-expected.size :].reshape(expected.shape), expected)


def test_the_ends_of_blocks_and_all_layers_have_sheets(run):
    for network, layers in (
        ("vgg16", ["block1_conv2", "block5_conv3"]),
        ("resnet50", ["conv1_relu", "conv5_block3_out"]),
    ):
        blocks = made(run, f"plain/explain/{network}") / "blocks.json"
        assert read.json(blocks) == {"blocks": layers}
        for sheet in ("blocks", "1"):
            name = f"layers_{network}_{sheet}.png"
            with Image.open(run / TINY / "figures" / "plain" / name) as image:
                assert image.height > 3 * layer_sheets.TILE


def test_all_layers_are_shown_if_none_ends_a_block(small_cnn):
    graph = flatten(small_cnn)
    every = [layer.path for layer in graph.layers]
    assert _block_ends(graph, every) == [layer.path for layer in block_ends(graph)]
    assert len(_block_ends(graph, every)) < len(every)
    assert _block_ends(graph, ["conv_a"]) == ["conv_a"]


@pytest.mark.browser
def test_the_page_of_a_run_opens_in_a_browser(run, chromium):
    tab = chromium.new_page()
    said = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.goto((run / TINY / "report.html").as_uri())
    tab.wait_for_selector("#viewer-pictures[aria-busy='false']", state="attached")
    assert "conv5_block3_out" in tab.inner_text(".said:visible")
    broken = "() => [...document.images].filter(i => !i.naturalWidth || !i.alt).length"
    assert tab.evaluate(broken) == 0
    assert said == []
    pages = re.findall(rb"/Type\s*/Page\b(?!s)", tab.pdf(format="A4"))
    assert len(pages) <= 15
    tab.close()


def test_the_report_gives_a_verdict_on_every_claim(run):
    text = (run / TINY / "report.md").read_text()
    judged = pd.read_csv(run / TINY / "tables" / "claims.csv")
    for claim in CLAIMS:
        (line,) = [line for line in text.splitlines() if f"| {claim.says} " in line]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        own = judged[judged["claim"] == claim.name]
        assert cells[2] == own.loc[own["on"] == "run", "verdict"].item()
        for verdict in own.loc[own["on"] == "paper", "verdict"]:
            assert verdict in cells[1]
    # Three people are too few for any verdict.
    assert not judged.loc[judged["on"] == "run", "verdict"].isin(["holds", "does not hold"]).any()


def test_a_model_has_its_facts_beside_it(run):
    facts = read.json(run / "models" / "tiny" / "plain" / "vgg16.json")
    assert facts["classes"] == ["ann", "bob", "cem"]
    assert facts["image_size"] == 48
    assert facts["weights"]["origin"] == "random"
    assert set(facts["accuracy"]) == {"train", "validation", "test"}
    assert facts["versions"]["keras"]
    clean = table(run, "accuracy").query("network == 'vgg16' and epsilon == 0").iloc[0]
    assert facts["accuracy"]["test"] == {"right": clean["right"], "photos": clean["photos"]}


def test_the_manifest_records_readings_threads_and_batch_size(run):
    manifest = read.json(run / TINY / "manifest.json")
    assert manifest["study"]["readings"]["epsilon_unit"] == "pixel"
    assert manifest["threads"] >= 1
    assert manifest["batch_size"] == 8
    for folder in manifest["tasks"].values():
        assert (run / TINY / folder / "manifest.json").is_file()


def check_that_noise_is_the_mean_of_two_draws(run):
    """Accuracy is of the first."""
    rows = table(run, "photos").query("split == 'test'")
    pixels = decode_all([run / "people" / photo for photo in rows["photo"]], 48)
    model = load_model(run / "models" / "tiny" / "plain" / "vgg16.keras")
    explain = GradCAM(model)
    (layer,) = explain.layers
    clean, values, predicted = resize(explain(pixels)[layer], 48), [], []
    for seed in (0, 1):
        signs = np.stack([random_signs((48, 48, 3), seed, key) for key in rows["sha256"]])
        moved = perturb(pixels, SignPerturbations(signs, [0.05])[0.05])
        values.append(metrics.nissim(clean, resize(explain(moved)[layer], 48)))
        predicted.append(predict_logits(model, moved).argmax(axis=1))
    of_noise = "network == 'vgg16' and attack == 'noise' and epsilon == 0.05"
    at_input = f"{of_noise} and target == 'predicted' and size == 'input'"
    stated = table(run, "nissim").query(at_input).set_index("photo")["nissim"]
    np.testing.assert_allclose(stated[rows["photo"]], np.mean(values, axis=0), atol=1e-5)
    stated = table(run, "predictions").query(of_noise).set_index("photo")["predicted"]
    np.testing.assert_array_equal(stated[rows["photo"]], predicted[0])
    draws = table(run, "noise_draws").query(
        "network == 'vgg16' and epsilon == 0.05 and target == 'predicted' and size == 'input'"
    )
    means = np.mean(values, axis=1)
    assert draws[["least", "greatest"]].squeeze().tolist() == pytest.approx(sorted(means), abs=1e-5)
    assert "Several draws of random signs" in (run / TINY / "report.html").read_text()


@pytest.mark.slow
def test_other_epsilons_and_draws_of_noise_use_the_attack_again(run):
    changed = STUDY.replace("[0.02, 0.1]", "[0.05]").replace("[0.02]", "[]")
    (run / "other.toml").write_text(f"noise_draws = 2\n{changed}")
    done = succeed(run, "reproduce", study="other.toml")
    assert "train/" not in done
    assert "attack/" not in done
    assert "evaluate/vgg16" in done
    assert table(run, "mod")["epsilon"].unique().tolist() == [0.0, 0.05]
    check_that_noise_is_the_mean_of_two_draws(run)
    # Back at the first epsilons only the report is written again.
    back = succeed(run, "reproduce")
    assert "evaluate/" not in back
    assert "report" in back
    assert table(run, "mod")["epsilon"].unique().tolist() == [0.0, 0.02, 0.1]


def test_a_deleted_and_an_edited_file_are_made_again_and_nothing_else(run):
    before = (run / TINY / "tables" / "plain" / "nissim.csv").read_bytes()
    deleted, edited = (
        made(run, f"plain/score/{network}") / "nissim-0000000.csv"
        for network in ("vgg16", "resnet50")
    )
    deleted.unlink()
    edited.write_text(edited.read_text().replace("resnet50", "resnet05", 1))
    done = succeed(run, "reproduce")
    again = {line.split(":")[0] for line in done.splitlines() if " s" in line}
    assert {name for name in again if "/" in name} == {"plain/score/vgg16", "plain/score/resnet50"}
    assert deleted.is_file() and "resnet05" not in edited.read_text()
    assert (run / TINY / "tables" / "plain" / "nissim.csv").read_bytes() == before


@pytest.mark.slow
def test_tasks_after_a_changed_model_are_done_again(run, tmp_path):
    """A task whose result changed is followed by everything that depends on it."""
    folder = tmp_path / "copy"
    shutil.copytree(run, folder)
    manifest = made(folder, "plain/data") / records.MANIFEST
    facts = read.json(manifest)
    facts["files"]["photos.csv"]["sha256"] = "0" * 64
    facts["files"]["photos.csv"]["mtime_ns"] = 0
    write.json(manifest, facts)
    done = succeed(folder, "train")
    # The table came out as before, and only its record was wrong, so the networks stay.
    assert "data:" in done
    assert "train/vgg16" not in done
    model = load_model(folder / "models" / "tiny" / "plain" / "vgg16.keras")
    model.get_layer("logits").bias.assign_add(np.ones(3))
    model.save(folder / "models" / "tiny" / "plain" / "vgg16.keras")
    done = succeed(folder, "attack")
    assert "train/vgg16" in done
    assert "train/resnet50" not in done


def test_a_task_with_a_damaged_manifest_is_done_again(run, tmp_path):
    folder = new_folder(tmp_path)
    succeed(folder, "data")
    for text in ("", "{}", "[1]"):
        (manifest,) = (folder / TINY / "plain" / "data").glob("*/manifest.json")
        manifest.write_text(text)
        assert "data:" in succeed(folder, "data")


def test_a_changed_photo_is_read_again(tmp_path):
    folder = new_folder(tmp_path)
    succeed(folder, "data")
    assert "nothing to do" in succeed(folder, "data")
    write_photo(folder / "people" / "ann" / "3.png", 999)
    assert "data:" in succeed(folder, "data")


def test_export_writes_the_perturbed_set_of_any_epsilon(run):
    arguments = ["--network", "resnet50", "--epsilon", "0.3", "--output", "out"]
    succeed(run, "export", *arguments)
    rows = table(run, "photos").query("split == 'test'")
    written = sorted(path.relative_to(run / "out") for path in (run / "out").rglob("*.png"))
    assert [str(path) for path in written] == [f"{photo}.png" for photo in rows["photo"]]
    pixels = decode_all([run / "people" / photo for photo in rows["photo"]], 48)
    signs = np.load(made(run, "plain/attack/resnet50") / "0000000.npy")
    expected = perturb(pixels, np.float32(0.3) * signs)
    kept, images = perturbed_set(plan_of(run), "resnet50", 0.3)
    assert kept["photo"].tolist() == rows["photo"].tolist()
    np.testing.assert_array_equal(images, expected)
    exported = decode_all([run / "out" / path for path in written], 48)
    np.testing.assert_allclose(exported, expected, atol=0.51 / 255)


def refused(folder: Path, *arguments: str) -> str:
    before = sorted(folder.rglob("*"))
    result = command_here(folder, *arguments)
    assert result.returncode == 2, (result.stdout, result.stderr)
    assert sorted(folder.rglob("*")) == before, "something was written"
    errors = [line for line in result.stderr.splitlines() if not NOTICE.match(line)]
    assert len(errors) == 1, errors
    assert errors[0].startswith("Error: ")
    return errors[0]


def test_bad_input_is_refused_before_any_work(tmp_path):
    folder = new_folder(tmp_path)
    (folder / "empty").mkdir()
    write_photo(folder / "one" / "ann" / "1.png", 1)
    layers = STUDY.replace('"block1_conv2"', '"block1_conv9"')
    (folder / "layers.toml").write_text(layers)
    (folder / "wrong").mkdir()
    for network in ("vgg16", "resnet50"):
        (folder / "wrong" / f"{network}.h5").write_text("no weights")
    (folder / "native.toml").write_text(STUDY + '[readings]\nheatmap_size = "native"\n')
    (folder / "epsilon.toml").write_text(STUDY.replace("0.02", "-0.02"))
    (folder / "network.toml").write_text(STUDY.replace('"vgg16"', '"vgg6"', 1))
    cases = {
        ("reproduce", "none.toml"): "Expected a study file",
        ("reproduce", "epsilon.toml"): "Expected epsilons as numbers from 0 to 1",
        ("reproduce", "network.toml"): "Nearest: vgg16",
        ("reproduce", "study.toml", "--photos", "nowhere"): "'nowhere' is no folder",
        ("reproduce", "study.toml", "--photos", "empty"): "Received: none",
        ("reproduce", "study.toml", "--photos", "one"): "two identities with min_photos = 3",
        ("reproduce", "study.toml", "--photos", "people", "--weights", "empty"): "vgg16*.h5",
        ("reproduce", "layers.toml", "--photos", "people"): "Nearest: block1_conv",
        ("reproduce", "native.toml", "--photos", "people"): "Received: 3 x 3 at block5_conv3",
        ("export", "study.toml", "--photos", "people", "--network", "vgg6", "--epsilon", "0.1",
         "--output", "out"): "Nearest: vgg16",
        ("export", "study.toml", "--photos", "people", "--network", "xception", "--epsilon", "0.1",
         "--output", "out"): "Expected --network out of the study's",
        ("data", "study.toml", "--photos", "people", "--runs", "study.toml"): "Not a directory",
        ("data", "study.toml", "--photos", "x" * 5000): "is no folder",
        ("reproduce", "study.toml", "--photos", "people", "--weights", "wrong"): "weights of VGG16",
        ("export", "study.toml", "--photos", "people", "--network", "vgg16", "--epsilon", "0.1",
         "--output", "people/new"): "Expected an output outside the folder of images",
        ("export", "study.toml", "--photos", "people", "--network", "vgg16", "--epsilon", "-1",
         "--output", "out"): "Expected --epsilon from 0 to 1. Received: -1.0",
    }  # fmt: skip
    for arguments, message in cases.items():
        assert message in refused(folder, *arguments), arguments


def test_every_file_of_a_run_is_one_that_its_kind_of_task_declares(run):
    places = run / TINY, run / "models" / "tiny"
    kinds = names_by_kind()
    for path in places[0].rglob(f"*/{records.MANIFEST}"):
        parts = path.parent.parent.relative_to(places[0]).parts
        for name in records.manifest(path.parent).files:
            file = Path(os.path.normpath(path.parent / name))
            names = kinds[parts[min(1, len(parts) - 1)]]
            assert any(known.fit(file, path.parent, places) for known in names), file


def test_clean_deletes_only_files_of_the_run(tmp_path):
    folder = new_folder(tmp_path)
    succeed(folder, "data")
    (folder / TINY / "notes.txt").write_text("mine")
    succeed(folder, "clean")
    left = [path for path in (folder / "runs").rglob("*") if path.is_file()]
    assert left == [folder / TINY / "notes.txt"]
    assert len(list((folder / "people").rglob("*.png"))) == 36


def test_clean_leaves_files_that_others_made_or_changed(tmp_path):
    folder = new_folder(tmp_path)
    succeed(folder, "data")
    run = folder / TINY
    (photos_csv,) = run.rglob("photos.csv")
    photos_csv.write_text("edited")
    (run / "mine").mkdir()
    (run / "empty").mkdir()
    mine = run / "mine" / records.MANIFEST
    notes = run / "mine" / "notes.txt"
    notes.write_text("mine")
    # It has everything that our records have except the task.
    files = {notes.name: hashes.facts(notes)}
    mine.write_text(json.dumps({"files": files, "needs": {}, "seconds": 1}))
    left = f"left alone, since somebody changed it: {photos_csv.relative_to(folder)}"
    assert left in succeed(folder, "clean")
    files = {path for path in run.rglob("*") if path.is_file()}
    assert files == {photos_csv, mine, notes}
    assert (run / "empty").is_dir()


def test_clean_deletes_nothing_outside_the_run_even_if_a_record_names_it(tmp_path):
    folder = new_folder(tmp_path)
    succeed(folder, "data")
    (manifest,) = (folder / TINY / "plain").rglob(records.MANIFEST)
    victim = folder / "people" / "ann" / "0.png"
    (manifest.parent / "link").symlink_to(folder / "people")
    content = read.json(manifest)
    for path in (victim.resolve(), Path("../../../../..") / "people/ann/0.png", "link/ann/0.png"):
        content["files"][str(path)] = hashes.facts(manifest.parent / path)
    write.json(manifest, content)
    for name in ("clean", "data"):
        succeed(folder, name)
        assert victim.exists()


def test_clean_deletes_the_files_of_an_unfinished_task(tmp_path):
    folder = new_folder(tmp_path)
    for number in range(6):
        (folder / "people" / "bob" / f"empty{number}.png").write_bytes(b"")
    result = command_here(folder, "data", "study.toml", "--photos", "people")
    assert result.returncode == 2
    assert "7 left out (7 empty file)" in result.stdout
    listed = [path for path in (folder / "runs").rglob("excluded.csv") if path.is_file()]
    assert len(listed) == 1
    assert str(listed[0].relative_to(folder)) in result.stderr
    succeed(folder, "clean")
    assert not list((folder / "runs").iterdir())
    succeed(folder, "data", "--allow-left-out")


OTHER_READINGS = """
name = "tiny"
image_size = 112
networks = ["vgg16"]
source = "vgg16"
weights = "random"
epochs = 3
epsilons = [0.1]
examples = 1
arms = ["plain"]
layers = "last"
measure = "region"
[readings]
epsilon_unit = "network"
pooling = "flatten"
attacked_label = "predicted"
explained_class = "true"
perturbed_set = "png"
heatmap_size = "native"
vid_levels = "all"
"""


@pytest.mark.slow
def test_other_readings_have_their_effects(tmp_path):
    folder = new_folder(tmp_path)
    (folder / "other.toml").write_text(OTHER_READINGS)
    succeed(folder, "reproduce", study="other.toml")
    mod = table(folder, "mod")
    assert set(mod["target"]) == {"true", "clean"}
    assert set(mod["size"]) == {"input", "native"}
    assert (table(folder, "vid")["levels"] == 2).all()
    text = (folder / TINY / "report.html").read_text()
    assert "epsilon_unit = network" in text
    assert "heatmap_size = native" in text
    assert "REGION, NOT NISSIM" in text
    # 0.1 of VGG16's own unit is a tenth of an 8-bit step, so rounding to PNG removes it.
    psnr = table(folder, "psnr").query("epsilon == 0.1")
    assert np.isinf(psnr["psnr"]).all()
    assert (psnr["unchanged"] == psnr["photos"]).all()
    # The attack moves away from the class predicted for the clean photo.
    model = load_model(folder / "models" / "tiny" / "plain" / "vgg16.keras")
    rows = table(folder, "photos").query("split == 'test'")
    clean = decode_all([folder / "people" / photo for photo in rows["photo"]], 112)
    predicted = predict_logits(model, clean).argmax(axis=1)
    signs = FGSM(model)(clean, predicted, [0.1]).signs
    assert (np.load(made(folder, "plain/attack/vgg16") / "0000000.npy") == signs).mean() > 0.999
    # The measure between unrelated photos, whose pixels were rounded for the networks.
    maps = resize(GradCAM(model)(clean)["block5_conv3"], 112)
    at = {photo: i for i, photo in enumerate(rows["photo"])}
    pairs = table(folder, "unrelated").query("target == 'clean' and size == 'input'")
    both = (maps[[at[photo] for photo in pairs[column]]] for column in ("photo", "other"))
    expected = metrics.region_distance(*both)
    np.testing.assert_allclose(pairs["nissim"], expected, atol=0.02)
    assert expected.mean() > 0.1


def test_status_of_a_finished_run_and_of_one_with_an_edited_table(run, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(run, folder)
    result = command_here(folder, "status", "runs/tiny")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "everything is done"
    table = folder / TINY / "tables" / "plain" / "mod.csv"
    table.write_text("mine")
    text = command_here(folder, "status", "runs/tiny").stdout
    assert re.search(r"report +stale +.*tables/plain/mod.csv changed by hand", text), text
    assert text.count("stale") == 1


def opened(folder: Path) -> Pipeline:
    study = config.read(folder / "study.toml", photos=str(folder / "people"))
    return Pipeline(study, folder / TINY, folder / "models" / "tiny")


def stop_before_vgg16(folder: Path, monkeypatch) -> None:
    """Do the last task of the first network again, and fail in that of the second."""
    for name in ("resnet50", "vgg16"):
        shutil.rmtree(folder / TINY / "plain" / "layers" / name)
    scored = ScoreLayers.make

    def make(task, engine):
        if task.network == "vgg16":
            raise OSError("no vgg16")
        return scored(task, engine)

    monkeypatch.setattr(ScoreLayers, "make", make)
    with pytest.raises(OSError, match="no vgg16"):
        opened(folder).run()


def test_the_page_is_there_before_the_study_is_done(run, tmp_path, monkeypatch, caplog):
    folder = shutil.copytree(run, tmp_path / "copy")
    place, page_file = folder / TINY, folder / TINY / "report.html"
    final = page_file.read_text()
    assert "NOT FINISHED" not in final
    assert not (place / "early").exists()
    page_file.write_text("a user's own")
    caplog.set_level("INFO")
    with monkeypatch.context() as patch:
        stop_before_vgg16(folder, patch)
    early = page_file.read_text()
    assert "NOT FINISHED, still to come: VGG16 (plain), transfer, claims, figures" in early
    # The number in large type is that of the finished page.
    card = r'data-network="resnet50".*?data-epsilon="0.1" .*?'
    moved = re.compile(card + r"Attention moved.*?<strong>([\d.]+)</strong>", re.S)
    assert moved.search(early)[1] == moved.search(final)[1]
    assert 'data-network="vgg16"' not in early
    # No rows over networks of which some are to come.
    assert "all, their mean" in final and "all, their mean" not in early
    printed = [line.split() for line in caplog.messages if line.startswith("  ")]
    assert printed[0][0] == "network"
    assert printed[1][0] == "ResNet50"
    assert moved.search(final)[1] in printed[1]
    assert (place / "report-kept-1.html").read_text() == "a user's own"

    opened(folder).run()
    assert 'data-network="vgg16"' in page_file.read_text()
    assert "NOT FINISHED" not in page_file.read_text()
    assert not (place / "early").exists()
    assert [path.name for path in place.glob("report*.html")].count("report.html") == 1
    assert len(list(place.glob("report*.html"))) == 2


def test_clean_removes_an_early_page(run, tmp_path, monkeypatch):
    folder = shutil.copytree(run, tmp_path / "copy")
    stop_before_vgg16(folder, monkeypatch)
    assert "NOT FINISHED" in (folder / TINY / "report.html").read_text()
    succeed(folder, "clean")
    assert not (folder / TINY).exists()


def test_the_effort_of_a_task_grows_with_its_work(run, tmp_path):
    arm = opened(run).plan.arms["plain"]
    for tasks in (arm.features, arm.attack, arm.evaluate):
        assert tasks["vgg16"].effort > tasks["resnet50"].effort > 4
    # The source has as many conditions less as it has epsilons above 0.
    assert arm.score["vgg16"].effort > arm.score["resnet50"].effort > 0
    assert all(task.effort > 0 for task in arm.of("vgg16"))
