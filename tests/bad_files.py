"""Damaged and hostile files as bytes, by kind; test_bad_inputs.py opens them.

A case is a name, the file's content, and a pattern for the reason why it is refused.
"""

import io
import json
import os
import pickle
import struct
import zipfile

import h5py
import numpy as np

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


# HDF5 files, some with links to other files.


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
    ("bomb", hdf5(_bomb), "'/layers/x', which grows from [0-9,]+ to 4,398,046,511,104 bytes"),
    ("no HDF5", b"no weights at all", "damaged"),
    ("empty", b"", "damaged"),
    ("truncated", hdf5()[:-500], "damaged"),
    ("signature alone", hdf5()[:8], "damaged"),
]

WEIGHTS = [
    *HDF5,
    (
        "whole model",
        hdf5(lambda f: f.attrs.__setitem__("model_config", '{"class_name": "Lambda"}')),
        'a whole model.* may hold code; where it was made, model.save_weights\\("x.weights.h5"\\)',
    ),
    ("whole model by its group", hdf5(lambda f: f.create_group("model_weights")), "a whole model"),
    ("pickle", pickle.dumps(Payload()), "damaged"),
    ("archive", b"PK\x03\x04" + bytes(40), "damaged"),
    ("address beyond all numbers", hdf5()[:40] + b"\xff" * 8 + hdf5()[48:], "damaged"),
]


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


# How Keras stores a lambda. A lambda that really runs is in test_untrusted.py.
LAMBDA = {"class_name": "__lambda__", "config": {"code": "4wAAAA==", "defaults": None}}
DEEP = "[" * 900 + "]" * 900


def lookup(name, vocabulary):
    return network(described(name, config={"vocabulary": vocabulary}))


def activated(by):
    return network(described(config={"units": 2, "activation": by}))


