"""The command ``gradcam-adv``: its options and arguments, and what each command calls."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from gradcam_adv import machine
from gradcam_adv.app.errors import Commands, in_one_line
from gradcam_adv.app.options import (
    FOLDER,
    JSON,
    MODEL,
    OPEN,
    OPENING,
    PATH,
    STUDY,
    WORK,
    check_apart,
    check_output,
    for_model,
)
from gradcam_adv.app.terminal import in_lines, say, say_json, table_lines

if TYPE_CHECKING:
    from gradcam_adv.app.pipeline import Pipeline
    from gradcam_adv.runs.engines import Engine
    from gradcam_adv.study.settings import Arm


def _pipeline(
    study: Path,
    photos: str | None,
    weights: str | None,
    runs: Path,
    models: Path,
    allow_left_out: bool,
    engine: Literal["local", "ray"],
    address: str | None,
) -> Pipeline:
    from gradcam_adv.app.pipeline import Pipeline
    from gradcam_adv.study import config

    check_apart(runs, models)
    read = config.read(study, photos=photos, weights=weights)
    return Pipeline(
        read,
        runs / read.name,
        models / read.name,
        allow_left_out=allow_left_out,
        given={"file": str(study), "photos": photos, "weights": weights, "engine": engine},
        engine=_engine(engine, address, read.threads or machine.cores()),
    )


def _engine(name: Literal["local", "ray"], address: str | None, threads: int) -> Engine:
    """The engine of that name; ``threads`` are those of each worker of Ray."""
    if name == "local":
        from gradcam_adv.runs.engines import Local

        if address is not None:
            raise ValueError("Expected --engine ray with --address. Received: --engine local")
        return Local()
    try:
        from gradcam_adv.runs.ray_engine import Ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise ImportError(
            'Expected Ray for --engine ray; pip install "gradcam-adv[ray]" installs it. '
            "Received: no module named ray"
        ) from None
    return Ray(threads, address)


def _set_keras() -> None:
    """Check and set Keras' settings, before a saved model is opened."""
    machine.backend()
    from gradcam_adv import backends

    backends.set_keras()


def _run(
    until: str, options: dict[str, Any], *, all_readings: bool = False, open_page: bool = False
) -> None:
    pipeline = _pipeline(**options)
    pipeline.run(until, all_readings=all_readings)
    for path in pipeline.results(until):
        say(f"  {path}")
    if until == "report":
        _look(pipeline.folder / "report.html", open_page)


def _look(page: Path, open_page: bool) -> None:
    """Say which file to look at first, and open it."""
    say(f"Look at {page} in a browser", err=True)
    if open_page and not webbrowser.open(page.resolve().as_uri()):
        say("found no browser", err=True)


@click.group(
    cls=Commands,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "show_default": True,
    },
)
@click.version_option(package_name="gradcam-adv")
@click.option("--traceback", is_flag=True, help="Print the full report of an error as well.")
def main(traceback: bool) -> None:
    """Attack CNN classifiers with FGSM, explain them with Grad-CAM, measure the shift.

    STUDY is a TOML file; studies/quick.toml if none is given. Each stage first runs the stages
    before it that are not done yet. Results go to RUNS/<study's name>.

    Example: gradcam-adv reproduce studies/quick.toml

    Exit status: 0; 2 if something that you gave is wrong, 1 if the machine lacks something, each
    with one line "Error: ..." on stderr; 130 after Ctrl-C, 143 after SIGTERM. --traceback before
    the command prints the full report of an error as well.
    """


def _command(
    *parameters: Callable[[Any], Any], name: str | None = None, says: str | None = None
) -> Callable[[Callable[..., None]], click.Command]:
    """Add a function to the commands, with these parameters; its help is its docstring."""

    def add(function: Callable[..., None]) -> click.Command:
        function = in_one_line(function)
        for parameter in reversed(parameters):
            function = parameter(function)
        return main.command(name, help=says)(function)

    return add


def _stage(name: str, until: str, says: str) -> None:
    example = f"Example: gradcam-adv {name} studies/quick.toml"
    opens = (OPEN,) if until == "report" else ()

    @_command(*WORK, *opens, name=name, says=f"{says}\n\n{example}")
    def stage(open_page: bool = False, **options: Any) -> None:
        _run(until, options, open_page=open_page)


_stage("data", "data", "Choose identities and photos, check, split, find and align their faces.")
_stage("train", "train", "Train a dense head on each frozen base.")
_stage("attack", "attack", "Attack every test photo on every network.")
_stage("evaluate", "evaluate", "Accuracy and PSNR for each network, attack and epsilon.")
_stage("report", "report", "Tables and figures beside the paper's.")
_stage("reproduce", "report", "All stages: the whole study.")


