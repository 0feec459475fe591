"""A saved model and a folder of images, from the command line and from Python."""

import json
import re
import webbrowser
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import command, command_here, write_photo
from PIL import Image

from gradcam_adv import FGSM, GradCAM, LayerCAM, dissimilarity, load_model, overlay, perturb
from gradcam_adv.app import folder as folder_module
from gradcam_adv.app.cli import main
from gradcam_adv.app.folder import FolderWork, gain_by_layer
from gradcam_adv.app.images import images_of
from gradcam_adv.app.opening import layers_of
from gradcam_adv.plots import sheet


@pytest.fixture(scope="module")
def folder(tmp_path_factory, small_cnn):
    """A nested model with a softmax, and a folder of images and of other files."""
    folder = tmp_path_factory.mktemp("own")
    inner = keras.models.clone_model(small_cnn)
    inner.set_weights(small_cnn.get_weights())
    base = keras.Model(inner.inputs, inner.get_layer("relu_b").output, name="base")
    head = keras.layers.Dense(5, activation="softmax")
    model = keras.Sequential(
        [keras.Input((24, 24, 3)), base, keras.layers.GlobalAveragePooling2D(), head]
    )
    head.set_weights(inner.get_layer("logits").get_weights())
    model.save(folder / "my.keras")
    for number in range(10):
        write_photo(folder / "photos" / f"{number}.png", number)
    write_photo(folder / "photos" / "more" / "ünder.jpg", 99)
    write_photo(folder / "photos" / ".hidden" / "x.png", 98)
    (folder / "photos" / "broken.jpg").write_bytes(b"no image at all")
    (folder / "photos" / "notes.txt").write_text("words")
    return folder


def test_layers_of_a_saved_model(folder):
    result = command_here(folder, "layers", "my.keras")
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stdout.splitlines() if "base/" in line]
    assert len(lines) == 6
    assert "base/conv_a" in lines[0] and "24 x 24 x 8" in lines[0] and "conv" in lines[0]
    table, pixels = layers_of(folder / "my.keras")
    assert result.stderr.splitlines()[-1] == str(pixels)
    assert str(pixels) == "pixels 0..1, assumed, since the first layers do not tell"
    table = table.set_index("layer")
    assert table["index"].tolist() == list(range(6))
    assert table.loc["base/relu_b", "groups"] == "blocks last"
    assert table.loc["base/pool", "kind"] == "MaxPooling2D"


def test_explain_writes_heatmaps_overlays_tables_and_a_sheet(folder):
    arguments = ["--model", "my.keras", "--images", "photos", "--output", "out", "--layers", "conv"]
    result = command(
        folder, "explain", *arguments, "--layers", "-1", "--epsilon", "0.1", "--epsilon", "0.02"
    )
    assert result.returncode == 0, result.stderr
    assert "11 images, 3 layers in out, 1 left out (excluded.csv)" in result.stdout
    assert "Look at out/report.html in a browser" in result.stderr
    page = (folder / "out" / "report.html").read_text()
    data = json.loads(re.search(r'id="viewer-data">(.*?)</script>', page)[1])
    (shown,) = data["arms"][0]["networks"]
    assert [name for name, _, _ in shown["layers"]] == ["base/conv_a", "base/conv_b", "base/relu_b"]
    assert [photo["name"] for photo in shown["photos"]] == [f"{n}.png" for n in range(6)]
    assert "Gain over noise" not in page  # explain measures no controls
    out = folder / "out"
    names = [*(f"{n}.png" for n in range(10)), "more/ünder.jpg"]
    assert sorted(p.relative_to(out / "heatmaps").as_posix() for p in out.rglob("*.npz")) == sorted(
        f"{name}.npz" for name in names
    )
    # The heatmaps are those of the public classes.
    model = load_model(folder / "my.keras")
    pixels = images_of(folder / "photos", model)[0][0:1]
    predicted = model.predict(pixels, verbose=0).argmax(axis=1)
    attacked = perturb(pixels, FGSM(model)(pixels, predicted, [0.1])[0.1])
    with np.load(out / "heatmaps" / "0.png.npz") as maps:
        assert set(maps) == {
            f"{e} {layer}" for e in ("0", "0.02", "0.1")
            for layer in ("base/conv_a", "base/conv_b", "base/relu_b")
        }  # fmt: skip
        for key, images in (("0", pixels), ("0.1", attacked)):
            expected = GradCAM(model, "base/conv_b")(images)["base/conv_b"][0]
            np.testing.assert_allclose(maps[f"{key} base/conv_b"], expected, atol=1e-4)
    nissim = pd.read_csv(out / "nissim.csv")
    assert len(nissim) == 11 * 3 * 2
    # The scores of the viewer are those of the table.
    scored = nissim.set_index(["image", "epsilon", "layer"])["nissim"]
    for level in shown["photos"][2]["levels"]:
        if level["attack"] == "white-box":
            own = [scored["2.png", level["epsilon"], name] for name, _, _ in shown["layers"]]
            np.testing.assert_allclose(level["nissim"], own, atol=1e-4)
    assert set(nissim["image"]) == set(names)
    assert pd.read_csv(out / "excluded.csv").to_numpy().tolist() == [["broken.jpg", "not an image"]]
    for picture in (out / "sheet.png", out / "overlays" / "more" / "ünder.jpg.png"):
        with Image.open(picture) as image:
            assert image.width > 400


