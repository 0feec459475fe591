"""How templates, numbers, names and tables become text, and the caveat of every arm."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jinja2
import pandas as pd

from gradcam_adv.attacks.names import TITLES
from gradcam_adv.files.text import LINE, shown
from gradcam_adv.models.backbones import title
from gradcam_adv.paper import printed
from gradcam_adv.study.attacks import BLACK_BOX, NOISE
from gradcam_adv.study.plan import ArmPlan
from gradcam_adv.study.settings import Arm
from gradcam_adv.study.tables import select

ARMS: dict[Arm, str] = {"plain": "Photos as they are", "aligned": "Aligned and cropped faces"}
# The words that the page explains where they stand.
GLOSSARY = {
    "NISSIM": "How much two heatmaps of one image differ, clean and attacked: (1 - SSIM) / 2. 0: "
    "equal. The paper's equation 1.",
    "MOD": "Mean observed dissimilarity: the mean NISSIM over all images at one ε. The paper's "
    "equation 2.",
    "VID": "Variation in dissimilarity: how much an image's NISSIM varies over the ε, a standard "
    "deviation; then the mean over images. 0: the same shift at every ε. The paper's equations 3 "
    "and 4.",
    "ε": "Epsilon, the size of the attack: how much it changes each pixel value, of a range of 1.",
    "gain": "How many times larger random noise must be to move the heatmaps as far as the attack. "
    "1: the attack is worth no more than noise. '> 3': more than 3, the largest noise tried.",
    "half-shift ε": "The ε at which MOD is half of that of unrelated photos. The smaller, the "
    "easier attention is moved.",
    "noise": "Random signs of the attack's ε in every pixel. A shift that noise also "
    "causes is not an effect of the attack.",
    "unrelated": "NISSIM between clean heatmaps of different people, or images of different "
    "classes. MOD saturates near this level, which differs from network to network.",
    "white-box": "The attack is made on the network that it is given to.",
    "black-box": "The attack is made on one network, the study's source, and given to all.",
    "wide": "As the paper says it: InceptionV3 and Xception, whose layers have several paths.",
    "deep": "As the paper says it: VGG16, ResNet50 and ResNet101, one layer after the other.",
    "transfer": "An attack that was made on another network than the one it is given to.",
    "heatmap": "Grad-CAM: where in the image the class score comes from, at one layer.",
    "interval": "In square brackets: 95 %, over people where the study has them. Numbers whose "
    "intervals overlap may be equal.",
}
# The row below a network's own: its control.
NOISE_ROW = "– random-sign noise"
UNRELATED = "unrelated photos"

_HEADING = re.compile(r'<h4 id="([\w-]+)">(.*?)</h4>', re.DOTALL)
_MARKUP = re.compile(r"[\\`*|~]|<(?=[\w/!?])|\](?=[(\[:])|&(?=#|\w+;)|(?<!\w)_|_(?!\w)")


def caveat(plan: ArmPlan) -> str:
    """One line on the data and weights behind every number of this arm."""
    table, options = plan.photos.table, plan.study
    how = "photos as they are"
    if plan.arm == "aligned":
        how = f"faces aligned by MTCNN, margin {options.margin:g}"
    precision = "" if options.precision == "float32" else f"{options.precision.upper()}; "
    measure = "" if options.measure == "nissim" else f"{options.measure.upper()}, NOT NISSIM; "
    return (
        f"{data(plan)}, {how}, {table['identity'].nunique()} people, {len(table)} photos, "
        f"{len(plan.photos.test)} in the test set; {options.image_size} px; "
        f"{precision}{measure}{bases(plan)}"
    )


def caption(plan: ArmPlan) -> str:
    """The shortest caveat, below every figure of this arm."""
    return f"{data(plan)}, {ARMS[plan.arm].lower()}; {bases(plan)}."


def data(plan: ArmPlan) -> str:
    return f"{plan.listing.title}{' (not VGGFace2)' if plan.study.other_data else ''}"


def bases(plan: ArmPlan) -> str:
    """Whether the weights of the frozen bases are random, or of which networks they are."""
    networks = plan.study.networks
    random = [title(name) for name in networks if plan.weights[name].origin == "random"]
    if not random:
        return "pretrained bases"
    if len(random) == len(networks):
        return "RANDOM BASES (no ImageNet)"
    return f"RANDOM BASES (no ImageNet) of {', '.join(random)}"


def caveat_of(arms: Mapping[Arm, ArmPlan]) -> str:
    """That of all arms."""
    return "; ".join(map(caveat, arms.values()))


def percent(value: float, digits: int = 2) -> str:
    return "–" if value is None or math.isnan(value) else f"{100 * value:.{digits}f}"


def number(value: float, digits: int = 4) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def interval(value: float, low: float, high: float, as_percent: bool = False) -> str:
    show = percent if as_percent else number
    if math.isnan(low) and math.isnan(high):
        return show(value)
    return f"{show(value)} [{show(low)}, {show(high)}]"


def rows_of(table: pd.DataFrame) -> Iterator[Any]:
    """The rows with their columns as attributes."""
    return table.itertuples(index=False)


def records(rows: pd.DataFrame | Sequence[Mapping[Any, Any]]) -> list[dict[str, str]]:
    """A table as rows of text that all have the same columns, with a dash where nothing is."""
    cells = pd.DataFrame(rows).fillna("–").map(lambda cell: shown(cell, LINE))
    return [dict(zip(map(str, cells), row, strict=True)) for row in cells.itertuples(index=False)]


def headings(body: str) -> list[tuple[str, str]]:
    """Anchor and content of each fourth-level heading in a part of the page."""
    return _HEADING.findall(body)


def slug(text: str) -> str:
    """An anchor of the page."""
    return re.sub(r"\W+", "-", text.lower()).strip("-")


def by_value(table: pd.DataFrame, column: str) -> Iterator[tuple[Any, pd.DataFrame]]:
    """The values of a column in the order of the table, each with its rows."""
    return iter(table.groupby(column, sort=False))


def by_epsilon(table: pd.DataFrame, show: Callable[[Any], str]) -> dict[str, str]:
    """A cell per row of the table under the heading of its epsilon, such as {"ε = 0.1": "0.12"}."""
    return {f"ε = {row.epsilon:g}": show(row) for row in rows_of(table)}


def by_network(
    table: pd.DataFrame, names: Mapping[str, str], show: Callable[[Any], str]
) -> list[dict[str, str]]:
    """A row per network under its name, with a cell per epsilon."""
    return [
        {"Network": name} | by_epsilon(select(table, network=network), show)
        for network, name in names.items()
    ]


def with_noise(table: pd.DataFrame, names: Mapping[str, str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """Each network's rows under the black-box attack with its name, then those under noise."""
    for network, name in names.items():
        yield name, select(table, network=network, attack=BLACK_BOX)
        yield NOISE_ROW, select(table, network=network, attack=NOISE)


