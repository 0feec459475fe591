"""What the commands take: a study and what stands in for its keys, or a saved model and images."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

STUDY = click.argument("study", type=click.Path(path_type=Path), default=Path("studies/quick.toml"))
OPTIONS = (
    click.option(
        "--photos",
        metavar="P",
        help="Folder of one folder per identity, or orl, lfw, lfw:DIR, vggface2:DIR.",
    ),
    click.option(
        "--weights",
        metavar="W",
        help="auto, imagenet, random, or a directory of files such as vgg16*.h5.",
    ),
    click.option(
        "--runs",
        type=click.Path(path_type=Path),
        default=Path("runs"),
        show_default=True,
        help="Where results go, a folder a study.",
    ),
    click.option(
        "--models",
        type=click.Path(path_type=Path),
        default=Path("models"),
        show_default=True,
        help="Where .keras files go, a folder a study.",
    ),
    click.option(
        "--allow-left-out",
        is_flag=True,
        help="Go on when more than 10 % of a study's photos can't be used.",
    ),
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
MODEL = click.Path(path_type=Path)


def study_command(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command STUDY and OPTIONS, in the order in which they stand here."""
    for decorate in (*reversed(OPTIONS), STUDY):
        command = decorate(command)
    return command


ENGINE = (
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="What computes: this process, or workers of Ray.",
    ),
    click.option(
        "--address",
        metavar="ADDR",
        help="With --engine ray: a cluster to join (auto, HOST:PORT, ray://HOST:PORT); without "
        "it Ray starts on this machine.",
    ),
)


def working_command(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that does a study's work ENGINE, after all that study_command gives."""
    for decorate in reversed(ENGINE):
        command = decorate(command)
    return study_command(command)


def reproducing(study: Path, *, allow_left_out: bool = False, **options: Any) -> str:
    """The command that does the whole study, with options that were given to another."""
    usual: dict[str, Any] = dict.fromkeys(("photos", "weights", "address")) | {"engine": "local"}
    usual |= {"runs": Path("runs"), "models": Path("models")}
    words = ["gradcam-adv", "reproduce", str(study)]
    for name, value in options.items():
        words += [] if value == usual[name] else [f"--{name}", str(value)]
    return shlex.join([*words, "--allow-left-out"] if allow_left_out else words)


OWN_MODEL = (
    click.option("--model", type=MODEL, help="A saved model, instead of a study."),
    click.option(
        "--images", type=click.Path(path_type=Path), help="With --model: a folder of images."
    ),
    click.option(
        "--layers",
        multiple=True,
        metavar="L",
        help="With --model: all, conv, blocks, last, a path or an index; several times.",
    ),
    click.option(
        "--epsilon",
        type=float,
        multiple=True,
        help="With --model: a level of attack, several times (0.01 0.05 0.075 0.1).",
    ),
    click.option(
        "--explainer",
        metavar="E",
        help="With --model: gradcam (where none is given); gradcam++, layercam or scorecam of "
        "tf-keras-vis, layer by layer and slow.",
    ),
    click.option(
        "--output", type=click.Path(path_type=Path, file_okay=False), help="With --model: where to."
    ),
    click.option(
        "--batch-size",
        type=click.IntRange(1),
        help="With --model: images at a time (8; on a GPU what suits its memory).",
    ),
)


def own_model_command(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command of a study what it takes in its place as well: OWN_MODEL."""
    for decorate in reversed(OWN_MODEL):
        command = decorate(command)
    return working_command(command)


def own_model_given(
    options: dict[str, Any], with_model: Sequence[str] = ()
) -> dict[str, Any] | None:
    """What was given beside --model; None where a study is meant.

    Args:
        options: of the command; those for a model are taken out.
        with_model: further options given that are none without --model.
    """
    from gradcam_adv import robustness as whole_model

    own = {
        key: options.pop(key)
        for key in ("model", "images", "layers", "epsilon", "explainer", "output", "batch_size")
    }
    given = [f"--{key.replace('_', '-')}" for key, value in own.items() if value]
    given += with_model
    if not own["model"]:
        if given:
            raise ValueError(f"Expected --model with {', '.join(given)}. Received: no --model")
        return None
    context = click.get_current_context()
    typed = [
        "STUDY" if key == "study" else f"--{key.replace('_', '-')}"
        for key in options
        if context.get_parameter_source(key) is click.core.ParameterSource.COMMANDLINE
    ]
    if typed:
        raise ValueError(f"Expected --model or a study. Received: --model and {', '.join(typed)}")
    missing = [key for key in ("images", "output") if own[key] is None]
    if missing:
        raise ValueError(f"Expected --{' and --'.join(missing)} with --model. Received: none")
    return {
        "path": own["model"],
        "folder": own["images"],
        "output": own["output"],
        "layers": [int(s) if s.lstrip("-").isdigit() else s for s in own["layers"]] or "last",
        "epsilons": own["epsilon"] or whole_model.EPSILONS,
        "explainer": own["explainer"] or "gradcam",
        "batch_size": own["batch_size"],
    }
