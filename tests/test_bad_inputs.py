"""Damaged and hostile files, by reader: each ends in one clear error, or is passed over by name.

By hand (photos as in test_malformed.py, and there are more of them made by chance):

    models 108              tables 17               hostile manifests 10
    weights 17              names of people 12      names of files 12
    studies 61              JSON 14                 names of photos 8
    arrays 30               manifests of runs 27    photos 80
                            manifests of tasks 23

and by hypothesis, as FUZZED says, 330 more.
"""

import io
import json
import os
import pickle
import shutil
import struct
import types
import zipfile

import click.testing
import h5py
import numpy as np
import pandas as pd
import pytest
from conftest import write_photo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_malformed import MALFORMED

from gradcam_adv.app.cli import main
from gradcam_adv.data import sources
from gradcam_adv.files import artifacts, untrusted
from gradcam_adv.models import classifiers
from gradcam_adv.report import compare
from gradcam_adv.runs import cleaning, records
from gradcam_adv.study import config as study
from gradcam_adv.study import export

FIFO = object()
FOLDER = object()


class Payload:
    """What an unpickler would run: it makes a file called "ran" in the working directory."""

    def __reduce__(self):
        return open, ("ran", "w")


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path, monkeypatch):
    """The working directory, in which every payload would leave a file "ran"."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    yield
    assert not (work / "ran").exists()


def put(path, content):
    """Make ``content`` a file, or what it stands for."""
    if content is FIFO:
        os.mkfifo(path)
    elif content is FOLDER:
        path.mkdir()
    else:
        path.write_bytes(content)
    return path


def numbered(cases):
    return [pytest.param(*case[1:], id=case[0]) for case in cases]


# HDF5, with what leads elsewhere.


def hdf5(fill=lambda file: None):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["layers/dense/vars/0"] = np.ones((4, 2), np.float32)
        fill(file)
    return buffer.getvalue()


def _external_data(file):
    file.create_dataset("layers/x", (4,), "u1", external=[("/etc/passwd", 0, 4)])


def _virtual_data(file):
    layout = h5py.VirtualLayout((4,), "u1")
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "x", (4,))
    file.create_virtual_dataset("layers/x", layout)


def _bomb(file):
    file.create_dataset("layers/x", (2**40,), "f4", chunks=(2**20,), compression="gzip")


def _circle(file):
    file["layers/again"] = file["layers"]
    file["layers/x"] = h5py.SoftLink("/layers/dense")


HDF5 = [
    ("external link", hdf5(lambda f: f.__setitem__("a", h5py.ExternalLink("/etc/x", "/"))), "link"),
    (
        "external link deep down",
        hdf5(lambda f: f["layers/dense"].__setitem__("a", h5py.ExternalLink("x.h5", "/"))),
        "a link at '/layers/dense/a' that may lead to another file",
    ),
    ("soft link", hdf5(lambda f: f.__setitem__("a", h5py.SoftLink("/layers"))), "a link at '/"),
    ("dangling link", hdf5(lambda f: f.__setitem__("a", h5py.SoftLink("/no"))), "a link at"),
    ("soft link in a circle of hard ones", hdf5(_circle), "a link at '/layers/x'"),
    ("numbers in another file", hdf5(_external_data), "numbers at '/layers/x' are in another file"),
    ("virtual numbers", hdf5(_virtual_data), "numbers at '/layers/x' are in another file"),
    ("bomb", hdf5(_bomb), "grow at '/layers/x' from [0-9,]+ to 4,398,046,511,104 bytes"),
    ("no HDF5", b"no weights at all", "damaged or no HDF5"),
    ("empty", b"", "damaged or no HDF5"),
    ("truncated", hdf5()[:-500], "damaged or no HDF5"),
    ("signature alone", hdf5()[:8], "damaged or no HDF5"),
]

WEIGHTS = [
    *HDF5,
    (
        "whole model",
        hdf5(lambda f: f.attrs.__setitem__("model_config", '{"class_name": "Lambda"}')),
        'a whole model.* may hold code; where it was made, model.save_weights\\("x.weights.h5"\\)',
    ),
    ("whole model by its group", hdf5(lambda f: f.create_group("model_weights")), "a whole model"),
    ("pickle", pickle.dumps(Payload()), "damaged or no HDF5"),
    ("archive", b"PK\x03\x04" + bytes(40), "damaged or no HDF5"),
    ("address beyond all numbers", hdf5()[:40] + b"\xff" * 8 + hdf5()[48:], "damaged or no HDF5"),
]


@pytest.mark.parametrize(("content", "why"), numbered(WEIGHTS))
def test_weights(tmp_path, content, why):
    path = put(tmp_path / "vgg16.h5", content)
    with pytest.raises(
        ValueError, match=f"^Expected weights of VGG16 .*Received: .*vgg16.h5: .*{why}"
    ):
        untrusted.check_weights(path, "VGG16")


def test_weights_that_lead_round_in_a_circle_are_no_harm(tmp_path):
    path = put(tmp_path / "a.h5", hdf5(lambda f: f.__setitem__("layers/again", f["layers"])))
    untrusted.check_weights(path, "VGG16")


# Models.


def described(name="Dense", module="keras.layers", config=None, **more):
    config = {"units": 2} if config is None else config
    return {"module": module, "class_name": name, "config": config, "registered_name": None} | more


def function(name, module):
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


def network(*layers):
    shape = {"batch_shape": [None, 4], "name": "pixels"}
    config = {"name": "net", "layers": [described("InputLayer", config=shape), *layers]}
    return described("Sequential", "keras", config, build_config={"input_shape": [None, 4]})


def archive(config=None, weights=None, extra=(), change=lambda file: None, **how):
    """A .keras file; ``extra`` are more members, ``change`` may write lies into its directory."""
    config = network(described()) if config is None else config
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **how) as file:
        members = [("metadata.json", b"{}"), ("config.json", config), *extra]
        members.append(("model.weights.h5", hdf5() if weights is None else weights))
        for name, content in members:
            if content is not None:
                text = content if isinstance(content, bytes) else json.dumps(content)
                file.writestr(name, text)
        change(file)
    return buffer.getvalue()


def _overlap(file):
    for name in "abc":
        twin = zipfile.ZipInfo(f"assets/{name}")
        for field in ("header_offset", "compress_size", "file_size", "CRC"):
            setattr(twin, field, getattr(file.getinfo("model.weights.h5"), field))
        file.filelist.append(twin)


def _set(**fields):
    def change(file):
        for field, value in fields.items():
            setattr(file.getinfo("config.json"), field, value)

    return change


# The bytes of ``lambda x: open("ran", "w")`` as Keras stores a lambda come of Keras itself, in
# test_untrusted.py, where the file is opened without protection, too. Here it's the shape alone.
LAMBDA = {"class_name": "__lambda__", "config": {"code": "4wAAAA==", "defaults": None}}
SYSTEM = function("system", "os")
DEEP = "[" * 900 + "]" * 900


def lookup(name, vocabulary):
    return network(described(name, config={"vocabulary": vocabulary}))


def activated(by):
    return network(described(config={"units": 2, "activation": by}))


CODE = "Python code that opening the file would run"
OWN = "not Keras' own and whose code is not in the file; build it anew from Keras' own layers"
NOT_ONE = "which is not one of Keras' activations and the like"
ATTACKS = [
    # CVE-2024-3660 and all that take up a Lambda: code as bytes
    ("Lambda", network(described("Lambda", config={"function": LAMBDA})), CODE),
    ("Lambda by its module", network(described("Lambda", "keras.src.layers.core.lambda_layer")),
     CODE),
    ("Lambda of no module", network({"class_name": "Lambda", "config": {}}), CODE),
    ("Lambda under a known name", network(described("Lambda", registered_name="Dense")), CODE),
    ("a lambda for activation", activated(LAMBDA), "a lambda function"),
    ("a lambda for dtype", network(described(config={"units": 2, "dtype": LAMBDA})), "a lambda"),
    ("a lambda in a nested network", network(network(described("Lambda"))), CODE),
    ("a lambda in a wrapper",
     network(described("TimeDistributed", config={"layer": described("Lambda")})), CODE),
    ("a lambda among arguments",
     network(described(inbound_nodes=[{"args": [LAMBDA], "kwargs": {}}])), "a lambda function"),
    ("a lambda to be built", network(described(build_config={"x": [[{"y": LAMBDA}]]})), "a lambda"),
    ("a lambda to be compiled with, in a nested network",
     network(network() | {"compile_config": {"loss": LAMBDA}}), "a lambda function"),
    # CVE-2025-1550: any function of any module
    ("os.system", activated(SYSTEM), NOT_ONE),
    ("subprocess", network(described("Popen", "subprocess", {"args": ["touch", "ran"]})), OWN),
    ("os.system in Lambda", network(described("Lambda", config={"function": SYSTEM})), CODE),
    ("exec", activated(function("exec", "builtins")), "exec"),
    ("a function whose name is no text", activated(function(["system"], "os")), NOT_ONE),
    ("pickle.load", activated(function("load", "pickle")), NOT_ONE),
    # CVE-2025-8747, CVE-2025-9906 and what else Keras itself offers
    ("get_file", activated(function("get_file", "keras.utils")), NOT_ONE),
    ("enable_unsafe_deserialization",
     activated(function("enable_unsafe_deserialization", "keras.config")), NOT_ONE),
    ("load_model", activated(function("load_model", "keras.models")), NOT_ONE),
    ("load_model by its module",
     activated(function("load_model", "keras.src.saving.saving_lib")), NOT_ONE),
    ("func_load", activated(function("func_load", "keras.src.utils.python_utils")), NOT_ONE),
    ("set_global_attribute",
     activated(function("set_global_attribute", "keras.src.backend.common.global_state")), NOT_ONE),
    ("a function of keras.ops", activated(function("while_loop", "keras.ops")), NOT_ONE),
    # CVE-2025-49655 and its like
    ("TorchModuleWrapper", network(described("TorchModuleWrapper", config={"module": "gAR="})),
     "a TorchModuleWrapper layer, which is a pickle"),
    ("TFSMLayer", network(described("TFSMLayer", config={"filepath": "/tmp/x"})), "opens another"),
    ("JaxLayer", network(described("JaxLayer", config={"call_fn": LAMBDA})), CODE),
    ("FlaxLayer", network(described("FlaxLayer")), CODE),
    # CVE-2025-12058: files read, or fetched, for a vocabulary
    ("StringLookup of a file", lookup("StringLookup", "/etc/passwd"),
     "a lookup layer that reads the file '/etc/passwd'; give the layer its words"),
    ("IntegerLookup of a file", lookup("IntegerLookup", "/etc/passwd"), "reads the file"),
    ("TextVectorization of a page", lookup("TextVectorization", "http://x.org/"), "reads the file"),
    ("a very long name of a vocabulary", lookup("StringLookup", "a\n" * 999), r"'a\\na\\n.*\.\.\."),
    # classes of others
    ("a class of the user's", network(described("Own", None, registered_name="Custom>Own")), OWN),
    ("a class of __main__", network(described("Own", "__main__")), OWN),
    ("a class of a package", network(described("Own", "my_package.layers")), OWN),
    ("a class of keras_hub", network(described("Backbone", "keras_hub.models")), OWN),
    ("a class of tf_keras", network(described("Dense", "tf_keras.layers")), OWN),
    ("a class of keras.utils", network(described("FeatureSpace", "keras.utils")), OWN),
    ("a class of Keras' inner modules", network(described("Dense", "keras.src.layers")), OWN),
    ("a class of a module that begins like Keras'", network(described("Dense", "kerasx")), OWN),
    ("a class of no module", network({"class_name": "Dense", "config": {"units": 2}}), OWN),
    ("a class whose module is a list", network(described("Dense", ["keras.layers"])), OWN),
    ("a class whose name is a list", network(described(["Dense"])), r"a class called \['Dense'\]"),
    ("a type of TensorFlow's",
     network({"class_name": "__typespec__", "spec_name": "x", "module": "os", "config": []}), OWN),
    ("an escape sequence for a name", network(described("\x1b[2J", "x")), r"'\\x1b\[2J'"),
]  # fmt: skip

CONFIGS = [
    ("config no JSON", b"{", "a config.json that is no JSON"),
    ("config empty", b"", "a config.json that is no JSON"),
    ("config no UTF-8", b'{"class_name": "\xff"}', "a config.json that is no JSON"),
    ("config a list", [], "a config.json that describes no model"),
    ("config null", b"null", "a config.json that describes no model"),
    ("config a number", b"1", "a config.json that describes no model"),
    ("config of nothing", {}, "a config.json that describes no model"),
    ("config of weights", {"a": 1}, "a config.json that describes no model"),
    ("config deep", b"[" * 100_000, "a config.json nested too deep"),
    ("config deep and whole", f'{{"a": {DEEP}, "class_name": "Dense"}}'.encode(), "Dense|deep"),
    ("config of a huge number", b'{"class_name": ' + b"9" * 5000 + b"}", "that is no JSON"),
    ("config of more bytes than any has", b" " * 64_000_001, "grows from|of more than 64,000,000"),
]

ARCHIVES = [
    ("name above", archive(extra=[("../evil.py", b"x")]), "holds '../evil.py', which Keras writes"),
    ("name absolute", archive(extra=[("/tmp/evil.py", b"x")]), "holds '/tmp/evil.py'"),
    ("name out of the assets", archive(extra=[("assets/../../x", b"x")]), "holds 'assets/../"),
    ("name of another system", archive(extra=[("assets/..\\..\\x", b"x")]), "holds 'assets/"),
    ("pickle inside", archive(extra=[("data.pkl", pickle.dumps(Payload()))]), "holds 'data.pkl'"),
    ("another's weights", archive(extra=[("model.weights.npz", b"x")]), "holds 'model.weights.npz"),
    ("two configs", archive(extra=[("config.json", b"{}")]), "2 files config.json, not one"),
    ("no config", archive(extra=[]).replace(b"config.json", b"Config.json"), "holds 'Config.json'"),
    ("no weights", archive().replace(b"model.weights.h5", b"assets/weights.5"), "0 files model.w"),
    ("files that overlap", archive(weights=hdf5(), change=_overlap), "overlap, as those of a bomb"),
    ("bomb",
     archive(weights=bytes(50_000_000), compression=zipfile.ZIP_DEFLATED), "grows from .* 50,000"),
    ("bomb among the assets",
     archive(extra=[("assets/x", bytes(50_000_000))], compression=zipfile.ZIP_DEFLATED),
     "'assets/x' grows from"),
    ("a lie of its size", archive(change=_set(file_size=2**40)), "grows from .* 1,099,511,627,776"),
    ("with a password", archive(change=_set(flag_bits=1)), "damaged archive: .*password"),
    ("of an unknown compression", archive(change=_set(compress_type=99)), "damaged archive"),
    ("a wrong check sum", archive(change=_set(CRC=1)), "damaged archive: Bad CRC"),
    ("an offset beyond the end", archive(change=_set(header_offset=10**6)), "damaged archive"),
]  # fmt: skip

REFUSED_BY_KERAS = [
    ("no such layer", network(described("Dens")), "Dens"),
    ("no such activation", activated("no_such"), "no_such"),
    ("negative units", network(described(config={"units": -1})), "units"),
    ("no such option", network(described(config={"units": 2, "evil": 1})), "evil"),
    ("other weights than it says", network(described(config={"units": 3})), ""),
    ("a layer of no network", described("Dense", config={"units": 2}), "could not|Dense"),
    ("a loss", described("MeanSquaredError", "keras.losses", {}), "could not|MeanSquaredError"),
]

FILES = [
    ("model.keras", b"", "not in that format"),
    ("model.keras", b"no archive", "not in that format"),
    ("model.keras", archive()[:-30], "not in that format"),
    ("model.keras", hdf5(), "not in that format"),
    ("model.keras", pickle.dumps(Payload()), "not in that format"),
    ("model.keras", FIFO, "no file"),
    ("model.keras", FOLDER, 'a folder; where a SavedModel.* model.save\\("x.keras"\\)'),
    ("saved_model", FOLDER, "a folder; where a SavedModel"),
    ("model.h5", hdf5(), "an .h5 file of a whole model may run code when it is opened"),
    ("model.HDF5", hdf5(), "an .h5 file of a whole model may run code"),
    ("model.pkl", pickle.dumps(Payload()), "a pickle runs any code when it is opened"),
    ("model.joblib", pickle.dumps(Payload()), "a pickle runs any code"),
    ("model.pt", archive(), "a network of PyTorch's has to be built anew in Keras"),
    ("model.safetensors", b"x", "a network of PyTorch's"),
    ("saved_model.pb", b"x", "a compiled graph has no layers to explain"),
    ("model.onnx", b"x", "a compiled graph has no layers"),
]

MODELS = [
    *[(name, "model.keras", archive(config), why) for name, config, why in ATTACKS + CONFIGS],
    *[(f"weights: {n}", "model.keras", archive(weights=w), why) for n, w, why in HDF5 if w],
    *[(name, "model.keras", content, why) for name, content, why in ARCHIVES],
    *[(f"{i} {name}", name, content, why) for i, (name, content, why) in enumerate(FILES)],
    *[(name, "model.keras", archive(c), why) for name, c, why in REFUSED_BY_KERAS],
]


@pytest.mark.parametrize(("name", "content", "why"), numbered(MODELS))
def test_models(tmp_path, name, content, why):
    path = put(tmp_path / name, content)
    with pytest.raises(
        ValueError, match=rf"(?s)^Expected a .keras model file.*Received: \S*{name}.*{why}"
    ):
        classifiers.load(path)


# Studies.


def toml(key, value):
    return f'name = "a"\n{key} = {value}\n'.encode()


STUDIES = [
    ("empty, of a bad name", b"name = ''", "Expected name as text"),
    ("no TOML", b"name", "a study file in TOML"),
    ("no UTF-8", b'name = "\xff"', "a study file in TOML"),
    ("UTF-16", 'name = "a"'.encode("utf-16"), "a study file in TOML"),
    ("null characters", b'name = "\0"', "a study file in TOML"),
    ("binary", bytes(range(256)), "a study file in TOML"),
    ("HTML", b"<!DOCTYPE html>", "a study file in TOML"),
    ("JSON", b'{"name": "a"}', "a study file in TOML"),
    ("a key twice", b"seed = 1\nseed = 2", "a study file in TOML"),
    ("nested too deep", b"a = " + b"[" * 5000, "nested too deep"),
    ("tables nested too deep", b"a = " + b"{b=" * 5000, "nested too deep"),
    ("a folder", FOLDER, "not a regular file"),
    ("a pipe", FIFO, "not a regular file"),
    ("a bad key after the mark of an editor", b"\xef\xbb\xbfnme = 'x'", "Nearest: name"),
    ("a huge whole number", toml("seed", "9" * 5000), "a study file in TOML|2\\^32"),
    ("an unknown key", toml("nam", 1), "Nearest: name"),
    ("an unknown table", b"[a.b.c]\nd = 1", "Expected keys out of"),
    ("a key of control characters", b'"\\u001b[2J" = 1', "Expected keys out of"),
    *[(f"name {name}", toml("arms", "[]").replace(b'"a"', name.encode()), "Expected name as")
      for name in ('"../x"', '"/x"', '".."', '"."', '"a/b"', "'a\\b'", '"\\u0000"', '"\\n"', "1",
                   "[]", "{}", "nan", "true", "1979-05-27", '"<script>"', '"[x](y)"', '"a|b"',
                   '"*"', '"`a`"', f'"{"x" * 201}"', '"\\u001b[2J"')],
    *[(f"{key} {value}", toml(key, value), f"Expected {key} as")
      for key, value in (("photos", 1), ("photos", '""'), ("weights", "[]"), ("classes", "nan"),
                         ("classes", "1e400"), ("seed", "-1"), ("seed", "4294967296"),
                         ("seed", '"0"'), ("batch_size", 0), ("batch_size", "true"),
                         ("image_size", "224.5"), ("epsilons", "[nan]"), ("epsilons", "[inf]"),
                         ("epsilons", "{}"), ("epsilons", "[[0.1]]"), ("split", "[1, nan, 0]"),
                         ("arms", '["evil"]'), ("networks", "[]"), ("margin", "inf"),
                         ("layers", "[]"), ("readings", "[]"), ("threads", "0x0"))],
]  # fmt: skip


@pytest.mark.parametrize(("content", "why"), numbered(STUDIES))
def test_studies(tmp_path, content, why):
    path = put(tmp_path / "study.toml", content)
    with pytest.raises(ValueError, match=rf"(?s)^(?=Expected ).*({why})"):
        study.read(path)


def test_a_study_whose_editor_marks_the_byte_order_is_read(tmp_path):
    path = put(tmp_path / "study.toml", b'\xef\xbb\xbfname = "a"\r\nseed = 3\r\n')
    assert study.read(path).seed == 3


# Arrays.


def npy(array, **how):
    buffer = io.BytesIO()
    np.save(buffer, array, **how)
    return buffer.getvalue()


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def header(text, version=b"\x01\x00"):
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text.encode() + bytes(80)


def shaped(shape, kind="'<f4'"):
    return header(f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}\n")


def zipped(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(name.replace("__", "."), content)
    return buffer.getvalue()


HOSTILE = np.array([Payload()], object)
ARRAYS = [
    ("empty", b"", ""),
    ("text", b"no array", ""),
    ("a pickle", pickle.dumps(Payload()), "pickle"),
    ("objects", npy(HOSTILE, allow_pickle=True), "Python objects|pickle"),
    ("signature alone", npy(np.ones(9))[:6], ""),
    ("header cut off", npy(np.ones(9))[:60], ""),
    ("numbers cut off", npy(np.ones(9))[:-5], ""),
    ("no numbers", npy(np.ones(9))[:128], ""),
    ("of a version to come", header("{}", b"\x09\x00"), "version|header"),
    ("header no dictionary", header("[]\n"), "header"),
    ("header of code", header("__import__('os').system('touch ran')\n"), "malformed"),
    ("header of other keys", header("{'descr': '<f4'}\n"), "header"),
    ("header of brackets", header("(" * 5000), ""),
    ("header very long", header(" " * 60_000), "header"),
    ("no such type", shaped("(1,)", "'<q99'"), ""),
    ("type of objects", shaped("(1,)", "'|O'"), "Python objects|pickle"),
    ("more numbers than there are", shaped("(1000000000000,)"), ""),
    ("more numbers than can be", shaped("(9223372036854775807, 9)"), ""),
    ("numbers that come round to none", shaped("(4611686018427387904, 4)", "'|u1'"), ""),
    ("a negative number of them", shaped("(-1,)"), ""),
    ("a shape of text", shaped("('a',)"), "shape"),
    ("an archive", npz(a=np.ones(3)), "an archive"),
    ("a pipe", FIFO, "no regular file"),
]
ARCHIVES_OF_ARRAYS = [
    ("one array", npy(np.ones(3)), "one array"),
    ("no archive", b"PK\x03\x04" + bytes(90), "not a zip|zip"),
    ("cut off", npz(a=np.ones(99))[:-40], "zip"),
    ("of objects", zipped(a__npy=npy(HOSTILE, allow_pickle=True)), "pickle"),
    ("of a pickle", zipped(a__npy=pickle.dumps(Payload())), "another kind of file|pickle"),
    ("of other numbers", npz(b=np.ones(3)), "a is not a file in the archive"),
    ("of damaged numbers", npz(a=np.ones(99)).replace(b"\x3f", b"\x3e", 40), "CRC"),
]


@pytest.mark.parametrize(("content", "why"), numbered(ARRAYS))
@pytest.mark.parametrize("mmap", [False, True])
def test_arrays(tmp_path, content, why, mmap):
    path = put(tmp_path / "a.npy", content)
    with pytest.raises(ValueError, match=f"(?i)^Expected an array in .*a.npy. Received: .*({why})"):
        artifacts.read_array(path, mmap=mmap)


@pytest.mark.parametrize(("content", "why"), numbered(ARCHIVES_OF_ARRAYS))
def test_archives_of_arrays(tmp_path, content, why):
    path = put(tmp_path / "a.npz", content)
    with (
        pytest.raises(ValueError, match=f"^Expected an .*array.* in .*a.npz. Received.*({why})"),
        artifacts.read_arrays(path) as arrays,
    ):
        arrays["a"]


def test_the_payload_of_the_arrays_is_alive():
    """Without the readers' protection it runs, or the tests above would show nothing."""
    np.load(io.BytesIO(npy(HOSTILE, allow_pickle=True)), allow_pickle=True)[0].close()
    assert os.path.exists("ran")
    os.remove("ran")


