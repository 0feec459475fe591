"""README, the documentation and docstrings: examples run, and names and links exist."""

import contextlib
import doctest
import importlib
import importlib.util
import io
import itertools
import re
import shlex
import subprocess
import sys
import tomllib
import types
from configparser import ConfigParser
from dataclasses import dataclass, fields, replace
from pathlib import Path

import click
import matplotlib
import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from test_notebooks import is_public, used

from gradcam_adv.app import cli
from gradcam_adv.models import backbones
from gradcam_adv.study import config, settings

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = sorted([*ROOT.glob("*.md"), ROOT / "models/README.md", *(ROOT / "docs").rglob("*.md")])
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
VARIABLES = set(re.findall(r"^([A-Z]+) \?=", MAKEFILE, re.MULTILINE))
# This comment stands above Python that is not run here, with the reason.
NOT_RUN = re.compile(r"<!-- only compiled: .+ -->")


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


def named(pages: list[Path], slow: str | None = None) -> list:
    names = [(page, str(page.relative_to(ROOT))) for page in pages]
    return [
        pytest.param(page, id=name, marks=pytest.mark.slow if name == slow else [])
        for page, name in names
    ]


def having(*languages: str, slow: str | None = None) -> list:
    return named([page for page in PAGES if blocks(page, *languages)], slow)


@pytest.mark.parametrize("page", having("python", slow="docs/tutorial.md"))
def test_python_runs_and_prints_what_the_page_shows(
    page, tmp_path, monkeypatch, small_cnn, images, labels
):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    names: dict[str, object] = {"__name__": "page"}
    if page == README:  # the reader has these
        small_cnn.save("my.keras")
        names |= {"images": images, "labels": labels}
    printed = ""
    for block in blocks(page, "python", "text"):
        follows = block.before is not None and block.before.info == "python"
        if block.language == "text":
            if follows:
                assert_similar(printed, block.text)
            continue
        # Errors name the page and the line.
        code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
        if block.before is not None and NOT_RUN.match(block.before.content):
            continue
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(code, names)
        printed = out.getvalue()


@pytest.mark.parametrize("page", having("python"))
def test_python_uses_only_public_names(page):
    source = "\n".join(block.text for block in blocks(page, "python"))
    assert [name for name in used(source) if not is_public(name)] == []


def assert_similar(printed: str, shown: str) -> None:
    """The same words; numbers may differ as they do between machines."""
    number = re.compile(r"\d+\.?\d*")
    assert number.sub("#", printed) == number.sub("#", shown)
    received, expected = (list(map(float, number.findall(text))) for text in (printed, shown))
    assert received == pytest.approx(expected, abs=0.05)


def test_outputs_are_similar_if_only_last_digits_differ():
    assert_similar("MOD = 0.37 of 10\n", "MOD = 0.38 of 10\n")
    for other in ("MOD = 0.50 of 10\n", "VID = 0.37 of 10\n", "MOD = 0.37 of 9\n", ""):
        with pytest.raises(AssertionError):
            assert_similar(other, "MOD = 0.37 of 10\n")


@pytest.mark.parametrize("page", having("sh"))
def test_commands_and_their_options_exist(page):
    for block in blocks(page, "sh"):
        for line in re.split(r"\n|&&", block.text.replace("\\\n", " ")):
            check_command(shlex.split(line, comments=True))


def check_command(words: list[str]) -> None:
    """Raises for a command that does not exist, or that does not take these arguments."""
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    match words:
        case [] | ["." | "source", ".venv/bin/activate"] | ["pip", "install", *_]:
            pass
        case ["gradcam-adv", name, *arguments]:
            assert name in cli.main.commands
            cli.main.commands[name].make_context(name, arguments)
        case ["tensorboard", "--logdir", _]:
            pass
        case ["python", "-m", module, *_]:
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
            raise AssertionError(f"unknown command: {words}")


