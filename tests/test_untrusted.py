"""Models of Keras' own layers open; code in a file never runs, whatever Keras was told."""

import contextlib
import json
import os
import re
import subprocess
import sys
import tracemalloc

import click.testing
import h5py
import keras
import numpy as np
import pytest
from bad_files import COSTLY, PUBLISHED, archive, described, network
from fuzz import models as fuzzed
from keras.src.backend.common import global_state

from benchmarks import checking
from gradcam_adv import untrusted
from gradcam_adv.app.cli import main
from gradcam_adv.models import classifiers

L = keras.layers
SMALL = (8, 8, 3)

# Layers for images, each with what to build it.
LAYERS = {
    type(layer).__name__: layer
    for layer in (
        *(L.Conv2D(2, 3), L.SeparableConv2D(2, 3), L.DepthwiseConv2D(3), L.Conv2DTranspose(2, 3)),
        *(L.Dense(3), L.EinsumDense("abcd,de->abce", (None, None, 5)), L.PReLU(), L.LeakyReLU()),
        *(L.BatchNormalization(), L.LayerNormalization(), L.GroupNormalization(3), L.ELU()),
        *(L.UnitNormalization(), L.RMSNormalization(), L.ReLU(6.0), L.Softmax(), L.Identity()),
        *(L.MaxPooling2D(), L.AveragePooling2D(2), L.GlobalAveragePooling2D(), L.Flatten()),
        *(L.GlobalMaxPooling2D(), L.AdaptiveAveragePooling2D(2), L.ZeroPadding2D(), L.Masking()),
        *(L.Cropping2D(), L.UpSampling2D(), L.Reshape((8, 24)), L.Permute((3, 1, 2))),
        *(
            L.Dropout(0.1, seed=1),
            L.SpatialDropout2D(0.1),
            L.GaussianNoise(0.1),
            L.AlphaDropout(0.1),
        ),
        *(L.GaussianDropout(0.1), L.ActivityRegularization(0.1), L.Activation("gelu")),
        *(L.Rescaling(1 / 255, offset=-1.0), L.Resizing(4, 4), L.CenterCrop(4, 4)),
        *(L.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0]), L.RandomFlip(seed=2)),
        *(
            L.RandomRotation(0.1),
            L.RandomZoom(0.1),
            L.RandomTranslation(0.1, 0.1),
            L.RandomHue(0.1),
        ),
        *(L.RandomContrast(0.1), L.RandomBrightness(0.1), L.RandomCrop(4, 4)),
        *(L.RandomErasing(), L.RandAugment(), L.AugMix(), L.AutoContrast()),
        *(L.Solarization(), L.RandomGaussianBlur(), L.RandomColorJitter(), L.Discretization([0.5])),
        *(L.TimeDistributed(L.Dense(2)), L.SpectralNormalization(L.Conv2D(2, 1))),
        *(L.Bidirectional(L.ConvLSTM1D(2, 1)), L.ConvLSTM1D(2, 2)),
    )
}


@pytest.mark.parametrize("name", LAYERS)
def test_models_of_keras_own_layers_open(tmp_path, name):
    inputs = keras.Input(SMALL)
    model = keras.Model(inputs, LAYERS[name](inputs))
    model.save(tmp_path / "a.keras")
    again = classifiers.load_model(tmp_path / "a.keras")
    pixels = np.random.default_rng(0).random((2, *SMALL), np.float32)
    np.testing.assert_allclose(
        again(pixels, training=False), model(pixels, training=False), atol=1e-6
    )


def functional():
    """Operations, slices, constants, a nested model called twice, initializers, regularizers."""
    ops = keras.ops
    inputs = keras.Input(SMALL)
    inner = keras.Sequential([keras.Input(SMALL), L.Conv2D(3, 1, kernel_regularizer="l2")])
    inner.compile("adam", keras.losses.MeanSquaredError(), metrics=["mae"])
    seed = keras.random.SeedGenerator(1)
    own = L.Conv2D(
        3,
        3,
        padding="same",
        kernel_initializer=keras.initializers.HeNormal(seed=seed),
        kernel_constraint="max_norm",
        activation=keras.activations.silu,
        dtype=keras.dtype_policies.DTypePolicy("mixed_float16"),
    )
    x = ops.cast(own(inner(inner(inputs))), "float32")
    x = ops.flip(x[:, ::-1, ..., :3] * 2 + np.ones(3, "float32"), axis=-1)
    x = ops.concatenate([ops.relu(x), ops.image.resize(x, (8, 8))], axis=-1)
    x = L.Dense(2, activation=keras.ops.tanh)(ops.mean(x, axis=(1, 2)))
    return keras.Model(inputs, x)


def compiled_with_the_users_own():
    model = functional()
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    model.compile(keras.optimizers.SGD(schedule), lambda y, p: keras.ops.mean(y - p))
    return model


