"""The notebooks: each .ipynb has the cells of its .py and the outputs of a whole run."""

import ast
import base64
import io
import re
from pathlib import Path

import jupytext
import nbformat
import pytest
from PIL import Image

TOP = Path(__file__).parent.parent
NOTEBOOKS = sorted((TOP / "notebooks").glob("*.py"))
# The paper's tables as data: a module that is public as a whole.
PRINTED = "gradcam_adv.paper.printed"
# Absolute paths, on Windows too, and addresses in memory: they differ from machine to machine.
OF_A_MACHINE = re.compile(r"(?<![\w.:/<])/\w[\w.-]*/|\b[A-Za-z]:\\|\b0x[0-9a-f]{6,}")
MEGABYTE = 1_000_000

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def executed(path: Path) -> nbformat.NotebookNode:
    """The .ipynb of a pair."""
    return nbformat.read(path.with_suffix(".ipynb"), as_version=4)


def cells(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def code(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in executed(path).cells if cell.cell_type == "code"]


def outputs(path: Path) -> list[nbformat.NotebookNode]:
    return [output for cell in code(path) for output in cell.outputs]


def pictures(cell: nbformat.NotebookNode) -> list[Image.Image]:
    found = []
    for output in cell.outputs:
        for kind, data in output.get("data", {}).items():
            if kind.startswith("image/"):
                found.append(Image.open(io.BytesIO(base64.b64decode(data))))
    return found


def test_there_are_six_pairs():
    assert [path.stem[:3] for path in NOTEBOOKS] == ["01_", "02_", "03_", "04_", "05_", "06_"]
    assert [path.with_suffix(".ipynb") for path in NOTEBOOKS] == sorted(
        (TOP / "notebooks").glob("*.ipynb")
    )


@each
def test_both_files_have_the_same_cells(path):
    assert cells(executed(path)) == cells(jupytext.read(path)), "`make notebooks` runs it again"


def test_a_changed_cell_is_noticed():
    path = NOTEBOOKS[0]
    changed = jupytext.reads(path.read_text().replace("SIZE = ", "SIZE = 2 * "), "py:percent")
    assert cells(executed(path)) != cells(changed)


@each
def test_it_was_run_once_from_top_to_bottom(path):
    counts = [cell.execution_count for cell in code(path)]
    assert counts == list(range(1, len(counts) + 1))


@each
def test_outputs_have_no_errors_and_no_notices(path):
    assert outputs(path)
    for output in outputs(path):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text


@each
def test_every_picture_is_there_and_small(path):
    drawing = [
        c for c in executed(path).cells if c.cell_type == "code" and "plt.show()" in c.source
    ]
    assert drawing
    for cell in drawing:
        (picture,) = pictures(cell)
        picture.load()
        assert max(picture.size) <= 1300


@each
def test_the_file_is_small(path):
    assert path.with_suffix(".ipynb").stat().st_size < MEGABYTE


@each
def test_nothing_in_it_is_of_one_machine(path):
    notebook = executed(path)
    assert notebook.metadata.kernelspec.name == "python3"
    assert not any("execution" in cell.metadata for cell in notebook.cells)  # times
    texts = [str(notebook.metadata), *(source for _, source in cells(notebook))]
    for output in outputs(path):
        shown = output.get("data", {}).items()
        texts += [output.get("text", "")]
        texts += [data for kind, data in shown if not kind.startswith("image/")]
    assert [found for text in texts for found in OF_A_MACHINE.findall(text)] == []


@pytest.mark.parametrize(
    "text", ["in /tmp/x.keras", "'/home/ann/x'", r"C:\Users\ann", "<Axes at 0x7f3a12345678>"]
)
def test_a_text_of_one_machine_is_noticed(text):
    assert OF_A_MACHINE.search(text)


@pytest.mark.parametrize("text", ["mine.keras", "face_base/conv1", "1/2", "<b>a</b>", "path/to/x"])
def test_other_texts_may_be_there(text):
    assert not OF_A_MACHINE.search(text)


@each
def test_it_begins_with_a_title_and_ends_with_what_to_try(path):
    prose = [source for kind, source in cells(jupytext.read(path)) if kind == "markdown"]
    assert prose[0].startswith("# ")
    assert sum(line.startswith("# ") for text in prose for line in text.splitlines()) == 1
    assert "## What to try next\n\n- " in prose[-1]


@pytest.mark.slow
@each
def test_it_runs(path, tmp_path):
    from nbclient import NotebookClient

    notebook = jupytext.read(path)
    NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=600,
        resources={"metadata": {"path": str(tmp_path)}},
        extra_arguments=["--IPKernelApp.capture_fd_output=False"],
    ).execute()
    assert cells(notebook) == cells(executed(path))


def public(package: Path) -> set[str]:
    """What the ``__all__`` of a package lists; of its stub, if names are imported lazily."""
    for file in (package / "__init__.pyi", package / "__init__.py"):
        for node in ast.parse(file.read_text()).body if file.exists() else ():
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                return set(ast.literal_eval(node.value))
    return set()


PUBLIC = {
    ".".join(file.parent.relative_to(TOP).parts): names
    for file in (TOP / "gradcam_adv").rglob("__init__.py")
    if (names := public(file.parent))
}


def used(source: str) -> list[str]:
    """Every name of this package that a program asks for, with its module before it."""
    names = []
    modules = {}  # by the name that the program has for it
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                if top == "gradcam_adv":
                    modules[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gradcam_adv"):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if name in (PRINTED, *PUBLIC):
                    modules[alias.asname or alias.name] = name
                else:
                    names.append(name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            first, *rest = ast.unparse(node.value).split(".")
            module = ".".join([modules.get(first, ""), *rest])
            if module in (PRINTED, *PUBLIC):
                names.append(f"{module}.{node.attr}")
    return names


def is_public(name: str) -> bool:
    module, _, last = name.rpartition(".")
    if module == PRINTED:
        return not last.startswith("_")
    return name in PUBLIC or last in PUBLIC.get(module, ())


@each
def test_it_uses_public_names_only(path):
    names = used(path.read_text())
    assert names
    assert [name for name in names if not is_public(name)] == []


@pytest.mark.parametrize(
    "source",
    [
        "from gradcam_adv.explain import gradcam",
        "from gradcam_adv.explain.gradcam import GradCAM",
        "from gradcam_adv.models import backbones",
        "import gradcam_adv\ngradcam_adv.explain.gradcam.compile_sums(graph)",
        "import gradcam_adv.models as m\nm.training.train_head()",
        "from gradcam_adv import models\nmodels.weights",
        "from gradcam_adv import metrics\nmetrics.mod_vid.mod",
        "from gradcam_adv.paper import judge",
        "from gradcam_adv.paper import printed\nprinted._x",
        "from gradcam_adv.paper.printed import _x",
    ],
)
def test_a_private_name_is_noticed(source):
    assert not all(map(is_public, used(source)))


@pytest.mark.parametrize(
    "source",
    [
        "from gradcam_adv import GradCAM",
        "import gradcam_adv\ngradcam_adv.metrics.mod([0.5])",
        "from gradcam_adv import metrics\nmetrics.region_shift",
        "from gradcam_adv.paper import printed\nprinted.TABLE_1",
    ],
)
def test_a_public_name_is_not_noticed(source):
    assert used(source) and all(map(is_public, used(source)))
