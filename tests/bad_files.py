"""Damaged and hostile files as bytes; test_bad_inputs.py opens them.

DAMAGE is damage of any kind of file. Cases of one kind are a name, the file's content, and a
pattern for the reason why it is refused.
"""

import base64
import dataclasses
import gzip
import hashlib
import io
import json
import marshal
import os
import pickle
import struct
import warnings
import zipfile

import h5py
import numpy as np

from gradcam_adv.study import settings

FIFO = object()
FOLDER = object()


class Payload:
    """Code that an unpickler would run: it makes a file "ran" in the working directory."""

    def __reduce__(self):
        return open, ("ran", "w")


def put(path, content):
    """Make the file: of bytes, of JSON, a pipe or a folder."""
    if content is FIFO:
        os.mkfifo(path)
    elif content is FOLDER:
        path.mkdir()
    else:
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def _written(write):
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def zipped(*members, change=lambda file: None, **how):
    """An archive of names and contents; ``change`` may write lies into its directory."""

    def write(buffer):
        with zipfile.ZipFile(buffer, "w", **how) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of two files of one name
            for name, content in members:
                file.writestr(name, content if isinstance(content, bytes) else json.dumps(content))
            change(file)

    return _written(write)


# HDF5 files, some with links to other files.

# A place where Keras looks for weights.
BIAS = "layers/dense/vars/1"


def hdf5(fill=lambda file: None):
    """The weights of :func:`network` with one dense layer, and more."""

    def write(buffer):
        with h5py.File(buffer, "w") as file:
            file["layers/dense/vars/0"] = np.ones((4, 2), np.float32)
            fill(file)
            if file.get(BIAS, getlink=True) is None:
                file[BIAS] = np.ones(2, np.float32)

    return _written(write)


def _external_data(file):
    file.create_dataset(BIAS, (4,), "u1", external=[("/etc/passwd", 0, 4)])


def _virtual_data(file):
    layout = h5py.VirtualLayout((4,), "u1")
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "x", (4,))
    file.create_virtual_dataset(BIAS, layout)


def _bomb(file):
    file.create_dataset(BIAS, (2**40,), "f4", chunks=(2**20,), compression="gzip")


def _circle(file):
    file["layers/again"] = file["layers"]
    file["layers/x"] = h5py.SoftLink("/layers/dense")


HDF5 = [
    *[(f"{name} at {place}", hdf5(lambda f, place=place, link=link: f.__setitem__(place, link)),
       f"a link at '/+{place}' that may lead to another file")
      for place in ("a", "layers/dense/a")
      for name, link in (("external link", h5py.ExternalLink("/etc/x", "/")),
                         ("soft link", h5py.SoftLink("/layers")),
                         ("dangling link", h5py.SoftLink("/no")))],
    ("soft link in a circle of hard ones", hdf5(_circle), "a link at '/layers/x'"),
    ("numbers in another file", hdf5(_external_data), f"numbers at '/{BIAS}' are in another file"),
    ("virtual numbers", hdf5(_virtual_data), f"numbers at '/{BIAS}' are in another file"),
    ("bomb", hdf5(_bomb), f"'/{BIAS}', which grows from [0-9,]+ to 4,398,046,511,104 bytes"),
]  # fmt: skip

WEIGHTS = [
    *HDF5,
    ("whole model",
     hdf5(lambda f: f.attrs.__setitem__("model_config", '{"class_name": "Lambda"}')),
     'a whole model.* may hold code; where it was made, model.save_weights\\("x.weights.h5"\\)'),
    ("whole model by its group", hdf5(lambda f: f.create_group("model_weights")), "a whole model"),
    ("address beyond all numbers", hdf5()[:40] + b"\xff" * 8 + hdf5()[48:], "damaged or no HDF5"),
]  # fmt: skip


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


def layer(name, module="keras.layers", **config):
    """A network with this layer."""
    return network(described(name, module, config))


# A version with most of the published holes; scanners read it.
METADATA = {"keras_version": "3.11.1", "date_saved": "2025-08-12@12:00:00"}


def archive(description=None, weights=None, extra=(), **how):
    """A .keras file; ``extra`` are more members."""
    description = network(described()) if description is None else description
    weights = hdf5() if weights is None else weights
    members = [("metadata.json", METADATA), ("config.json", description), *extra]
    return zipped(*members, ("model.weights.h5", weights), **how)


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