def test_explain_does_not_mix_pictures_of_other_images(folder, tmp_path, monkeypatch):
    model, photos, out = folder / "my.keras", tmp_path / "photos", tmp_path / "out"
    options = {"layers": "last", "epsilons": [0.1], "explainer": "gradcam", "batch_size": 4}
    for number in range(2):
        write_photo(photos / "ann" / f"{number}.png", number)
    sheets = []
    with monkeypatch.context() as patch:
        patch.setattr(folder_module, "sheet", lambda *given: sheets.append(given) or sheet(*given))
        FolderWork(model, photos, out, **options | {"layers": ["base/conv_a", "last"]}).explain()
    tiles, rows, columns, title, captions = sheets[-1]
    assert (rows, columns, title) == (
        [f"ann/{n}.png\nbase/{layer}" for n in range(2) for layer in ("conv_a", "relu_b")],
        ["image", "ε = 0", "ε = 0.1"],
        "my.keras",
    )
    predicted = pd.read_csv(out / "images.csv")
    assert [line[1:] for line in captions[::2]] == [
        [f"class {row.predicted_clean}", f"class {row.predicted}"] for row in predicted.itertuples()
    ]
    np.testing.assert_array_equal(tiles[0, 0], tiles[1, 0])  # one image at two layers
    assert (tiles[0, 1] != tiles[1, 1]).any()
    FolderWork(model, photos, out, **options).explain()
    # A file that a killed process was writing does not count as another image's.
    (out / "heatmaps" / "ann" / ".0.png.partial.npz").write_bytes(b"half")
    FolderWork(model, photos, out, **options).explain()
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    (photos / "ann" / "1.png").rename(photos / "2.png")
    with pytest.raises(
        ValueError,
        match=r"^Expected an output without heatmaps of other images.*"
        r"Received: .*out/heatmaps/ann/1.png.npz$",
    ):
        FolderWork(model, photos, out, **options).explain()
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    FolderWork(model, photos, tmp_path / "other", **options).explain()