@_command(
    *WORK,
    OPEN,
    click.option(
        "--plan",
        "only_plan",
        is_flag=True,
        help="Only list each reading, what it makes again, and about how long that takes. Chooses "
        "the photos first.",
    ),
)
def readings(open_page: bool, only_plan: bool, **options: Any) -> None:
    """All stages, then the study under other readings of what the paper leaves open.

    What the study has computed is used again. The report then says how near each reading comes
    to the paper's tables, and which verdicts depend on a reading. Takes many times as long as
    the study.

    Example: gradcam-adv readings studies/two.toml --photos people --weights weights --plan
    """
    if only_plan:
        from gradcam_adv.app.reading_plan import reading_plan

        pipeline = _pipeline(**options)
        pipeline.run("data")
        plans, left_out = pipeline.reading_plans()
        say(*table_lines(reading_plan(plans, pipeline.runner).round({"minutes": 1})))
        say(*(f"left out: {name}: {reason}" for name, reason in left_out.items()))
        return
    _run("report", options, all_readings=True, open_page=open_page)


@_command(*MODEL, OPEN)
def explain(open_page: bool, **options: Any) -> None:
    """Grad-CAM heatmaps of a study's test photos, or of a saved model on a folder of images.

    With --model it attacks the images with FGSM at each --epsilon and writes a page to look at,
    heatmaps, overlays, tables and a contact sheet to --output. With --pairs the model is an
    embedder; the similarity of the images of each pair is attacked and explained.

    Example: gradcam-adv explain studies/quick.toml

    Example: gradcam-adv explain --model my.keras --images photos --layers blocks
    --output out/explain

    Example: gradcam-adv explain --model embedder.keras --pairs pairs.csv
    """
    chosen = for_model(options)
    if chosen is None:
        _run("explain", options)
        return
    _set_keras()
    from gradcam_adv.app.folder import FolderWork

    work = FolderWork(**chosen)
    say(work.explain())
    _look(work.page, open_page)


@_command(
    *MODEL, OPEN, click.option("--json", "as_json", is_flag=True, help="With --model: print JSON.")
)
def score(as_json: bool, open_page: bool, **options: Any) -> None:
    """MOD, VID and gain with their controls: of a study, or of a saved model on a folder of images.

    With --pairs also how often the embedder is wrong about pairs, clean and under attack.

    The gain says how many times larger random noise must be to move the heatmaps as far. In JSON an
    infinite gain, more than any noise that was tried, is null.

    Example: gradcam-adv score studies/quick.toml

    Example: gradcam-adv score --model my.keras --images photos --layers all --output out/score
    """
    chosen = for_model(options)
    if chosen is None:
        _run("score", options)
        return
    _set_keras()
    from gradcam_adv.app import folder

    work = folder.FolderWork(**chosen)
    result, said = work.score()
    names = ("mod", "vid", "gain", "half_shift", "rates")
    tables = {name: table for name, table in vars(result).items() if name in names}
    if as_json:
        say_json(tables)
    else:
        if "rates" in tables:
            say(*table_lines(tables["rates"].round(4)), "")
        say(*table_lines(folder.by_layer(result)), "")
        say(*table_lines(folder.gain_by_layer(result)))
    say(said, err=True)
    _look(work.page, open_page)


@_command(click.argument("model", type=PATH), *OPENING, JSON)
def layers(model: Path, as_json: bool, **opening: Any) -> None:
    """The layers of a saved model that have a heatmap, with the shape of their output.

    On stderr: the pixels that the model takes, and how that is known.

    Example: gradcam-adv layers my.keras
    """
    _set_keras()
    from gradcam_adv.app.opening import layers_of

    table, pixels = layers_of(model, **opening)
    if as_json:
        say_json(table)
    else:
        say(*table_lines(table))
    say(str(pixels), err=True)


@_command(click.argument("files", metavar="FILE...", type=PATH, nargs=-1, required=True), JSON)
def check(files: tuple[Path, ...], as_json: bool) -> None:
    """What model (.keras) and weights (.h5) files hold, and whether they would be opened.

    Exit status 2 if one of them would be refused.

    Example: gradcam-adv check my.keras weights/vgg16.weights.h5
    """
    machine.backend()
    from gradcam_adv import backends
    from gradcam_adv.app import check as looked

    backends.set_keras()
    found = [looked.check(path) for path in files]
    if as_json:
        say_json([asdict(f) | {"opens": f.refused is None} for f in found])
    else:
        say(*(f.text() for f in found))
    if any(f.refused is not None for f in found):
        click.get_current_context().exit(2)