# How Keras stores a lambda. A lambda that really runs is in test_untrusted.py.
LAMBDA = {"class_name": "__lambda__", "config": {"code": "4wAAAA==", "defaults": None}}
DEEP = "[" * 900 + "]" * 900


def lookup(name, vocabulary):
    return layer(name, vocabulary=vocabulary)


def activated(by):
    return layer("Dense", units=2, activation=by)


CODE = "Python code that opening the file would run"
OWN = "not part of Keras and whose code is not in the file; build the model again from Keras layers"
NOT_ONE = "which is not one of Keras' activations and the like"
FUNCTIONS = [(name, module) for module, _, name in (path.rpartition(".") for path in (
    "os.system", "pickle.load", "keras.utils.get_file",
    "keras.config.enable_unsafe_deserialization", "keras.models.load_model",
    "keras.src.saving.saving_lib.load_model", "keras.src.utils.python_utils.func_load",
    "keras.src.backend.common.global_state.set_global_attribute", "keras.ops.while_loop",
))]  # fmt: skip
CLASSES = [(name, module) for module, _, name in (path.rpartition(".") for path in (
    "__main__.Own", "my_package.layers.Own", "keras_hub.models.Backbone", "tf_keras.layers.Dense",
    "keras.utils.FeatureSpace", "keras.src.layers.Dense", "kerasx.Dense", "keras.layers.Dense ",
))]  # fmt: skip
ATTACKS = [
    # CVE-2024-3660 and all that take up a Lambda: code as bytes
    ("Lambda", layer("Lambda", function=LAMBDA), CODE),
    ("Lambda by its module", layer("Lambda", "keras.src.layers.core.lambda_layer"), CODE),
    ("Lambda of no module", network({"class_name": "Lambda", "config": {}}), CODE),
    ("Lambda under a known name", network(described("Lambda", registered_name="Dense")), CODE),
    ("a lambda for activation", activated(LAMBDA), "a lambda function"),
    ("a lambda for dtype", layer("Dense", units=2, dtype=LAMBDA), "a lambda"),
    ("a lambda in a nested network", network(network(described("Lambda"))), CODE),
    ("a lambda in a wrapper", layer("TimeDistributed", layer=described("Lambda")), CODE),
    ("a lambda among arguments",
     network(described(inbound_nodes=[{"args": [LAMBDA], "kwargs": {}}])), "a lambda function"),
    ("a lambda to be built", network(described(build_config={"x": [[{"y": LAMBDA}]]})), "a lambda"),
    ("a lambda to be compiled with, in a nested network",
     network(network() | {"compile_config": {"loss": LAMBDA}}), "a lambda function"),
    # CVE-2025-1550 (any function of any module), CVE-2025-8747 and CVE-2025-9906 (Keras' own)
    *[(f"function {name} of {module}", activated(function(name, module)), NOT_ONE)
      for name, module in [*FUNCTIONS, (["system"], "os")]],
    ("exec", activated(function("exec", "builtins")), "exec"),
    ("subprocess", layer("Popen", "subprocess", args=["touch", "ran"]), OWN),
    ("os.system in Lambda", layer("Lambda", function=function("system", "os")), CODE),
    # CVE-2025-49655 and its like
    ("TorchModuleWrapper", network(described("TorchModuleWrapper", config={"module": "gAR="})),
     "a TorchModuleWrapper layer, which is a pickle"),
    ("TFSMLayer", layer("TFSMLayer", filepath="/tmp/x"), "opens another"),
    ("JaxLayer", layer("JaxLayer", call_fn=LAMBDA), CODE),
    ("FlaxLayer", layer("FlaxLayer"), CODE),
    # CVE-2025-12058: files read, or fetched, for a vocabulary
    ("StringLookup of a file", lookup("StringLookup", "/etc/passwd"),
     "a lookup layer that reads the file '/etc/passwd'; give it a list of words"),
    ("IntegerLookup of a file", lookup("IntegerLookup", "/etc/passwd"), "reads the file"),
    ("TextVectorization of a page", lookup("TextVectorization", "http://x.org/"), "reads the file"),
    ("a very long name of a vocabulary", lookup("StringLookup", "a\n" * 999), r"'a\\na\\n.*\.\.\."),
    ("a table of unknown words", layer("IntegerLookup", vocabulary=[1], num_oov_indices=10**9),
     "a table of 1,000,000,000 unknown words"),
    # classes that are not Keras' own
    *[(f"class {name} of {module}", network(described(name, module)), OWN)
      for name, module in [*CLASSES, ("Dense", ["keras.layers"])]],
    ("a class of the user's", network(described("Own", None, registered_name="Custom>Own")), OWN),
    ("a class of no module", network({"class_name": "Dense", "config": {"units": 2}}), OWN),
    ("a class whose name is a list", network(described(["Dense"])), r"a class called \['Dense'\]"),
    ("a type of TensorFlow's",
     network({"class_name": "__typespec__", "spec_name": "x", "module": "os", "config": []}), OWN),
    ("an escape sequence for a name", network(described("\x1b[2J", "x")), r"'\\x1b\[2J'"),
    # names that are paths, and operations that call functions
    ("a path for a name", layer("layers.Dense", "keras"), OWN),
    ("a path to a function", layer("config.set_epsilon", "keras"), OWN),
    *[(f"operation {name}", layer(name, "keras.src.ops.core"), OWN)
      for name in ("Cond", "Map", "Scan", "Switch", "WhileLoop")],
    # names of layers that are no names of files
    *[(f"a layer called {name!r}", network(described(config={"name": name})), "the name")
      for name in ("../x", "a/b", "a\\b", "..", "\x1b[2J", "a\nb", "x" * 201)],
    # constants
    *[(f"a constant of type {dtype}",
       layer("Rescaling", scale={
           "class_name": "__numpy__", "config": {"value": ["a"], "dtype": dtype}}),
       f"a constant of type '{dtype}', which is not one of numbers")
      for dtype in ("<U100000000", "str_", "bytes_", "object_", "U", "O", "void")],
    ("an operation on constants alone",
     network(described("Arange", "keras.src.ops.numpy", {},
                       inbound_nodes=[{"args": [0, 10**9], "kwargs": {}}])), "constants alone"),
]  # fmt: skip