def test_score_gives_mod_and_vid_by_layer(folder):
    arguments = ["--model", "my.keras", "--images", "photos", "--output", "scores"]
    result = command(folder, "score", *arguments, "--layers", "all", "--epsilon", "0.05")
    assert result.returncode == 0, result.stderr
    mods, gains = result.stdout.split("\n\n")
    assert mods.count("| base/") == gains.count("| base/") == 6
    assert "gain [95 %], ε = 0.05" in gains
    assert "VID" not in result.stdout  # of one epsilon it is always 0
    assert "11 images; tables in scores, 1 left out (excluded.csv)" in result.stderr
    model = load_model(folder / "my.keras")
    images, _ = images_of(folder / "photos", model)
    expected = dissimilarity(model, images[0:11], epsilons=[0.05], layers="all", verbose=0)
    mod = pd.read_csv(folder / "scores" / "mod.csv")
    np.testing.assert_allclose(mod["mod"], expected.mod["mod"], atol=1e-4)
    gain = pd.read_csv(folder / "scores" / "gain.csv").query("control == 'noise'")
    shown = [f"| {row.gain:.1f} [{row.low:.1f}, {row.high:.1f}]" for row in gain.itertuples()]
    assert all(one in gains for one in shown)
    for name in ("vid", "nissim", "controls", "half_shift"):
        assert (folder / "scores" / f"{name}.csv").is_file()
    assert not list((folder / "scores").rglob("*.npz"))
    page = (folder / "scores" / "report.html").read_text()
    last = gain.query("layer == 'base/relu_b'").iloc[0]
    # All images are predicted as one class: no unrelated ones, and no half-shift.
    for said in ("Gain over noise", "Gain by layer", "MOD and VID by layer", "Predictions changed"):
        assert said in page
    large = f"{last['gain']:.1f} ×" if np.isfinite(last["gain"]) else "&gt; 6 ×"  # 0.3 by 0.05
    assert large in page
    assert page.count('src="data:image/webp') >= 1  # the depth profile
    with Image.open(folder / "scores" / "depth_profile.png") as picture:
        assert picture.width > 800


def test_score_with_another_explainer(folder):
    arguments = ["--model", "my.keras", "--images", "photos", "--output", "other"]
    options = ["--epsilon", "0.05", "--explainer", "layercam", "--json"]
    (folder / "other").mkdir()
    (folder / "other" / "depth_profile.png").write_bytes(b"of an earlier call")
    result = command_here(folder, "score", *arguments, *options)
    assert result.returncode == 0, result.stderr
    model = load_model(folder / "my.keras")
    images, _ = images_of(folder / "photos", model)
    expected = dissimilarity(
        model, images[0:11], epsilons=[0.05], explainer=LayerCAM(model), verbose=0
    )
    mod = pd.read_csv(folder / "other" / "mod.csv")
    np.testing.assert_allclose(mod["mod"], expected.mod["mod"], atol=1e-4)
    told = json.loads(result.stdout)
    pd.testing.assert_frame_equal(pd.DataFrame(told["mod"]).astype(mod.dtypes), mod, rtol=1e-12)
    assert set(told) == {"mod", "vid", "gain", "half_shift"} and len(told["vid"]) == 1
    assert not (folder / "other" / "depth_profile.png").exists()  # of one layer


