"""README and the documentation: what they show runs, what they name and link to is there."""

import contextlib
import importlib.util
import io
import itertools
import re
import shlex
import subprocess
import sys
import tomllib
import types
from dataclasses import dataclass, fields
from pathlib import Path

import click
import matplotlib
import pytest
from conftest import command, write_photo
from markdown_it import MarkdownIt
from markdown_it.token import Token
from test_contributing import MOBILENET
from test_notebooks import is_public, used

from gradcam_adv.app import cli
from gradcam_adv.models import backbones
from gradcam_adv.study import config as study

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = sorted([*ROOT.glob("*.md"), ROOT / "models/README.md", *(ROOT / "docs").rglob("*.md")])
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
VARIABLES = set(re.findall(r"^([A-Z]+) \?=", MAKEFILE, re.MULTILINE))
# Python that is shown, but not run here, has this above it, with the reason.
NOT_RUN = re.compile(r"<!-- only compiled: .+ -->")
# README works on the study "quick"; this one has its name, its size and two of its networks.
QUICK = """
photos = "people"
image_size = 144
networks = ["vgg16", "resnet50"]
weights = "random"
arms = ["plain"]
epochs = 1
epsilons = [0.1]
"""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, its first line, and the token before it."""

    language: str
    text: str
    line: int
    before: Token | None


def tokens(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


def inline(page: Path, kind: str) -> list[Token]:
    return [t for token in tokens(page) for t in token.children or [] if t.type == kind]


def blocks(page: Path, *languages: str) -> list[Block]:
    found, before = [], None
    for token in tokens(page):
        if token.type == "fence" and (not languages or token.info in languages):
            assert token.map is not None
            found.append(Block(token.info, token.content, token.map[0] + 2, before))
        before = token
    return found


def named(pages: list[Path]) -> list:
    return [pytest.param(page, id=str(page.relative_to(ROOT))) for page in pages]


def having(*languages: str) -> list:
    return named([page for page in PAGES if blocks(page, *languages)])


@pytest.fixture(scope="module")
def quick(tmp_path_factory, small_cnn):
    """What README speaks of: a model of one's own, and a study that has been run to the attack."""
    folder = tmp_path_factory.mktemp("quick")
    small_cnn.save(folder / "my.keras")
    (folder / "studies").mkdir()
    (folder / "studies/quick.toml").write_text(QUICK)
    for person in range(4):
        for number in range(5):
            write_photo(folder / "people" / f"p{person}" / f"{number}.png", 10 * person + number)
    result = command(folder, "attack")
    assert result.returncode == 0, result.stderr
    return folder


def with_python() -> list:
    """README last and among the slow ones: it speaks of a run, which has to be made."""
    pages = [page for page in PAGES if blocks(page, "python") and page != README]
    return [*named(pages), pytest.param(README, id="README.md", marks=pytest.mark.slow)]


@pytest.mark.parametrize("page", with_python())
def test_python_runs_and_prints_what_the_page_says(page, request, tmp_path, monkeypatch, images):
    is_readme = page == README
    monkeypatch.chdir(request.getfixturevalue("quick") if is_readme else tmp_path)
    matplotlib.use("Agg")
    names: dict[str, object] = {"__name__": "page"}
    if is_readme:  # which says what they are in a sentence
        names["images"] = images
    printed = ""
    for block in blocks(page, "python", "text"):
        follows = block.before is not None and block.before.info == "python"
        if block.language == "text":
            if follows:
                assert_alike(printed, block.text)
            continue
        # Errors name the page and the line.
        code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
        if block.before is not None and NOT_RUN.match(block.before.content):
            continue
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(code, names)
        printed = out.getvalue()


@pytest.mark.parametrize("page", having("python"))
def test_python_takes_public_names_alone(page):
    source = "\n".join(block.text for block in blocks(page, "python"))
    assert [name for name in used(source) if not is_public(name)] == []


def assert_alike(printed: str, said: str) -> None:
    """The same words; numbers may differ as they do between machines."""
    number = re.compile(r"\d+\.?\d*")
    assert number.sub("#", printed) == number.sub("#", said)
    came, expected = (list(map(float, number.findall(text))) for text in (printed, said))
    assert came == pytest.approx(expected, abs=0.05)


def test_outputs_are_alike_when_only_last_digits_differ():
    assert_alike("MOD = 0.37 of 10\n", "MOD = 0.38 of 10\n")
    for other in ("MOD = 0.50 of 10\n", "VID = 0.37 of 10\n", "MOD = 0.37 of 9\n", ""):
        with pytest.raises(AssertionError):
            assert_alike(other, "MOD = 0.37 of 10\n")


@pytest.mark.parametrize("page", having("sh"))
def test_commands_are_there_with_their_options(page):
    for block in blocks(page, "sh"):
        for line in re.split(r"\n|&&", block.text.replace("\\\n", " ")):
            check_command(shlex.split(line, comments=True))