def test_good_arrays(tmp_path):
    (tmp_path / "a.npy").write_bytes(npy(np.arange(6).reshape(2, 3)))
    for mmap in (False, True):
        assert artifacts.read_array(tmp_path / "a.npy", mmap).tolist() == [[0, 1, 2], [3, 4, 5]]
    (tmp_path / "a.npz").write_bytes(npz(a=np.ones(2), b=np.zeros(0)))
    with artifacts.read_arrays(tmp_path / "a.npz") as arrays:
        assert {name: values.tolist() for name, values in arrays.items()} == {"a": [1, 1], "b": []}
        assert len(arrays) == 2 and "a" in arrays and "c" not in arrays
    with pytest.raises(FileNotFoundError):
        artifacts.read_array(tmp_path / "none.npy")


# Tables.

TABLES = [
    ("empty", b"", "No columns"),
    ("blank lines", b"\n\n \n", "No columns|header"),
    ("null characters", bytes(500), "no header"),
    ("binary", bytes(range(256)) * 4, "no header|decode|tokeniz"),
    ("no UTF-8", b"photo,psnr\n\xff,1\n", "decode"),
    ("UTF-16", "photo,psnr\na,1\n".encode("utf-16"), "decode"),
    ("a picture", b"\x89PNG\r\n\x1a\n" + bytes(99), "decode"),
    ("an archive", zipped(a=b"a,b"), "no header|decode|tokeniz"),
    ("a pickle", pickle.dumps(Payload()), "decode|no header"),
    ("one row too long", b"a,b\n1,2\n1,2,3\n", "tokeniz"),
    ("all rows too long", b"a,b\n1,2,3\n4,5,6\n", "does not match"),
    ("an open quotation", b'a,b\n1,"2\n3,4\n', "EOF inside string"),
    ("an open quotation in the header", b'a,"b\n1,2\n', "EOF inside string"),
    ("one huge line", b"x" * 3_000_000, "no header"),
    ("a huge quotation", b'"' + b"x" * 300_000, "EOF|no header"),
    ("a pipe", FIFO, "no regular file"),
    ("a folder", FOLDER, "no regular file"),
]


