"""The first screen: what was run, its caveat, and each network's numbers in large type."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import pandas as pd

from gradcam_adv.attacks.names import TITLES
from gradcam_adv.models.backbones import title
from gradcam_adv.paper import printed
from gradcam_adv.plots.shift import shift_curve
from gradcam_adv.report import attacks, drawing, gain
from gradcam_adv.report.embedding import data_uri
from gradcam_adv.report.text import bases, counted, data, number, percent, rows_of
from gradcam_adv.study import sanity
from gradcam_adv.study.attacks import NOISE, WHITE_BOX
from gradcam_adv.study.plan import ArmPlan
from gradcam_adv.study.settings import Arm
from gradcam_adv.study.tables import select

Tables = dict[str, pd.DataFrame]


@dataclass(frozen=True)
class Number:
    """One number in large type.

    Attributes:
        name: what it is.
        term: the word that the glossary explains.
        value: the number.
        about: its interval, and what it is to be compared with.
        words: what it means, on the page.
    """

    name: str
    term: str
    value: str
    about: str
    words: str = ""


@dataclass(frozen=True)
class Card:
    """What the first screen says of one network under its own attack.

    Attributes:
        network: its name; ``title``: in words.
        epsilon: which is shown first.
        numbers: in large type, by epsilon.
        plot: a data URI, "" if there is none.
        findings: by epsilon, in one sentence what its gain says, where it is measured.
        warnings: checks of the study's attack on it that failed.
    """

    network: str
    title: str
    epsilon: float
    numbers: Mapping[float, list[Number]]
    plot: str
    findings: Mapping[float, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def first(self) -> list[Number]:
        """The numbers that are shown first."""
        return self.numbers[self.epsilon]


def smallest(epsilons: Iterable[float]) -> float:
    """The smallest level of attack that the paper prints too; without any, the smallest."""
    levels = list(epsilons)
    return min([e for e in levels if e in printed.EPSILONS] or levels)


def heading(arms: Mapping[Arm, ArmPlan]) -> str:
    """What was run, in one line."""
    plan = next(iter(arms.values()))
    study = plan.study
    return (
        f"{', '.join(TITLES[attack] for attack in study.attack)} on "
        f"{counted(len(study.networks), 'face-recognition network')}, each layer "
        f"explained with Grad-CAM; black-box attack made on {title(study.source)}"
    )


def banner(arms: Mapping[Arm, ArmPlan]) -> list[str]:
    """What every number is to be read with: the data, the size, the weights and the choices."""
    plan = next(iter(arms.values()))
    study, table = plan.study, plan.photos.table
    tested = ", ".join(
        f"{len(own.photos.test)} {arm}" if len(arms) > 1 else f"{len(own.photos.test)}"
        for arm, own in arms.items()
    )
    said = [
        f"{data(plan)}, {counted(len(table), 'photo')} of {table['identity'].nunique()} people, "
        f"{tested} in the test set",
        f"{study.image_size} px{' instead of 224' if study.image_size < 224 else ''}",
    ]
    if study.precision != "float32":
        said.append(study.precision.upper())
    said.append(bases(plan))
    if said[-1].startswith("RANDOM"):
        said[-1] += ": they say nothing about the paper's networks"
    if study.source != printed.SOURCE:
        said.append(f"the paper's attack was made on {title(printed.SOURCE)}")
    return said


def of_arm(plan: ArmPlan, summary: Tables) -> list[Card]:
    """A card per network, the study's source first, with what the tables that are there say."""
    study = plan.study
    order = sorted(study.networks, key=lambda network: network != study.source)
    return [_card(plan, summary, network) for network in order]


def _card(plan: ArmPlan, summary: Tables, network: str) -> Card:
    own = {
        name: select(plan.headline(table) if "target" in table else table, network=network)
        for name, table in summary.items()
        if name in ("accuracy", "mod", "gain", "half_shift", "gain_curves")
    }
    levels = plan.study.attacked_epsilons
    shown = smallest(levels)
    numbers = {epsilon: _numbers(own, epsilon) for epsilon in levels}
    said = {}
    if "gain" in own:
        rows = select(own["gain"], attack=WHITE_BOX, control=NOISE)
        said = {e: finding(title(network), select(rows, epsilon=e)) for e in levels}
    warnings = tuple(_warnings(summary, plan.study.own_attack, network))
    if "half_shift" not in own:
        return Card(network, title(network), shown, numbers, "", said, warnings)
    unrelated = select(own["half_shift"], attack=WHITE_BOX)["unrelated"].iloc[0]
    attack, noise = (select(own["gain_curves"], attack=name) for name in (WHITE_BOX, NOISE))
    drawn = plot(attack, noise, unrelated)
    return Card(network, title(network), shown, numbers, drawn, said, warnings)