def check_command(words: list[str]) -> None:
    """Raises for a command that is not there, or with arguments that it does not take."""
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    match words:
        case [] | ["." | "source", ".venv/bin/activate"] | ["pip", "install", *_]:
            pass
        case ["gradcam-adv", name, *arguments]:
            assert name in cli.main.commands
            cli.main.commands[name].make_context(name, arguments)
        case ["python", "-m", module]:
            assert importlib.util.find_spec(module), module
        case ["make", *rest]:
            given = dict(word.split("=", 1) for word in rest if "=" in word)
            assert given.keys() <= VARIABLES
            targets = [word for word in rest if "=" not in word]
            assert set(targets) <= TARGETS
            for target in set(targets) & cli.main.commands.keys():
                arguments = [given.get("STUDY", "x.toml"), *shlex.split(given.get("ARGS", ""))]
                cli.main.commands[target].make_context(target, arguments)
        case _:
            raise AssertionError(f"no command that is known: {words}")


@pytest.mark.parametrize(
    "wrong",
    [
        "gradcam-adv explode",
        "gradcam-adv data --phtos x",
        "gradcam-adv export quick.toml --epsilon 0.1",
        "make reprodcue",
        "make reproduce STUDIES=x",
        "make reproduce ARGS='--phtos x'",
        "python -m benchmarks.nothing",
        "gradcamadv data",
    ],
)
def test_a_wrong_command_is_noticed(wrong):
    with pytest.raises((AssertionError, click.UsageError)):
        check_command(shlex.split(wrong))


@pytest.mark.parametrize("page", named(PAGES))
def test_what_is_named_in_a_sentence_exists(page):
    options = {opt for c in cli.main.commands.values() for p in c.params for opt in p.opts}
    folders = r"(studies|docs|notebooks|benchmarks|tests|gradcam_adv)"
    for token in inline(page, "code_inline"):
        words = token.content.split()
        if len(words) > 1 and words[1].isalpha() and words[1].islower():
            if words[0] == "make":
                assert words[1] in TARGETS
            if words[0] == "gradcam-adv":
                assert words[1] in cli.main.commands
        if words[0].startswith("--"):
            assert words[0].rstrip(",") in options | {"--help"}
        if re.fullmatch(folders + r"/[\w./-]+\.(toml|md|py)", token.content):
            assert (ROOT / token.content).exists(), token.content


@pytest.mark.parametrize("page", having("toml"))
def test_studies_that_are_shown_can_be_read(page, monkeypatch):
    # CONTRIBUTING.md tells how to add this one.
    monkeypatch.setitem(backbones.BACKBONES, "mobilenetv2", MOBILENET)
    for block in blocks(page, "toml"):
        shown = tomllib.loads(block.text)
        read = study.parse({"name": "shown"} | shown)
        for key, value in shown.items():
            if not isinstance(value, list | dict):  # which are checked and made into other types
                assert getattr(read, key) == value


@pytest.mark.parametrize("page", named(PAGES))
def test_every_block_is_of_a_language_that_is_checked(page):
    assert {block.language for block in blocks(page)} <= {"python", "sh", "toml", "text", "math"}


@pytest.mark.parametrize("page", named(PAGES))
def test_links_lead_somewhere(page):
    links = [token.attrs["href"] for token in inline(page, "link_open")]
    links += [token.attrs["src"] for token in inline(page, "image")]
    for link in links:
        if re.match(r"[a-z]+:", str(link)):
            continue
        path, _, anchor = str(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in headings(target), link


def headings(page: Path) -> set[str]:
    """What a page's headings are linked by, on GitHub and on the site."""
    found = tokens(page)
    texts = [
        following.content
        for token, following in itertools.pairwise(found)
        if token.type == "heading_open"
    ]
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in texts}