MODEL = "--model {own}/my.keras"
WHOLE = f"{MODEL} --images {{own}}/photos --output out"
REFUSED = {
    "layers none.keras": "Expected a .keras model file. Received: none.keras, which is no",
    "layers text.keras": "which is not in that format",
    "layers lambda.keras": "a Lambda layer, which is Python code that opening the file",
    "explain --images empty": "Expected --model with --images. Received: no --model",
    f"score {MODEL}": "Expected --images or --pairs with --model. Received: none",
    f"explain {WHOLE} --pixels 0..256": "'0..256' is not one of '0..1', '0..255', '-1..1'",
    f"explain {WHOLE} --size 24x": "Expected --size as 224, or 224x160 (height, width).",
    f"score {WHOLE} --size 32": "Expected size as the model's, 24 x 24. Received: 32 x 32",
    "layers {own}/my.keras --module no.py": "--module as a file of Python code. Received: no.py",
    "layers my.keras --module broken.py": "broken.py: ZeroDivisionError: division by zero",
    f"score {MODEL} --images no --output out": "no, which is no folder",
    f"score {MODEL} --images empty --output out": "Received: none",
    f"explain {WHOLE} --layers conv_a": "Nearest: base/conv_a",
    f"explain {WHOLE} --epsilon 2": "epsilons above 0, at most 1",
    f"score {MODEL} --images {{own}}/photos --output {{own}}/photos/out": (
        "an output outside the folder of images"
    ),
    f"score {WHOLE} --explainer lime": "Received: 'lime'",
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_what_can_not_be_done_is_an_error_and_nothing_is_written(
    folder, tmp_path, monkeypatch, arguments
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.keras").write_text("no model")
    (tmp_path / "broken.py").write_text("1 / 0")
    parts = [keras.layers.Lambda(lambda x: x), keras.layers.Flatten(), keras.layers.Dense(2)]
    keras.Sequential([keras.Input((8, 8, 3)), *parts]).save(tmp_path / "lambda.keras")
    result = CliRunner().invoke(main, arguments.format(own=folder).split())
    assert result.exit_code == 2, result.output
    assert REFUSED[arguments] in result.stderr
    assert not (tmp_path / "out").exists()


def run(folder, monkeypatch, arguments: str):
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(main, arguments.split(), catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result


@pytest.fixture
def bright(tmp_path):
    """Photos in three folders, of three grey values; the pixels of three networks that know them.

    Their logits are highest at the grey values 50, 128 and 210, as the network takes them.
    """
    for name, grey in (("a", 50), ("b", 128), ("c", 210)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (16, 16), (grey + number,) * 3).save(
                tmp_path / "photos" / name / f"{number}.png"
            )

    def save(name: str, *prepare: keras.layers.Layer, scale: float) -> None:
        average = keras.layers.GlobalAveragePooling2D()
        ends = [keras.layers.Conv2D(1, 1, name="conv"), average, keras.layers.Dense(3)]
        model = keras.Sequential([keras.Input((16, 16, 3)), *prepare, *ends])
        model.get_layer("conv").set_weights([np.full((1, 1, 3, 1), scale / 3), np.zeros(1)])
        centers = np.array([50, 128, 210]) / 255  # of x in [0, 1]: 2 c x - c² is highest at c = x
        ends[-1].set_weights([2 * centers[None], -(centers**2)])
        model.save(tmp_path / f"{name}.keras")

    save("rescaled", keras.layers.Rescaling(1 / 255, name="rescaling"), scale=1)
    save("outside", scale=1 / 255)
    save("unit", scale=1)
    return tmp_path


def test_the_pixels_and_the_clean_accuracy_are_said(bright, monkeypatch):
    options = "--images photos --epsilon 0.05"
    result = run(bright, monkeypatch, f"explain --model rescaled.keras {options}")
    assert "3 of 3 classes predicted, 100.0% of the clean images right" in result.stdout
    assert "pixels 0..255, since 'rescaling' gives 0 to 1 for 0 to 255" in result.stdout
    assert result.stderr == "Look at out/explain/rescaled/report.html in a browser\n"
    assert "in out/explain/rescaled" in result.stdout  # without --output
    assert (bright / "out" / "explain" / "rescaled" / "nissim.csv").is_file()
    # The layers do not tell, but the predictions suggest a range.
    wrong = run(bright, monkeypatch, f"score --model outside.keras {options}")
    seen = "33% with 0..1, 100% with 0..255, 33% with -1..1, which suggests 0..255"
    assert f"says otherwise. The share right of 12 images: {seen}" in wrong.stderr
    near = "33 % of the clean images are predicted right, near chance (33 %). See whether the model"
    assert f"Warning: {near} takes these pixels (pixels 0..1, assumed, since" in wrong.stderr
    assert "1 of 3 classes predicted, 33.3% of the clean images right" in wrong.stderr
    right = run(bright, monkeypatch, f"score --model outside.keras {options} --pixels 0..255")
    assert "100.0% of the clean images right by their folders" in right.stderr
    assert "Warning" not in right.stderr
    # And without folders of classes, by the number of classes.
    for number, path in enumerate(sorted((bright / "photos").rglob("*.png"))):
        path.rename(bright / "photos" / f"{number}.png")
    loose = run(bright, monkeypatch, f"score --model outside.keras {options}")
    seen = "1 with 0..1, 3 with 0..255, 1 with -1..1, which suggests 0..255"
    assert f"The number of classes predicted for 12 images: {seen}" in loose.stderr
    assert "right by their folders" not in loose.stderr
    undecided = run(bright, monkeypatch, f"score --model unit.keras {options}")
    assert "which decides nothing" in undecided.stderr


def test_a_model_of_any_size_two_outputs_and_a_class_of_its_own(folder, tmp_path, monkeypatch):
    (tmp_path / "my_layers.py").write_text(
        "import keras\n"
        "@keras.saving.register_keras_serializable('of_a_test')\n"
        "class Doubled(keras.layers.Layer):\n"
        "    def call(self, x):\n"
        "        return 2 * x\n"
    )

    @keras.saving.register_keras_serializable("of_a_test")
    class Doubled(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 3))
    x = Doubled(name="doubled")(keras.layers.Conv2D(4, 3, name="conv")(inputs))
    x = keras.layers.GlobalAveragePooling2D()(x)
    ends = [keras.layers.Dense(1, name="yes")(x), keras.layers.Dense(3, name="which")(x)]
    keras.Model(inputs, ends).save(tmp_path / "my.keras")
    # As in another program, which has not registered the class.
    keras.saving.get_custom_objects().pop("of_a_test>Doubled")
    try:
        monkeypatch.chdir(tmp_path)
        refused = CliRunner().invoke(main, ["layers", "my.keras"])
        assert refused.exit_code == 2 and "whose code is not in the file" in refused.stderr
        opening = "my.keras --module my_layers.py --output-layer"
        shown = run(tmp_path, monkeypatch, f"layers {opening} which")
        assert "? x ? x 4" in shown.stdout
        shown = run(tmp_path, monkeypatch, f"layers {opening} yes --one-logit --size 20x24")
        assert "18 x 22 x 4" in shown.stdout and "doubled" in shown.stdout
        options = f"--model {opening} which --images {folder}/photos --epsilon 0.1 --output out"
        unsized = CliRunner().invoke(main, ["explain", *options.split()])
        assert unsized.exit_code == 2 and "--size chooses one of several" in unsized.stderr
        run(tmp_path, monkeypatch, f"explain {options} --size 20x24")
        with np.load(tmp_path / "out" / "heatmaps" / "0.png.npz") as maps:
            assert maps["0 doubled"].shape == (18, 22)
    finally:
        keras.saving.get_custom_objects().pop("of_a_test>Doubled", None)


def test_empty_heatmaps_are_shown(folder, tmp_path, monkeypatch):
    model = load_model(folder / "my.keras")
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([0 * kernel, bias])
    model.save(tmp_path / "flat.keras")
    options = f"--model flat.keras --images {folder}/photos --epsilon 0.05 --epsilon 0.1"
    result = run(tmp_path, monkeypatch, f"score {options} --layers conv")
    assert result.stdout.count("all maps empty") == 6  # of two layers, two epsilons and VID
    empty = "22 of 22 clean heatmaps are empty; 44 of 44 attacked heatmaps are empty"
    assert empty in result.stderr
    assert pd.read_csv(tmp_path / "out" / "score" / "flat" / "mod.csv")["mod"].isna().all()
    result = run(tmp_path, monkeypatch, f"explain {options}")
    assert "11 of 11 clean heatmaps are empty" in result.stdout


def test_an_overlay_mixes_colours_by_strength():
    images = np.full((2, 8, 8, 3), 0.5, np.float32)
    maps = np.zeros((2, 4, 4), np.float32)
    maps[1] = 1
    mixed = overlay(images, maps)
    low, high = np.array([0.267, 0.005, 0.329]), np.array([0.993, 0.906, 0.144])  # of viridis
    np.testing.assert_allclose(mixed[0, 3, 3], 0.25 + low / 2, atol=2e-3)
    np.testing.assert_allclose(mixed[1, 3, 3], 0.25 + high / 2, atol=2e-3)
    np.testing.assert_allclose(overlay(images, maps, 0), images)
    np.testing.assert_allclose(overlay(images[0], maps[1], 1)[0, 0], high, atol=2e-3)
    assert overlay(images[..., :1], maps).shape == (2, 8, 8, 3)


def test_an_overlay_needs_one_heatmap_per_image_and_a_strength_from_0_to_1():
    images, maps = np.zeros((2, 8, 8, 3)), np.zeros((2, 4, 4))
    with pytest.raises(ValueError, match=r"one heatmap .* for each. Received: shapes .* \(1, 4, 4"):
        overlay(images, maps[:1])
    with pytest.raises(ValueError, match="strength from 0 to 1. Received: 2"):
        overlay(images, maps, 2)


def test_a_sheet_shows_names_as_they_are(tmp_path):
    rows = ["price $x_{$ y.png", "long" * 30]
    figure = sheet(np.zeros((2, 1, 8, 8, 3)), rows, ["layer"], "$" + "x" * 200)
    figure.savefig(tmp_path / "sheet.png")
    labels = [axis.get_ylabel() for axis in figure.axes[:2]]
    assert labels[0] == rows[0]
    assert len(labels[1]) <= 32 and "…" in labels[1]


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 3, 8, 8, 3), (2, 2, 8, 8, 3), (2, 3, 8, 8, 1)])
def test_a_sheet_has_a_label_for_each_row_and_column(shape):
    expected = r"Expected tiles \(2, 3, H, W, 3\).*Received: shape \("
    with pytest.raises(ValueError, match=expected):
        sheet(np.zeros(shape), ["a", "b"], ["c", "d", "e"], "title")


