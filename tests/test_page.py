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

from gradcam_adv.plots import overlays
from gradcam_adv.report import markup, page, viewer
from gradcam_adv.report.text import escaped, markdown

EPSILONS = (0.02, 0.1)
SIDE = 40
EVIL = "ann/![x](https://example.org/x.png)<script>alert(1)</script>_a_.jpg"
PARTS = [
    "# Run made",
    "What **this** is, of `code`.",
    "# Photos as they are",
    "## Table 1: accuracy",
    "> a caveat",
    "| Network | ε = 0 |\n|:--|:--|\n| VGG16 | 91.89 \\| 33.33 [6.15, 79.23] |",
    "### In detail",
    f"| photo | reason |\n|:--|:--|\n| {EVIL} | {'long ' * 20} |",
    "## Figure 2",
    "![A drawing](figures/drawn.png)",
    "![A sheet](figures/sheet.png)",
    "# Other photos",
    "## Table 1: accuracy",
    "text",
    "# About this run",
    "## How to cite",
    "- so",
]


def photo(seed: int, sizes: list[tuple[int, int]], attacks: tuple[str, ...]) -> viewer.Photo:
    """Smooth random photos and maps; the clean one predicted Ann, the others Bob."""
    chance = np.random.default_rng(seed)
    levels = []
    for attack, epsilon in [("clean", 0.0), *((a, e) for a in attacks for e in EPSILONS)]:
        small = Image.fromarray(chance.integers(0, 256, (4, 4, 3), np.uint8))
        pixels = np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) / 255
        maps, _ = viewer.encode_maps([chance.random(size) for size in sizes])
        nissim = tuple(epsilon * (i + 1) for i in range(len(sizes)))
        picture = viewer.encode_picture(pixels)
        name = "Bob" if epsilon else "Ann"
        levels.append(viewer.Level(attack, epsilon, picture, maps, name, nissim))
    return viewer.Photo(f"ann/{seed}.png", "Ann", tuple(levels))


def network(title: str, sizes: list[tuple[int, int]], seed: int, count: int = 3) -> viewer.Network:
    photos = tuple(photo(seed + i, sizes, viewer.ATTACKS) for i in range(count))
    layers = tuple(viewer.Layer(f"{title}_{i}", *size) for i, size in enumerate(sizes))
    return viewer.Network(title, title == "ResNet50", layers, photos)


