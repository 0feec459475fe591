"""What machines differ in: encodings, links, fonts, Windows; and data sets given as images."""

import io
import logging
import os
import subprocess
import sys

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import write_photo
from fontTools.ttLib import TTFont
from matplotlib import font_manager

from gradcam_adv import FGSM, GradCAM, dissimilarity, load_model, machine, perturb
from gradcam_adv.app import errors, terminal
from gradcam_adv.app.images import images_of
from gradcam_adv.plots import fonts, sheet
from gradcam_adv.robustness import given

# Terminals.


def test_what_an_encoding_does_not_have_is_printed_as_its_code(monkeypatch):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding="cp1252"))
    errors._prepare_streams()
    for err, stream in ((False, sys.stdout), (True, sys.stderr)):
        terminal.say("Zoë, ε = 0.1", err=err)
        stream.flush()
        assert stream.buffer.getvalue().rstrip() == b"Zo\xeb, \\u03b5 = 0.1"


# Links.


def test_links_among_images_are_followed_or_listed(tmp_path, small_cnn):
    photos, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    for path in (photos / "z" / "0.png", photos / ".hidden" / "no.png", elsewhere / "1.png"):
        write_photo(path, 1)
    (elsewhere / "back").symlink_to(photos)
    for name, target in {
        "linked": elsewhere,
        "loop": photos,
        "again": photos / "z",  # is read under its own name
        "photo.png": elsewhere / "1.png",
        "gone.png": tmp_path / "nowhere.png",
        "class": tmp_path / "unmounted",
        "circle.png": photos / "circle.png",
        ".seen": elsewhere,
    }.items():
        (photos / name).symlink_to(target)
    images, excluded = images_of(photos, small_cnn)
    assert images.names == ["linked/1.png", "photo.png", "z/0.png"]
    assert excluded.to_numpy().tolist() == [
        ["circle.png", "unreadable: Too many levels of symbolic links"],
        ["class", "unreadable: a link that leads nowhere"],
        ["gone.png", "unreadable: a link that leads nowhere"],
    ]


# Windows, which lacks these modules.

WITHOUT = """
import sys
sys.modules["fcntl"] = sys.modules["resource"] = None
import gradcam_adv
from gradcam_adv import machine, untrusted
from gradcam_adv.runs import locks
print(locks.holder("."))
for call in (locks.alone_in(".").__enter__, untrusted.checked("x.keras", "model").__enter__):
    try:
        call()
    except OSError as error:
        print(error)
"""


def test_on_windows_the_library_is_imported_and_files_are_refused_in_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    holder, *refusals = done.stdout.splitlines()
    assert (holder, len(refusals)) == ("None", 2)
    for line in refusals:
        assert line.startswith("Expected Linux or macOS for studies, and for model and weights")
    assert os.listdir(tmp_path) == []


def test_a_model_file_on_windows_is_refused_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "m.keras")
    with pytest.raises(OSError, match="Expected Linux or macOS .* Received: "):
        load_model(tmp_path / "m.keras")
    with pytest.raises(OSError, match="Expected Linux or macOS .* Received: "):
        machine.check_system()


# Fonts.


@pytest.fixture
def only_usual_fonts(monkeypatch):
    """A machine with Matplotlib's own fonts alone, and no Chinese."""
    usual = font_manager.findfont("DejaVu Sans")
    own = [font for font in font_manager.fontManager.ttflist if "mpl-data" in font.fname]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    monkeypatch.setattr(fonts, "_FAMILIES", {})
    fonts._warn.cache_clear()
    return usual


def labels_of(name: str):
    figure = sheet(np.zeros((1, 1, 8, 8, 3)), [name], ["ε"], name)
    (label,) = [axis.yaxis.label for axis in figure.axes[:1]]
    return figure, label


def test_without_a_font_pictures_show_codes_and_the_log_says_so_once(only_usual_fonts, caplog):
    with caplog.at_level(logging.WARNING, "gradcam_adv"):
        for _ in range(2):
            figure, label = labels_of("猫 قطة.png")
            figure.savefig(io.BytesIO())  # with boxes Matplotlib would warn, here an error
    assert label.get_text() == r"\u732b قطة.png"
    assert figure.get_suptitle() == r"\u732b قطة.png"
    assert [record.message[:40] for record in caplog.records] == [
        "Warning: no font on this machine has som"
    ]


