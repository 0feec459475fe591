"""Lists of pairs, and a saved embedder on them, from the command line."""

import json
import re

import keras
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import write_photo
from keras import layers as K
from PIL import Image

from gradcam_adv import load_model, verification
from gradcam_adv.app.cli import main
from gradcam_adv.data.pairs import read_pairs

SIDE = 12
CSV = (
    "image,other,same\nann/ann_0001.png,ann/ann_0002.png,yes\nann/ann_0002.png,bob/bob_0001.png,0\n"
)
LFW = "1\t1\nann\t1\t2\nann\t2\tbob\t1\n"
KAGGLE = "name,imagenum1,imagenum2,\nann,1,2,\nann,2,bob,1\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An embedder, a classifier, and photos of two people."""
    folder = tmp_path_factory.mktemp("pairs")
    keras.utils.set_random_seed(3)
    inputs = keras.Input((SIDE, SIDE, 3))
    x = K.Conv2D(6, 3, activation="tanh", name="conv")(K.Rescaling(2, -1)(inputs))
    features = K.Dense(5)(K.Flatten()(x))
    keras.Model(inputs, K.UnitNormalization()(features)).save(folder / "embedder.keras")
    keras.Model(inputs, K.Softmax()(features)).save(folder / "classifier.keras")
    for seed, name in enumerate(["ann/ann_0001", "ann/ann_0002", "bob/bob_0001"]):
        write_photo(folder / "faces" / f"{name}.png", seed)
    (folder / "faces" / "pairs.csv").write_text(CSV)
    (folder / "pairs.txt").write_text(LFW)
    (folder / "kaggle.csv").write_text(KAGGLE)
    return folder


def test_lists_of_every_format_name_the_same_pairs(folder):
    lists = [
        read_pairs(folder / "faces" / "pairs.csv"),
        read_pairs(folder / "pairs.txt", folder / "faces"),
        read_pairs(folder / "kaggle.csv", folder / "faces"),
    ]
    for found in lists:
        assert [path.name for path in found.images] == ["ann_0001.png", "ann_0002.png"]
        assert [path.name for path in found.others] == ["ann_0002.png", "bob_0001.png"]
        assert all(path.is_file() for path in (*found.images, *found.others))
        assert found.same.tolist() == [True, False]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("image,other\na.png,b.png\n", "Expected a column same.*with image, other"),
        ("image,other,same\na.png,b.png,perhaps\n", "Expected pairs as a CSV.*line 2: .*perhaps"),
        ("image,other,same\n,b.png,1\n", "Expected pairs as a CSV.*line 2"),
        ("image,other,same\n", "which has none"),
        ("", "which has none"),
        ("10\t300\nann one two\n", "or as LFW's list.*line 2: 'ann one two'"),
        ("ann\t1\t7\n", r"images of all pairs.*Received: 1 of 2 missing, .*ann_0007.jpg"),
    ],
)
def test_a_list_that_is_none(folder, tmp_path, content, match):
    path = tmp_path / "list.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=match):
        read_pairs(path, folder / "faces")


def run(folder, monkeypatch, *arguments):
    monkeypatch.chdir(folder)
    return CliRunner().invoke(main, list(arguments))


def test_explain_writes_pictures_and_the_numbers_of_python(folder, monkeypatch):
    model = ["--model", "embedder.keras", "--epsilon", "0.02"]
    done = run(folder, monkeypatch, "explain", *model, "--pairs", "faces/pairs.csv")
    assert done.exit_code == 0, done.stderr
    assert "2 pairs, 1 layer in out/explain/embedder; the same from a similarity of" in done.stdout
    out = folder / "out" / "explain" / "embedder"
    names = ["1 ann_0001 ann_0002", "2 ann_0002 bob_0001"]
    with Image.open(out / "overlays" / f"{names[0]}.png") as picture:
        assert picture.width > picture.height  # the image, its overlay and the other one
    page = (out / "report.html").read_text()
    shown = json.loads(re.search(r'id="viewer-data">(.*?)</script>', page)[1])
    photos = shown["arms"][0]["networks"][0]["photos"]
    assert [photo["name"] for photo in photos] == names
    assert {level["predicted"] for photo in photos for level in photo["levels"]} <= {
        "same",
        "different",
    }
    # The same from Python.
    pixels = []
    for name in ("ann/ann_0001", "ann/ann_0002", "bob/bob_0001"):
        with Image.open(folder / "faces" / f"{name}.png") as image:
            small = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        pixels.append(np.asarray(small, np.float32) / 255)
    images, others = np.stack(pixels[:2]), np.stack(pixels[1:])
    same = np.array([True, False])
    embedder = load_model(folder / "embedder.keras")
    expected = verification(embedder, images, others, same, epsilons=[0.02], controls=False)
    table = pd.read_csv(out / "pairs.csv")
    assert table["pair"].tolist() == names * 2
    np.testing.assert_allclose(table["similarity"], expected.pairs["similarity"], atol=1e-5)
    nissim = pd.read_csv(out / "nissim.csv")["nissim"]
    np.testing.assert_allclose(nissim, expected.nissim["nissim"], atol=1e-4)


@pytest.mark.slow
def test_score_prints_the_errors_and_writes_the_gain(folder, monkeypatch):
    model = ["--model", "embedder.keras", "--epsilon", "0.02"]
    lfw = ["--pairs", "pairs.txt", "--images", "faces", "--threshold", "0.5"]
    done = run(folder, monkeypatch, "score", *model, *lfw)
    assert done.exit_code == 0, done.stderr
    scored = folder / "out" / "score" / "embedder"
    rates = pd.read_csv(scored / "rates.csv")
    assert (rates["threshold"] == 0.5).all()
    assert "false_rejects" in done.stdout.splitlines()[0]
    assert rates["auc"].isin([0, 1]).all()
    assert "Errors of verification" in (scored / "report.html").read_text()
    assert len(pd.read_csv(scored / "gain.csv")) == 2


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["classifier.keras", "--pairs", "faces/pairs.csv"], "Expected an embedder.*a classifier"),
        (["embedder.keras", "--images", "faces"], "an embedding network.*--pairs compares"),
        (["embedder.keras", "--pairs", "nowhere.csv"], "nowhere.csv, which is no file"),
        (["embedder.keras", "--pairs", "pairs.txt"], "Received: 4 of 4 missing, the first: ann/"),
        (["embedder.keras"], "Expected --images or --pairs with --model"),
        (["embedder.keras", "--images", "faces", "--threshold", "1"], "Received: no --pairs"),
        (["embedder.keras", "--pairs", "pairs.txt", "--one-logit"], "Received: --one-logit"),
        (["embedder.keras", "--pairs", "faces/pairs.csv", "--threshold", "2"], "from -1 to 1"),
    ],
)
def test_what_can_not_be_compared_is_one_line(folder, monkeypatch, arguments, match):
    done = run(folder, monkeypatch, "explain", "--model", *arguments)
    assert done.exit_code == 2
    assert re.search(match, done.stderr.splitlines()[-1]), done.stderr


def test_an_image_that_can_not_be_read_stops_before_any_work(folder, tmp_path, monkeypatch):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"no image")
    (tmp_path / "pairs.csv").write_text("image,other,same\na.png,b.png,1\n")
    options = ["--model", "embedder.keras", "--pairs", str(tmp_path / "pairs.csv")]
    done = run(folder, monkeypatch, "explain", *options)
    assert "Expected pairs of images that can be read. Received: 2 that can not" in done.stderr
