"""The report page: what it contains, and how it behaves in a browser, from made-up data."""

import base64
import dataclasses
import html.parser
import io
import itertools
import json
import re
import zlib

import numpy as np
import pytest
from markdown_it import MarkdownIt
from PIL import Image

from gradcam_adv.paper.claims import CLAIMS
from gradcam_adv.plots import overlays, style
from gradcam_adv.report import contents, embedding, page, viewer
from gradcam_adv.report.overview import Card, Number
from gradcam_adv.report.text import escaped, markdown, render
from gradcam_adv.study import parse

EPSILONS = (0.02, 0.1)
SIDE = 40
EVIL = "ann/![x](https://example.org/x.png)<script>alert(1)</script>_a_.jpg"
STUDY = parse({"name": "made", "networks": ["vgg16", "resnet50"], "epsilons": list(EPSILONS)})
NAMES = {"vgg16": "VGG16", "resnet50": "ResNet50"}
VERDICTS = {"H": "holds", "N": "does not hold", "?": "inconclusive", "–": "not judged"}


def photo(seed: int, sizes: list[tuple[int, int]]) -> viewer.Photo:
    """Smooth random photos and maps; the clean one predicted Ann, the others Bob."""
    chance = np.random.default_rng(seed)
    levels = []
    attacks = (*viewer.ATTACKS, "noise")
    for attack, epsilon in [("clean", 0.0), *((a, e) for a in attacks for e in EPSILONS)]:
        small = Image.fromarray(chance.integers(0, 256, (4, 4, 3), np.uint8))
        pixels = np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) / 255
        maps, _ = viewer.encode_maps([chance.random(size) for size in sizes])
        share = 0.5 if attack == "noise" else 1
        nissim = tuple(share * epsilon * (i + 1) for i in range(len(sizes)))
        picture = viewer.encode_picture(pixels)
        name = "Bob" if epsilon else "Ann"
        levels.append(viewer.Level(attack, epsilon, picture, maps, name, nissim))
    return viewer.Photo(f"ann/{seed}.png", "Ann", tuple(levels))


def network(name: str, sizes: list[tuple[int, int]], seed: int, count: int = 3) -> viewer.Network:
    photos = tuple(photo(seed + i, sizes) for i in range(count))
    layers = tuple(viewer.Layer(f"{NAMES[name]}_{i}", *size) for i, size in enumerate(sizes))
    return viewer.Network(name, NAMES[name], name == "resnet50", layers, photos)


def arms() -> list[viewer.Shown]:
    def of_arm(arm: str, seed: int) -> viewer.Shown:
        own = (
            network("vgg16", [(8, 6), (5, 5), (3, 3)], seed),
            network("resnet50", [(6, 6), (2, 2)], seed + 10),
        )
        return viewer.Shown(arm, own)

    return [of_arm("plain", 0), of_arm("aligned", 50)]


def card(name: str, arm: str) -> Card:
    names = ("Accuracy", "Attention moved", "Gain over noise", "Half-shift ε")
    numbers = {
        epsilon: [
            Number(what, "MOD", f"{epsilon}", f"of {arm}, [0.30, 0.40]; noise 0.11, unrelated 0.37")
            for what in names
        ]
        for epsilon in (0.02, 0.1)
    }
    findings = {
        epsilon: f"At ε = {epsilon} noise must be 3.4 times as large to move the heatmaps of "
        f"{NAMES[name]} as far as the attack. The interval has 1 in it: the attack may do no more "
        "than noise."
        for epsilon in numbers
    }
    plot = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 374 180"/>'
    drawn = embedding.data_uri(plot.encode(), "image/svg+xml")
    return Card(name, NAMES[name], 0.02, numbers, drawn, findings)


def claim(number: int) -> dict:
    letter = list(VERDICTS)[number % 4]
    cell = {
        "letters": letter,
        "kind": VERDICTS[letter].replace(" ", "-"),
        "words": VERDICTS[letter],
    }
    return {
        "name": f"claim_{number}",
        "title": CLAIMS[number].title,
        "says": CLAIMS[number].says,
        "place": "section 4",
        "rule": "It falls.",
        "cells": dict.fromkeys(("paper", "plain", "aligned"), cell),
        "reached": [{"On": "this run, plain", "Verdict": cell["words"], "Why": f"why {number}"}],
    }