CONFIGS = [
    ("config no JSON", b"{", "a config.json that is no JSON"),
    ("config deep", b"[" * 100_000, "a config.json that is no JSON, or nested too deep"),
    ("config of nothing", {}, "a config.json that describes no model"),
    ("config of weights", {"a": 1}, "a config.json that describes no model"),
    ("config deep and whole", f'{{"a": {DEEP}, "class_name": "Dense"}}'.encode(), "Dense|deep"),
    ("config of more bytes than any has", b" " * 4_000_001, "of more than 4,000,000 bytes"),
    (
        "config of very many classes",
        network(*(described("Own", registered_name=f"Own{i}") for i in range(101))),
        "101 classes or functions that are not",
    ),
]

ARCHIVES = [
    *[(f"file {name}", archive(extra=[(name, b"x")]), f"holds '{name[:7]}.*', which Keras never")
      for name in ("../evil.py", "/tmp/evil.py", "assets/../../x", "assets/..\\..\\x", "data.pkl",
                   "model.weights.npz")],
    ("two configs", archive(extra=[("config.json", b"{}")]), "2 files config.json, not one"),
    ("no config", archive(extra=[]).replace(b"config.json", b"Config.json"), "holds 'Config.json'"),
    ("no weights", archive().replace(b"model.weights.h5", b"assets/weights.5"), "0 files model.w"),
    ("files that overlap", archive(weights=hdf5(), change=_overlap), "overlap, as those of a bomb"),
    ("very many files", archive(extra=[(f"assets/{i}", b"") for i in range(1000)]), "1,003 files"),
    ("bomb",
     archive(weights=bytes(50_000_000), compression=zipfile.ZIP_DEFLATED), "grows from .* 50,000"),
    ("bomb among the assets",
     archive(extra=[("assets/x", bytes(50_000_000))], compression=zipfile.ZIP_DEFLATED),
     "'assets/x', which grows from"),
    ("a lie of its size", archive(change=_set(file_size=2**40)), "grows from .* 1,099,511,627,776"),
    *[(f"a lie of its {field}", archive(change=_set(**{field: value})), "damaged archive: .*" + why)
      for field, value, why in (("flag_bits", 1, "password"), ("compress_type", 99, "compression"),
                                ("CRC", 1, "Bad CRC"), ("header_offset", 10**6, ""))],
]  # fmt: skip