def arms() -> list[viewer.Shown]:
    def of_arm(title: str, seed: int) -> viewer.Shown:
        own = (
            network("VGG16", [(8, 6), (5, 5), (3, 3)], seed),
            network("ResNet50", [(6, 6), (2, 2)], seed + 10),
        )
        return viewer.Shown(title, f"caveat of {title}", own)

    return [of_arm("Photos as they are", 0), of_arm("Other photos", 50)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run's folder with two figures and its page."""
    made = tmp_path_factory.mktemp("page")
    (made / "figures").mkdir()
    (made / "figures" / "drawn.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    Image.new("RGB", (1500, 60), "red").save(made / "figures" / "sheet.png")
    page.write_page(made / "report.html", PARTS, arms())
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


def test_headings_are_in_order_and_every_link_leads_to_one(read):
    levels = [int(tag[1]) for tag, _ in read.tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    anchors = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(set(anchors)) == len(anchors)
    links = [attributes["href"][1:] for tag, attributes in read.tags if tag == "a"]
    assert set(links) <= set(anchors)
    assert "photos-as-they-are-table-1-accuracy" in links
    assert "other-photos-table-1-accuracy" in links


def test_the_viewer_comes_before_the_part_about_the_run(read):
    headings = [text for tag, text in read.texts if re.fullmatch("h[12]", tag)]
    assert headings == [
        "Run made",
        "Photos as they are",
        "Other photos",
        "Viewer of the heatmaps",
        "About this run",
    ]


def test_tables_have_headers_and_their_names_are_text(read):
    found = [(tag, attributes) for tag, attributes in read.tags if tag in ("th", "td")]
    assert ("th", {"scope": "row", "style": "text-align:left"}) in found
    texts = [text for tag, text in read.texts if tag in ("th", "td")]
    assert EVIL in texts
    assert "91.89 | 33.33 [6.15, 79.23]" in texts
    long = [attributes for tag, attributes in found if attributes.get("class") == "long"]
    assert len(long) >= 2
    regions = [attributes for _, attributes in read.tags if attributes.get("role") == "region"]
    assert {"Table 1: accuracy", "In detail"} <= {region["aria-label"] for region in regions}


def test_figures_are_inside_the_page_with_alternative_texts(read):
    images = {a["alt"]: a["src"] for tag, a in read.tags if tag == "img"}
    kind, content = images["A drawing"].split(",")
    assert kind == "data:image/svg+xml;base64"
    assert b"<svg" in base64.b64decode(content)
    kind, content = images["A sheet"].split(",")
    assert kind == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as sheet:
        assert sheet.size == (1500, 60)
    classes = {a["alt"]: a.get("class") for tag, a in read.tags if tag == "img"}
    assert classes["A sheet"] == "full"


def test_a_large_svg_is_replaced_by_the_smaller_webp(tmp_path):
    (tmp_path / "drawn.svg").write_text("<svg/>" + " " * markup.DRAWN)
    Image.new("RGB", (70, 60), "red").save(tmp_path / "drawn.png")
    (section,) = markup.sections_of(["# A", "![Photos](drawn.png)"], tmp_path)
    assert "data:image/webp" in section.body
    assert "full" not in section.body


def test_equal_pictures_and_maps_are_stored_once():
    shown = arms()
    first = shown[0].networks[0].photos[0].levels
    data = viewer.pack(shown)
    assert len(data["pictures"]) == len(set(data["pictures"])) == 2 * 2 * 3 * 5
    level = data["arms"][0]["networks"][0]["photos"][0]["levels"][-1]
    assert zlib.decompress(base64.b64decode(data["maps"][level["maps"]])) == first[-1].maps
    assert data["pictures"][level["picture"]].endswith(base64.b64encode(first[-1].picture).decode())
    again = viewer.pack([shown[0], shown[0]])
    assert len(again["pictures"]) == len(again["maps"]) == 2 * 3 * 5


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
    sections = markup.sections_of(PARTS, folder)
    one = len(page.render(sections, arms(), 1).encode())
    assert one < len(page.render(sections, arms(), 2).encode()) <= whole
    (tmp_path / "figures").symlink_to(folder / "figures")
    monkeypatch.setattr(page, "LIMIT", one)
    page.write_page(tmp_path / "report.html", PARTS, arms())
    text = (tmp_path / "report.html").read_text()
    data = json.loads(re.search(r'id="viewer-data">(.*?)</script>', text)[1])
    assert [len(n["photos"]) for arm in data["arms"] for n in arm["networks"]] == [1] * 4
    (tmp_path / "report.html").unlink()
    monkeypatch.setattr(page, "LIMIT", one - 1)
    with pytest.raises(ValueError, match="Expected a page of at most .* MB.*Received"):
        page.write_page(tmp_path / "report.html", PARTS, arms())
    assert not (tmp_path / "report.html").exists()


# The page in Chromium.


def open_page(browser, file):
    """The page, with its messages (console, errors, dialogs) and its requests."""
    tab = browser.new_page(viewport={"width": 1300, "height": 900})
    tab.said, tab.asked = [], []
    tab.on("console", lambda message: tab.said.append(message.text))
    tab.on("pageerror", lambda error: tab.said.append(str(error)))
    tab.on("dialog", lambda dialog: (tab.said.append(dialog.message), dialog.dismiss()))
    tab.on("request", lambda request: tab.asked.append(request.url))
    tab.goto(file.as_uri())
    drawn(tab)
    return tab


@pytest.fixture
def opened(chromium, folder):
    tab = open_page(chromium, folder / "report.html")
    yield tab
    tab.close()


def drawn(tab) -> None:
    """Wait until the pictures are those that the controls choose."""
    tab.wait_for_selector("#viewer-pictures[aria-busy='false']")


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


def slide(tab, name: str, value: int) -> None:
    tab.evaluate(
        "([id, v]) => { const e = document.getElementById(id); e.value = v;"
        " e.dispatchEvent(new Event('input')); }",
        [f"viewer-{name}", value],
    )


@pytest.mark.browser
def test_the_page_writes_nothing_to_the_console_and_requests_nothing(opened, folder):
    for name in ("arm", "network", "photo"):
        opened.select_option(f"#viewer-{name}", "1")
    slide(opened, "layer", 0)
    slide(opened, "epsilon", 1)
    drawn(opened)
    assert opened.said == []
    elsewhere = [url for url in opened.asked if not url.startswith("data:")]
    assert elsewhere == [(folder / "report.html").as_uri()]


@pytest.mark.browser
def test_every_control_changes_the_pictures_that_depend_on_it(opened):
    heat = {"viewer-heat-clean", "viewer-heat-attacked", "viewer-shift"}
    attacked = {"viewer-attacked", "viewer-heat-attacked", "viewer-shift"}
    said, changed = change(opened, lambda: slide(opened, "epsilon", 1))
    assert "ε = 0.02" in said
    assert changed == attacked
    said, changed = change(opened, lambda: slide(opened, "layer", 0))
    assert "VGG16_0" in said
    assert "NISSIM 0.0200" in said
    assert changed == heat
    said, changed = change(opened, lambda: opened.select_option("#viewer-attack", "white-box"))
    assert changed == attacked
    said, changed = change(opened, lambda: opened.select_option("#viewer-photo", "1"))
    assert changed == set(PANELS)
    said, changed = change(opened, lambda: opened.select_option("#viewer-network", "1"))
    assert "ResNet50_0" in said
    assert "both attacks are the same" in said
    assert changed == set(PANELS)
    said, changed = change(opened, lambda: opened.select_option("#viewer-arm", "1"))
    assert changed == set(PANELS)
    assert opened.inner_text("#viewer-caveat") == "caveat of Other photos"
    # Earlier choices are kept.
    assert opened.input_value("#viewer-network") == "1"
    assert opened.input_value("#viewer-photo") == "1"
    said, _ = change(opened, lambda: slide(opened, "epsilon", 0))
    assert "predicted Ann when clean, Ann now; NISSIM 0.0000" in said
    assert state_of(opened)[1]["viewer-clean"] == state_of(opened)[1]["viewer-attacked"]


@pytest.mark.browser
def test_the_pictures_are_those_that_python_draws(opened):
    """At the second layer, whose maps are stored after the first one's, under the last attack."""
    slide(opened, "layer", 1)
    change(opened, lambda: opened.select_option("#viewer-attack", "white-box"))
    own = arms()[0].networks[0].photos[0]
    large, photos = [], []
    for level in (own.levels[0], own.levels[-1]):
        values = np.frombuffer(level.maps, np.uint8)[8 * 6 : 8 * 6 + 25].reshape(5, 5)
        image = Image.fromarray(values.astype(np.float32))
        large.append(np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)) / 255)
        with Image.open(io.BytesIO(level.picture)) as picture:
            photos.append(np.asarray(picture.convert("RGB"), np.float32) / 255)
    for name, pixels, values in zip(("clean", "attacked"), photos, large, strict=True):
        drawn = pixels_of(opened, f"viewer-{name}") / 255
        np.testing.assert_allclose(drawn, pixels, atol=0.03)
        expected = overlays.mixed(drawn, values)
        np.testing.assert_allclose(
            pixels_of(opened, f"viewer-heat-{name}") / 255, expected, atol=0.01
        )
    colours = overlays.matplotlib.colormaps[viewer.SHIFT_COLORMAP]
    expected = colours((large[1] - large[0] + 1) / 2)[..., :3]
    np.testing.assert_allclose(pixels_of(opened, "viewer-shift") / 255, expected, atol=0.03)


@pytest.mark.browser
def test_keys_control_the_viewer(opened):
    opened.focus("#viewer-pictures")
    for key, text in (
        ("ArrowLeft", "ε = 0.02"),
        ("ArrowUp", "VGG16_1"),
        ("ArrowRight", "ε = 0.1"),
        ("ArrowDown", "VGG16_2"),
        ("a", "white-box"),
        ("p", "photo 2 of 3"),
        ("Shift+P", "photo 1 of 3"),
        ("n", "ResNet50"),
        ("Shift+N", "VGG16"),
    ):
        said, _ = change(opened, lambda key=key: opened.keyboard.press(key))
        assert text in said
    opened.focus("#viewer-epsilon")
    said, _ = change(opened, lambda: opened.keyboard.press("Home"))
    assert "ε = 0:" in said
    assert opened.get_attribute("#viewer-epsilon", "aria-valuetext") == "0"


@pytest.mark.browser
def test_fast_changes_end_at_the_last_choice(opened):
    """A picture that is decoded late does not replace a later one."""
    left = state_of(opened)
    opened.evaluate(
        "() => { const decode = HTMLImageElement.prototype.decode;"
        " HTMLImageElement.prototype.decode = function () {"
        " return decode.call(this).then(() => new Promise(done => setTimeout(done, 300))); }; }"
    )
    slide(opened, "epsilon", 1)
    slide(opened, "epsilon", 2)
    opened.wait_for_timeout(600)
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
    for control in opened.locator("select, input").all():
        assert opened.locator(f"label[for='{control.get_attribute('id')}']").count() == 1
    assert opened.get_attribute("html", "lang") == "en"
    opened.reload()
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.className") == "skip"


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_the_page_does_not_scroll_sideways(opened, scheme):
    opened.emulate_media(color_scheme=scheme)
    opened.set_viewport_size({"width": 390, "height": 844})
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390
    # Text has contrast.
    colours = opened.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    ink, ground = (sum(map(int, re.findall(r"\d+", c)[:3])) for c in colours)
    assert (ink > ground + 400) if scheme == "dark" else (ground > ink + 400)


@pytest.mark.browser
def test_in_print_controls_are_left_out_and_figures_fit(opened):
    opened.emulate_media(media="print")
    assert not opened.is_visible("#viewer-network")
    assert not opened.is_visible("nav")
    assert opened.is_visible("#viewer-shift")
    width = opened.locator("img.full").first.bounding_box()["width"]
    assert width <= opened.evaluate("document.documentElement.clientWidth")


@pytest.mark.browser
def test_without_scripts_a_picture_is_shown_instead(chromium, folder):
    context = chromium.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto((folder / "report.html").as_uri())
    assert tab.is_visible("noscript img[alt*='NISSIM']")
    assert not tab.is_visible("#viewer-body")
    context.close()


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
    caveat = " ".join(HOSTILE)
    shown = [viewer.Shown(arm.title, caveat, tuple(map(hostile, arm.networks))) for arm in arms()]
    rows = [{"place": number, "name": name} for number, name in enumerate(HOSTILE)]
    parts = [
        "# Run a",
        f"> {escaped(caveat)}",
        "## Photos",
        markdown(rows),
        "# About this run",
        "- so",
    ]
    sections = markup.sections_of(parts, folder)
    return page.render(sections, shown, len(HOSTILE))


def test_names_are_text_in_the_page(tmp_path):
    text = hostile_page(tmp_path)
    reader = Reader(text)
    plain = Reader(page.render(markup.sections_of(["# Run a", "# B", "- so"], tmp_path), arms()))
    usual = {(tag, *sorted(attributes)) for tag, attributes in plain.tags}
    found = {(tag, *sorted(attributes)) for tag, attributes in reader.tags}
    own = {"h3", "blockquote", "p", "table", "thead", "tbody", "tr", "th", "td", "div", "li", "a"}
    assert {kind for kind in found - usual if kind[0] not in own} == set()
    assert not any(name.startswith("on") for _, attributes in reader.tags for name in attributes)
    assert [tag for tag, _ in reader.tags].count("script") == 2
    texts = [text for tag, text in reader.texts if tag == "td"]
    assert texts == HOSTILE
    data = json.loads(re.search(r'id="viewer-data">(.*?)</script>', text)[1])
    people = [photo["person"] for photo in data["arms"][0]["networks"][0]["photos"]]
    assert people == HOSTILE


def test_markup_that_was_not_escaped_is_text_as_well(tmp_path):
    parts = ["# Run a", "<script>x</script>", "| a |\n|---|\n| <img src=x> [b](http://c) |"]
    (section,) = markup.sections_of(parts, tmp_path)
    assert "&lt;script&gt;x&lt;/script&gt;" in section.body
    assert "&lt;img src=x&gt; [b](http://c)" in section.body


@pytest.mark.browser
def test_names_are_text_in_the_browser(chromium, tmp_path):
    (tmp_path / "report.html").write_text(hostile_page(tmp_path))
    tab = open_page(chromium, tmp_path / "report.html")
    options = tab.eval_on_selector_all("#viewer-photo option", "all => all.map(o => o.text)")
    tidy = [" ".join(f"{i + 1}: {name} ({name}.jpg)".split()) for i, name in enumerate(HOSTILE)]
    assert options == tidy
    for number in range(len(HOSTILE)):
        tab.select_option("#viewer-photo", str(number))
        drawn(tab)
        assert f"predicted {HOSTILE[number]} when clean" in tab.text_content("#viewer-status")
        assert tab.get_attribute("#viewer-clean", "aria-label") == f"Photo of {HOSTILE[number]}"
    assert tab.locator("main img[onerror], main svg, #content script").count() == 0
    assert tab.locator("main a").count() == 0
    assert tab.said == []
    tab.close()