def values() -> dict:
    wide = [{"Network": "VGG16"} | {f"ε = {i}": "91.89 | 33.33 [6.15, 79.23]" for i in range(9)}]
    rows = [{"photo": EVIL, "reason": "long " * 20}]
    plain = {"accuracy": wide, "white_box_accuracy": rows, "zero_gradients": "none", "psnr": wide}
    plain |= {"depth": wide, "examples": 2, "example": "photo a.jpg of Ann"}
    return dict.fromkeys(contents.PARTS) | {
        "title": "Run made",
        "line": "FGSM on 2 networks",
        "banner": ["ORL faces (not VGGFace2), 40 people", "RANDOM BASES: they say nothing"],
        "study": STUDY,
        "weights": {},
        "changed": [],
        "orl_credit": "AT&T",
        "epsilon": 0.02,
        "caveats": {"plain": "of plain", "aligned": "of aligned"},
        "captions": {"plain": "ORL, plain", "aligned": "ORL, aligned"},
        "cards": {
            arm: [card(name, arm) for name in ("resnet50", "vgg16")] for arm in ("plain", "aligned")
        },
        "arms": {"plain": plain, "aligned": plain},
        "claims": list(map(claim, range(len(CLAIMS)))),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run's folder with two figures and its page."""
    made = tmp_path_factory.mktemp("page")
    (made / "figures" / "plain").mkdir(parents=True)
    Image.new("RGB", (1500, 600), "blue").save(made / "figures" / "plain" / "curves.png")
    drawn = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1500 600"/>'
    (made / "figures" / "plain" / "curves.svg").write_text(drawn)
    sheet = made / "figures" / "plain" / "layers_vgg16_blocks.png"
    Image.new("RGB", (1500, 60), "red").save(sheet)
    page.write_page(made / "report.html", values(), arms(), made / "figures")
    return made


class Reader(html.parser.HTMLParser):
    """Tags with their attributes, and the text of each kind of tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if data.strip():
            self.texts.append((self.tags[-1][0], data.strip()))


@pytest.fixture(scope="module")
def read(folder):
    return Reader((folder / "report.html").read_text())


def test_the_page_needs_no_other_file(read):
    for tag, attributes in read.tags:
        for name in ("src", "href", "srcset", "data", "action"):
            if name in attributes:
                assert re.match(r"data:|#", attributes[name]), (tag, attributes)
    policy = next(a["content"] for t, a in read.tags if a.get("http-equiv"))
    assert "default-src 'none'" in policy


def test_headings_are_in_order_and_every_link_leads_to_an_anchor(read):
    levels = [int(tag[1]) for tag, _ in read.tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    anchors = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(set(anchors)) == len(anchors)
    links = [attributes["href"][1:] for tag, attributes in read.tags if tag == "a"]
    words = [a["popovertarget"] for _, a in read.tags if "popovertarget" in a]
    assert set(links) | set(words) <= set(anchors)
    assert {"explore", "results", "layers", "claims", "about", "claim-claim_3"} <= set(links)
    assert "readings" not in links  # the run has none
    assert "results-plain-accuracy" in anchors and "results-aligned-accuracy" in anchors


def test_the_caveat_is_said_once(folder):
    text = (folder / "report.html").read_text()
    assert text.count("RANDOM BASES") == 1
    assert text.index("RANDOM BASES") < text.index("<main")


def test_tables_have_headers_and_their_names_are_text(read):
    found = [(tag, attributes) for tag, attributes in read.tags if tag in ("th", "td")]
    assert ("th", {"scope": "row"}) in found and ("th", {"scope": "col"}) in found
    texts = [text for tag, text in read.texts if tag in ("th", "td")]
    assert EVIL in texts
    assert "91.89 | 33.33 [6.15, 79.23]" in texts
    assert len([a for _, a in found if a.get("class") == "long"]) >= 2
    tables = [tag for tag, _ in read.tags if tag == "table"]
    regions = [attributes for _, attributes in read.tags if attributes.get("role") == "region"]
    assert len(regions) >= len(tables) and all(region["aria-label"] for region in regions)


def test_figures_are_inside_the_page_with_alternative_texts(read):
    images = {a["alt"]: a for tag, a in read.tags if tag == "img"}
    (curves,) = (a for alt, a in images.items() if alt.startswith("Accuracy and MOD of each"))
    kind, content = curves["src"].split(",")
    assert kind == "data:image/svg+xml;base64"
    assert b"<svg" in base64.b64decode(content)
    assert (curves["width"], curves["height"]) == ("960", "384")
    (sheet,) = (a for alt, a in images.items() if "ends of blocks of VGG16" in alt)
    kind, content = sheet["src"].split(",")
    assert kind == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        assert image.size == (1500, 60)
    classes = [a.get("class") for tag, a in read.tags if tag == "figure"]
    assert "drawn" in classes and "sheet" in classes


def test_a_large_svg_is_replaced_by_the_smaller_webp(tmp_path):
    (tmp_path / "drawn.svg").write_text("<svg/>" + " " * embedding.DRAWN)
    Image.new("RGB", (100, 50), "red").save(tmp_path / "drawn.png")
    figure = embedding.figure(tmp_path / "drawn.png")
    assert figure.source.startswith("data:image/webp")
    assert (figure.width, figure.height, figure.sheet) == (64, 32, False)
    assert embedding.figure(tmp_path / "other.png") is None


def test_the_page_of_a_run_without_tables_and_examples_is_written(tmp_path):
    """Early in a study: the first screen has what there is."""
    early = values() | {
        "claims": None,
        "arms": {"plain": {}},
        "cards": {"plain": [card("vgg16", "x")]},
    }
    page.write_page(tmp_path / "report.html", early, [], tmp_path)
    read = Reader((tmp_path / "report.html").read_text())
    links = [attributes["href"] for tag, attributes in read.tags if tag == "a"]
    assert links == ["#content", "#overview", "#results", "#layers", "#about"]
    assert not [tag for tag, _ in read.tags if tag == "canvas"]


def test_the_text_report_is_short_and_has_the_first_screen_in_words():
    text = "\n\n".join(render("report", **values()))
    assert len(text.splitlines()) <= 150
    assert text.count("RANDOM BASES") == 1
    assert "| VGG16" in text and "0.02; of aligned" in text
    assert "| does not hold | does not hold | does not hold |" in text
    assert r"91.89 \| 33.33 [6.15, 79.23]" in text


def test_equal_pictures_and_maps_are_stored_once():
    shown = arms()
    first = shown[0].networks[0].photos[0].levels
    data = viewer.pack(shown)
    assert len(data["pictures"]) == len(set(data["pictures"])) == 2 * 2 * 3 * 7
    level = data["arms"][0]["networks"][0]["photos"][0]["levels"][-1]
    assert zlib.decompress(base64.b64decode(data["maps"][level["maps"]])) == first[-1].maps
    assert data["pictures"][level["picture"]].endswith(base64.b64encode(first[-1].picture).decode())
    again = viewer.pack([shown[0], shown[0]])
    assert len(again["pictures"]) == len(again["maps"]) == 2 * 3 * 7


def test_only_large_maps_and_pictures_are_averaged_down():
    small = np.random.default_rng(0).random((9, 14))
    large = np.zeros((112, 112))
    large[:, :56] = 1
    content, sizes = viewer.encode_maps([small, large])
    assert sizes == [(9, 14), (viewer.MAP_SIDE, viewer.MAP_SIDE)]
    values = np.frombuffer(content, np.uint8)
    np.testing.assert_array_equal(values[: 9 * 14].reshape(9, 14), (small * 255).round())
    kept = values[9 * 14 :].reshape(56, 56)
    assert (kept[:, :28] == 255).all()
    assert (kept[:, 28:] == 0).all()
    with Image.open(io.BytesIO(viewer.encode_picture(np.ones((500, 400, 3))))) as picture:
        assert max(picture.size) == viewer.PICTURE_SIDE


def test_a_page_that_is_too_large_gets_fewer_photos_or_is_refused(folder, tmp_path, monkeypatch):
    whole = len((folder / "report.html").read_bytes())
    embed = page.figures_in(folder / "figures")
    one = len(page.render(embed, values(), arms(), 1).encode())
    assert one < len(page.render(embed, values(), arms(), 2).encode()) <= whole
    monkeypatch.setattr(page, "LIMIT", one)
    page.write_page(tmp_path / "report.html", values(), arms(), folder / "figures")
    text = (tmp_path / "report.html").read_text()
    data = json.loads(re.search(r'id="viewer-data">(.*?)</script>', text)[1])
    assert [len(n["photos"]) for arm in data["arms"] for n in arm["networks"]] == [1] * 4
    (tmp_path / "report.html").unlink()
    monkeypatch.setattr(page, "LIMIT", one - 1)
    with pytest.raises(ValueError, match="Expected a page of at most .* MB.*Received"):
        page.write_page(tmp_path / "report.html", values(), arms(), folder / "figures")
    assert not (tmp_path / "report.html").exists()


# The page in Chromium.


def open_page(browser, file, anchor="explore", **context):
    """The page, with its messages (console, errors, dialogs) and its requests."""
    usual = {"viewport": {"width": 1280, "height": 800}}
    tab = browser.new_page(**usual | context)
    tab.said, tab.asked = [], []
    tab.on("console", lambda message: tab.said.append(message.text))
    tab.on("pageerror", lambda error: tab.said.append(str(error)))
    tab.on("dialog", lambda dialog: (tab.said.append(dialog.message), dialog.dismiss()))
    tab.on("request", lambda request: tab.asked.append(request.url))
    tab.goto(f"{file.as_uri()}#{anchor}")
    if context.get("java_script_enabled", True):
        drawn(tab)
    return tab


@pytest.fixture
def opened(chromium, folder):
    tab = open_page(chromium, folder / "report.html")
    yield tab
    tab.close()


@pytest.fixture
def first(chromium, folder):
    """The page as it opens, on its first screen."""
    tab = open_page(chromium, folder / "report.html", anchor="")
    yield tab
    tab.close()


FIRST_SCREEN = ("h1", "header .banner", ".strip canvas", ".strip figcaption", ".said", ".numbers")


def ends(tab, *selectors: str) -> dict[str, float]:
    """Where the last visible element of each selector ends, in pixels from the top."""
    found = {}
    for selector in selectors:
        boxes = [one.bounding_box() for one in tab.locator(f"{selector}:visible").all()]
        assert boxes, selector
        found[selector] = max(box["y"] + box["height"] for box in boxes)
    return found


@pytest.mark.browser
def test_the_first_screen_answers_without_scrolling(first):
    shown = ends(first, *FIRST_SCREEN, ".controls", ".plot", ".matrix tr", ".matrix p")
    assert max(shown.values()) <= 800, shown
    assert first.locator(".matrix tbody tr:visible").count() == len(CLAIMS)
    cut = "all => all.filter(one => one.scrollWidth > one.clientWidth).map(one => one.innerText)"
    assert first.eval_on_selector_all(".matrix tbody th", cut) == []
    assert first.locator(".strip canvas:visible").count() == 4
    assert first.locator(".numbers:visible").count() == 1
    assert "ε = 0.02" in first.inner_text(".said:visible")
    assert first.input_value("[data-control=network] >> nth=0") == "resnet50"  # the source


@pytest.mark.browser
def test_the_first_screen_of_a_phone(first):
    first.set_viewport_size({"width": 390, "height": 844})
    shown = ends(first, *FIRST_SCREEN)
    assert max(shown.values()) <= 844, shown
    # The tabs stay in sight wherever one has scrolled to, and so does the caveat.
    first.evaluate("() => { location.hash = 'claims'; }")
    first.wait_for_selector("#claims.shown")
    first.evaluate("window.scrollTo(0, 400)")
    assert first.evaluate("window.scrollY") == 400
    assert first.locator("nav").bounding_box()["y"] > 750
    assert first.locator(".banner").bounding_box()["y"] == 0


@pytest.mark.browser
def test_the_first_screen_changes_with_network_arm_and_epsilon(first):
    numbers = first.inner_text(".numbers:visible")
    assert "of plain" in numbers
    before = first.evaluate(STRIP)
    first.select_option("#overview [data-control=network]", "vgg16")
    drawn(first)
    assert first.inner_text(".card .quiet:visible >> nth=0").startswith("VGG16")
    first.check("input[value=aligned]")
    drawn(first)
    assert "of aligned" in first.inner_text(".numbers:visible")
    assert "ε = 0.02" in first.inner_text(".card .quiet:visible >> nth=0")
    levels = first.locator("#overview [data-control=epsilon]")
    levels.fill(levels.get_attribute("max"))
    drawn(first)
    # The numbers follow.
    assert "ε = 0.1" in first.inner_text(".said:visible")
    assert "ε = 0.1" in first.inner_text(".finding:visible")
    assert "ε = 0.1" in first.inner_text(".card .quiet:visible >> nth=0")
    assert "0.1" in first.inner_text(".numbers:visible strong >> nth=0")
    first.fill("#overview [data-control=epsilon]", "0")
    drawn(first)
    assert "ε = 0.02" in first.inner_text(".card .quiet:visible >> nth=0")
    assert "predicted Ann when clean, Ann now" in first.inner_text(".said:visible")
    after = first.evaluate(STRIP)
    assert all(one != other for one, other in zip(before, after, strict=True))
    assert after[0] == after[1] and after[2] == after[3]  # at epsilon 0 nothing is added


STRIP = "() => [...document.querySelectorAll('.strip canvas')].map(c => c.toDataURL())"


def tabs_of(tab) -> list[str]:
    return tab.eval_on_selector_all("main > section", "all => all.map(one => one.id)")


@pytest.mark.browser
def test_a_page_without_a_viewer_works(chromium, tmp_path):
    page.write_page(tmp_path / "report.html", values() | {"claims": None}, [], tmp_path)
    tab = chromium.new_page()
    said = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.goto((tmp_path / "report.html").as_uri())
    tab.select_option("#overview [data-control=network]", "vgg16")
    tab.check("input[value=aligned]")
    assert tab.inner_text(".card .quiet:visible >> nth=0").startswith("VGG16")
    assert "of aligned" in tab.inner_text(".numbers:visible")
    assert said == []
    tab.close()


@pytest.mark.browser
def test_each_tab_shows_its_section_alone(first):
    for name in tabs_of(first):
        first.click(f"nav a[href='#{name}']")
        first.wait_for_selector(f"#{name}.shown")  # the page hears of a new address a little later
        seen = first.locator("main > section:visible")
        assert [one.get_attribute("id") for one in seen.all()] == [name]
        assert first.get_attribute("nav a[aria-current=page]", "href") == f"#{name}"
        assert first.is_visible(".banner")
    first.go_back()
    first.wait_for_selector("#claims.shown")


@pytest.mark.browser
def test_the_results_begin_with_a_link_to_each_of_their_parts(first):
    first.click("nav a[href='#results']")
    first.wait_for_selector("#results.shown")
    links = first.locator("#results .contents a:visible")
    parts = first.locator("#results h4:visible")
    assert links.all_inner_texts() == parts.all_inner_texts() != []
    links.last.click()
    first.wait_for_function("() => location.hash.startsWith('#results-plain-')")
    assert parts.last.bounding_box()["y"] < 800


@pytest.mark.browser
def test_a_map_in_which_nothing_speaks_for_the_class_is_called_empty(chromium, tmp_path):
    own = network("resnet50", [(3, 3)], 0, count=1)
    (usual,) = own.photos
    empty, _ = viewer.encode_maps([np.zeros((3, 3))])
    levels = (
        dataclasses.replace(level, maps=empty) if level.attack == "noise" else level
        for level in usual.levels
    )
    own = dataclasses.replace(own, photos=(dataclasses.replace(usual, levels=tuple(levels)),))
    shown = [viewer.Shown("plain", (own,))]
    page.write_page(tmp_path / "report.html", values(), shown, tmp_path)
    tab = open_page(chromium, tmp_path / "report.html")
    captions = tab.locator("#viewer-pictures figcaption").all_inner_texts()
    assert [text for text in captions if "(empty)" in text] == ["Heatmap with noise (empty)"]
    tab.close()


@pytest.mark.browser
def test_links_into_the_page_open_what_they_name(chromium, folder, first):
    first.click(".matrix a[href='#claim-claim_7']")
    reasoning = first.locator("#claim-claim_7 table")
    reasoning.wait_for()  # to be visible
    assert reasoning.bounding_box()["y"] < 700
    tab = open_page(chromium, folder / "report.html", anchor="results-aligned-accuracy")
    assert tab.is_checked("input[value=aligned]")
    assert tab.is_visible("#results-aligned-accuracy")
    assert not tab.is_visible("#results-plain-accuracy")
    top = tab.locator("#results-aligned-accuracy").bounding_box()["y"]
    assert tab.locator("header").bounding_box()["height"] <= top < 400
    tab.close()


@pytest.mark.browser
def test_a_word_is_explained_where_it_stands(first):
    first.click(".plot:visible .term >> nth=0")
    assert first.inner_text("[popover]:popover-open").startswith("MOD. Mean observed dissimilarity")
    first.keyboard.press("Escape")
    assert first.locator("[popover]:popover-open").count() == 0


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_runs_out_of_the_page_or_of_its_frame(first, width):
    first.set_viewport_size({"width": width, "height": 844})
    for name in tabs_of(first):
        first.evaluate("name => { location.hash = name; }", name)
        first.wait_for_selector(f"#{name}.shown")
        first.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
        assert first.evaluate("document.documentElement.scrollWidth") <= width, name
        for frame in first.locator(".scroll:visible").all():
            box = frame.bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= width, (name, box)
    # A wide table scrolls in its frame.
    wide = "one => one.scrollWidth > one.clientWidth"
    first.evaluate("() => { location.hash = 'results'; }")
    first.wait_for_selector("#results.shown")
    assert first.locator("#results .scroll:visible").first.evaluate(wide)


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_violation(first, scheme):
    from axe_playwright_python.sync_playwright import Axe

    def serious() -> list[tuple[str, str]]:
        found = Axe().run(first).response["violations"]
        return [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in SERIOUS]

    first.emulate_media(color_scheme=scheme)
    for name in tabs_of(first):
        first.evaluate("name => { location.hash = name; }", name)
        first.wait_for_selector(f"#{name}.shown")
        first.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
        assert serious() == [], name
    first.evaluate("() => document.querySelector('#about').append(new Image())")
    assert [found for found, _ in serious()] == ["image-alt"]


SERIOUS = ("serious", "critical")


def drawn(tab) -> None:
    """Wait until the pictures are those that the controls choose."""
    tab.wait_for_selector("#viewer-pictures[aria-busy='false']", state="attached")


PANELS = [f"viewer-{name}" for name, _ in page.PANELS]


def pixels_of(tab, name: str) -> np.ndarray:
    script = (
        "id => { const c = document.getElementById(id);"
        " return [c.height, c.width, ...c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data]; }"
    )
    height, width, *values = tab.evaluate(script, name)
    return np.array(values, np.uint8).reshape(height, width, 4)[..., :3]


def state_of(tab) -> tuple[str, dict[str, str]]:
    script = "ids => ids.map(id => document.getElementById(id).toDataURL())"
    pictures = dict(zip(PANELS, tab.evaluate(script, PANELS), strict=True))
    return tab.inner_text("#viewer-status"), pictures


def change(tab, action) -> tuple[str, set[str]]:
    """Do something to the viewer; what it says then, and which pictures changed."""
    _, before = state_of(tab)
    action()
    drawn(tab)
    said, after = state_of(tab)
    return said, {name for name in PANELS if after[name] != before[name]}


def select(tab, name: str, value: str) -> None:
    tab.select_option(f"#explore [data-control={name}]", value)


def slide(tab, name: str, value: int) -> None:
    tab.evaluate(
        "([name, v]) => { const e = document.querySelector(`#explore [data-control=${name}]`);"
        " e.value = v; e.dispatchEvent(new Event('input')); }",
        [name, value],
    )


@pytest.mark.browser
def test_the_page_writes_nothing_to_the_console_and_requests_nothing(opened, folder):
    opened.check("input[value=aligned]")
    select(opened, "network", "vgg16")
    select(opened, "photo", "1")
    slide(opened, "layer", 0)
    slide(opened, "epsilon", 1)
    drawn(opened)
    for name in tabs_of(opened):
        opened.click(f"nav a[href='#{name}']")
    assert opened.said == []
    elsewhere = {url.split("#")[0] for url in opened.asked if not url.startswith("data:")}
    assert elsewhere == {(folder / "report.html").as_uri()}


@pytest.mark.browser
def test_every_control_changes_the_pictures_that_depend_on_it(opened):
    of_noise = {"viewer-noise", "viewer-heat-noise", "viewer-shift-noise"}
    attacked = {"viewer-attacked", "viewer-heat-attacked", "viewer-shift"}
    photos = {"viewer-clean", "viewer-attacked", "viewer-noise"}
    said, changed = change(opened, lambda: slide(opened, "epsilon", 2))
    assert "ε = 0.1" in said
    assert changed == attacked | of_noise
    said, changed = change(opened, lambda: slide(opened, "layer", 0))
    assert "ResNet50_0" in said
    assert "NISSIM 0.1000, with noise 0.0500" in said
    assert changed == set(PANELS) - photos
    said, changed = change(opened, lambda: select(opened, "attack", "black-box"))
    assert changed == attacked
    assert "made on this network, so it is its white-box attack" in said
    said, changed = change(opened, lambda: select(opened, "photo", "1"))
    assert changed == set(PANELS)
    said, changed = change(opened, lambda: select(opened, "network", "vgg16"))
    assert "VGG16_0" in said
    assert changed == set(PANELS)
    said, changed = change(opened, lambda: opened.check("input[value=aligned]"))
    assert changed == set(PANELS)
    # Earlier choices are kept.
    for name, value in (("network", "vgg16"), ("photo", "1"), ("attack", "black-box")):
        assert opened.input_value(f"#explore [data-control={name}]") == value
    said, _ = change(opened, lambda: slide(opened, "epsilon", 0))
    assert "predicted Ann when clean, Ann now; NISSIM 0.0000" in said
    pictures = state_of(opened)[1]
    assert pictures["viewer-clean"] == pictures["viewer-attacked"] == pictures["viewer-noise"]


@pytest.mark.browser
def test_the_table_has_the_attack_and_noise_at_every_epsilon(opened):
    rows = opened.locator("#viewer-nissim tr").all_inner_texts()
    assert [row.split() for row in rows] == [
        ["ε", "0", "0.02", "0.1"],
        ["attack", "0.0000", "0.0400", "0.2000"],
        ["noise", "0.0000", "0.0200", "0.1000"],
    ]
    assert opened.locator("#viewer-nissim [aria-current]").all_inner_texts() == [
        "0.02", "0.0400", "0.0200",
    ]  # fmt: skip


@pytest.mark.browser
def test_the_pictures_are_those_that_python_draws(opened):
    """At the second layer, whose maps are stored after the first one's, under the last attack."""
    select(opened, "network", "vgg16")
    slide(opened, "epsilon", 2)
    change(opened, lambda: slide(opened, "layer", 1))
    own = arms()[0].networks[0].photos[0]
    at = {(level.attack, level.epsilon): level for level in own.levels}
    shown = {"clean": at["clean", 0], "attacked": at["white-box", 0.1], "noise": at["noise", 0.1]}
    large, photos = [], []
    for level in shown.values():
        values = np.frombuffer(level.maps, np.uint8)[8 * 6 : 8 * 6 + 25].reshape(5, 5)
        image = Image.fromarray(values.astype(np.float32))
        large.append(np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)) / 255)
        with Image.open(io.BytesIO(level.picture)) as picture:
            photos.append(np.asarray(picture.convert("RGB"), np.float32) / 255)
    for name, pixels, values in zip(shown, photos, large, strict=True):
        drawn = pixels_of(opened, f"viewer-{name}") / 255
        np.testing.assert_allclose(drawn, pixels, atol=0.03)
        expected = overlays.mixed(drawn, values)
        np.testing.assert_allclose(
            pixels_of(opened, f"viewer-heat-{name}") / 255, expected, atol=0.01
        )
    colours = overlays.matplotlib.colormaps[style.SHIFT_COLORMAP]
    for name, moved in (("shift", large[1]), ("shift-noise", large[2])):
        expected = colours((moved - large[0] + 1) / 2)[..., :3]
        np.testing.assert_allclose(pixels_of(opened, f"viewer-{name}") / 255, expected, atol=0.03)