def markdown(rows: pd.DataFrame | Sequence[Mapping[Any, Any]]) -> str:
    """A table in Markdown; whatever names of photos and people it holds are text in it."""
    cells = pd.DataFrame(rows).fillna("–").map(lambda cell: escaped(str(cell)))
    return str(cells.to_markdown(index=False, disable_numparse=True))


def glance(cards: Sequence[Any]) -> list[dict[str, str]]:
    """The first screen's numbers, one row per network."""

    def cell(value: str, about: str) -> str:
        return value + ("" if about[:1] in ("", "[") else ";") + f" {about}".rstrip()

    return [
        {"Network": card.title} | {n.name: cell(n.value, n.about) for n in card.first}
        for card in cards
    ]


def matrix(claims: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The verdicts, one row per claim."""
    return [
        {"Claim": claim["says"]} | {who: cell["words"] for who, cell in claim["cells"].items()}
        for claim in claims
    ]


def tally(claims: Sequence[Mapping[str, Any]], kind: str) -> str:
    """How many verdicts of one kind each judge gave, such as "paper 7, plain 2"."""
    return ", ".join(
        f"{who} {sum(claim['cells'][who]['kind'] == kind for claim in claims)}"
        for who in claims[0]["cells"]
    )


def escaped(text: str) -> str:
    """Text for Markdown on one line, with a backslash where a tag, link or code would start.

    Text that only looks like markup stays as it is: "block1_conv1", "0.5 [0.4, 0.6]", "p < 0.05".
    """
    return _MARKUP.sub(r"\\\g<0>", shown(text, LINE))


def marked_source(network: str, source: str) -> str:
    """The network's title; on the source the black-box attack is a white-box one."""
    return f"{title(network)} (source: white-box)" if network == source else title(network)


def capital(text: str) -> str:
    return text[0].upper() + text[1:]


def counted(count: int, noun: str) -> str:
    """Such as "1 photo" and "2 photos"."""
    return f"{count} {noun}{'s' * (count != 1)}"


TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("gradcam_adv.report"),
    autoescape=jinja2.select_autoescape(["html", "html.j2"]),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.globals |= {"ARMS": ARMS, "GLOSSARY": GLOSSARY, "printed": printed}
TEMPLATES.filters |= {
    "attack": TITLES.__getitem__,
    "counted": counted,
    "epsilon": "{:g}".format,
    "glance": glance,
    "tally": tally,
    "headings": headings,
    "matrix": matrix,
    "network": title,
    "shown": shown,
    "records": records,
    "slug": slug,
    "table": markdown,
}


def render(template: str, **values: Any) -> list[str]:
    """The blocks of Markdown of ``templates/<template>.md.j2``: paragraphs, tables and so on.

    Lines of a template that follow each other become one, but for those that begin an item of a
    list ("- "), a line of a quotation (">") or a row of a table ("|").
    """
    text = TEMPLATES.get_template(f"{template}.md.j2").render(values)
    blocks = (block.strip() for block in re.split(r"\n\s*\n", text))
    return [re.sub(r"\s*\n(?!- |>|\|)\s*", " ", block) for block in blocks if block]
