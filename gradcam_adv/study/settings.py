"""What a study is: what is attacked, explained and scored, and how the paper is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_type_hints

from gradcam_adv.attacks.names import settings_of
from gradcam_adv.graph import Layers
from gradcam_adv.models import backbones
from gradcam_adv.training.methods import DEFAULTS

Arm = Literal["plain", "aligned"]
ThreatModel = Literal["white-box", "transfer"]
# Keras' names for the precision in which networks compute.
Precision = Literal["float32", "mixed_float16", "mixed_bfloat16"]
Trainable = Literal["head", "last block", "all"]


def _reading(default: str, question: str, unoffered: str = "") -> Any:
    return field(default=default, metadata={"question": question, "unoffered": unoffered})


@dataclass(frozen=True)
class Readings:
    """What the paper leaves open, and how it is read; the first choice is the default."""

    epsilon_unit: Literal["pixel", "network"] = _reading(
        "pixel", "Unit of epsilon: pixels in [0, 1], or the network's own input"
    )
    preprocessing: Literal["own", "unit", "tf"] = _reading(
        "own",
        "What the networks are fed: their own preprocessing, or all of them pixels in [0, 1], or "
        "in [-1, 1]",
    )
    pooling: Literal["average", "flatten"] = _reading(
        "average",
        "Between base and dense head: global average pooling, or flattening",
        "VGG16's own dense layers, which need weights with top",
    )
    attacked_label: Literal["true", "predicted", "next"] = _reading(
        "true",
        "The label y of the attack: the true one, the predicted one, or, by mistake, that of the "
        "next class",
        "targeted labels; classes of ImageNet, which need weights with top",
    )
    stored_perturbation: Literal["exact", "png", "jpeg"] = _reading(
        "exact",
        "The perturbation added: the exact one, or its sign stored as a picture from 0 to 1",
    )
    clean_resizing: Literal["same", "nearest"] = _reading(
        "same",
        "How clean test photos are resized: as the attacked ones, or to the nearest pixel",
    )
    explained_score: Literal["logit", "hidden"] = _reading(
        "logit", "The score explained: a logit, or the largest unit of the layer before"
    )
    explained_class: Literal["predicted", "clean", "true"] = _reading(
        "predicted",
        "The class explained: predicted for the image itself, for the clean photo, or the true",
    )
    perturbed_set: Literal["float32", "png", "jpeg"] = _reading(
        "float32", "The format in which perturbed and clean test sets are stored and read again"
    )
    heatmap_size: Literal["input", "native"] = _reading(
        "input", "Size at which heatmaps are compared: the input's, or the layer's own"
    )
    compared: Literal["heatmaps", "jet", "overlays"] = _reading(
        "heatmaps",
        "What NISSIM compares: heatmaps, heatmaps in the colours of jet, or these over the photos",
    )
    ssim: Literal["uniform", "range 2", "gaussian"] = _reading(
        "uniform",
        "Which SSIM: a uniform window of 7, the same for a range of 2, or a gaussian one of 11",
    )
    vid_levels: Literal["attacked", "all"] = _reading(
        "attacked", "Epsilons that VID goes over: those above 0, or 0 as well"
    )


def reading_choices(key: str) -> tuple[str, ...]:
    """What the reading ``key`` may be; the default first."""
    return get_args(get_type_hints(Readings)[key])


@dataclass(frozen=True)
class Study:
    """One study. Every field is a key of the TOML file; all but ``name`` may be left out.

    Attributes:
        name: the study's name; its run and its models have folders of this name.
        photos: where they come from: "orl", "lfw", "lfw:DIR", "vggface2:DIR", or a folder with one
            folder per identity.
        classes: how many identities to choose at random; None for all.
        min_photos: identities with fewer photos are not chosen; 3 or more, one for each split.
        max_photos: at most this many photos per identity are used, chosen at random; None for all.
        arms: "plain" (photos as they are, Table 1), "aligned" (MTCNN's crops, Table 2), or both.
        margin: how much is shown around an aligned face on each side, in units of the face.
        split: shares of train, validation and test.
        folds: 3 or more: cross-fitted heads. The photos are dealt into so many folds in place of a
            split; all of them are tested, each by a head trained without its fold and the next one,
            which is the head's validation. None for one head and the split.
        image_size: side of the square images in pixels.
        networks: one or more of the paper's five, "resnet50v2", "resnet101v2" and "smallresnet".
            "vgg16@pgd" is VGG16 trained in another way, by the name of a training.
        weights: of the bases: "auto", "imagenet", "random" or a directory of weights files.
        epochs: how many epochs the heads are trained, and what else is trained with them.
        trainable: what is trained: the "head" alone, as in the paper; with it the "last block" of
            the base; or "all" layers.
        learning_rate: of the training; None for 0.001 for heads alone, and 0.0001 for more.
        training: further ways to train, a table of name = settings; "fgsm-rs", "pgd" and "trades"
            are known without an entry. Only networks whose name ends in @ and such a name are
            trained so.
        seeds: the heads are trained once with each seed, and what is trained with them; with
            trainable = "all" random bases are drawn anew, too. Results are those of the first seed
            unless they say otherwise.
        epsilons: sizes of the attack, in the unit that the readings say; 0 is always among them.
        gain_epsilons: further sizes of the white-box attack, at which only its gain is measured:
            how many times larger noise must be to move the heatmaps as far.
        noise_epsilons: further sizes of noise to find the gain; noise also has all sizes above.
        control_epsilons: sizes of the other controls, the signs of the photo mirrored and the signs
            of another photo; an empty list leaves them out.
        noise_draws: how many times random signs are drawn; NISSIM under noise is the mean over the
            draws, and the report shows how much they differ.
        insertion_epsilons: sizes of the white-box attack, out of those above, at which pixels of
            attacked photos are put in and taken out in the order of their heatmaps, to see whether
            these still explain; the empty list leaves it out, which spares much time.
        attack: the attack: its name, such as "pgd", or a table of name = settings. Of several, in a
            list or a table, the first is the study's: nearly everything is about it. The others
            are compared with it, at the epsilons above.
        source: the network on which the black-box attack is made.
        threat_models: who is attacked beside the networks that get the black-box attack:
            "white-box" (each network by its own attack; only variations of a study leave it out)
            and "transfer" (each network by that of each other network, at the largest epsilon).
        measure: of how unlike two heatmaps are: "nissim"; "spearman", "top", "region",
            "jensen_shannon", "earth_mover" or "hog" stand in its place in all tables and figures.
        layers: which layers are explained for the example photos: "all", "conv", "blocks", "last",
            a list of these or of indices, or a table of network = list, which may also hold names
            of layers.
        examples: how many test photos get heatmaps of all those layers.
        batch_size: how many images at a time in every pass; None for 8, on a GPU for what suits
            its memory.
        precision: in which networks are attacked, evaluated and explained: "float32",
            "mixed_float16" or "mixed_bfloat16"; heads are always trained in float32.
        threads: how many threads Keras' backend uses; None for one per core.
        seed: seed of every other random choice.
        readings: how the paper is read where it leaves something open.
    """

    name: str
    photos: str = "orl"
    classes: int | None = None
    min_photos: int = 3
    max_photos: int | None = None
    arms: tuple[Arm, ...] = ("plain", "aligned")
    margin: float = 0.1
    split: tuple[float, float, float] = (0.8, 0.1, 0.1)
    folds: int | None = None
    image_size: int = 224
    networks: tuple[str, ...] = backbones.PAPERS
    weights: str = "auto"
    epochs: int = 60
    trainable: Trainable = "head"
    learning_rate: float | None = None
    training: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    epsilons: tuple[float, ...] = (0.0, 0.01, 0.05, 0.075, 0.1)
    gain_epsilons: tuple[float, ...] = (0.001, 0.002, 0.005)
    noise_epsilons: tuple[float, ...] = (0.02, 0.2, 0.3)
    control_epsilons: tuple[float, ...] = (0.01, 0.05, 0.2)
    noise_draws: int = 1
    insertion_epsilons: tuple[float, ...] = ()
    attack: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"fgsm": {}})
    source: str = "resnet50"
    threat_models: tuple[ThreatModel, ...] = get_args(ThreatModel)
    measure: str = "nissim"
    layers: Layers | dict[str, Layers] = "all"
    examples: int = 4
    batch_size: int | None = None
    precision: Precision = "float32"
    threads: int | None = None
    seed: int = 0
    readings: Readings = Readings()

    @property
    def other_data(self) -> bool:
        """Whether the photos are not the paper's, which are of VGGFace2."""
        return not self.photos.startswith("vggface2:")

    @property
    def attacked_epsilons(self) -> tuple[float, ...]:
        return tuple(epsilon for epsilon in self.epsilons if epsilon > 0)

    @property
    def own_attack(self) -> str:
        """The name of the study's attack."""
        return next(iter(self.attack))

    @property
    def further_attacks(self) -> tuple[str, ...]:
        """The names of the attacks that it is compared with."""
        return tuple(self.attack)[1:]

    def layers_of(self, network: str) -> Layers:
        """The layers of a network that are explained for the example photos."""
        if isinstance(self.layers, dict):
            return self.layers[backbones.backbone_of(network)]
        return self.layers

    def against(self, network: str) -> dict[str, Any] | None:
        """All settings of a network's adversarial training; None if it is trained normally."""
        name = backbones.training_of(network)
        return {"method": name, **DEFAULTS, **self.training.get(name, {})} if name else None

    @property
    def vid_epsilons(self) -> tuple[float, ...]:
        """The epsilons that VID goes over."""
        return self.epsilons if self.readings.vid_levels == "all" else self.attacked_epsilons


def attack_settings(name: str) -> dict[str, Any]:
    """The settings that an attack has in a study, with the defaults.

    A study attacks the label that its readings say, so it has no ``targeted``.
    """
    return {key: value for key, value in settings_of(name).items() if key != "targeted"}