@pytest.mark.browser
def test_keys_control_the_viewer(opened):
    opened.focus("#viewer-pictures")
    for key, text in (
        ("ArrowRight", "ε = 0.1"),
        ("ArrowUp", "ResNet50_0"),
        ("ArrowLeft", "ε = 0.02"),
        ("ArrowDown", "ResNet50_1"),
        ("a", "black-box"),
        ("p", "photo 2 of 3"),
        ("Shift+P", "photo 1 of 3"),
        ("n", "VGG16"),
        ("Shift+N", "ResNet50"),
    ):
        said, _ = change(opened, lambda key=key: opened.keyboard.press(key))
        assert text in said
    opened.focus("#explore [data-control=epsilon]")
    said, _ = change(opened, lambda: opened.keyboard.press("Home"))
    assert "ε = 0:" in said
    assert opened.get_attribute("#explore [data-control=epsilon]", "aria-valuetext") == "0"
    # A slider's own arrows move it alone.
    said, _ = change(opened, lambda: opened.keyboard.press("ArrowRight"))
    assert "ε = 0.02" in said


@pytest.mark.browser
def test_fast_changes_end_at_the_last_choice(opened):
    """A picture that is decoded late does not replace a later one."""
    left = state_of(opened)
    opened.evaluate(
        "() => { const decode = HTMLImageElement.prototype.decode;"
        " HTMLImageElement.prototype.decode = function () {"
        " return decode.call(this).then(() => new Promise(done => setTimeout(done, 300))); }; }"
    )
    slide(opened, "epsilon", 2)
    slide(opened, "epsilon", 1)
    opened.wait_for_timeout(1000)
    drawn(opened)
    assert state_of(opened) == left