def test_a_font_that_has_the_letters_is_found(only_usual_fonts, tmp_path, caplog):
    font = TTFont(only_usual_fonts)
    for table in font["cmap"].tables:
        if table.isUnicode():
            table.cmap[ord("猫")] = "A"
    for record in font["name"].names:
        if record.nameID in (1, 16):
            record.string = "Cat Sans"
    font.save(tmp_path / "cat.ttf")
    font_manager.fontManager.addfont(tmp_path / "cat.ttf")
    figure, label = labels_of("猫.png")
    figure.savefig(io.BytesIO())
    assert label.get_text() == "猫.png"
    assert label.get_fontfamily() == ["sans-serif", "Cat Sans"]
    assert not caplog.records


# Data sets as images.


def test_a_tf_data_set_and_a_generator_are_measured_like_their_arrays(small_cnn, images, labels):
    tf = pytest.importorskip("tensorflow")
    pixels, classes = images[:5], labels[:5]
    how = {"epsilons": [0.1], "controls": False, "verbose": 0}
    expected = dissimilarity(small_cnn, pixels, classes, **how)
    with_labels = tf.data.Dataset.from_tensor_slices((pixels, classes))
    shuffled = with_labels.shuffle(5, reshuffle_each_iteration=True, seed=1).batch(2)
    found = dissimilarity(small_cnn, shuffled, **how)
    for measure in ("label", "predicted"):
        assert sorted(found.images[measure]) == sorted(expected.images[measure])
    np.testing.assert_allclose(
        # In another place of the batch a gradient near 0 may have the other sign.
        sorted(found.nissim["nissim"]),
        sorted(expected.nissim["nissim"]),
        atol=2e-3,
    )
    batches = (pixels[start : start + 2] for start in range(0, 5, 2))
    found = dissimilarity(small_cnn, batches, classes, **how)
    pd.testing.assert_frame_equal(found.nissim, expected.nissim)


class Numbered(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, number):
        return np.full((1, 2, 2, 3), number / 2), np.array([number]), np.ones(1)


def test_batches_of_every_kind_become_arrays():
    pixels, labels = given.read(Numbered(), None)
    assert (pixels.shape, labels.tolist()) == ((2, 2, 2, 3), [0, 1])
    pixels, labels = given.read(iter([np.zeros((2, 4, 4, 1)), np.ones((1, 4, 4, 1))]), [5, 6, 7])
    assert (pixels.shape, labels) == ((3, 4, 4, 1), [5, 6, 7])
    array = np.zeros((2, 4, 4, 1))
    assert given.read(array, None)[0] is array


@pytest.mark.parametrize(
    ("images", "labels", "received"),
    [
        (5, None, "Expected images as an array .*Received: int"),
        (iter([]), None, "Expected at least one image. Received: none"),
        (iter(np.zeros((2, 4, 4, 3))), None, r"batch\(8\) makes .*Received: shape \(4, 4, 3\)"),
        (iter([{"image": 1}]), None, "Received: dict"),
        (Numbered(), [0, 1], "Expected labels once. Received: labels in the batches"),
    ],
)
def test_batches_that_can_not_be_read_are_refused_in_one_line(images, labels, received):
    with pytest.raises(ValueError, match=received):
        given.read(images, labels)


@pytest.mark.tensorflow
def test_a_data_set_without_an_end_is_refused_and_the_other_calls_say_how(small_cnn, images):
    import tensorflow as tf

    batches = tf.data.Dataset.from_tensor_slices(images).batch(2)
    with pytest.raises(ValueError, match=r"Expected images that end; take\(n\)"):
        dissimilarity(small_cnn, batches.repeat())
    for call in (
        lambda: GradCAM(small_cnn)(batches),
        lambda: FGSM(small_cnn)(batches, [0], [0.1]),
        lambda: perturb(batches, images),
    ):
        with pytest.raises(ValueError, match=r"Received: \w*Dataset; dissimilarity\(\) reads"):
            call()