@pytest.mark.parametrize(
    "wrong",
    [
        "gradcam-adv explode",
        "gradcam-adv data --phtos x",
        "gradcam-adv export quick.toml --epsilon large",
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
def test_names_in_sentences_exist(page):
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
def test_studies_can_be_read(page, monkeypatch):
    # CONTRIBUTING.md adds this network.
    mobilenet = replace(backbones.find("xception"), name="mobilenetv2")
    monkeypatch.setitem(backbones.BACKBONES, "mobilenetv2", mobilenet)
    for block in blocks(page, "toml"):
        shown = tomllib.loads(block.text)
        read = config.parse({"name": "shown"} | shown)
        for key, value in shown.items():
            if not isinstance(value, list | dict):  # those become other types
                assert getattr(read, key) == value


@pytest.mark.parametrize("page", named(PAGES))
def test_every_block_has_a_language_that_is_checked(page):
    assert {block.language for block in blocks(page)} <= {"python", "sh", "toml", "text", "math"}


@pytest.mark.parametrize("page", named(PAGES))
def test_links_lead_to_files_and_headings(page):
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
    """The anchors of a page's headings, on GitHub and on the site."""
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


def test_all_keys_commands_and_public_names_are_listed():
    hooks = hook("generated")
    keys = [row[0].strip("`") for row in rows_of(hooks.study_keys())]
    assert keys == [field.name for field in fields(settings.Study) if field.name != "readings"]
    readings = [row[0].strip("`") for row in rows_of(hooks.readings())]
    assert readings == [field.name for field in fields(settings.Readings)]
    for name in cli.main.commands:
        assert f"## {name}\n\n```text\nUsage: gradcam-adv {name} " in hooks.commands()
    listed = [found_in(*shown_name(row)) for row in rows_of(hooks.public_names())]
    rooms = {".".join(filter(None, ("gradcam_adv", room))) for room in hooks.PACKAGES}
    named = [(room, name) for room in rooms for name in importlib.import_module(room).__all__]
    public = [found_in(*name) for name in named if ".".join(name) not in rooms]
    assert set(map(id, listed)) == set(map(id, public))
    assert len(listed) == len(set(map(id, listed)))


def shown_name(row: list[str]) -> tuple[str, str]:
    """Package and name of a row, which begins with [`package.name`][target]."""
    found = re.match(r"\[`([\w.]+)\.(\w+)`]\[[\w.]+\.\2]", row[0])
    assert found is not None, row
    return found[1], found[2]


def found_in(package: str, name: str) -> object:
    return getattr(importlib.import_module(package), name)


def test_the_table_of_dependencies_lists_what_is_required():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    required = re.findall(r"(?m)^([\w-]+)", setup["options"]["install_requires"])
    page = (ROOT / "docs/dependencies.md").read_text()
    assert re.findall(r"(?m)^\| ([\w-]+) \|", page)[1:] == required


WITH_EXAMPLES = [
    path for path in sorted((ROOT / "gradcam_adv").rglob("*.py")) if ">>> " in path.read_text()
]


@pytest.mark.parametrize("path", named(WITH_EXAMPLES))
def test_examples_in_docstrings_run(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted and not result.failed


def test_the_reference_has_every_module():
    pages = "".join(page.read_text() for page in (ROOT / "docs/reference").glob("*.md"))
    listed = sorted(re.findall(r"^::: ([\w.]+)$", pages, re.MULTILINE))
    package = ROOT / "gradcam_adv"
    # A package counts as a module if it defines functions itself.
    modules = [
        path.relative_to(ROOT)
        for path in package.rglob("*.py")
        if path.stem != "__init__" or "\ndef " in path.read_text()
    ]
    names = [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in modules]
    assert listed == sorted(names)


def test_the_built_site_is_checked(tmp_path):
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
        "bad.html loads https://example.org/x.js",
        "bad.html loads //fonts.example.org/x.css",
        "bad.html links to a.html#nowhere, which does not exist",
        "bad.html links to gone.png, which does not exist",
    ]


@pytest.mark.slow
def test_roles_become_links_and_examples_code():
    import griffe

    pages = hook("roles")
    code = """
def shown(): 'Shown.\\n\\nExample:\\n    >>> 1\\n    1'
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
    assert "\n\nExamples:\n    >>> 1" in package["shown"].docstring.value
    assert package["Thing.own"].docstring.value == "Back to [`Thing`][pkg.Thing]."


@pytest.mark.slow
def test_formulas_are_mathml_with_their_number():
    formulas = hook("formulas")
    assert formulas.mathml("x^{2}").startswith("<math") and "<msup>" in formulas.mathml("x^{2}")
    block = formulas.block("a = b \\tag{7}")
    assert block.count("(7)") == 1 and 'display="block"' in block and "tag" not in block


@pytest.mark.slow
def test_a_notebook_becomes_a_page(tmp_path, monkeypatch):
    import nbformat

    v4 = nbformat.v4
    outputs = [
        v4.new_output("stream", name="stdout", text="printed by the cell"),
        v4.new_output("display_data", data={"image/png": "iVBORw0KGgo="}),
    ]
    cells = [v4.new_markdown_cell("# Title"), v4.new_code_cell("f()", outputs=outputs)]
    nbformat.write(v4.new_notebook(cells=cells), tmp_path / "07_x.ipynb")
    pages = hook("notebook_pages")
    text, pictures = pages.page_of(tmp_path / "07_x.ipynb")
    assert "# Title" in text and "printed by the cell" in text
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
    """No page makes a request or is wider than a phone; and the search works."""
    page = chromium.new_page(viewport={"width": 390, "height": 800})
    requests, errors = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    for path in sorted(site.rglob("*.html")):
        if path.name != "404.html":  # its links begin at the root of the server
            page.goto(path.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") == 390, path
    page.set_viewport_size({"width": 1300, "height": 800})
    page.goto((site / "index.html").as_uri())
    page.click(".md-search__input")
    page.keyboard.type("random_signs")
    page.wait_for_selector(".md-search-result__link")
    page.close()
    assert not errors
    assert [url for url in requests if not url.startswith("file:")] == []