@pytest.mark.browser
def test_everything_has_a_name_for_screen_readers(opened):
    assert opened.locator("img:not([alt]), img[alt='']").count() == 0
    assert opened.locator("img").count() >= 2
    for name in PANELS:
        assert opened.get_attribute(f"#{name}", "role") == "img"
        assert len(opened.get_attribute(f"#{name}", "aria-label")) > 10
    assert "highest at the" in opened.get_attribute("#viewer-heat-attacked", "aria-label")
    labelled = "all => all.every(one => one.labels.length === 1)"
    assert opened.eval_on_selector_all("select, input", labelled)
    assert opened.get_attribute("html", "lang") == "en"
    opened.reload()
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.className") == "skip"


@pytest.mark.browser
def test_in_print_all_tabs_stand_below_each_other_without_controls(first):
    first.emulate_media(media="print")
    for name in set(tabs_of(first)) - {"explore"}:
        assert first.is_visible(f"#{name} h2")
    for hidden in (".controls:visible", "nav:visible", "[data-arm=aligned]:visible"):
        assert first.locator(hidden).count() == 0
    assert first.is_visible(".strip") and first.is_visible(".banner")
    pages = re.findall(rb"/Type\s*/Page\b(?!s)", first.pdf(format="A4"))
    assert 2 <= len(pages) <= 15