def hook(name: str):
    """A module of docs/hooks, as MkDocs loads it."""
    spec = importlib.util.spec_from_file_location(f"hooks_{name}", ROOT / f"docs/hooks/{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def rows_of(table: str) -> list[list[str]]:
    return [re.split(r" \| ", line.strip("| ")) for line in table.splitlines()[2:]]


def test_keys_commands_and_public_names_are_all_listed():
    made = hook("generated").MADE
    keys = [row[0].strip("`") for row in rows_of(made["study_keys"]())]
    assert keys == [field.name for field in fields(study.Study) if field.name != "readings"]
    readings = [row[0].strip("`") for row in rows_of(made["readings"]())]
    assert readings == [field.name for field in fields(study.Readings)]
    for name in cli.main.commands:
        assert f"## {name}\n\n```text\nUsage: gradcam-adv {name} " in made["commands"]()
    listed = {re.match(r"\[`([\w.]+)`]", row[0])[1] for row in rows_of(made["public_names"]())}
    packages = ("gradcam_adv", *(f"gradcam_adv.{room}" for room in ("data", "models", "studies")))
    assert listed == {
        f"{package}.{name}"
        for package in packages
        for name in importlib.import_module(package).__all__
    }


def test_every_module_stands_in_the_reference():
    said = "".join(page.read_text() for page in (ROOT / "docs/reference").glob("*.md"))
    listed = sorted(re.findall(r"^::: ([\w.]+)$", said, re.MULTILINE))
    package = ROOT / "gradcam_adv"
    # A package counts as a module where it defines something itself.
    modules = [
        path.relative_to(ROOT)
        for path in package.rglob("*.py")
        if path.stem != "__init__" or "\ndef " in path.read_text()
    ]
    names = [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in modules]
    assert listed == sorted(names)


def test_the_built_site_is_looked_through(tmp_path):
    problems = hook("checked").problems
    (tmp_path / "style.css").touch()
    (tmp_path / "sub").mkdir()
    good = (
        '<link href="../style.css"><h1 id="top">x</h1><a href="../a.html#here">x</a><a href="#top">'
    )
    (tmp_path / "sub/b.html").write_text(good + '<a href="https://example.org">elsewhere</a>')
    (tmp_path / "a.html").write_text('<h2 id="here"></h2><a href="sub/b.html">x</a>')
    assert problems(tmp_path) == []
    (tmp_path / "bad.html").write_text(
        '<script src="https://example.org/x.js"></script><link href="//fonts.example.org/x.css">'
        '<img src="gone.png"><a href="a.html#nowhere">x</a><p>:func:<code>f</code></p>'
    )
    assert problems(tmp_path) == [
        "bad.html shows a raw :func:",
        "bad.html fetches https://example.org/x.js",
        "bad.html fetches //fonts.example.org/x.css",
        "bad.html leads to a.html#nowhere, which is not there",
        "bad.html leads to gone.png, which is not there",
    ]


@pytest.mark.slow
def test_roles_become_links_to_what_has_a_place():
    import griffe

    pages = hook("roles")
    code = """
def shown(): "Shown."
def bare(): ...
def _private(): "Private."
class Thing:
    "See :func:`shown`, :meth:`own`, :func:`bare`, :func:`_private`, :func:`gone`."
    def own(self): "Back to :class:`Thing`."
"""
    with griffe.temporary_visited_package("pkg", {"__init__.py": code}) as package:
        pages.Roles().on_package(pkg=package)
    assert package["Thing"].docstring.value == (
        "See [`shown`][pkg.shown], [`own`][pkg.Thing.own], `bare`, `_private`, `gone`."
    )
    assert package["Thing.own"].docstring.value == "Back to [`Thing`][pkg.Thing]."


@pytest.mark.slow
def test_formulas_are_mathml_with_their_number():
    formulas = hook("formulas")
    assert formulas.mathml("x^{2}").startswith("<math") and "<msup>" in formulas.mathml("x^{2}")
    block = formulas.block("a = b \\tag{7}")
    assert block.count("(7)") == 1 and 'display="block"' in block and "tag" not in block


@pytest.mark.slow
def test_a_notebook_becomes_a_page_without_its_notices(tmp_path, monkeypatch):
    import nbformat

    v4 = nbformat.v4
    outputs = [
        v4.new_output("stream", name="stderr", text="notice of TensorFlow"),
        v4.new_output("stream", name="stdout", text="said by the cell"),
        v4.new_output("display_data", data={"image/png": "iVBORw0KGgo="}),
    ]
    cells = [v4.new_markdown_cell("# Title"), v4.new_code_cell("f()", outputs=outputs)]
    (tmp_path / "executed").mkdir()
    for name in ("07_x", "gone"):
        nbformat.write(v4.new_notebook(cells=cells), tmp_path / f"executed/{name}.ipynb")
    for name in ("07_x", "new"):
        (tmp_path / f"{name}.py").touch()
    pages = hook("notebook_pages")
    text, pictures = pages.page_of(tmp_path / "executed/07_x.ipynb")
    assert "# Title" in text and "said by the cell" in text and "notice" not in text
    (picture,) = pictures
    assert f"({picture})" in text
    monkeypatch.setattr(pages, "NOTEBOOKS", tmp_path)
    config = pages.on_config(types.SimpleNamespace(nav=[{"Notebooks": []}, {"Other": "x.md"}]))
    assert config.nav == [{"Notebooks": ["notebooks/07_x.md"]}, {"Other": "x.md"}]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    result = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.mark.slow
@pytest.mark.browser
def test_the_site_works_from_files_alone(site, chromium):
    """Every page without a request to anywhere, none wider than a phone; and the search."""
    page = chromium.new_page(viewport={"width": 390, "height": 800})
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    for path in sorted(site.rglob("*.html")):
        if path.name != "404.html":  # whose addresses begin with the server's
            page.goto(path.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") == 390, path
    page.set_viewport_size({"width": 1300, "height": 800})
    page.goto((site / "index.html").as_uri())
    page.click(".md-search__input")
    page.keyboard.type("random_sign")
    page.wait_for_selector(".md-search-result__link")
    page.close()
    assert not errors
    assert [url for url in asked if not url.startswith("file:")] == []