@pytest.mark.parametrize(
    "build",
    [
        functional,
        compiled_with_the_users_own,
        *(
            lambda name=name: getattr(keras.applications, name)(
                weights=None, include_top=False, input_shape=(32, 32, 3)
            )
            for name in ("MobileNetV2", "ConvNeXtTiny")
        ),
    ],
    ids=["functional", "compiled", "MobileNetV2", "ConvNeXtTiny"],
)
def test_whole_networks_open(tmp_path, build):
    model = build()
    model.save(tmp_path / "a.keras")
    again = classifiers.load_model(tmp_path / "a.keras")
    pixels = np.random.default_rng(0).random((2, *model.input_shape[1:]), np.float32)
    np.testing.assert_allclose(again(pixels), model(pixels), rtol=1e-4, atol=1e-4)


def test_a_class_that_the_callers_program_registered_is_accepted(tmp_path):
    @keras.saving.register_keras_serializable("Mine")
    class Twice(L.Dense):
        pass

    path = tmp_path / "a.keras"
    keras.Sequential([keras.Input((4,)), Twice(2)]).save(path)
    try:
        assert isinstance(classifiers.load_model(path).layers[-1], Twice)
    finally:
        keras.saving.get_custom_objects().pop("Mine>Twice")
    with pytest.raises(ValueError, match="a class 'Twice' of .*, which is not part of Keras"):
        classifiers.load_model(path)


def test_a_registered_class_counts_only_under_the_name_that_keras_looks_up(tmp_path):
    (tmp_path / "a.keras").write_bytes(archive(network(described("Own", None))))
    with keras.saving.custom_object_scope({"Own": L.Dense}):
        with pytest.raises(ValueError, match="a class 'Own' of None, which is not part of Keras"):
            classifiers.load_model(tmp_path / "a.keras")
        own = described("Own", None, registered_name="Own")
        (tmp_path / "a.keras").write_bytes(archive(network(own)))
        with untrusted.checked(tmp_path / "a.keras", "model") as (_, contents):
            assert contents.registered


@pytest.fixture
def live(tmp_path, monkeypatch):
    """A model whose Lambda makes a file "ran" when it is opened; shown to do so."""
    monkeypatch.chdir(tmp_path)
    inputs = keras.Input((4,))
    ran = tmp_path / "ran"
    layer = L.Lambda(lambda x: (open("ran", "w").close(), x)[1])
    keras.Model(inputs, layer(inputs)).save("live.keras")
    ran.unlink()
    keras.saving.load_model("live.keras", safe_mode=False)
    ran.unlink()
    yield tmp_path / "live.keras"
    assert not ran.exists()


@pytest.fixture
def unsafe():
    """A program that has told Keras to run code in files."""
    before = global_state.get_global_attribute("safe_mode_saving")
    keras.config.enable_unsafe_deserialization()
    yield
    assert global_state.get_global_attribute("safe_mode_saving") is False
    global_state.set_global_attribute("safe_mode_saving", before)


def test_a_lambda_does_not_run(live):
    with pytest.raises(ValueError, match="Received: .*live.keras: a Lambda layer, which is Python"):
        classifiers.load_model(live)


def test_a_lambda_does_not_run_in_a_program_that_allows_keras_to_run_it(live, unsafe):
    with pytest.raises(ValueError, match="a Lambda layer, which is Python code"):
        classifiers.load_model(live)


@pytest.mark.parametrize("unknown", [{}, {"Own": ""}])
def test_keras_safe_mode_is_on_even_if_our_own_check_finds_nothing(
    live, unsafe, monkeypatch, unknown
):
    """While a model is planned, and while one with a registered class is opened without a plan."""
    nothing = {"arrays": 0, "bytes": 0, "unknown": unknown}
    monkeypatch.setattr(untrusted, "_look_at", lambda *_: dict(nothing))
    monkeypatch.setitem(keras.saving.get_custom_objects(), "Own", L.Dense)
    with pytest.raises(ValueError, match="that Keras opens in safe mode. Received: .*live.keras"):
        classifiers.load_model(live)