@pytest.mark.filterwarnings("ignore")  # as in a program that listens to none
@pytest.mark.parametrize(("content", "why"), numbered(TABLES))
def test_tables(tmp_path, content, why):
    path = put(tmp_path / "t.csv", content)
    with pytest.raises(ValueError, match=f"^Expected a table in .*t.csv. Received: .*({why})"):
        artifacts.read_table(path)


# A row of VGGFace2's identity_meta.csv, and the name that comes of it; none where it is damaged.
ROW = "n000001, {}, 424, 0, m\n"
PEOPLE = [
    ("script", ROW.format('"<script>alert(1)</script>"'), "<script>alert(1)</script>"),
    ("quotes", ROW.format('"A "B" C"'), 'A "B" C'),
    ("commas", ROW.format('"A, B", C, 1'), 'A, B", C, 1'),
    ("one quote", ROW.format('"'), None),
    ("no name", ROW.format(""), None),
    ("no number", "n000001, A, x, 0, m\n", None),
    ("too few cells", "n000001, A, 424\n", None),
    ("another class", "m000001, A, 424, 0, m\n", None),
    ("binary", "\0\x01\udcff\n", None),
    ("empty", "", None),
    ("a million blanks", "n000001, " + " " * 1_000_000 + "x\n", None),
    ("a million commas", "n000001, A" + "," * 1_000_000 + "\n", None),
]


