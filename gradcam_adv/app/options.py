"""Options of the commands: a study and its overrides, or a saved model and a folder of images."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from gradcam_adv.attacks import names

PATH = click.Path(path_type=Path)
FOLDER = click.Path(path_type=Path, file_okay=False)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
OPEN = click.option(
    "--open", "open_page", is_flag=True, help="Open the page, report.html, in a browser."
)

STUDY = (
    click.argument("study", type=PATH, default=Path("studies/quick.toml")),
    click.option(
        "--photos",
        metavar="P",
        help="A folder with one folder per identity, or orl, lfw, lfw:DIR, vggface2:DIR.",
    ),
    click.option(
        "--weights",
        metavar="W",
        help="auto, imagenet, random, or a directory of files such as vgg16*.h5.",
    ),
    click.option(
        "--runs", type=PATH, default=Path("runs"), help="Folder of the runs, one folder per study."
    ),
    click.option(
        "--models",
        type=PATH,
        default=Path("models"),
        help="Folder of the .keras files, one folder per study.",
    ),
    click.option(
        "--allow-left-out",
        is_flag=True,
        help="Continue even if more than 10 % of a study's photos can't be used.",
    ),
)
# For commands that compute.
WORK = (
    *STUDY,
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        help="Who computes: this process, or workers of Ray.",
    ),
    click.option(
        "--address",
        metavar="ADDR",
        help="With --engine ray: a cluster to join (auto, HOST:PORT, ray://HOST:PORT); without "
        "it Ray starts on this machine.",
    ),
)


def _size(context: click.Context, option: click.Parameter, typed: str | None) -> Any:
    """(height, width) out of "64" or "64x48"."""
    if typed is None:
        return None
    sides = typed.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise ValueError(f"Expected --size as 224, or 224x160 (height, width). Received: {typed!r}")
    return int(sides[0]), int(sides[-1])


# How a saved model is to be taken.
OPENING = (
    click.option(
        "--pixels",
        type=click.Choice(["0..1", "0..255", "-1..1"]),
        help="Pixels that the model takes. Default: what its first layers tell, or else 0..1.",
    ),
    click.option(
        "--size",
        callback=_size,
        metavar="S",
        help="Side of the images, or HEIGHTxWIDTH, for a model that takes any size.",
    ),
    click.option(
        "--output-layer",
        metavar="L",
        help="Of a model with several outputs: the layer that gives the logits.",
    ),
    click.option(
        "--one-logit",
        is_flag=True,
        help="The model's single unit, without a sigmoid, is a logit and not a regression.",
    ),
    click.option(
        "--module",
        type=PATH,
        metavar="FILE.PY",
        help="Python code that you trust, which registers the model's own classes with Keras. "
        "It is run.",
    ),
)
# For a study or, instead of it, for a model.
MODEL = (
    *WORK,
    click.option("--model", type=PATH, help="A saved model, instead of a study."),
    click.option("--images", type=PATH, help="With --model: a folder of images."),
    click.option(
        "--pairs",
        type=PATH,
        metavar="FILE",
        help="With --model, an embedder: a CSV with the columns image, other and same, or LFW's "
        "pairs.txt. The images lie in --images, or beside the list.",
    ),
    click.option(
        "--threshold",
        type=float,
        metavar="T",
        help="With --pairs: two images of at least this cosine similarity are taken for the same. "
        "Default: the threshold of equal errors on the pairs.",
    ),
    click.option(
        "--layers",
        multiple=True,
        default=["last"],
        metavar="L",
        help="With --model: all, conv, blocks, last, a path or an index; may be repeated.",
    ),
    click.option(
        "--epsilon",
        "epsilons",
        type=float,
        multiple=True,
        help="With --model: size of the attack; may be repeated. Default: 0.01, 0.05, 0.075 and "
        "0.1.",
    ),
    click.option(
        "--attack",
        type=click.Choice(names.NAMES),
        default="fgsm",
        help="With --model: the attack; see docs/how-to/attacks.md.",
    ),
    click.option(
        "--steps",
        type=click.IntRange(1),
        metavar="N",
        help="With --model: number of steps of an attack of several steps. Default: its own.",
    ),
    click.option(
        "--explainer",
        default="gradcam",
        metavar="E",
        help="With --model: gradcam; or gradcam++, layercam or scorecam of tf-keras-vis, slow, "
        "layer by layer.",
    ),
    click.option(
        "--output",
        type=FOLDER,
        help="With --model: folder for the results. Default: out/COMMAND/MODEL.",
    ),
    click.option(
        "--batch-size",
        type=click.IntRange(1),
        help="With --model: images at a time (8; on a GPU what suits its memory).",
    ),
    *OPENING,
)


def reproducing(
    study: Path, *, all_readings: bool = False, allow_left_out: bool = False, **options: Any
) -> str:
    """The command that does the whole study, with the options of another command."""
    usual: dict[str, Any] = {"engine": "local", "runs": Path("runs"), "models": Path("models")}
    words = ["gradcam-adv", "readings" if all_readings else "reproduce", str(study)]
    for name, value in options.items():
        if value != usual.get(name):
            words += [f"--{name}", str(value)]
    return shlex.join([*words, "--allow-left-out"] if allow_left_out else words)


def for_model(options: dict[str, Any]) -> dict[str, Any] | None:
    """Remove the options of a model from those of a study, and check that not both were given.

    Returns what :class:`gradcam_adv.app.folder.FolderWork` takes; None if a study is meant.
    """
    of_models = (
        *("model", "images", "output", "layers", "epsilons", "explainer", "batch_size"),
        *("pixels", "size", "output_layer", "one_logit", "module", "pairs", "threshold"),
        *("attack", "steps"),
    )
    chosen = {name: options.pop(name) for name in of_models}
    context = click.get_current_context()
    shown = {
        parameter.name: parameter.opts[0] if isinstance(parameter, click.Option) else "STUDY"
        for parameter in context.command.params
    }
    typed = [
        name
        for name in context.params
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    ]
    of_study = [shown[name] for name in typed if name in options]
    of_model = [shown[name] for name in typed if name not in options]
    if chosen["model"] is None:
        if of_model:
            raise ValueError(f"Expected --model with {', '.join(of_model)}. Received: no --model")
        return None
    if of_study:
        raise ValueError(
            f"Expected --model or a study. Received: --model and {', '.join(of_study)}"
        )
    if chosen["pairs"] is None:
        if chosen["images"] is None:
            raise ValueError("Expected --images or --pairs with --model. Received: none")
        if chosen["threshold"] is not None:
            raise ValueError("Expected --pairs with --threshold. Received: no --pairs")
    elif chosen["one_logit"]:
        raise ValueError("Expected an embedder with --pairs. Received: --one-logit")
    output = chosen["output"] or Path("out", str(context.info_name), chosen["model"].stem)
    layers = [int(s) if s.lstrip("-").isdigit() else s for s in chosen["layers"]]
    return chosen | {"layers": layers, "output": output}


def check_apart(runs: Path, models: Path) -> None:
    """ValueError for one folder of both: a study would have its run and its models in one place."""
    if runs.resolve() == models.resolve():
        raise ValueError(f"Expected two folders as --runs and --models. Received: {runs} for both")


def check_output(folder: Path, output: Path) -> None:
    """ValueError for an output inside the folder, where a second run would find its pictures."""
    if output.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"Expected an output outside the folder of images. Received: {output} in {folder}"
        )