REFUSED_BY_KERAS = [
    ("no such layer", network(described("Dens")), "Dens"),
    ("no such activation", activated("no_such"), "no_such"),
    ("negative units", layer("Dense", units=-1), "units"),
    ("no such option", layer("Dense", units=2, evil=1), "evil"),
    ("other weights than it says", layer("Dense", units=3), ""),
    ("a layer of no network", described("Dense", config={"units": 2}), "could not|Dense"),
    ("a loss", described("MeanSquaredError", "keras.losses", {}), "could not|MeanSquaredError"),
]

# Other formats by their suffix.
SUFFIXES = [
    ("h5 HDF5", "an .h5 file of a whole model may run code when it is opened"),
    ("pkl joblib", "a pickle runs any code when it is opened"),
    ("pt safetensors", "build the PyTorch network again in Keras and set its weights"),
    ("pb onnx", "a compiled graph has no layers to explain"),
]

# Name, content, why it is refused, name of the file.
MODELS = [
    *[(name, archive(config), why) for name, config, why in ATTACKS + CONFIGS + REFUSED_BY_KERAS],
    *[(f"weights: {name}", archive(weights=w), why) for name, w, why in HDF5],
    *ARCHIVES,
    ("no archive", b"no archive", "which is not in that format"),
    ("SavedModel", FOLDER, 'a folder; where a SavedModel.* model.save\\("x.keras"\\)', "saved"),
    *[(f"model.{suffix}", pickle.dumps(Payload()), why, f"model.{suffix}")
      for suffixes, why in SUFFIXES for suffix in suffixes.split()],
]  # fmt: skip

# Published attacks as whole files. What they reach for is harmless: a file "ran" in the working
# directory, a port where nobody listens, /etc/passwd.


def _marshalled():
    """A lambda as Keras stores it, which makes a file "ran"."""
    code = marshal.dumps((lambda x: (open("ran", "w").close(), x)[1]).__code__)
    text = base64.b64encode(code).decode()
    return {"class_name": "__lambda__", "config": {"code": text, "defaults": None, "closure": None}}


def _called(name, module, *given):
    return function(name, module) | {"name": "x", "inbound_nodes": [{"args": given, "kwargs": {}}]}


def _whole_model(file):
    file.attrs["keras_version"] = METADATA["keras_version"]
    file.attrs["model_config"] = json.dumps(network(CODE_LAYER))
    file.create_group("model_weights")


def _zeros(file):
    file[BIAS] = np.zeros(5_000_000)