@_command(
    *WORK,
    click.option("--network", help="The network on which the attack was made."),
    click.option(
        "--arm",
        type=click.Choice(["plain", "aligned"]),
        default="plain",
        help="Photos as they are, or aligned crops.",
    ),
    click.option(
        "--epsilon",
        type=float,
        help="Size of the attack; of FGSM any, not only the study's.",
    ),
    click.option("--output", type=FOLDER, metavar="DIR", help="Folder for the files."),
    click.option(
        "--results",
        type=PATH,
        metavar="FILE.zip",
        help="Instead: write the finished run's tables and manifests there, without photos, maps "
        "and models. gradcam-adv compare reads it.",
    ),
)
def export(
    network: str | None,
    arm: Arm,
    epsilon: float | None,
    output: Path | None,
    results: Path | None,
    **options: Any,
) -> None:
    """Write the perturbed test photos of one epsilon as PNG files (rounded to 8 bits).

    With --results, all results of a finished run as one file to send to somebody. Its tables name
    photos and people as the folders of photos do.

    Example: gradcam-adv export --network resnet50 --epsilon 0.05 --output exported

    Example: gradcam-adv export studies/quick.toml --results quick.zip
    """
    if results is not None and {network, epsilon, output} == {None}:
        _export_results(results, options["runs"], options["study"])
        return
    if results is not None or network is None or epsilon is None or output is None:
        given = {
            "--network": network,
            "--epsilon": epsilon,
            "--output": output,
            "--results": results,
        }
        received = ", ".join(name for name, value in given.items() if value is not None)
        raise ValueError(
            "Expected --network, --epsilon and --output, or --results alone. "
            f"Received: {received or 'none of them'}"
        )
    from gradcam_adv.models import backbones
    from gradcam_adv.study.export import check_epsilon, write_png

    if not 0 <= epsilon <= 1:  # NaN fails this, too
        raise ValueError(f"Expected --epsilon from 0 to 1. Received: {epsilon}")
    pipeline = _pipeline(**options)
    check_output(pipeline.listing.root, output)
    backbones.find(network)  # for an unknown name, its error names the nearest
    study = pipeline.study
    for name, value, choices in (("network", network, study.networks), ("arm", arm, study.arms)):
        if value not in choices:
            raise ValueError(
                f"Expected --{name} out of the study's, {', '.join(choices)}. Received: {value!r}"
            )
    check_epsilon(pipeline.plan.arms[arm], network, epsilon)
    pipeline.run("attack")
    count = write_png(pipeline.plan.arms[arm], network, epsilon, output)
    say(f"{count} photos in {output}")


def _export_results(archive: Path, runs: Path, study: Path) -> None:
    from gradcam_adv.report.archive import write_archive
    from gradcam_adv.report.compare import open_run
    from gradcam_adv.study import config

    run = open_run(runs / config.read(study).name)
    count = write_archive(run.folder, run.report, archive)
    say(f"{count} files in {archive}")


@_command(click.argument("run", type=PATH, default=Path("runs/quick")), JSON)
def status(run: Path, as_json: bool) -> None:
    """How far the run in a folder is: each stage done, stale (and why), partly done, or missing.

    Judged by the study's file, photos and weights as they are now.

    Example: gradcam-adv status runs/quick
    """
    from gradcam_adv.app.status import of_run

    state = of_run(run)
    if as_json:
        say_json(asdict(state) | {"done": state.is_done})
    else:
        say(*state.lines())


@_command(
    click.argument("first", metavar="RUN", type=PATH),
    click.argument("second", metavar="RUN", type=PATH),
    click.option(
        "--output", type=FOLDER, metavar="DIR", help="Write all attacks and levels there as CSV."
    ),
    JSON,
)
def compare(first: Path, second: Path, output: Path | None, as_json: bool) -> None:
    """How accuracy, MOD and VID differ between two finished runs, with 95 % intervals.

    Photo by photo if both test the same photos. Prints the black-box attack; as JSON, all attacks.

    Example: gradcam-adv compare runs/quick runs/other --output differences
    """
    from gradcam_adv.report.compare import compare_runs, describe

    comparison = compare_runs(first, second)
    written = [] if output is None else comparison.write(output)
    if as_json:
        say_json(comparison.tables)
        return
    say(*in_lines(describe(comparison)), *(f"  {path}" for path in written))


@_command(*STUDY, JSON)
def doctor(study: Path, as_json: bool, allow_left_out: bool, **options: Any) -> None:
    """Check what STUDY needs (versions, cores, memory, GPU, weights), and say what will happen.

    Downloads and changes nothing. Exit status 1 if the study can't run.

    Example: gradcam-adv doctor studies/paper.toml --photos people
    """
    from gradcam_adv.app.doctor import examine

    found = examine(study, **options)
    if as_json:
        say_json({"can_run": found.can_run, **asdict(found)})
    else:
        say(*found.lines())
    if not found.can_run:
        click.get_current_context().exit(1)


@_command(*STUDY)
def clean(study: Path, runs: Path, models: Path, **_: Any) -> None:
    """Delete the files that this tool made for STUDY: its run and its models, nothing else.

    Example: gradcam-adv clean studies/quick.toml
    """
    from gradcam_adv.app.pipeline import clean_run
    from gradcam_adv.study import config

    check_apart(runs, models)
    name = config.read(study).name
    cleaned = clean_run(runs / name, models / name)
    say(f"{cleaned.removed} files removed")
    say(*(f"left alone, since somebody changed it: {path}" for path in cleaned.left))
