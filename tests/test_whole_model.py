"""MOD and VID of any model: the same numbers as by the single functions, streamed."""

import keras
import numpy as np
import pandas as pd
import pytest
from skimage.metrics import structural_similarity

import gradcam_adv
from gradcam_adv import dissimilarity
from gradcam_adv.attacks import fgsm

LAYERS = ["conv_a", "relu_b"]


def measure(small_cnn, images, *arguments, **options):
    return dissimilarity(small_cnn, images, *arguments, progress=False, **options)


def test_numbers_are_those_of_the_single_functions(small_cnn, images, labels):
    result = measure(small_cnn, images, labels, [0.1, 0.02], LAYERS, batch_size=4)
    signs = gradcam_adv.sign(small_cnn, images, labels)
    clean = gradcam_adv.heatmaps(small_cnn, images, LAYERS)
    for epsilon in (0.02, 0.1):
        attacked = gradcam_adv.perturb(images, signs, epsilon)
        maps = gradcam_adv.heatmaps(small_cnn, attacked, LAYERS)
        for name in LAYERS:
            before, after = (gradcam_adv.resize(m[name], 24) for m in (clean, maps))
            expected = [
                (1 - structural_similarity(a, b, data_range=1)) / 2
                for a, b in zip(before.astype(float), after.astype(float), strict=True)
            ]
            rows = result.nissim.query("layer == @name and epsilon == @epsilon")
            assert rows["image"].tolist() == list(range(11))
            np.testing.assert_allclose(rows["nissim"], expected, atol=1e-5)
            mod = result.mod.query("layer == @name and epsilon == @epsilon")
            assert mod["mod"].item() == pytest.approx(np.mean(expected), abs=1e-5)
        rows = result.images.query("epsilon == @epsilon")
        predicted = small_cnn.predict(attacked, verbose=0).argmax(axis=1)
        assert rows["predicted"].tolist() == predicted.tolist()
        np.testing.assert_allclose(rows["psnr"], gradcam_adv.psnr(images, attacked))
    both = result.nissim.query("layer == 'relu_b'").pivot(
        index="epsilon", columns="image", values="nissim"
    )
    vid = result.vid.set_index("layer").loc["relu_b"]
    assert vid["vid"] == pytest.approx(both.std(ddof=0).mean())
    assert (vid["levels"], vid["images"]) == (2, 11)


def test_depth_is_the_place_in_the_network(small_cnn, images):
    result = measure(small_cnn, images, None, [0.1], "all")
    names = gradcam_adv.layer_names(small_cnn)
    assert result.vid.sort_values("depth")["layer"].tolist() == names
    one = measure(small_cnn, images, None, [0.1], names[3])
    assert one.vid["depth"].tolist() == [3]


def test_without_labels_the_predicted_class_is_attacked(small_cnn, images):
    predicted = small_cnn.predict(images, verbose=0).argmax(axis=1)
    given, none = (measure(small_cnn, images, labels, [0.1]) for labels in (predicted, None))
    pd.testing.assert_frame_equal(given.images, none.images)
    pd.testing.assert_frame_equal(given.nissim, none.nissim)
    assert none.images["label"].tolist() == none.images["predicted_clean"].tolist()


def test_the_clean_class_held_fixed(small_cnn, images):
    # Logits around zero on these images, so that some predictions flip.
    unsure = keras.models.clone_model(small_cnn)
    unsure.set_weights(small_cnn.get_weights())
    head = unsure.get_layer("logits")
    kernel, bias = head.get_weights()
    head.set_weights([kernel, bias - small_cnn.predict(images, verbose=0).mean(axis=0)])
    free = measure(unsure, images, None, [0.0001, 0.2])
    held = measure(unsure, images, None, [0.0001, 0.2], targets="clean")
    flipped = free.images.eval("predicted != predicted_clean").to_numpy()
    assert flipped.any() and not flipped.all()
    difference = np.abs(free.nissim["nissim"] - held.nissim["nissim"]).to_numpy()
    assert difference[~flipped].max() < 1e-6
    assert difference[flipped].max() > 1e-3


def test_given_classes_and_functions_of_the_logits(small_cnn, images, labels):
    given = measure(small_cnn, images, None, [0.1], targets=labels, batch_size=4)
    signs = gradcam_adv.sign(small_cnn, images, small_cnn.predict(images, verbose=0).argmax(axis=1))
    attacked = gradcam_adv.perturb(images, signs, 0.1)
    before, after = (
        gradcam_adv.resize(gradcam_adv.heatmaps(small_cnn, x, "last", labels)["relu_b"], 24)
        for x in (images, attacked)
    )
    np.testing.assert_allclose(
        given.nissim["nissim"], gradcam_adv.nissim(before, after), rtol=0, atol=1e-5
    )
    third = measure(small_cnn, images, None, [0.1], targets=lambda logits: logits[:, 3])
    same = measure(small_cnn, images, None, [0.1], targets=np.full(11, 3))
    np.testing.assert_allclose(third.nissim["nissim"], same.nissim["nissim"], rtol=0, atol=1e-6)


