"""The command ``gradcam-adv``: parse, delegate, and turn a user's errors into one line."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradcam_adv import batching as batches
from gradcam_adv.app.errors import as_typed, in_one_line
from gradcam_adv.app.options import (
    JSON,
    MODEL,
    own_model_command,
    own_model_given,
    reproducing,
    study_command,
    working_command,
)

if TYPE_CHECKING:
    import pandas as pd

    from gradcam_adv.app.pipeline import Pipeline
    from gradcam_adv.runs import engines
    from gradcam_adv.study.config import Arm


def _print_json(content: Any) -> None:
    click.echo(json.dumps(content, indent=2, ensure_ascii=False))


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A table for JSON: numbers in full, null where there is none."""
    rows: list[dict[str, Any]] = json.loads(
        table.to_json(orient="records", double_precision=15, force_ascii=False)
    )
    return rows


def _pipeline(
    study: Path,
    photos: str | None,
    weights: str | None,
    runs: Path,
    models: Path,
    allow_left_out: bool,
    engine: engines.Name,
    address: str | None,
    command: str | None = None,
) -> Pipeline:
    """What does a study; ``command``, or else the one typed, goes on with it."""
    from gradcam_adv.app import pipeline
    from gradcam_adv.runs import engines
    from gradcam_adv.study import config as studies

    read = studies.read(study, photos=photos, weights=weights)
    given = {
        "study": str(study.absolute()),
        "photos": photos,
        "weights": weights,
        "allow_left_out": allow_left_out,
        "command": command or as_typed(),
    }
    chosen = engines.choose(engine, address, read.threads or batches.cores())
    return pipeline.Pipeline(
        read,
        runs / read.name,
        models / read.name,
        allow_left_out=allow_left_out,
        given=given,
        engine=chosen,
    )


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="gradcam-adv")
def main() -> None:
    """Attack CNN classifiers with FGSM, explain them with Grad-CAM, score the shift.

    STUDY is a TOML file, studies/quick.toml where none is given. Each stage runs the stages
    before it that are not done yet; results go to RUNS/<study's name>.

    Example: gradcam-adv reproduce studies/quick.toml

    Exit status: 0; 2 for what was given, 1 for what the machine lacks, each with one line "Error:
    ..." on stderr; 130 after Ctrl-C, 143 after SIGTERM.
    """


def _run(until: str, options: dict[str, Any]) -> None:
    pipeline = _pipeline(**options)
    pipeline.run(until)
    for path in pipeline.results(until):
        click.echo(f"  {path}")


def _stage(name: str, until: str, says: str) -> None:
    @main.command(name, help=f"{says}\n\nExample: gradcam-adv {name} studies/quick.toml")
    @working_command
    @in_one_line
    def stage(**options: Any) -> None:
        _run(until, options)


_stage("data", "data", "Choose identities and photos, check, split, find and align their faces.")
_stage("train", "train", "Train a dense head on each frozen base.")
_stage("attack", "attack", "Take the FGSM sign of every test photo on every network.")
_stage("evaluate", "evaluate", "Accuracy and PSNR for each network, attack and epsilon.")
_stage("report", "report", "Tables and figures of the paper beside this run's.")
_stage("reproduce", "report", "All stages: the whole study.")


@main.command()
@working_command
@in_one_line
def readings(**options: Any) -> None:
    """All stages, then again under other readings of what the paper leaves open, and pairs of them.

    Reuses what is computed; the report then tells how near each comes to the paper's tables and
    which verdicts depend on one. Takes several times as long as the study.

    Example: gradcam-adv readings studies/two.toml --photos people --weights weights
    """
    pipeline = _pipeline(**options)
    pipeline.run(all_readings=True)
    for path in pipeline.results("report"):
        click.echo(f"  {path}")


@main.command()
@own_model_command
@in_one_line
def explain(**options: Any) -> None:
    """Grad-CAM heatmaps, of a study's test photos or of a saved model on a folder of images.

    With --model it attacks the images with FGSM at each --epsilon and writes heatmaps, overlays,
    tables and a contact sheet to --output.

    Example: gradcam-adv explain studies/quick.toml

    Example: gradcam-adv explain --model my.keras --images photos --layers blocks
    --output out/explain
    """
    from gradcam_adv.app import folder as own_model

    own = own_model_given(options)
    if own is None:
        _run("explain", options)
    else:
        click.echo(own_model.explain(**own))


@main.command()
@own_model_command
@click.option("--json", "as_json", is_flag=True, help="With --model: print JSON.")
@in_one_line
def score(as_json: bool, **options: Any) -> None:
    """MOD and VID with their controls, of a study or of a saved model on a folder of images.

    Example: gradcam-adv score studies/quick.toml

    Example: gradcam-adv score --model my.keras --images photos --layers all --output out/score
    """
    from gradcam_adv.app import folder as own_model

    own = own_model_given(options, with_model=["--json"] * as_json)
    if own is None:
        _run("score", options)
        return
    result, said = own_model.score(**own)
    if as_json:
        _print_json({"mod": _rows(result.mod), "vid": _rows(result.vid)})
    else:
        click.echo(own_model.by_layer(result).to_markdown(index=False, disable_numparse=True))
    click.echo(said, err=True)