CODE_LAYER = described("Lambda", config={"function": _marshalled()})
PICKLE_LAYER = described(
    "TorchModuleWrapper", config={"module": base64.b64encode(pickle.dumps(Payload())).decode()}
)
UNSAFE = _called("enable_unsafe_deserialization", "keras.config")
TEXTS = {"class_name": "__numpy__", "config": {"value": ["a"], "dtype": "<U100000000"}}
ARANGE = described(
    "Arange", "keras.src.ops.numpy", {}, inbound_nodes=[{"args": [0, 10**9], "kwargs": {}}]
)
# What it is, the file's suffix, its content, why it is refused. A function's arguments are refused
# before the function is looked at; FUNCTIONS have none.
PUBLISHED = [
    ("CVE-2024-3660, CVE-2026-12481: a Lambda", ".keras", archive(network(CODE_LAYER)), CODE),
    ("CVE-2025-1550: a function of os", ".keras",
     archive(network(_called("system", "os", "touch ran"))), "constants alone"),
    ("CVE-2025-8747: a download by Keras", ".keras",
     archive(network(_called("get_file", "keras.utils", "ran", "http://127.0.0.1:9/"))),
     "constants alone"),
    ("CVE-2025-9905: a Lambda in an .h5 model", ".h5", hdf5(_whole_model), "a whole model"),
    ("CVE-2025-9906: safe mode off, then a Lambda", ".keras",
     archive(network(UNSAFE, CODE_LAYER)), CODE),
    ("CVE-2025-9906: safe mode off", ".keras", archive(network(UNSAFE)), "constants alone"),
    ("CVE-2025-12058: a vocabulary in a file", ".keras",
     archive(lookup("StringLookup", "/etc/passwd")), "reads the file"),
    ("CVE-2025-12058: a vocabulary at an address", ".keras",
     archive(lookup("StringLookup", "http://127.0.0.1:9/")), "reads the file"),
    ("CVE-2025-49655, CVE-2026-12484: a pickle", ".keras",
     archive(network(PICKLE_LAYER)), "which is a pickle"),
    ("CVE-2026-0897, CVE-2026-12570: 4 TB of weights", ".keras",
     archive(weights=hdf5(_bomb)), "as a bomb does"),
    ("CVE-2026-0897, CVE-2026-12570: 4 TB of weights", ".weights.h5", hdf5(_bomb),
     "as a bomb does"),
    ("CVE-2026-1462: a TFSMLayer", ".keras",
     archive(network(described("TFSMLayer", config={"filepath": "/tmp/x"}))), "opens another"),
    ("CVE-2026-1669: numbers in another file", ".keras",
     archive(weights=hdf5(_external_data)), "are in another file"),
    ("CVE-2026-1669: numbers in another file", ".weights.h5",
     hdf5(_external_data), "are in another file"),
    ("CVE-2026-9335: a link to another file", ".weights.h5",
     hdf5(lambda f: f.__setitem__(BIAS, h5py.ExternalLink("/tmp/x.h5", "/"))), "a link at"),
    ("CVE-2026-12479: a path for a layer's name", ".keras",
     archive(network(described(config={"units": 2, "name": "../../ran"}))), "the name"),
    ("CVE-2026-12480: numbers of another HDF5 file", ".keras",
     archive(weights=hdf5(_virtual_data)), "are in another file"),
    ("CVE-2026-12480: numbers of another HDF5 file", ".weights.h5",
     hdf5(_virtual_data), "are in another file"),
    ("GHSA-hqp4-2352-xf5r: a path in the archive", ".keras",
     archive(extra=[("../../ran", b"")]), "which Keras never writes"),
    ("an archive that grows by a thousand", ".keras",
     archive(weights=hdf5(_zeros), compression=zipfile.ZIP_DEFLATED), "as a bomb does"),
    ("allocation: a `__numpy__` text of 400 MB", ".keras",
     archive(network(described("Rescaling", config={"scale": TEXTS}))), "not one of numbers"),
    ("allocation: a billion numbers at once", ".keras",
     archive(network(ARANGE)), "constants alone"),
]  # fmt: skip


# Descriptions of nearly the largest size that is read, costly to look at: objects without anything
# in them; as many arguments of an operation that is in the arguments of another, and so on.
EMPTY = b"[" + b"{}," * 1_320_000 + b"{}]"
NODE = b'{"inbound_nodes": [{"b": {"class_name": "__keras_tensor__"}, "a": '
COSTLY = [
    b'{"class_name": "Sequential", "module": "keras", "config": ' + content + b"}"
    for content in (EMPTY, NODE * 300 + EMPTY + b"}]}" * 300)
]


# Studies.


def toml(key, value):
    return f'name = "a"\n{key} = {value}\n'.encode()


NEVER = ("nan", "-inf", "[nan]", "[[0.1]]", "1979-05-27")
STUDIES = [
    ("a key twice", b"seed = 1\nseed = 2", "a study file in TOML"),
    ("a bad key after the mark of an editor", b"\xef\xbb\xbfnme = 'x'", "Nearest: name"),
    ("a huge whole number", toml("seed", "9" * 5000), "a study file in TOML|2\\^32"),
    ("an unknown key", toml("nam", 1), "Nearest: name"),
    ("an unknown table", b"[a.b.c]\nd = 1", "Expected keys out of"),
    ("a key of control characters", b'"\\u001b[2J" = 1', "Expected keys out of"),
    *[(f"name {name!r}", f"name = {json.dumps(name)}".encode(), "Expected name as")
      for name in ("", ".", "..", "x" * 201, *(f"a{c}b" for c in "/\\\0\n<>[]|*`\x1b"))],
    # Of every key, what it can't be.
    *[(f"{key} {value}", f"{key} = {value}".encode(), f"Expected ({key} as|a network out of)")
      for key in (field.name for field in dataclasses.fields(settings.Study)) for value in NEVER],
    *[(f"{key} {value}", toml(key, value), f"Expected {key} as")
      for key, value in (("photos", '""'), ("classes", "1e400"), ("seed", "-1"),
                         ("seed", "4294967296"), ("seed", '"0"'), ("batch_size", 0),
                         ("batch_size", "true"), ("image_size", "224.5"), ("epsilons", "[inf]"),
                         ("epsilons", "{}"), ("split", "[1, nan, 0]"), ("arms", '["evil"]'),
                         ("networks", "[]"), ("margin", "inf"), ("layers", "[]"),
                         ("readings", "[]"), ("threads", "0x0"), ("photos", 1), ("weights", "[]"))],
]  # fmt: skip


