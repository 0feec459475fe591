"""The list of classes that a model file may name, against every public name of Keras."""

import contextlib
import importlib
import pkgutil

import keras
import known_classes
import pytest
from fuzz import models as fuzzed
from keras.src import api_export

from gradcam_adv.untrusted import checks

KINDS = ("class", "function")


def paths():
    """Every public path of Keras, and every name in every module of keras.src."""
    yield from api_export.REGISTERED_NAMES_TO_OBJS
    backend = importlib.import_module("keras.src.backend")
    before = dict(vars(backend))
    for module in pkgutil.walk_packages(
        importlib.import_module("keras.src").__path__, "keras.src."
    ):
        if not module.name.endswith("_test"):
            with contextlib.suppress(ImportError):  # of another backend
                names = vars(importlib.import_module(module.name))
                yield from (f"{module.name}.{name}" for name in names)
    # The modules of another backend that is installed have taken the place of this one's.
    vars(backend).update(before)


def splits(path):
    """A path as module and name, cut at each dot."""
    parts = path.split(".")
    for i in range(1, len(parts)):
        yield ".".join(parts[:i]), ".".join(parts[i:])


def described(kind, module, name):
    if kind == "function":
        return {"module": module, "class_name": "function", "config": name}
    return {"module": module, "class_name": name, "config": {}}


def is_accepted(kind, module, name):
    try:
        return checks._unknown(described(kind, module, name)) is None
    except checks.Refused:
        return False


@pytest.fixture(scope="module")
def accepted():
    """What is accepted of all names."""
    tried = {
        (kind, *split)
        for path in paths()
        for cut in splits(path)
        for split in (cut, ("builtins", cut[1]), ("keras.layers", path))
        for kind in KINDS
    }
    assert len(tried) > 20_000
    return {case for case in tried if is_accepted(*case)}


def test_the_list_is_what_its_generator_makes():
    assert known_classes.FILE.read_text() == known_classes.text()


def test_only_plain_classes_and_functions_of_tensors_are_accepted(accepted):
    assert len(accepted) > 600
    for kind, module, name in accepted:
        assert name.isidentifier(), (module, name)
        assert fuzzed.is_plain(kind, module, name), (module, name)


def test_random_descriptions_name_nothing_else():
    found, accepted = fuzzed.trees(range(2000))
    assert found == []
    assert 100 < accepted < 1900


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("keras", "layers.Dense"),
        ("keras", "config.set_epsilon"),
        ("keras.config", "set_epsilon"),
        ("keras.layers", "Dense "),
        ("keras.layers", ""),
        ("keras.src.layers.core.dense", "Dense"),
        (None, "Dense"),
    ],
)
def test_a_name_that_is_a_path_or_not_in_the_list_is_refused(kind, module, name):
    epsilon = keras.config.epsilon()
    assert not is_accepted(kind, module, name)
    assert keras.config.epsilon() == epsilon


def test_every_layer_of_keras_applications_is_known():
    """Each class in a description that Keras itself writes is in the list."""
    for name in ("ConvNeXtTiny", "EfficientNetV2B0", "InceptionResNetV2", "MobileNetV3Small"):
        build = getattr(keras.applications, name)
        with keras.StatelessScope(initialize_variables=False):
            model = build(weights=None, input_shape=(96, 96, 3), include_top=False)
        config = keras.saving.serialize_keras_object(model)
        assert [why for part in checks._objects(config) if (why := checks._unknown(part))] == []