def test_bad_files_are_refused_before_tensorflow_starts(tmp_path):
    (tmp_path / "a.keras").write_bytes(archive(network(described("Lambda"))))
    (tmp_path / "vgg16.h5").write_bytes(b"x")
    script = (
        "import sys\n"
        "from gradcam_adv.models import classifiers, weights\n"
        "for read in (\n"
        "    lambda: classifiers.load_model('a.keras'), lambda: weights.resolve('.', ['vgg16'])\n"
        "):\n"
        "    try:\n"
        "        read()\n"
        "    except ValueError as error:\n"
        "        print(error)\n"
        "print([name for name in ('keras', 'tensorflow') if name in sys.modules])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    first, second, imported = result.stdout.splitlines()
    assert "a Lambda layer" in first
    assert "damaged or no HDF5" in second
    assert imported == "[]"


# Descriptions that ask for much more than the file stores.


def of_layers(*layers, shape=SMALL):
    """The bytes of a model file of 3 kB, and its description for changes."""
    model = keras.Sequential([keras.Input(shape), *layers])
    return json.loads(json.dumps(keras.saving.serialize_keras_object(model)))


def dense(config):
    """A dense layer of a hundred million weights."""
    layer = config["config"]["layers"][1]
    layer["config"]["units"] = 10_000
    layer["build_config"]["input_shape"] = [None, 10_000]
    config["config"]["layers"][0]["config"]["batch_shape"] = [None, 10_000]
    config["config"]["build_input_shape"] = [None, 10_000]
    config["build_config"]["input_shape"] = [None, 10_000]


def upsampled(config):
    config["config"]["layers"][1]["config"]["size"] = [5000, 5000]


LARGE = [
    ("weights", of_layers(L.Dense(2), shape=(4,)), dense, "take 400,040,000 bytes, of which the"),
    ("outputs", of_layers(L.UpSampling2D()), upsampled, "a layer 'up_.*' with 4,800,000,000 numb"),
]


@pytest.mark.parametrize(("config", "enlarge", "why"), [case[1:] for case in LARGE], ids=["w", "o"])
def test_large_by_description(tmp_path, config, enlarge, why):
    path = tmp_path / "a.keras"
    path.write_bytes(archive(config))
    enlarge(config)
    path.write_bytes(archive(config))
    tracemalloc.start()
    with pytest.raises(ValueError, match=f"Received: .*a.keras: .*{why}"):
        classifiers.load_model(path)
    assert tracemalloc.get_traced_memory()[1] < 50_000_000
    tracemalloc.stop()


def test_a_plan_leaves_no_trace_in_keras(tmp_path):
    """Names of new layers, and the variables that wait for a value, are as if nothing was built."""
    model = keras.Sequential([keras.Input((4,)), L.Dense(2)])
    model.save(tmp_path / "a.keras")
    keras.utils.clear_session()
    keras.saving.load_model(tmp_path / "a.keras", compile=False)
    expected = L.Dense(2).name, keras.Sequential().name
    keras.utils.clear_session()
    classifiers.load_model(tmp_path / "a.keras")
    assert (L.Dense(2).name, keras.Sequential().name) == expected
    assert not global_state.get_global_attribute("uninitialized_variables")


# The child.


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "a.keras"
    keras.Sequential([keras.Input((4,)), L.Dense(2)]).save(path)
    return path


LIMITED = "from gradcam_adv.untrusted import checks; checks.SECONDS = 1; checks._limit(0)\n"
# By what happens to it: its program, how long it may take, and what is said of the file.
CHILDREN = {
    "crash": ("import os; os.kill(os.getpid(), 11)", 60, "the program .* crashed"),
    "hang": ("import time; time.sleep(60)", 1, "takes more than 1 s to look at"),
    "much memory": (LIMITED + "bytearray(10**9)", 60, "the program .* crashed"),
    "much time": (LIMITED + "while True: pass", 10, "the program .* crashed"),
    "a large file": (LIMITED + "open('x', 'wb').write(bytes(2**21))", 60, "the program .* crashed"),
}


@pytest.mark.parametrize("kind", CHILDREN)
def test_whatever_happens_to_the_child_is_a_refusal(saved, tmp_path, monkeypatch, kind):
    program, seconds, why = CHILDREN[kind]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "child.py").write_text(program)
    monkeypatch.setattr(untrusted.checks, "__file__", str(tmp_path / "child.py"))
    monkeypatch.setattr(untrusted, "SECONDS", seconds)
    with pytest.raises(ValueError, match=f"Expected a .keras model.*Received: .*a.keras: .*{why}"):
        classifiers.load_model(saved)


def test_what_is_opened_is_what_was_checked(saved, tmp_path):
    checked = saved.read_bytes()
    with untrusted.checked(saved, "model") as (copy, contents):
        saved.write_bytes(archive(network(described("Lambda"))))
        assert copy.read_bytes() == checked
    assert not copy.exists()
    assert contents.arrays == 2
    assert contents.bytes == (4 * 2 + 2) * 4
    assert contents.layers == {"Dense": 1, "InputLayer": 1}
    assert contents.inputs == [[None, 4]]