@pytest.mark.parametrize(("text", "name"), numbered(PEOPLE))
def test_names_of_people(tmp_path, text, name):
    for number in range(3):
        write_photo(tmp_path / "v" / "train" / "n000001" / f"{number}.jpg", number)
        write_photo(tmp_path / "v" / "train" / "n000002" / f"{number}.jpg", 9 + number)
    (tmp_path / "v" / "identity_meta.csv").write_bytes(text.encode(errors="surrogateescape"))
    listing = sources.list_photos(f"vggface2:{tmp_path / 'v'}", classes=None, min_photos=3, seed=0)
    assert listing.identities["name"].tolist() == [name or "n000001", "n000002"]


@pytest.mark.parametrize(
    ("folder", "title"),
    [
        ("<img src=x onerror=alert(1)>", "photos in ?img src=x onerror=alert(1)?"),
        ("[x](javascript:alert(1))", "photos in ?x?(javascript?alert(1))"),
        ("$\\frac$ `a` | *b*\n# c", "photos in ??frac? ?a? ? ?b??# c"),
        ("Ünder_1 (50 %), b", "photos in Ünder_1 (50 %), b"),
    ],
)
def test_a_folder_of_photos_is_called_by_what_is_text_everywhere(tmp_path, folder, title):
    for number in range(3):
        for person in "ab":
            write_photo(tmp_path / folder / person / f"{number}.png", number + 9 * ord(person))
    listing = sources.list_photos(str(tmp_path / folder), classes=None, min_photos=3, seed=0)
    assert listing.title == title