@main.command()
@click.argument("model", type=MODEL)
@JSON
@in_one_line
def layers(model: Path, as_json: bool) -> None:
    """What can be explained in a saved model: layers with the shape of their maps.

    Example: gradcam-adv layers my.keras
    """
    from gradcam_adv.app import folder as own_model

    table = own_model.layers_of(model)
    if as_json:
        _print_json(_rows(table))
    else:
        click.echo(table.to_markdown(index=False))


@main.command()
@working_command
@click.option("--network", required=True, help="The network on which the attack was made.")
@click.option(
    "--arm",
    type=click.Choice(["plain", "aligned"]),
    default="plain",
    show_default=True,
    help="Photos as they are, or aligned crops.",
)
@click.option(
    "--epsilon", type=float, required=True, help="Level of attack; any, not only the study's."
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="DIR",
    help="Where to.",
)
@in_one_line
def export(network: str, arm: Arm, epsilon: float, output: Path, **options: Any) -> None:
    """Write the perturbed test photos of one epsilon as PNG files (rounded to 8 bits).

    Example: gradcam-adv export --network resnet50 --epsilon 0.05 --output exported
    """
    from gradcam_adv.app import folder as own_model
    from gradcam_adv.models import backbones
    from gradcam_adv.study import export as exports

    if not 0 <= epsilon <= 1:  # NaN fails this, too
        raise ValueError(f"Expected --epsilon from 0 to 1. Received: {epsilon}")
    pipeline = _pipeline(**options, command=reproducing(**options))
    own_model.check_output(pipeline.listing.root, output)
    if backbones.find(network).name not in pipeline.study.networks:
        raise ValueError(
            f"Expected --network out of the study's, {', '.join(pipeline.study.networks)}. "
            f"Received: {network!r}"
        )
    if arm not in pipeline.study.arms:
        raise ValueError(
            f"Expected --arm out of the study's, {', '.join(pipeline.study.arms)}. "
            f"Received: {arm!r}"
        )
    pipeline.run("attack")
    count = exports.write_png(pipeline.settings[arm], network, epsilon, output)
    click.echo(f"{count} photos in {output}")


@main.command()
@click.argument("run", type=click.Path(path_type=Path), default=Path("runs/quick"))
@JSON
@in_one_line
def status(run: Path, as_json: bool) -> None:
    """How far the run in a folder is: each stage done, stale (and why), partly done, or missing.

    Judged by the study's file, the photos and the weights as they are now.

    Example: gradcam-adv status runs/quick
    """
    from gradcam_adv.app import status as statuses

    state = statuses.of_run(run)
    if as_json:
        facts = {"folder": str(run), "study": state.study, "photos": state.photos}
        work = {"command": state.command, "at_work": state.at_work, "done": state.is_done}
        _print_json({**facts, **work, "stages": _rows(state.stages)})
    else:
        click.echo(state.text())


@main.command()
@click.argument("first", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("second", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write all attacks and levels there as CSV.",
)
@JSON
@in_one_line
def compare(first: Path, second: Path, output: Path | None, as_json: bool) -> None:
    """How accuracy, MOD and VID differ between two finished runs, with 95 % intervals.

    Photo by photo where both test the same photos. Prints the black-box attack; as JSON, all of
    them.

    Example: gradcam-adv compare runs/quick runs/other --output differences
    """
    from gradcam_adv.report import compare as comparing
    from gradcam_adv.report import compared

    comparison = comparing.runs(first, second)
    written = [] if output is None else comparison.write(output)
    if as_json:
        _print_json({name: _rows(table) for name, table in comparison.tables.items()})
        return
    click.echo(compared.describe(comparison))
    for path in written:
        click.echo(f"  {path}")


@main.command()
@study_command
@JSON
@in_one_line
def doctor(
    study: Path,
    photos: str | None,
    weights: str | None,
    runs: Path,
    models: Path,
    as_json: bool,
    **_: Any,
) -> None:
    """What there is for STUDY (versions, cores, memory, GPU, weights), and what will happen.

    Downloads and changes nothing. Exit status 1 when something keeps the study from running.

    Example: gradcam-adv doctor studies/paper.toml --photos people
    """
    from gradcam_adv.app import doctor as doctors

    found = doctors.examine(study, photos=photos, weights=weights, runs=runs, models=models)
    if as_json:
        _print_json({"can_run": found.can_run, **asdict(found)})
    else:
        click.echo(found.text())
    if not found.can_run:
        click.get_current_context().exit(1)


@main.command()
@study_command
@in_one_line
def clean(**options: Any) -> None:
    """Delete what this tool recorded as made for STUDY: its run and its models, nothing else.

    Example: gradcam-adv clean studies/quick.toml
    """
    from gradcam_adv.runs import cleaning
    from gradcam_adv.study import config as studies

    name = studies.read(options["study"]).name
    cleaned = cleaning.clean(options["runs"] / name, options["models"] / name)
    click.echo(f"{cleaned.removed} files removed")
    for path in cleaned.left:
        click.echo(f"left alone, for it is not as it was made: {path}")