def test_controls_are_those_of_the_single_functions(small_cnn, images, labels):
    result = measure(small_cnn, images, labels, [0.1, 0.02], "last", batch_size=4)
    clean = gradcam_adv.resize(gradcam_adv.heatmaps(small_cnn, images, "last")["relu_b"], 24)
    for epsilon in (0.02, 0.1):
        rows = result.nissim.query("epsilon == @epsilon")
        noisy = gradcam_adv.perturb(
            images,
            np.stack([fgsm.random_sign((24, 24, 3), 0, f"{number:016x}") for number in range(11)]),
            epsilon,
        )
        maps = gradcam_adv.resize(gradcam_adv.heatmaps(small_cnn, noisy, "last")["relu_b"], 24)
        expected = gradcam_adv.nissim(clean, maps)
        np.testing.assert_allclose(rows["noise"], expected, rtol=0, atol=1e-5)
        mod = result.mod.query("epsilon == @epsilon").squeeze()
        assert mod["mod_noise"] == pytest.approx(expected.mean(), abs=1e-5)
        # Each image against the next one of another label in its batch of four.
        for number, ceiling in zip(rows["image"], rows["ceiling"], strict=True):
            batch = np.arange(number - number % 4, min(number - number % 4 + 4, 11))
            others = [i for i in np.roll(batch, -(number % 4)) if labels[i] != labels[number]]
            if others:
                expected = gradcam_adv.nissim(clean[number], clean[others[0]])
                assert ceiling == pytest.approx(expected, abs=1e-5)
            else:
                assert np.isnan(ceiling)
        assert mod["ceiling"] == pytest.approx(rows["ceiling"].mean())
    noise = result.nissim.pivot(index="epsilon", columns="image", values="noise")
    assert result.vid["vid_noise"].item() == pytest.approx(noise.std(ddof=0).mean())


def test_without_controls(small_cnn, images):
    result = measure(small_cnn, images, None, [0.1], controls=False)
    full = measure(small_cnn, images, None, [0.1])
    assert list(result.mod.columns) == ["layer", "depth", "epsilon", "images", "mod"]
    pd.testing.assert_frame_equal(result.mod, full.mod[result.mod.columns])
    pd.testing.assert_frame_equal(result.vid, full.vid[result.vid.columns])


def test_native_size(small_cnn, images):
    result = measure(small_cnn, images, None, [0.1], "relu_b", size="native")
    signs = gradcam_adv.sign(small_cnn, images, small_cnn.predict(images, verbose=0).argmax(axis=1))
    maps = [
        gradcam_adv.heatmaps(small_cnn, x, "relu_b")["relu_b"]
        for x in (images, gradcam_adv.perturb(images, signs, 0.1))
    ]
    np.testing.assert_allclose(result.nissim["nissim"], gradcam_adv.nissim(*maps), atol=1e-5)


def test_images_on_disk_are_read_a_batch_at_a_time(small_cnn, images, tmp_path):
    np.save(tmp_path / "images.npy", images)
    read = []

    class Watched:
        array = np.load(tmp_path / "images.npy", mmap_mode="r")

        def __len__(self):
            return len(self.array)

        def __getitem__(self, rows):
            read.append(len(self.array[rows]))
            return self.array[rows]

    from_disk = measure(small_cnn, Watched(), None, [0.1], batch_size=4)
    assert read == [4, 4, 3]
    in_memory = measure(small_cnn, images, None, [0.1], batch_size=4)
    pd.testing.assert_frame_equal(from_disk.nissim, in_memory.nissim)


def test_a_batch_cut_otherwise_changes_nothing_to_speak_of(small_cnn, images):
    first, second = (
        measure(small_cnn, images, None, [0.1], "all", batch_size=size).nissim for size in (3, 11)
    )
    keys = ["image", "layer"]
    first, second = (t.sort_values(keys, ignore_index=True) for t in (first, second))
    np.testing.assert_allclose(first["nissim"], second["nissim"], atol=1e-4)


REFUSED = {
    "epsilons above 0, at most 1. Received: \\[\\]": {"epsilons": []},
    "epsilons above 0, at most 1. Received: \\[0, 0.1\\]": {"epsilons": [0, 0.1]},
    "targets as 'predicted', .* 'clean', .*Received: 'true'": {"targets": "true"},
    "targets as 11 integers.*Received: shape \\(2,\\)": {"targets": [1, 2]},
    "size as one of input, native. Received: 'small'": {"size": "small"},
    "labels as 11 integers": {"labels": [1, 2]},
    r"7 x 7 or more .*Received: tiny with 6 x 6": {"size": "native", "layers": "tiny"},
}


@pytest.mark.parametrize("message", REFUSED)
def test_refuses(small_cnn, images, message):
    model = small_cnn
    if "tiny" in message:
        x = keras.layers.AveragePooling2D(2, name="tiny")(small_cnn.get_layer("relu_b").output)
        x = keras.layers.GlobalAveragePooling2D()(x)
        model = keras.Model(small_cnn.inputs, keras.layers.Dense(2)(x))
    with pytest.raises(ValueError, match=message):
        measure(model, images, **REFUSED[message])


def test_refuses_no_images(small_cnn, images):
    with pytest.raises(ValueError, match="at least one image"):
        measure(small_cnn, images[:0])