def _warnings(summary: Tables, attack: str, network: str) -> Iterator[str]:
    if "checks" in summary:
        failed = select(sanity.failures(summary["checks"]), attack=attack, network=network)
        yield from map(attacks.warning, rows_of(failed))


def _numbers(own: Tables, epsilon: float) -> list[Number]:
    """The numbers at one epsilon, of the tables of one network that are there."""
    level = {"attack": WHITE_BOX, "epsilon": epsilon}
    numbers = []
    if "accuracy" in own:
        clean, attacked = (
            next(rows_of(select(own["accuracy"], attack=WHITE_BOX, epsilon=size)))
            for size in (0.0, epsilon)
        )
        ends = (f"[{percent(row.low, 0)}, {percent(row.high, 0)}]" for row in (clean, attacked))
        value = f"{percent(clean.accuracy, 0)} → {percent(attacked.accuracy, 0)} %"
        numbers.append(Number("Accuracy", "white-box", value, " → ".join(ends)))
    if "mod" in own:
        row = next(rows_of(select(own["mod"], **level)))
        numbers.append(moved(row.mod, row.mod_noise, row.unrelated, row.low, row.high))
    if "gain" in own:
        numbers.append(worth(select(own["gain"], control=NOISE, **level)))
    if "half_shift" in own:
        numbers.append(half_shift(select(own["half_shift"], attack=WHITE_BOX)))
    return numbers


def moved(
    mod: float,
    noise: float = math.nan,
    unrelated: float = math.nan,
    low: float = math.nan,
    high: float = math.nan,
) -> Number:
    """MOD with its interval, beside noise and unrelated; what is NaN is not known."""
    ends = "" if math.isnan(low) else f"[{number(low, 2)}, {number(high, 2)}]"
    beside = [
        f"{name} {number(value, 2)}"
        for name, value in (("noise", noise), ("unrelated", unrelated))
        if not math.isnan(value)
    ]
    about = "; ".join(filter(None, [ends, ", ".join(beside)]))
    return Number("Attention moved", "MOD", number(mod, 2), about)


def worth(row: pd.DataFrame) -> Number:
    """The gain over noise, of a row as :func:`gradcam_adv.report.gain.cell` takes it."""
    value, _, ends = gain.cell(next(rows_of(row))).partition(" [")
    about = f"[{ends}" if ends else ""
    return Number("Gain over noise", "gain", f"{value} ×", about, "how much larger noise must be")


def finding(network: str, row: pd.DataFrame) -> str:
    """What the gain of ``row`` says, in one sentence."""
    (of,) = rows_of(row)
    if math.isnan(of.gain):
        return ""
    if math.isinf(of.gain):
        times = f"more than {of.most / of.epsilon:.3g} times"
    elif math.isinf(of.high) and of.low > 1:  # where noise saturates, the gain has no upper end
        times = f"at least {of.low:.1f} times"
    else:
        times = f"{of.gain:.1f} times"
    said = (
        f"At ε = {of.epsilon:g} noise must be {times} as large to move the heatmaps of {network} "
        "as far as the attack"
    )
    if of.low > 1:
        return f"{said}: the attack does more than noise."
    if of.high < 1:
        return f"{said}: the attack does less than noise."
    return f"{said}. The interval has 1 in it: the attack may do no more than noise."


def half_shift(row: pd.DataFrame) -> Number:
    """The half-shift, of a row as :func:`gradcam_adv.report.gain.half` takes it."""
    own, of_noise = (gain.half(next(rows_of(row)), name) for name in ("half_shift", "noise"))
    value, _, ends = own.partition(" [")
    beside = f"that of noise: {of_noise}"
    about = f"[{ends}; {beside}" if ends else beside
    return Number("Half-shift ε", "half-shift ε", value, about)


def plot(attack: pd.DataFrame, noise: pd.DataFrame, unrelated: float) -> str:
    """The small plot, as a data URI."""
    return data_uri(drawing.svg(shift_curve(attack, noise, unrelated)), "image/svg+xml")
