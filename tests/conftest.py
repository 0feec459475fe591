"""Small seeded networks and folders of photos that the tests share."""

from __future__ import annotations

import contextlib
import gc
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import click.testing
import hypothesis
import keras
import numpy as np
import pytest
from PIL import Image

from gradcam_adv.app.cli import main
from gradcam_adv.data import photos
from gradcam_adv.models import weights

CLASSES = 5
SIZE = 24

# What is imported stays, and is not looked through for garbage, which takes a quarter of a second.
gc.collect()
gc.freeze()

# A busy machine says nothing about the code.
hypothesis.settings.register_profile("any time", deadline=None)
hypothesis.settings.load_profile("any time")


@pytest.fixture(scope="session")
def small_cnn() -> keras.Model:
    """Convolutions, batch norm with statistics of its own, pooling, and a dense head of logits."""
    keras.utils.set_random_seed(7)
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", name="conv_a")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.ReLU(name="relu_a")(x)
    x = keras.layers.MaxPooling2D(name="pool")(x)
    x = keras.layers.Conv2D(12, 3, padding="same", name="conv_b")(x)
    x = keras.layers.ReLU(name="relu_b")(x)
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    model = keras.Model(inputs, keras.layers.Dense(CLASSES, name="logits")(x))
    rng = np.random.default_rng(3)
    norm = model.get_layer("norm")
    norm.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in norm.get_weights()])
    return model


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    return np.random.default_rng(0).random((11, SIZE, SIZE, 3), dtype=np.float32)


@pytest.fixture(scope="session")
def labels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, CLASSES, 11)


def write_photo(path: Path, seed: int, size: tuple[int, int] = (40, 48)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)


def read_photo(path: Path) -> tuple[Image.Image, str]:
    """A photo and its note, as the package reads them."""
    with photos.opened(path) as found:
        return found


@pytest.fixture
def photo_folder(tmp_path: Path) -> Path:
    """Three people with ten photos each, all different."""
    root = tmp_path / "people"
    for person, name in enumerate(("ann", "bob", "cem")):
        for number in range(10):
            write_photo(root / name / f"{number}.png", 100 * person + number)
    return root


# What TensorFlow prints when it starts; commands hide it.
NOTICE = re.compile(r"WARNING: All log messages before absl|[IWE]0000 ")


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``gradcam-adv`` in ``folder`` as a user would."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [str(Path(sys.executable).parent / "gradcam-adv"), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def command_here(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The same in this process, which spares its start: for commands that run no network."""
    with contextlib.chdir(folder):
        done = click.testing.CliRunner().invoke(main, arguments)
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


@pytest.fixture
def weights_server(tmp_path, monkeypatch):
    """A local server of weights, and an empty Keras cache: its folder, address and requests."""
    served = tmp_path / "served"
    served.mkdir()
    requests = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(served))

        def log_message(self, *args):
            requests.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    (tmp_path / "keras").mkdir()
    weights._problems.clear()
    yield served, f"http://127.0.0.1:{server.server_port}", requests
    server.shutdown()
    server.server_close()
    weights._problems.clear()


@pytest.fixture(scope="session")
def chromium():
    """A headless browser. Without one the test is skipped, or fails if one is required."""
    path = shutil.which("chromium")
    if path is None:
        reason = "no chromium on the PATH, so the report page is not opened in a browser"
        if os.environ.get("GRADCAM_ADV_NEEDS_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    # Chromium's sandbox refuses to run as root.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()