CODE = "Python code that opening the file would run"
OWN = "not part of Keras and whose code is not in the file; build the model again from Keras layers"
NOT_ONE = "which is not one of Keras' activations and the like"
FUNCTIONS = [
    ("system", "os"),
    (["system"], "os"),
    ("load", "pickle"),
    ("get_file", "keras.utils"),
    ("enable_unsafe_deserialization", "keras.config"),
    ("load_model", "keras.models"),
    ("load_model", "keras.src.saving.saving_lib"),
    ("func_load", "keras.src.utils.python_utils"),
    ("set_global_attribute", "keras.src.backend.common.global_state"),
    ("while_loop", "keras.ops"),
]
CLASSES = [
    ("Own", "__main__"),
    ("Own", "my_package.layers"),
    ("Backbone", "keras_hub.models"),
    ("Dense", "tf_keras.layers"),
    ("FeatureSpace", "keras.utils"),
    ("Dense", "keras.src.layers"),
    ("Dense", "kerasx"),
    ("Dense", ["keras.layers"]),
]
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
    # CVE-2025-1550 (any function of any module), CVE-2025-8747 and CVE-2025-9906 (Keras' own)
    *[(f"function {name} of {module}", activated(function(name, module)), NOT_ONE)
      for name, module in FUNCTIONS],
    ("exec", activated(function("exec", "builtins")), "exec"),
    ("subprocess", network(described("Popen", "subprocess", {"args": ["touch", "ran"]})), OWN),
    ("os.system in Lambda",
     network(described("Lambda", config={"function": function("system", "os")})), CODE),
    # CVE-2025-49655 and its like
    ("TorchModuleWrapper", network(described("TorchModuleWrapper", config={"module": "gAR="})),
     "a TorchModuleWrapper layer, which is a pickle"),
    ("TFSMLayer", network(described("TFSMLayer", config={"filepath": "/tmp/x"})), "opens another"),
    ("JaxLayer", network(described("JaxLayer", config={"call_fn": LAMBDA})), CODE),
    ("FlaxLayer", network(described("FlaxLayer")), CODE),
    # CVE-2025-12058: files read, or fetched, for a vocabulary
    ("StringLookup of a file", lookup("StringLookup", "/etc/passwd"),
     "a lookup layer that reads the file '/etc/passwd'; give it a list of words"),
    ("IntegerLookup of a file", lookup("IntegerLookup", "/etc/passwd"), "reads the file"),
    ("TextVectorization of a page", lookup("TextVectorization", "http://x.org/"), "reads the file"),
    ("a very long name of a vocabulary", lookup("StringLookup", "a\n" * 999), r"'a\\na\\n.*\.\.\."),
    # classes that are not Keras' own
    *[(f"class {name} of {module}", network(described(name, module)), OWN)
      for name, module in CLASSES],
    ("a class of the user's", network(described("Own", None, registered_name="Custom>Own")), OWN),
    ("a class of no module", network({"class_name": "Dense", "config": {"units": 2}}), OWN),
    ("a class whose name is a list", network(described(["Dense"])), r"a class called \['Dense'\]"),
    ("a type of TensorFlow's",
     network({"class_name": "__typespec__", "spec_name": "x", "module": "os", "config": []}), OWN),
    ("an escape sequence for a name", network(described("\x1b[2J", "x")), r"'\\x1b\[2J'"),
    # names that are paths, and operations that call functions
    ("a path for a name", network(described("layers.Dense", "keras")), OWN),
    ("a path to a function", network(described("config.set_epsilon", "keras", {})), OWN),
    *[(f"operation {name}", network(described(name, "keras.src.ops.core", {})), OWN)
      for name in ("Cond", "Map", "Scan", "Switch", "WhileLoop")],
    # names of layers that are no names of files
    *[(f"a layer called {name!r}", network(described(config={"name": name})), "the name")
      for name in ("../x", "a/b", "a\\b", "..", "\x1b[2J", "a\nb", "x" * 201)],
    # constants
    *[(f"a constant of type {dtype}",
       network(described("Rescaling", config={"scale": {
           "class_name": "__numpy__", "config": {"value": ["a"], "dtype": dtype}}})),
       f"a constant of type '{dtype}', which is not one of numbers")
      for dtype in ("<U100000000", "str_", "bytes_", "object_", "U", "O", "void")],
    ("an operation on constants alone",
     network(described("Arange", "keras.src.ops.numpy", {},
                       inbound_nodes=[{"args": [0, 10**9], "kwargs": {}}])), "constants alone"),
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
    ("config deep", b"[" * 100_000, "nested too deep"),
    ("config deep and whole", f'{{"a": {DEEP}, "class_name": "Dense"}}'.encode(), "Dense|deep"),
    ("config of a huge number", b'{"class_name": ' + b"9" * 5000 + b"}", "that is no JSON"),
    ("config of more bytes than any has", b" " * 8_000_001, "of more than 8,000,000 bytes"),
]

ARCHIVES = [
    ("name above", archive(extra=[("../evil.py", b"x")]), "holds '../evil.py', which Keras never"),
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
     "'assets/x', which grows from"),
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
    ("model.pt", archive(), "build the PyTorch network again in Keras and set its weights"),
    ("model.safetensors", b"x", "build the PyTorch network"),
    ("saved_model.pb", b"x", "a compiled graph has no layers to explain"),
    ("model.onnx", b"x", "a compiled graph has no layers"),
]

# Name, content, why it is refused, name of the file.
MODELS = [
    *[(name, archive(config), why) for name, config, why in ATTACKS + CONFIGS + REFUSED_BY_KERAS],
    *[(f"weights: {name}", archive(weights=w), why) for name, w, why in HDF5 if w],
    *ARCHIVES,
    *[(f"{i} {name}", content, why, name) for i, (name, content, why) in enumerate(FILES)],
]

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


# JSON.

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
    ("nested too deep", b'{"a":' * 100_000, "nested too deep"),
    ("lists nested too deep", b"[" * 100_000, "nested too deep"),
    ("a huge number", b'{"a": ' + b"9" * 5000 + b"}", "4300 digits"),
    ("two objects", b"{}{}", "Extra data"),
    ("a pipe", FIFO, "no regular file"),
]