# JSON, and the manifests of runs.

OBJECTS = [
    ("empty", b"", "Expecting value"),
    ("cut off", b'{"a": [1, 2', ""),
    ("a list", b"[]", "list"),
    ("a number", b"1", "int"),
    ("null", b"null", "NoneType"),
    ("text", b'"a"', "str"),
    ("no UTF-8", b'{"a": "\xff"}', "decode"),
    ("UTF-16", '{"a": 1}'.encode("utf-16"), "decode"),
    ("null characters", bytes(99), "Expecting value"),
    ("nested too deep", b'{"a":' * 100_000, "recursion"),
    ("lists nested too deep", b"[" * 100_000, "recursion"),
    ("a huge number", b'{"a": ' + b"9" * 5000 + b"}", "4300 digits"),
    ("two objects", b"{}{}", "Extra data"),
    ("a pipe", FIFO, "no regular file"),
]


@pytest.mark.parametrize(("content", "why"), numbered(OBJECTS))
def test_json(tmp_path, content, why):
    path = put(tmp_path / "m.json", content)
    with pytest.raises(ValueError, match=f"^Expected a JSON object in .*m.json. Received: .*{why}"):
        artifacts.read_json(path)


GOOD = {
    "study": {"name": "a", "networks": ["vgg16"], "source": "vgg16"},
    "weights": {"vgg16": {"origin": "random", "sha256": None}},
    "tasks": {"report": "report/0"},
}
RUNS = [
    ("empty", b""),
    ("nothing", {}),
    ("nested too deep", b'{"study":' * 100_000),
    *[(f"{key} {value!r}", GOOD | {key: value})
      for key in GOOD for value in ([], None, "x", {})],
    ("study of lists", GOOD | {"study": {"name": [], "networks": {}}}),
    ("study of another name", GOOD | {"study": GOOD["study"] | {"name": "../../x"}}),
    ("weights of lists", GOOD | {"weights": {"vgg16": []}}),
    ("report elsewhere", GOOD | {"tasks": {"report": "../../elsewhere"}}),
    ("report a number", GOOD | {"tasks": {"report": 1}}),
    ("report a null character", GOOD | {"tasks": {"report": "\0"}}),
]  # fmt: skip