# Arrays.


def npy(array, **how):
    return _written(lambda buffer: np.save(buffer, array, **how))


def npz(**arrays):
    return _written(lambda buffer: np.savez(buffer, **arrays))


def header(text, version=b"\x01\x00"):
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text.encode() + bytes(80)


def shaped(shape, kind):
    return header(f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}\n")


HOSTILE = np.array([Payload()], object)
ARRAYS = [
    ("no numbers", npy(np.ones(9))[:128], ""),
    ("of a version to come", header("{}", b"\x09\x00"), "version|header"),
    ("header of code", header("__import__('os').system('touch ran')\n"), "malformed"),
    ("header of brackets", header("(" * 5000), ""),
    *[(f"header {text[:20]}", header(text), "header")
      for text in ("[]\n", "{'descr': '<f4'}\n", " " * 60_000)],
    # No such type; Python objects; numbers that come round to none; more than are there; and so on.
    *[(f"{shape} of {kind}", shaped(shape, kind), why) for shape, kind, why in (
        ("(1,)", "'<q99'", ""), ("(1,)", "'|O'", "Python objects|pickle"),
        ("(4611686018427387904, 4)", "'|u1'", ""), ("(9223372036854775807, 9)", "'<f4'", ""),
        ("(1000000000000,)", "'<f4'", ""), ("(-1,)", "'<f4'", ""), ("('a',)", "'<f4'", "shape"))],
    ("an archive", npz(a=np.ones(3)), "an archive"),
]  # fmt: skip
ARCHIVES_OF_ARRAYS = [
    ("one array", npy(np.ones(3)), "one array"),
    ("of objects", zipped(("a.npy", npy(HOSTILE, allow_pickle=True))), "pickle"),
    ("of a pickle", zipped(("a.npy", pickle.dumps(Payload()))), "another kind of file|pickle"),
    ("of damaged numbers", npz(a=np.ones(99)).replace(b"\x3f", b"\x3e", 40), "CRC"),
]


# Tables.

TABLES = [
    ("blank lines", b"\n\n \n", "No columns|header"),
    ("one row too long", b"a,b\n1,2\n1,2,3\n", "tokeniz"),
    ("all rows too long", b"a,b\n1,2,3\n4,5,6\n", "does not match"),
    ("an open quotation", b'a,b\n1,"2\n3,4\n', "EOF inside string"),
    ("an open quotation in the header", b'a,"b\n1,2\n', "EOF inside string"),
    ("a huge quotation", b'"' + b"x" * 300_000, "EOF|no header"),
]


# Manifests of a run, of its report, and of a task.

RUN = {
    "study": {"name": "a", "networks": ["vgg16"], "source": "vgg16"},
    "weights": {"vgg16": {"origin": "random", "sha256": None}},
    "tasks": {"report": "report/0"},
}
TASK = {"task": "x", "seconds": 1.5, "needs": {}, "files": {}}
FACTS = {"size": 4, "mtime_ns": 0, "sha256": "x"}
TABLE = b"photo\n"
IN_REPORT = "../../tables/plain/predictions.csv"
OF_TABLE = {"size": len(TABLE), "mtime_ns": 0, "sha256": hashlib.sha256(TABLE).hexdigest()}


def _changed(good, key, values):
    return [(f"{key} {value!r}", good | {key: value}, "") for value in values]


