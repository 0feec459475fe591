"""Judging the claims twice: on the paper's own tables, and on a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal

import pandas as pd

from gradcam_adv import statistics
from gradcam_adv.models.backbones import titles
from gradcam_adv.paper.claims import CLAIMS, UNITS, Claim
from gradcam_adv.paper.evidence import Evidence, NotJudged, Run, needed
from gradcam_adv.paper.on_run import Findings
from gradcam_adv.study.attacks import BLACK_BOX, NOISE
from gradcam_adv.study.plan import ArmPlan
from gradcam_adv.study.settings import Arm, Study

HOLDS, FAILS = "holds", "does not hold"
INCONCLUSIVE, NOT_JUDGED = "inconclusive", "not judged"


@dataclass(frozen=True)
class Verdict:
    """The verdict on one claim, a row of the tables.

    Attributes:
        claim: its name in :data:`gradcam_adv.paper.claims.CLAIMS`.
        says: the claim in this project's words.
        place: in the paper.
        on: "paper", its printed tables, or "run".
        arm: "plain", "aligned", "both", or "not said" for the paper's Table 3.
        verdict: "holds", "does not hold", "inconclusive" or "not judged".
        effect: what was found, with 95 % intervals if there are any.
        detail: the data behind the verdict, what contradicts it, or why there is none.
        rule: by which it was judged.
        p: of the verdict, or of the one that comes nearest; NaN on printed tables.
        p_holm: the same, corrected by Holm's method for all verdicts on the run.
    """

    claim: str
    says: str
    place: str
    on: str
    arm: str
    verdict: str
    effect: str = ""
    detail: str = ""
    rule: str = ""
    p: float = math.nan
    p_holm: float = math.nan


def judge_all(arms: Mapping[Arm, ArmPlan]) -> pd.DataFrame:
    """Every claim on the paper's own tables and on a run that is done; columns of Verdict."""
    return pd.concat([judge_paper(), judge_plan(arms)], ignore_index=True)


def judge_plan(arms: Mapping[Arm, ArmPlan], *, variation: bool = False) -> pd.DataFrame:
    """Every claim on a run that is done; on a variation by the attacks that all of them have."""
    run = run_of(arms, variation=variation)
    return judge(run.arms, run.study, run.origins)


def run_of(arms: Mapping[Arm, ArmPlan], *, variation: bool) -> Run:
    """What a run that is done measured; of a variation under the attacks that all of them have."""
    found = {}
    for arm, plan in arms.items():
        # One network at a time: of a large study only the needed rows fit into memory.
        parts = [needed(score.of_study(), plan.study) for score in plan.score.values()]
        predictions, nissim = plan.accuracy.table("predictions"), pd.concat(parts)
        if variation:
            predictions, nissim = (
                table[table["attack"].isin((BLACK_BOX, NOISE))] for table in (predictions, nissim)
            )
        found[arm] = Evidence(predictions, nissim)
    first = next(iter(arms.values()))
    origins = {network: weights.origin for network, weights in first.weights.items()}
    return Run(found, first.study, origins)


def judge_paper() -> pd.DataFrame:
    """Every claim on the paper's own tables: one row per claim and set of photos."""
    verdicts = []
    for claim in CLAIMS:
        about = (claim.name, claim.says, claim.place, "paper")
        rule = claim.on_paper
        if isinstance(rule, str):
            detail = f"the paper prints no {rule}"
            verdicts.append(Verdict(*about, "not said", NOT_JUDGED, detail=detail))
            continue
        for found in rule.find():
            verdict = {True: HOLDS, False: FAILS, None: INCONCLUSIVE}[found.holds]
            verdicts.append(
                Verdict(*about, found.arm, verdict, found.effect, found.detail, rule.text)
            )
    return pd.DataFrame(map(asdict, verdicts))


def judge(arms: Mapping[Arm, Evidence], study: Study, origins: Mapping[str, str]) -> pd.DataFrame:
    """Every claim on a run: one row per claim and arm, or per claim about both arms.

    The arguments are the attributes of :class:`Run`. Claims that compare networks are not judged if
    only some have random weights.
    """
    run = Run(arms, study, origins)
    verdicts = []
    for claim in CLAIMS:
        about: tuple[Arm | Literal["both"], ...] = ("both",) if claim.both else tuple(arms)
        verdicts += [_judge_one(run, claim, arm) for arm in about]
    table = pd.DataFrame(map(asdict, verdicts))
    table["p_holm"] = statistics.holm([verdict.p for verdict in verdicts])
    unclear = table["p_holm"] >= statistics.SIGNIFICANCE
    table.loc[unclear, "verdict"] = INCONCLUSIVE
    alone = unclear & (table["p"] < statistics.SIGNIFICANCE)
    table.loc[alone, "detail"] += "; clear alone, but not after the correction for all verdicts"
    return table


def _judge_one(run: Run, claim: Claim, arm: Arm | Literal["both"]) -> Verdict:
    """The verdict before Holm's correction over all verdicts."""
    verdict = Verdict(
        claim.name, claim.says, claim.place, "run", arm, NOT_JUDGED, rule=claim.full_rule
    )
    try:
        if claim.both and len(run.arms) < 2:
            raise NotJudged("the run has one arm only")
        _check_weights(run, claim)
        # A claim about both arms takes both from the run.
        found = claim.find(run, "plain" if arm == "both" else arm)
        if not found.needed:
            raise NotJudged("the run has nothing to judge it by")
    except NotJudged as reason:
        return replace(verdict, detail=str(reason))
    weighed = weigh(found, absent=claim.absent)
    unit = UNITS[claim.unit]
    return replace(
        verdict,
        verdict=weighed.leaning,
        effect="; ".join(f"{name} {unit.shown(effect)}" for name, effect in found.needed.items()),
        detail=_detail(found, weighed),
        p=weighed.p,
    )


def _check_weights(run: Run, claim: Claim) -> None:
    random = [network for network in run.networks if run.origins[network] == "random"]
    if claim.compares and 0 < len(random) < len(run.networks):
        raise NotJudged(
            f"the weights of {titles(random)} are random and those of the others are "
            "not, so a difference would be the weights'"
        )


@dataclass(frozen=True)
class Weighed:
    """The verdict that findings point to, "holds" or "does not hold", and its p.

    ``against`` names the effects that clearly contradict the claim, ``unclear`` the needed effects
    that are clear neither for nor against it.
    """

    leaning: str
    p: float
    against: tuple[str, ...]
    unclear: tuple[str, ...]


def weigh(findings: Findings, *, absent: bool = False) -> Weighed:
    """Whether effects speak for a claim or against it, before Holm's correction over all claims.

    For a claim to hold all needed effects must be clear, so their largest p counts. For it not to
    hold one effect against it is enough, so the smallest p counts, corrected by Holm's method for
    the number of effects. An effect that is clear but small does not contradict the claim.

    Args:
        findings: with at least one needed effect.
        absent: the claim is that there is no effect.
    """
    there = {name: effect.p for name, effect in findings.needed.items()}
    short = {name: effect.p_short for name, effect in findings.needed.items()}
    if absent:
        agrees, disagrees = short, there
    else:
        agrees = {n: p if findings.needed[n].value > 0 else 1.0 for n, p in there.items()}
        disagrees = short
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
