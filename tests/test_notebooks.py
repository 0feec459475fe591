"""Notebooks show what users can do: with public names alone, told from a title to what to try."""

import ast
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent
NOTEBOOKS = sorted((TOP / "notebooks").glob("*.py"))
# The paper's tables as data, a module that is public as a whole.
PAPER = "gradcam_adv.paper.tables"


def public(stub: Path) -> set[str]:
    """What the ``__all__`` of a stub lists."""
    for node in ast.parse(stub.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    raise AssertionError(f"no __all__ in {stub}")


STUBS = {
    ".".join(stub.parent.relative_to(TOP).parts): public(stub)
    for stub in (TOP / "gradcam_adv").rglob("__init__.pyi")
}


def used(source: str) -> list[str]:
    """Every name of this package's that a program asks for, with its module before it."""
    names = []
    called = {}
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            own = [alias for alias in node.names if alias.name.split(".")[0] == "gradcam_adv"]
            # Of "import gradcam_adv.x" the rest of the program says what it takes.
            called |= {alias.asname or alias.name: alias.name for alias in own}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gradcam_adv"):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if name in (PAPER, *STUBS):
                    called[alias.asname or alias.name] = name
                else:
                    names.append(name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in called:
            names.append(f"{called[ast.unparse(node.value)]}.{node.attr}")
    return names


def is_public(name: str) -> bool:
    module, _, last = name.rpartition(".")
    if module == PAPER:
        return not last.startswith("_")
    return name in STUBS or last in STUBS.get(module, ())


def cells(source: str) -> list[str]:
    return [cell for cell in source.split("\n# %%")[1:] if cell.startswith(" [markdown]")]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_takes_public_names_alone(path):
    names = used(path.read_text())
    assert names
    assert [name for name in names if not is_public(name)] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_begins_with_a_title_and_ends_with_what_to_try(path):
    texts = cells(path.read_text())
    assert texts[0].startswith(" [markdown]\n# # ")
    assert sum(line.startswith("# # ") for text in texts for line in text.splitlines()) == 1
    assert "\n# ## What to try next\n#\n# - " in texts[-1]


def test_there_are_the_five():
    assert [path.stem[:3] for path in NOTEBOOKS] == ["01_", "02_", "03_", "04_", "05_"]


@pytest.mark.parametrize(
    "source",
    [
        "from gradcam_adv.explain import gradcam",
        "from gradcam_adv.explain.gradcam import heatmaps",
        "from gradcam_adv.models import backbones",
        "import gradcam_adv\ngradcam_adv.explain.gradcam.predict(model)",
        "import gradcam_adv.models as m\nm.training.train_head()",
        "from gradcam_adv import models\nmodels.weights",
        "from gradcam_adv.paper import judge",
        "from gradcam_adv.paper import tables\ntables._x",
        "from gradcam_adv.paper.tables import _x",
    ],
)
def test_a_private_name_is_seen(source):
    assert not all(map(is_public, used(source)))