def test_a_gain_beyond_all_noise_is_shown_as_a_bound():
    gain = pd.DataFrame(
        {"layer": ["a", "b"], "control": "noise", "epsilon": 0.1, "gain": [np.inf, 2.0]}
    ).assign(low=[2.5, 1.5], high=[np.inf, np.nan])
    controls = pd.DataFrame({"control": ["noise", "noise", "mirrored"], "epsilon": [0.1, 0.3, 0.5]})
    result = SimpleNamespace(gain=gain, controls=controls, vid=pd.DataFrame({"layer": ["a", "b"]}))
    table = gain_by_layer(result).set_index("layer")["gain [95 %], ε = 0.1"]
    assert table.to_dict() == {"a": "> 3.0 [2.5, > 3.0]", "b": "2.0 [1.5, –]"}


@pytest.mark.parametrize("found", [True, False])
def test_the_page_is_opened_if_asked(folder, tmp_path, monkeypatch, found):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or found)
    write_photo(tmp_path / "photos" / "0.png", 0)
    own = ["--model", str(folder / "my.keras"), "--images", str(tmp_path / "photos")]
    arguments = ["explain", *own, "--epsilon", "0.1", "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(main, [*arguments, "--open"])
    assert result.exit_code == 0, result.output
    assert opened == [(tmp_path / "out" / "report.html").as_uri()]
    assert ("found no browser" in result.stderr) != found


def test_another_attack_has_its_name_on_the_page(folder, tmp_path):
    options = ["--model", "my.keras", "--images", "photos", "--epsilon", "0.05"]
    for attack, steps in (("pgd", ["--steps", "2"]), ("fgsm", [])):
        given = [*options, "--attack", attack, *steps, "--output", str(tmp_path / attack)]
        result = command_here(folder, "score", *given)
        assert result.returncode == 0, result.stderr
    page = (tmp_path / "pgd" / "report.html").read_text()
    assert "PGD on 11 images" in page
    pgd, fgsm = (pd.read_csv(tmp_path / name / "images.csv") for name in ("pgd", "fgsm"))
    assert (pgd["logit"] != fgsm["logit"]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "3"], "Expected settings of fgsm out of none. Received: steps"),
        (
            ["--attack", "square", "--steps", "3"],
            "settings of square out of queries, seed. Received: st",
        ),
        (["--attack", "cw"], "cw.*is not one of.*fgsm.*pgd"),
    ],
)
def test_attacks_and_settings_that_do_not_exist_are_refused(folder, options, message):
    result = command_here(folder, "explain", "--model", "my.keras", "--images", "photos", *options)
    assert result.returncode == 2
    assert re.search(message, result.stderr), result.stderr