RUNS = [
    ("nothing", {}, ""),
    *[case for key in RUN for case in _changed(RUN, key, ([], None, "x", {}))],
    *_changed(RUN, "study", [{"name": [], "networks": {}}, RUN["study"] | {"name": "../../x"}]),
    *_changed(RUN, "weights", [{"vgg16": []}]),
    *_changed(RUN, "tasks", [{"report": name} for name in ("../../elsewhere", 1, "\0")]),
]
REPORTS = _changed({}, "files", [
    *([], 1, "x"),
    *({IN_REPORT: facts} for facts in (1, {}, {"size": "x", "sha256": 1})),
])  # fmt: skip
TASKS = [
    *_changed(TASK, "files", [
        *([], None, "x", 1, {"a\0": FACTS}),
        *({"a": facts} for facts in (1, None, {}, FACTS | {"size": "1"}, FACTS | {"sha256": None})),
    ]),
    *_changed(TASK, "seconds", ["x", None, [], {}]),
    *_changed(TASK, "needs", [[], None, "x", 1]),
    *[(f"no {key}", {k: v for k, v in TASK.items() if k != key}, "")
      for key in ("files", "seconds", "needs")],
]  # fmt: skip


# A good file of every kind, and what no kind of file may be.

GOOD = {
    "weights": hdf5(),
    "model": archive(),
    "weights of a model": hdf5(),
    "description of a model": json.dumps(network(described())).encode(),
    "study": b'name = "a"\nseed = 3\nepsilons = [0.1, 0.2]\n[readings]\nvid_levels = "all"\n',
    "array": npy(np.arange(12.0).reshape(3, 4)),
    "archive of arrays": npz(a=np.arange(12.0), b=np.ones(3)),
    "table": b'photo,psnr,note\n"a,b",1.5,\nc,2,x\n',
    "JSON": b'{"a": [1, {"b": null}], "c": "d"}',
    "run": json.dumps(RUN).encode(),
    "report": json.dumps({"files": {IN_REPORT: OF_TABLE}}).encode(),
    "task": json.dumps(TASK | {"files": {"a": FACTS}}).encode(),
    "journal": b'{"about": {"task": "x"}}\n{"writing": "a"}\n',
}
DAMAGE = {
    "empty": b"",
    "pickle": pickle.dumps(Payload()),
    "objects": npy(HOSTILE, allow_pickle=True),
    "archive of objects": zipped(("a.npy", npy(HOSTILE, allow_pickle=True))),
    "archive of a pickle": zipped(("data.pkl", pickle.dumps(Payload()))),
    "archive cut off": b"PK\x03\x04" + bytes(90),
    "picture": b"\x89PNG\r\n\x1a\n" + bytes(99),
    "gzip": gzip.compress(GOOD["table"]),
    "HTML": b"<!DOCTYPE html>",
    "NUL": bytes(500),
    "NUL in text": b'name = "\0"',
    "binary": bytes(range(256)) * 4,
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "no UTF-8": b'{"class_name": "\xff"}',
    "one huge line": b"x" * 3_000_000,
    "JSON list": b"[]",
    "JSON number": b"1",
    "JSON text": b'"a"',
    "JSON null": b"null",
    "two JSON objects": b"{}{}",
    "huge number": b'{"a": ' + b"9" * 5000 + b"}",
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "deep objects, whole": b'{"a":' * 500 + b"1" + b"}" * 500,
    "deep lists in TOML": b"a = " + b"[" * 5000,
    "deep tables in TOML": b"a = " + b"{b=" * 5000,
    "pipe": FIFO,
    "folder": FOLDER,
}
# These are tables of one column, and an empty study has all defaults.
TEXTS = {"HTML", "JSON list", "JSON number", "JSON text", "JSON null", "two JSON objects"}
HARMLESS = {("study", "empty"), *(("table", name) for name in TEXTS)}
# Cut off, text is still text.
TEXT_KINDS = ("study", "table", "journal")
OTHERS = ("weights", "model", "array", "archive of arrays", "study", "table")


def damages(kind):
    """What a kind of file may not be, by name: DAMAGE, other kinds' bytes, and its own cut off."""
    good = GOOD[kind]
    yield from ((name, content) for name, content in DAMAGE.items() if (kind, name) not in HARMLESS)
    yield from ((other, GOOD[other]) for other in OTHERS if GOOD[other] != good)
    if kind not in TEXT_KINDS:
        places = [*range(1, 10), len(good) // 2, len(good) - 30, len(good) - 1]
        yield from ((f"cut off at {end}", good[:end]) for end in sorted({*places}) if end > 0)