@pytest.mark.browser
def test_without_scripts_the_page_is_one_long_report(chromium, folder):
    tab = open_page(chromium, folder / "report.html", anchor="", java_script_enabled=False)
    assert tab.is_visible("noscript img[alt*='NISSIM']")
    assert tab.locator(".scripted:visible, .controls:visible, .arms:visible").count() == 0
    for name in ("overview", "explore", "results", "layers", "claims", "about"):
        assert tab.is_visible(f"#{name} > h2")
    assert tab.is_visible("#results-plain") and tab.is_visible("#results-aligned")
    tab.close()


# Names that look like markup.

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "<!--",
    "\"><svg onload='alert(1)'>",
    "' onmouseover='alert(1)",
    "[x](javascript:alert(1))",
    "![x](https://example.org/x.png)",
    "<https://example.org>",
    "`code`",
    "*a* _b_ ~~c~~ \\* \\",
    "a | b \\| c",
    "AT&T &lt;b&gt; &#60;",
    "{{ 7 * 7 }} {% raw %}",
    "block5_conv3 0.5 [0.4, 0.6], p < 0.05",
]


def cells_of(text: str) -> list[str]:
    """The second column of a Markdown table, as any reader of Markdown with HTML shows it."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    shown = []
    for before, token in itertools.pairwise(tokens):
        if before.type == "td_open":
            assert {child.type for child in token.children} <= {"text", "text_special"}, token
            shown.append("".join(child.content for child in token.children))
    return shown[1::2]


def test_names_are_text_in_the_markdown():
    rows = [{"place": number, "name": name} for number, name in enumerate(HOSTILE)]
    assert cells_of(markdown(rows)) == HOSTILE
    # Harmless text gets no backslash, and a name of several lines becomes one line.
    assert escaped(HOSTILE[-1]) == HOSTILE[-1]
    assert escaped("a\n\n# b\r<b>\x1b") == r"a\\n\\n# b\\r\<b>\\x1b"


def hostile(own: viewer.Network) -> viewer.Network:
    """The network with a photo of each hostile name."""
    photos = []
    for photo, name in zip(own.photos * 5, HOSTILE, strict=True):
        levels = tuple(dataclasses.replace(level, predicted=name) for level in photo.levels)
        photos.append(viewer.Photo(f"{name}.jpg", name, levels))
    return dataclasses.replace(own, photos=tuple(photos))


def hostile_page(folder) -> str:
    text = " ".join(HOSTILE)
    shown = [viewer.Shown(arm.arm, tuple(map(hostile, arm.networks))) for arm in arms()]
    rows = [{"place": number, "name": name} for number, name in enumerate(HOSTILE)]
    named = {"title": text, "line": text, "banner": [text], "captions": {"plain": text}}
    own = {"arms": {"plain": {"depth": rows, "examples": 1, "example": text}}, "claims": None}
    return page.render(page.figures_in(folder), values() | named | own, shown, len(HOSTILE))


def test_names_are_text_in_the_page(tmp_path):
    reader = Reader(hostile_page(tmp_path))
    plain = Reader(page.render(page.figures_in(tmp_path), values(), arms()))
    usual = {(tag, *sorted(attributes)) for tag, attributes in plain.tags}
    assert {(tag, *sorted(attributes)) for tag, attributes in reader.tags} <= usual
    assert not any(name.startswith("on") for _, attributes in reader.tags for name in attributes)
    assert [tag for tag, _ in reader.tags].count("script") == 2
    texts = [text for tag, text in reader.texts if tag == "td"]
    assert [text for text in texts if text in HOSTILE] == HOSTILE
    data = json.loads(re.search(r'id="viewer-data">(.*?)</script>', hostile_page(tmp_path))[1])
    people = [photo["person"] for photo in data["arms"][0]["networks"][0]["photos"]]
    assert people == HOSTILE


@pytest.mark.browser
def test_names_are_text_in_the_browser(chromium, tmp_path):
    (tmp_path / "report.html").write_text(hostile_page(tmp_path))
    tab = open_page(chromium, tmp_path / "report.html")
    options = tab.eval_on_selector_all(
        "#explore [data-control=photo] option", "all => all.map(o => o.text)"
    )
    tidy = [" ".join(f"{i + 1}: {name} ({name}.jpg)".split()) for i, name in enumerate(HOSTILE)]
    assert options == tidy
    for number in range(len(HOSTILE)):
        select(tab, "photo", str(number))
        drawn(tab)
        assert f"predicted {HOSTILE[number]} when clean" in tab.text_content("#viewer-status")
        assert tab.get_attribute("#viewer-clean", "aria-label") == f"Photo of {HOSTILE[number]}"
    assert tab.locator("img[onerror], svg, #content script").count() == 0
    assert tab.locator("main a").count() == 0
    assert tab.said == []
    tab.close()