def test_files_that_are_none_or_too_large_are_refused(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.h5")
    checked = contextlib.ExitStack().enter_context
    with pytest.raises(ValueError, match="not a regular file"):
        checked(untrusted.checked(tmp_path / "pipe.h5", "weights"))
    monkeypatch.setattr(untrusted, "MOST_BYTES", 10)
    (tmp_path / "large.h5").write_bytes(bytes(11))
    with pytest.raises(ValueError, match="a file of 11 bytes, more than 10"):
        checked(untrusted.checked(tmp_path / "large.h5", "weights"))


def test_the_child_refuses_published_attacks_with_little_memory_and_time(tmp_path):
    """Memory is the peak of the whole child, with Python and HDF5; time is the processor's."""
    paths = [tmp_path / f"{i}{suffix}" for i, (_, suffix, *_) in enumerate(PUBLISHED)]
    for path, (_, _, content, _) in zip(paths, PUBLISHED, strict=True):
        path.write_bytes(content)
    for (name, _, _, why), found in zip(PUBLISHED, checking.checked(paths), strict=True):
        assert found.refused and re.search(why, found.refused), (name, found)
        assert found.memory < 300, (name, found)
        assert found.seconds < 5, (name, found)


@pytest.mark.parametrize("number", range(len(COSTLY)))
def test_the_child_looks_at_large_descriptions_with_little_memory_and_time(tmp_path, number):
    (tmp_path / "a.keras").write_bytes(archive(COSTLY[number]))
    (found,) = checking.checked([tmp_path / "a.keras"])
    assert found.refused is None  # by the child, which does not reach a limit
    assert found.memory < 300, found
    assert found.seconds < 5, found


def test_the_machines_own_lower_limits_hold_and_no_core_is_written():
    script = """
import resource
from gradcam_adv.untrusted import checks
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
checks._limit(1_000_000)
print(resource.getrlimit(resource.RLIMIT_FSIZE), resource.getrlimit(resource.RLIMIT_CORE))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "(500000, 500000) (0, 0)\n", done.stderr


def test_weights_that_cannot_be_read_are_refused(tmp_path):
    """Numbers that do not unpack, and an attribute of a type that NumPy has not."""
    damaged, odd = tmp_path / "damaged.weights.h5", tmp_path / "odd.weights.h5"
    with h5py.File(damaged, "w") as file:
        file.create_dataset("kernel", data=np.random.default_rng(0).random(500), compression="gzip")
        place = file["kernel"].id.get_chunk_info(0).byte_offset
    content = bytearray(damaged.read_bytes())
    content[place + 2 : place + 40] = bytes(38)
    damaged.write_bytes(content)
    with h5py.File(odd, "w") as file:
        file["kernel"] = np.ones(3)
        space = h5py.h5s.create_simple((1,))
        h5py.h5a.create(file.id, b"odd", h5py.h5t.UNIX_D32LE, space)
    for path, why in ((damaged, "filter returned failure"), (odd, "No NumPy equivalent")):
        with (
            pytest.raises(ValueError, match=f"damaged or no HDF5: .*{why}"),
            untrusted.checked(path, "weights"),
        ):
            pass


def test_damaged_weights_kill_at_most_the_process_that_looks_at_them():
    found, accepted, _ = fuzzed.hdf5(range(2, 100))
    assert found == []
    assert 10 < accepted < 90


def test_a_functional_model_of_keras_2_says_how_to_convert_it(tmp_path):
    """As TensorFlow 2.15 and tf_keras write it."""
    for module in ("keras.src.engine.functional", "tf_keras.src.engine.functional"):
        pixels = described("InputLayer", config={"batch_input_shape": [None, 4], "name": "x"})
        end = described(inbound_nodes=[[["x", 0, 0, {}]]], name="end")
        config = {"name": "model", "layers": [pixels, end], "input_layers": [["x", 0, 0]]}
        (tmp_path / "old.keras").write_bytes(archive(described("Functional", module, config)))
        with pytest.raises(ValueError, match="a functional model of Keras 2, .* convert it: "):
            classifiers.load_model(tmp_path / "old.keras")


# The command.


def test_check_says_what_files_hold_and_whether_they_open(saved, tmp_path):
    (tmp_path / "bad.keras").write_bytes(archive(network(described("Lambda"))))
    (tmp_path / "bad.h5").write_bytes(b"x")
    names = [str(saved), *(str(tmp_path / name) for name in ("bad.keras", "bad.h5", "none.h5"))]
    run = click.testing.CliRunner().invoke
    result = run(main, ["check", *names])
    good, bad, weights, none = result.stdout.splitlines()
    assert good == (
        f"{saved}: opens: a model of 2 layers (1 Dense, 1 InputLayer), "
        "2 arrays of weights, 40 bytes"
    )
    assert "bad.keras: refused: a Lambda layer, which is Python code" in bad
    assert "bad.h5: refused: damaged or no HDF5" in weights
    assert "none.h5: refused: No such file" in none
    assert result.exit_code == 2
    found = json.loads(run(main, ["check", "--json", *names]).stdout)
    assert [part["opens"] for part in found] == [True, False, False, False]
    assert found[0]["contents"]["bytes"] == 40
    assert run(main, ["check", str(saved)]).exit_code == 0
