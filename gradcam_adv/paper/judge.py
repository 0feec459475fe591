"""The paper's claims judged twice: on its own printed tables, and on a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import pandas as pd

from gradcam_adv import statistics
from gradcam_adv.paper import evidence, rules
from gradcam_adv.paper import on_paper as printed
from gradcam_adv.paper import tables as paper
from gradcam_adv.paper.effects import Effect
from gradcam_adv.paper.evidence import Evidence, Run
from gradcam_adv.paper.on_run import Findings
from gradcam_adv.paper.rules import Rule
from gradcam_adv.study.config import Arm, Readings

HOLDS, FAILS, UNKNOWN, NOT_JUDGED = "holds", "does not hold", "can't be told", "not judged"


@dataclass(frozen=True)
class Verdict:
    """One claim's verdict, a row of the tables.

    Attributes:
        claim: its name in :data:`paper.CLAIMS`.
        says: the claim in this project's words.
        place: in the paper.
        on: "paper", its printed tables, or "run".
        arm: "plain", "aligned", "both", or "not said" of the paper's Table 3.
        verdict: "holds", "does not hold", "can't be told" or "not judged".
        effect: what was found, with 95 % intervals where there are any.
        detail: on what the verdict rests, what speaks against it, or why there is none.
        rule: by which it was judged.
        p: of the verdict or of what comes nearest to one; NaN on printed tables.
        p_holm: the same after Holm for all verdicts on the run.
    """

    claim: str
    says: str
    place: str
    on: Literal["paper", "run"]
    arm: str
    verdict: str
    effect: str = ""
    detail: str = ""
    rule: str = ""
    p: float = math.nan
    p_holm: float = math.nan


def judge_paper() -> pd.DataFrame:
    """Every claim against the paper's own tables: one row a claim and set of photos.

    Returns:
        The columns of :class:`Verdict`.
    """
    return _table([verdict for claim in paper.CLAIMS for verdict in _judge_printed(claim)])


def _judge_printed(claim: paper.Claim) -> list[Verdict]:
    found = printed.FINDINGS[claim.name]
    verdict = Verdict(claim.name, claim.says, claim.place, "paper", "not said", NOT_JUDGED)
    if isinstance(found, str):
        return [replace(verdict, detail=f"the paper prints no {found}")]
    return [
        replace(
            verdict,
            arm=one.arm,
            verdict={True: HOLDS, False: FAILS, None: UNKNOWN}[one.holds],
            effect=one.effect,
            detail=one.detail,
            rule=one.rule,
        )
        for one in found()
    ]


def judge(
    arms: Mapping[Arm, Evidence],
    networks: Sequence[str],
    source: str,
    origins: Mapping[str, str],
    readings: Readings,
    seed: int = 0,
) -> pd.DataFrame:
    """Every claim on a run: one row a claim and arm, or a claim about both arms.

    Args:
        arms: what was measured, by arm.
        networks: of the study, out of the five.
        source: the network on which the black-box attack was made.
        origins: by network, where the weights of its base come from: "imagenet", "file" or
            "random". Claims that compare networks are not judged where only some are random.
        readings: which class is explained, at which size, and over which levels VID goes.
        seed: of resampling.

    Returns:
        The columns of :class:`Verdict`.

    Raises:
        ValueError: no arm, or a network without an origin.
    """
    if not arms:
        raise ValueError("Expected the evidence of one arm or both. Received: none")
    if missing := [network for network in networks if network not in origins]:
        raise ValueError(
            f"Expected the origin of every network's weights. Received: {dict(origins)}, without "
            f"{', '.join(missing)}"
        )
    run = Run(arms, networks, source, origins, readings, seed)
    verdicts = []
    for claim in paper.CLAIMS:
        rule = rules.RULES[claim.name]
        about: tuple[Arm | Literal["both"], ...] = ("both",) if rule.both else tuple(arms)
        verdicts += [_judge_one(run, claim, rule, arm) for arm in about]
    corrected = statistics.holm([verdict.p for verdict in verdicts])
    return _table(
        [
            _after_correction(verdict, float(p))
            for verdict, p in zip(verdicts, corrected, strict=True)
        ]
    )


def _table(rows: Sequence[Verdict]) -> pd.DataFrame:
    return pd.DataFrame([asdict(row) for row in rows])


def _judge_one(run: Run, claim: paper.Claim, rule: Rule, arm: Arm | Literal["both"]) -> Verdict:
    """The verdict before Holm's correction over all of them."""
    verdict = Verdict(
        claim.name, claim.says, claim.place, "run", arm, NOT_JUDGED, rule=rules.text_of(rule)
    )
    # A claim about both arms takes them from the run itself.
    found = _why_not(run, claim, rule) or rule.find(run, "plain" if arm == "both" else arm)
    if isinstance(found, str):
        return replace(verdict, detail=found)
    if not found.needed:
        return replace(verdict, detail="the run has nothing to judge it by")
    weighed = weigh(found, absent=rule.absent)
    return replace(
        verdict,
        verdict=weighed.leaning,
        effect="; ".join(f"{name} {_shown(e, rule.unit)}" for name, e in found.needed.items()),
        detail=_detail(found, weighed),
        p=weighed.p,
    )