@pytest.mark.parametrize("content", numbered(RUNS))
def test_manifests_of_runs(tmp_path, content):
    run = tmp_path / "run"
    run.mkdir()
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    (run / "manifest.json").write_bytes(text)
    with pytest.raises(ValueError, match="^Expected .*Received: "):
        compare.runs(run, run)


FILES_OF_REPORTS = [
    ("a list", []),
    ("a number", 1),
    ("text", "x"),
    ("of numbers", {"../../tables/plain/predictions.csv": 1}),
    ("of nothing", {"../../tables/plain/predictions.csv": {}}),
    ("of texts", {"../../tables/plain/predictions.csv": {"size": "x", "sha256": 1}}),
]


@pytest.mark.parametrize("files", numbered(FILES_OF_REPORTS))
def test_manifests_of_reports(tmp_path, files):
    run = tmp_path / "run"
    (run / "report" / "0").mkdir(parents=True)
    (run / "tables" / "plain").mkdir(parents=True)
    (run / "tables" / "plain" / "predictions.csv").write_text("photo\n")
    (run / "manifest.json").write_text(json.dumps(GOOD))
    (run / "report" / "0" / "manifest.json").write_text(json.dumps({"files": files}))
    with pytest.raises(ValueError, match="^Expected .*Received: "):
        compare.runs(run, run)


TASK = {"task": "x", "seconds": 1.5, "needs": {}, "files": {}}
TASKS = [
    ("empty", b""),
    ("a list", []),
    ("nested too deep", b'{"files":' * 100_000),
    *[(f"{key} {value!r}", TASK | {key: value})
      for key, wrong in (("files", [[], None, "x", 1, {"a": 1}, {"a": None}, {"a": {}},
                                    {"a": {"size": "1", "mtime_ns": 1, "sha256": "x"}},
                                    {"a": {"size": 1, "mtime_ns": 1, "sha256": None}}]),
                         ("seconds", ["x", None, [], {}]),
                         ("needs", [[], None, "x", 1]))
      for value in wrong],
    *[(f"no {key}", {k: v for k, v in TASK.items() if k != key})
      for key in ("files", "seconds", "needs")],
]  # fmt: skip


@pytest.mark.parametrize("content", numbered(TASKS))
def test_manifests_of_tasks_record_nothing(tmp_path, content):
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    (tmp_path / "manifest.json").write_bytes(text)
    assert records.manifest(tmp_path) is None
    assert cleaning.clean(tmp_path, tmp_path / "models").removed == 0
    assert (tmp_path / "manifest.json").exists()


def test_a_good_manifest_of_a_task_is_read(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps(TASK | {"files": {"a": FACTS}}))
    assert records.manifest(tmp_path).files == {"a": FACTS}


# What a hostile manifest may ask to be deleted, from runs/a/task.
FACTS = {"size": 4, "mtime_ns": 0, "sha256": "x"}
DELETED = [
    ("above", "../../../mine.txt"),
    ("absolute", "{root}/mine.txt"),
    ("a folder above", "../../.."),
    ("itself", "."),
    ("through a link", "link/mine.txt"),
    ("no path", "\0"),
    ("too long", "x" * 5000),
    ("through links in a circle", "circle/x"),
    ("a null character on the way", "a\0/x"),
    ("a folder", "../more"),
]


@pytest.mark.parametrize("name", numbered(DELETED))
@pytest.mark.parametrize("by", ["clean", "a task"])
def test_hostile_manifests_delete_nothing(tmp_path, name, by):
    task = tmp_path / "runs" / "a" / "task"
    (tmp_path / "runs" / "a" / "more").mkdir(parents=True)
    task.mkdir()
    for kept in (tmp_path / "mine.txt", tmp_path / "runs" / "a" / "more" / "notes.txt"):
        kept.write_text("mine")
    (task / "link").symlink_to(tmp_path)
    (task / "circle").symlink_to(task / "circle")
    named = {name.format(root=tmp_path): FACTS}
    content = {"task": "x", "files": named, "needs": {}, "seconds": 1}
    (task / "manifest.json").write_text(json.dumps(content))
    places = (tmp_path / "runs" / "a", tmp_path / "models" / "a")
    if by == "clean":
        cleaning.clean(*places)
    else:  # a task is done anew, for it hangs on something else now
        with records.Journal(task, {"task": "x", "seed": 1}, places) as journal:
            assert journal.record.files == {}
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert (tmp_path / "runs" / "a" / "more" / "notes.txt").read_text() == "mine"


