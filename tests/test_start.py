"""The start of commands: what is imported for help, and what TensorFlow prints."""

import os
import subprocess
import sys

import pytest
from conftest import NOTICE, command

# It writes as C++ does, to the file descriptor, and then ends without asking Python.
PRETENDED = r"""
import os
for line in (
    b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n",
    b"I0000 00:00:1796020361.500078   26219 port.cc:153] oneDNN custom operations are on.\n",
    b"E0000 00:00:1796020361.500078   26219 cuda.cc:52] failed call to cuInit\n",
    b"this processor lacks AVX\n",
    b"F0000 00:00:1796020361.500078   26219 cpu.cc:1] the end\n",
):
    os.write(2, line)
"""
HIDING = "from gradcam_adv.app import notices; notices.hide(); import tensorflow; "


def importing(folder, then, **environment):
    """stderr of a Python that imports the pretended TensorFlow, and then runs ``then``."""
    paths = [str(folder), *sys.path]
    variables = {name: os.environ[name] for name in os.environ if name != "TF_CPP_MIN_LOG_LEVEL"}
    variables |= {"PYTHONPATH": os.pathsep.join(paths), **environment}
    code = [sys.executable, "-c", HIDING + then]
    return subprocess.run(code, env=variables, capture_output=True, text=True, check=False).stderr


@pytest.fixture
def pretended(tmp_path):
    (tmp_path / "tensorflow.py").write_text(PRETENDED)
    return tmp_path


def test_notices_are_hidden_and_all_else_is_printed(pretended):
    then = "import os; os.write(2, b'I0000 later\\n'); raise ValueError('of ours')"
    first, second, later, *reported = importing(pretended, then).splitlines()
    assert first == "this processor lacks AVX"
    assert second.startswith("F0000")
    assert later == "I0000 later"  # the descriptor is as it was
    assert reported[-1] == "ValueError: of ours"


def test_what_is_written_before_an_abort_is_printed(pretended):
    (pretended / "tensorflow.py").write_text(PRETENDED + "os.abort()")
    said = importing(pretended, "").splitlines()
    assert [line[:5] for line in said] == ["this ", "F0000"]


def test_an_import_that_fails_says_why(pretended):
    (pretended / "tensorflow.py").write_text(PRETENDED + "raise ImportError('no such library')")
    assert importing(pretended, "").splitlines()[-1] == "ImportError: no such library"


def test_a_level_that_the_user_set_is_kept(pretended):
    then = "import os, sys; print(os.environ['TF_CPP_MIN_LOG_LEVEL'], file=sys.stderr)"
    *lines, level = importing(pretended, then, TF_CPP_MIN_LOG_LEVEL="0").splitlines()
    assert (len(lines), level) == (5, "0")


def test_the_library_sets_no_variable():
    code = "import os; before = dict(os.environ); import gradcam_adv; assert before == os.environ"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_plans_a_study_imports_no_keras():
    code = (
        "import sys, gradcam_adv.app.pipeline; "
        "assert not {'keras', 'tensorflow', 'torch', 'jax'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_keras_is_imported_without_what_it_only_offers_to_others(tmp_path):
    tried = "try:\n    import {0}\n    found += ['{0}']\nexcept ImportError: pass\n"
    names = ("sklearn", "IPython", "json")
    (tmp_path / "keras.py").write_text("found = []\n" + "".join(map(tried.format, names)))
    code = (
        "from gradcam_adv.app import imports; imports.quicken_keras(); import keras, sys; "
        "assert 'sklearn' not in sys.modules; import sklearn; print(keras.found)"
    )
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "['json']\n"


@pytest.mark.tensorflow
def test_a_command_prints_no_notices_and_imports_no_more_than_it_needs(
    small_cnn, tmp_path, monkeypatch
):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    small_cnn.save(tmp_path / "small.keras")
    result = command(tmp_path, "layers", "small.keras")
    assert result.returncode == 0
    lines = result.stderr.splitlines()
    modules = {line.split("|")[-1].strip() for line in lines if line.startswith("import time:")}
    assert "keras.src.saving" in modules
    # Of packages that are not found the names alone are listed.
    assert modules & {"sklearn.utils", "matplotlib.colors", "IPython.core", "numba.core"} == set()
    said = [line for line in lines if not line.startswith("import time:")]
    assert not [line for line in said if NOTICE.match(line)]
    assert said[0].startswith("pixels ")