def _after_correction(verdict: Verdict, p_holm: float) -> Verdict:
    if math.isnan(p_holm):
        return verdict
    clear = p_holm < statistics.SIGNIFICANCE
    return replace(verdict, verdict=verdict.verdict if clear else UNKNOWN, p_holm=p_holm)


def _why_not(run: Run, claim: paper.Claim, rule: Rule) -> str:
    if rule.both and len(run.arms) < 2:
        return "the run has one arm only"
    random = [network for network in run.networks if run.origins[network] == "random"]
    if claim.compares and 0 < len(random) < len(run.networks):
        return (
            f"the weights of {evidence.titles(random)} are random and those of the others are "
            "not, so a difference would be the weights'"
        )
    return ""


@dataclass(frozen=True)
class Weighed:
    """Towards which verdict findings lean.

    Attributes:
        leaning: "holds" or "does not hold".
        p: of that, which has to stand Holm's correction over all claims.
        against: names of the effects that speak clearly against the claim.
        unclear: names of the needed effects that speak clearly neither for nor against it.
    """

    leaning: str
    p: float
    against: tuple[str, ...]
    unclear: tuple[str, ...]


def weigh(findings: Findings, *, absent: bool = False) -> Weighed:
    """Whether effects speak for a claim or against it, before Holm over all claims.

    For it to hold all needed effects must be clear, so their largest p counts; for it not to hold
    one effect against it is enough, so the smallest p counts, after Holm for how many could be.
    An effect that is clear but small does not speak against the claim.

    Args:
        findings: with at least one needed effect.
        absent: the claim is that there is no effect.
    """
    agrees = {
        name: effect.p if effect.value > 0 else 1.0 for name, effect in findings.needed.items()
    }
    disagrees = {name: effect.p_short for name, effect in findings.needed.items()}
    if absent:
        agrees, disagrees = disagrees, {n: effect.p for n, effect in findings.needed.items()}
    clear = {name for name, p in agrees.items() if p < statistics.SIGNIFICANCE}
    disagrees |= dict.fromkeys(clear, 1.0)
    disagrees |= {
        name: effect.p if effect.value < 0 else 1.0 for name, effect in findings.steps.items()
    }
    corrected = dict(zip(disagrees, statistics.holm(list(disagrees.values())), strict=True))
    against = tuple(name for name, p in corrected.items() if p < statistics.SIGNIFICANCE)
    unclear = tuple(name for name in agrees if name not in clear and name not in against)
    if against:
        return Weighed(FAILS, float(min(corrected.values())), against, unclear)
    return Weighed(HOLDS, max(agrees.values()), against, unclear)


def _detail(findings: Findings, weighed: Weighed) -> str:
    counts = [effect.count for effect in findings.needed.values()]
    people = max(effect.identities for effect in findings.needed.values())
    many = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    parts = [f"from {many} values of {people} people"]
    if weighed.against:
        parts.append(f"against it: {', '.join(weighed.against)}")
    if weighed.unclear:
        parts.append(f"not clear: {', '.join(weighed.unclear)}")
    return "; ".join([*parts, findings.note] if findings.note else parts)


def _shown(effect: Effect, unit: str) -> str:
    if math.isnan(effect.value):
        return "–"
    scale, start, digits = {
        "points": (100, 0.0, 1),
        "nissim": (1, 0.0, 4),
        "auc": (1, 0.5, 3),
        "length": (1, 0.0, 2),
    }[unit]
    value, low, high = (
        "–" if math.isnan(number) else f"{scale * (number + start):.{digits}f}"
        for number in (effect.value, effect.low, effect.high)
    )
    return f"{value} [{low}, {high}]"