# Names of files that come out of files.

NAMES = [
    ("above", "../x"),
    ("above by a way round", "a/../../x"),
    ("far above", "../../../../../../etc/passwd"),
    ("absolute", "/etc/passwd"),
    ("the folder", "."),
    ("the folder by a way round", "a/.."),
    ("nothing", ""),
    ("a null character", "a\0b"),
    ("through a link", "link/x"),
    ("a link", "file"),
    ("through links in a circle", "circle/x"),
    ("above through a folder", "a/./.././../x"),
]


@pytest.mark.parametrize("name", numbered(NAMES))
def test_names_of_files(tmp_path, name):
    folder = tmp_path / "folder"
    (folder / "a").mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path)
    (folder / "file").symlink_to(tmp_path / "x")
    (folder / "circle").symlink_to(folder / "circle")
    with pytest.raises(ValueError, match="^Expected the name of a file inside of .*Received: "):
        artifacts.inside(folder, name)


@pytest.mark.parametrize("photo", ["../x", "/tmp/x", "ann/../../x"])
def test_a_table_of_photos_cannot_make_export_write_elsewhere(tmp_path, photo):
    of_test = types.SimpleNamespace(test=pd.DataFrame({"photo": ["ann/1.jpg", photo]}))
    with pytest.raises(ValueError, match="^Expected the name of a file inside of .*Received: "):
        export.write_png(of_test, "vgg16", 0.1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_good_names_of_files(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    for folder in (tmp_path / "folder", tmp_path / "link", tmp_path / "not there"):
        for name in ("a", "a/b.png", "..a", "a/..b", "ü\n"):
            assert artifacts.inside(folder, name) == folder / name


# Photos beside those of test_malformed.py: what their names do.

PHOTOS = [
    ("too long", "x" * 250 + ".png", "a name of more than 220 bytes"),
    ("too long in bytes", "ü" * 120 + ".png", "a name of more than 220 bytes"),
    ("a line break", "a\nb.png", "control characters"),
    ("an escape sequence", "\x1b[2J.png", "control characters"),
    ("a tab", "a\tb.png", "control characters"),
    ("no UTF-8", os.fsdecode(b"\xff.png"), "control characters or no UTF-8"),
    ("half of a character", os.fsdecode(b"\xc3.png"), "control characters or no UTF-8"),
    ("in a folder of no UTF-8", os.fsdecode(b"\xff/a.png"), "no UTF-8 in its name or a folder's"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    import keras

    path = tmp_path_factory.mktemp("model") / "good.keras"
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(2, 3, name="conv")(inputs)
    keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(x))).save(path)
    return path


@pytest.fixture(scope="module")
def explained(model, tmp_path_factory):
    """What ``explain`` makes of a folder with all these names in it, beside good ones."""
    root = tmp_path_factory.mktemp("explained")
    for number, name in enumerate(["good.png", "$x$.png", "../x'\"<b>.png"[3:]]):
        write_photo(root / "photos" / name, number)
    for _, name, _ in PHOTOS:
        (root / "photos" / name).parent.mkdir(exist_ok=True)
        shutil.copy(root / "photos" / "good.png", root / "photos" / name)
    arguments = ["--model", model, "--images", root / "photos", "--output", root / "out"]
    result = click.testing.CliRunner().invoke(
        main, ["explain", *map(str, arguments), "--epsilon", "0.1"]
    )
    assert result.exit_code == 0, result.output
    assert "3 images" in result.output
    assert len(list((root / "out" / "heatmaps").iterdir())) == 3
    return artifacts.read_table(root / "out" / "excluded.csv")


@pytest.mark.parametrize(("name", "why"), numbered(PHOTOS))
def test_photos(explained, name, why):
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    (reason,) = explained.loc[explained["image"] == shown, "reason"]
    assert why in reason


# Damage by chance: an error of ours, or a result of the right kind.


def damaged(content):
    """Strategies: some bytes replaced, and perhaps the end cut off."""
    places = st.integers(0, len(content) - 1)
    changes = st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=6)
    return st.builds(_damage, st.just(content), changes, st.none() | places)


def _damage(content, changes, end):
    changed = bytearray(content)
    for place, value in changes:
        changed[place] = value
    return bytes(changed[:end])


FUZZED = {"models": 60, "descriptions": 60, "weights": 60, "studies": 40, "arrays": 40,
          "archives": 30, "tables": 20, "JSON": 20}  # fmt: skip


def fuzzed(kind):
    return settings(
        max_examples=FUZZED[kind],
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def ours(read, *arguments):
    """The result, or None for an error that says what was expected."""
    try:
        return read(*arguments)
    except ValueError as error:
        assert str(error).startswith("Expected "), error
        return None


@fuzzed("models")
@given(content=damaged(hdf5()))
def test_any_damage_of_a_models_weights(tmp_path, content):
    path = put(tmp_path / "a.keras", archive(network(described()), content))
    result = ours(classifiers.load, path)
    assert result is None or result.output_shape == (None, 2)


def spots(part):
    """Every place in nested lists and objects, as container and key."""
    pairs = part.items() if isinstance(part, dict) else enumerate(part)
    for key, value in pairs:
        yield part, key
        if isinstance(value, dict | list):
            yield from spots(value)


ODD = [None, True, -1, 2**70, 1e308, "", "x", "\0", [], {}, [[]], {"class_name": "x"}, LAMBDA]


@fuzzed("descriptions")
@given(place=st.integers(0, 10_000), odd=st.sampled_from([*ODD, "leave out"]))
def test_any_damage_of_a_models_description(tmp_path, place, odd):
    config = network(described(), described("ReLU", config={"name": "b"}))
    places = list(spots(config))
    part, key = places[place % len(places)]
    if odd == "leave out":
        del part[key]
    else:
        part[key] = odd
    path = put(tmp_path / "a.keras", archive(config))
    result = ours(classifiers.load, path)
    assert result is None or hasattr(result, "predict")


@fuzzed("weights")
@given(content=damaged(hdf5()))
def test_any_damage_of_weights(tmp_path, content):
    assert ours(untrusted.check_weights, put(tmp_path / "a.h5", content), "VGG16") is None


@fuzzed("studies")
@given(content=damaged(b'name = "a"\nseed = 3\nepsilons = [0.1, 0.2]\n[readings]\nssim = "x"\n'))
def test_any_damage_of_a_study(tmp_path, content):
    result = ours(study.read, put(tmp_path / "a.toml", content))
    assert result is None or isinstance(result, study.Study)


@fuzzed("arrays")
@given(content=damaged(npy(np.arange(12.0).reshape(3, 4))))
def test_any_damage_of_an_array(tmp_path, content):
    result = ours(artifacts.read_array, put(tmp_path / "a.npy", content))
    assert result is None or isinstance(result, np.ndarray)


@fuzzed("archives")
@given(content=damaged(npz(a=np.arange(12.0), b=np.ones(3))))
def test_any_damage_of_arrays(tmp_path, content):
    path = put(tmp_path / "a.npz", content)

    def read():
        with artifacts.read_arrays(path) as arrays:
            return dict(arrays)

    result = ours(read)
    assert result is None or all(isinstance(array, np.ndarray) for array in result.values())


@fuzzed("tables")
@given(content=damaged(b'photo,psnr,note\n"a,b",1.5,\nc,2,x\n'))
def test_any_damage_of_a_table(tmp_path, content):
    result = ours(artifacts.read_table, put(tmp_path / "a.csv", content))
    assert result is None or result.shape[1] >= 1


@fuzzed("JSON")
@given(content=damaged(b'{"a": [1, {"b": null}], "c": "d"}'))
def test_any_damage_of_json(tmp_path, content):
    result = ours(artifacts.read_json, put(tmp_path / "a.json", content))
    assert result is None or isinstance(result, dict)


# At the command line.

STUDY = b'name = "a"\nphotos = "people"\nweights = "weights"\nnetworks = ["vgg16"]\n'
STUDY += b'source = "vgg16"\narms = ["plain"]\n'
MODELS_BY_NAME = {name: content for name, _, content, _ in MODELS}
COMMANDS = [
    ("a model", "model.keras", MODELS_BY_NAME["Lambda"],
     ["layers", "model.keras"], "a Lambda layer"),
    ("a model to explain", "model.keras", MODELS_BY_NAME["name above"],
     ["explain", "--model", "model.keras", "--images", "people", "--output", "out"], "'../evil"),
    ("a SavedModel", "model", FOLDER,
     ["score", "--model", "model", "--images", "people", "--output", "out"], "SavedModel"),
    ("a pickle", "model.pkl", pickle.dumps(Payload()), ["layers", "model.pkl"], "a pickle runs"),
    ("a study", "study.toml", b"a = " + b"[" * 5000, ["data", "study.toml"], "nested too deep"),
    ("an escape sequence", "study.toml", b'"\\u001b[2J" = 1', ["data", "study.toml"], "\ufffd[2J"),
    ("a pipe", "study.toml", FIFO, ["reproduce", "study.toml"], "not a regular file"),
    ("a folder", "study.toml", FOLDER, ["clean", "study.toml"], "not a regular file"),
    ("weights", "weights/vgg16.h5", {n: c for n, c, _ in WEIGHTS}["whole model"],
     ["reproduce", "study.toml"], "weights of VGG16 without top.*a whole model"),
    ("a run", "run/manifest.json", b"[]", ["compare", "run", "run"], "a JSON object"),
    ("another run", "run/manifest.json", json.dumps(GOOD | {"tasks": 1}).encode(),
     ["compare", "run", "run"], "no table tasks"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "arguments", "why"), numbered(COMMANDS))
def test_at_the_command_line(tmp_path, name, content, arguments, why):
    for number in range(3):
        write_photo(tmp_path / "work" / "people" / "ann" / f"{number}.png", number)
        write_photo(tmp_path / "work" / "people" / "bob" / f"{number}.png", 9 + number)
    for folder in ("weights", "run"):
        (tmp_path / "work" / folder).mkdir()
    if name != "study.toml":
        put(tmp_path / "work" / "study.toml", STUDY)
    put(tmp_path / "work" / name, content)
    before = sorted(tmp_path.rglob("*"))
    result = click.testing.CliRunner().invoke(main, arguments)
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    assert lines[0].startswith("Error: Expected ")
    assert lines[0].isprintable()
    assert "Received: " in lines[0]
    for part in why.split(".*"):
        assert part in lines[0]
    assert "Traceback" not in result.output
    assert sorted(tmp_path.rglob("*")) == before


CORPUS = {
    "models": MODELS,
    "weights": WEIGHTS,
    "studies": STUDIES,
    "arrays": ARRAYS + ARCHIVES_OF_ARRAYS,
    "tables": TABLES,
    "names of people": PEOPLE,
    "JSON": OBJECTS,
    "manifests of runs": RUNS + FILES_OF_REPORTS,
    "manifests of tasks": TASKS,
    "hostile manifests": DELETED,
    "names of files": NAMES,
    "names of photos": PHOTOS,
    "photos": list(MALFORMED),
}


def test_the_corpus_is_as_large_as_said_and_large_enough():
    counts = {kind: len(cases) for kind, cases in CORPUS.items()}
    said = " ".join(__doc__.split())
    for kind, count in counts.items():
        assert f"{kind} {count}" in said, (kind, count)
    assert sum(counts.values()) >= 400
    assert f"FUZZED says, {sum(FUZZED.values())} more" in said
    for kind, cases in CORPUS.items():
        if kind != "photos":
            assert len({name for name, *_ in cases}) == len(cases), kind
