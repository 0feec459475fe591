"""A saved model on a folder of images, or on pairs: heatmaps, MOD and VID, written as files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from gradcam_adv import explain, robustness, validation
from gradcam_adv.app.images import images_of, images_of_pairs
from gradcam_adv.app.opening import opened
from gradcam_adv.app.options import check_output
from gradcam_adv.attacks import names
from gradcam_adv.batching import batch_size_for
from gradcam_adv.data.pairs import read_pairs
from gradcam_adv.files import read, text, write
from gradcam_adv.graph import Layers
from gradcam_adv.graph.flat import FlatGraph
from gradcam_adv.plots import depth_profile, overlay, sheet
from gradcam_adv.report import saved_model, viewer
from gradcam_adv.robustness import Dissimilarity, Verification, clean, tables
from gradcam_adv.robustness.batches import Batch, Explained, attacked_batches
from gradcam_adv.robustness.verification import Pairs, as_classifier, similarity_tables
from gradcam_adv.runs import locks

# A sheet with more rows, or an overlay with more columns, can't be read.
SHEET_ROWS = 40
OVERLAY_COLUMNS = 24
# How many images are looked at to see what other pixels would change.
LOOKED_AT = 64

EXPLAINERS: dict[str, Any] = {
    "gradcam": explain.GradCAM,
    "gradcam++": explain.GradCAMPlusPlus,
    "layercam": explain.LayerCAM,
    "scorecam": explain.ScoreCAM,
}


class FolderWork:
    """Work of a saved model on the images of a folder, or on pairs of images.

    The class attacked and explained is the predicted one, since the true one is not known. Of pairs
    the right answer is attacked, and the similarity explained. The arguments are the options of the
    command line.
    """

    def __init__(
        self,
        model: Path,
        images: Path | None,
        output: Path,
        *,
        layers: Layers,
        epsilons: Sequence[float],
        explainer: str,
        batch_size: int | None,
        attack: str = "fgsm",
        steps: int | None = None,
        pixels: str | None = None,
        pairs: Path | None = None,
        threshold: float | None = None,
        **opening: Any,
    ) -> None:
        if pairs is None:
            assert images is not None  # the options ask for one of both
            check_output(images, output)
        validation.check_choice("explainer", explainer, list(EXPLAINERS))
        settings = {} if steps is None else {"steps": steps}
        names.check_settings(attack, settings)
        self._file = model
        self._output = output
        self._epsilons = epsilons or robustness.EPSILONS
        flat = opened(model, embeds=pairs is not None, **opening)
        self._model = flat(pixels=pixels)
        self._pairs: Pairs | None = None
        if pairs is not None:
            listed = read_pairs(pairs, images)
            self._images, self._others = images_of_pairs(listed, self._model)
            self._excluded = pd.DataFrame(columns=["image", "reason"])
            both = self._images, self._others
            self._pairs = as_classifier(self._model, *both, listed.same, threshold, batch_size)
            self._model = self._pairs.graph
        self._kind = explainer
        self._explainer = EXPLAINERS[explainer](self._model, layers, batch_size=batch_size)
        self._batch_size = batch_size_for(batch_size, self._model.input.shape)
        self._attacks_by = names.TITLES[attack]
        self._attack = names.make(attack, self._model, batch_size=self._batch_size, **settings)
        self._labels = None
        if images is None or pairs is not None:
            return
        self._images, self._excluded = images_of(images, self._model)
        self._labels = _classes_of(self._images.names, self._model)
        if not self._model.pixels.known:
            first = slice(0, LOOKED_AT)
            labels = None if self._labels is None else self._labels[first]
            clean.warn_of_other_pixels(lambda p: flat(pixels=p), self._images[first], labels)

    def explain(self) -> str:
        """Attack the images, explain them, and write the results.

        Into the output: ``report.html``, a page to look at first; ``heatmaps/<image>.npz`` with an
        array "<epsilon> <layer>" each, float32 (h, w) in [0, 1]; ``overlays/<image>.png``, one row
        per epsilon and one column per layer; ``images.csv`` and ``nissim.csv`` as of
        :class:`gradcam_adv.Dissimilarity`; ``sheet.png``, the first images with their
        predictions, a row per image and layer; ``excluded.csv``. Returns one line on what was
        written. ValueError if the output has pictures of other images, or links that lead out of
        it; OSError if another call works there.
        """
        with locks.alone_in(self._output):
            return self._explain()

    def _explain(self) -> str:
        images, names, layers = self._images, self._images.names, self._explainer.layers
        self._check_no_others()
        shown, scores, tiles = [], [], []
        rows: list[str] = []  # of the contact sheet: an image at a layer
        captions: list[list[str]] = []
        of_sheet = _spread(layers)
        on_sheet = max(1, SHEET_ROWS // len(of_sheet))
        with (
            tqdm(total=len(images), desc="explain", unit="image", disable=None) as bar,
            validation.naming(names, self._file.name),
        ):
            for batch in self._batches(images, controls=False):
                levels = [batch.clean, *batch.attacked]
                shown.append(tables.images_of(batch))
                scores.append(tables.nissim_of(batch, "input"))
                for i, number in enumerate(batch.numbers):
                    self._write_image(number, levels, i)
                    if number < on_sheet:
                        pictures = _tiles(levels, i, of_sheet)
                        other = [one[None] for one in self._other(number)]
                        said = ["", *(self._model.title(level.predicted[i]) for level in levels)]
                        for place, layer in enumerate(of_sheet, start=1):
                            row = [pictures[:1, 0], pictures[:, place], *other]
                            tiles.append(np.concatenate(row))
                            rows.append(f"{names[number]}\n{layer}")
                            captions.append([*said, *([""] if other else [])])
                bar.update(len(batch.numbers))
        measured = {"images": pd.concat(shown), "nissim": pd.concat(scores)}
        measured |= self._similarities(measured["images"])
        self._write_tables(**measured)
        title = self._file.name
        if on_sheet < len(images):
            title += f", the first {on_sheet} of {len(images)} {self._noun}s"
        columns = ["image", *(f"ε = {level.epsilon:g}" for level in levels)]
        columns += ["other"] if self._pairs else []
        _save(sheet(np.stack(tiles), rows, columns, title, captions), self._output, "sheet")
        self._write_page(measured, {})
        counts = f"{_counted(images, self._noun)}, {_counted(layers, 'layer')}"
        return f"{counts} in {self._output}{self._left_out()}{self._about(measured)}"

    def score(self) -> tuple[Dissimilarity, str]:
        """MOD, VID and gain by layer, with their controls, and one line on what is missing.

        Of pairs it is a :class:`gradcam_adv.Verification`. Writes ``report.html``, a page to look
        at first; a table for each attribute of the result, such as ``mod.csv``; ``excluded.csv``;
        and for two layers or more ``depth_profile.png``. OSError if another call works there.
        """
        with locks.alone_in(self._output):
            return self._score()

    def _score(self) -> tuple[Dissimilarity, str]:
        with validation.naming(self._images.names, self._file.name):
            result = robustness.dissimilarity(
                self._model,
                self._images,
                None if self._pairs is None else self._pairs.labels,
                targets=None if self._pairs is None else self._pairs.targets,
                epsilons=self._epsilons,
                attack=self._attack,
                explainer=self._explainer,
                batch_size=self._batch_size,
            )
        if similarities := self._similarities(result.images):
            result = Verification(**vars(result), **similarities)
        measured = vars(result)
        self._write_tables(**measured)
        if len(result.vid) > 1:
            count = len(self._images)
            title = f"{self._file.name}: MOD along the depth, {count} {self._noun}s, {self._kind}"
            _save(depth_profile(result.mod, title), self._output, "depth_profile")
        else:  # an earlier call may have left one of other layers
            read.inside(self._output, "depth_profile.png").unlink(missing_ok=True)
        tables_of = {"MOD and VID by layer": by_layer, "Gain by layer": gain_by_layer}
        self._write_page(measured, {name: made(result) for name, made in tables_of.items()})
        said = f"{_counted(self._images, self._noun)}; tables in {self._output}{self._left_out()}"
        said += self._about(measured)
        if result.mod["unrelated"].isna().all():
            why = "there is one pair" if self._pairs else "all are predicted as one class"
            said += f"; no unrelated images, since {why}"
        return result, said

    @property
    def page(self) -> Path:
        return self._output / "report.html"

    def _write_page(
        self, measured: Mapping[str, pd.DataFrame], shown: Mapping[str, pd.DataFrame]
    ) -> None:
        """The page, with the first images explained once more, and with noise, for its viewer."""
        with validation.naming(self._images.names, self._file.name):
            examples = list(self._batches(self._images[: viewer.PHOTOS], controls=True))
        if self._pairs is not None:
            shown = {"Errors of verification": measured["rates"].round(4), **shown}
            about = (
                f"the right answer is attacked, at a threshold of {self._pairs.threshold:.4f}, and "
                "the similarity explained"
            )
        else:
            about = "the true class is not known: the predicted one is attacked and explained"
        saved_model.write_page(
            read.inside(self._output, "report.html"),
            model=text.shown(self._file.name),
            attack=self._attacks_by,
            explainer=self._kind,
            layers=self._explainer.layers,
            images=self._images.names,
            noun=self._noun,
            about=about,
            title=self._model.title,
            examples=examples,
            measured=measured,
            shown=shown,
        )

    def _batches(self, images: Any, *, controls: bool) -> Iterator[Batch]:
        """The images, or the first of them, attacked and explained."""
        asked = self._pairs
        return attacked_batches(
            self._model,
            images,
            None if asked is None else asked.labels[: len(images)],
            epsilons=self._epsilons,
            attack=self._attack,
            explainer=self._explainer,
            targets=None if asked is None else asked.targets[: len(images)],
            controls=controls,
            batch_size=self._batch_size,
        )

    @property
    def _noun(self) -> str:
        return "image" if self._pairs is None else "pair"

    def _other(self, number: int) -> list[np.ndarray]:
        """The other image of a pair, (H, W, 3); none without pairs."""
        if self._pairs is None:
            return []
        return [_in_colour(self._others[number : number + 1][0])]

    def _similarities(self, images: pd.DataFrame) -> dict[str, pd.DataFrame]:
        """Of pairs the tables pairs and rates."""
        if self._pairs is None:
            return {}
        pairs, rates = similarity_tables(self._pairs, images)
        names = dict(enumerate(self._images.names))
        return {"pairs": pairs.assign(pair=pairs["pair"].map(names)), "rates": rates}

    def _check_no_others(self) -> None:
        """ValueError for an output with pictures of other images, which the user may still want."""
        for place, suffix in (("heatmaps", ".npz"), ("overlays", ".png")):
            folder = read.inside(self._output, place)
            expected = {folder / f"{name}{suffix}" for name in self._images.names}
            # Hidden files are those that a killed process was writing.
            listed = read.walk(folder) if folder.is_dir() else ()
            below = (Path(above, name) for above, _, names in listed for name in names)
            found = {path for path in below if path.is_file() and path.name[0] != "."}
            if other := sorted(found - expected):
                raise ValueError(
                    f"Expected an output without {place} of other images from an earlier call; "
                    "give another folder, or delete this one. "
                    f"Received: {other[0]}"
                )

    def _write_image(self, number: int, levels: list[Explained], i: int) -> None:
        """Write the heatmaps of an image, and its overlays."""
        image, layers = self._images.names[number], self._explainer.layers
        write.arrays(
            read.inside(self._output, f"heatmaps/{image}.npz"),
            {f"{lv.epsilon:g} {name}": lv.heatmaps[name][i] for lv in levels for name in layers},
        )
        shown = _spread(layers)
        rows = [f"ε = {lv.epsilon:g}\n{self._model.title(lv.predicted[i])}" for lv in levels]
        columns = ["image", *(name.replace("/", "/\n") for name in shown)]
        pictures = _tiles(levels, i, shown)
        for other in self._other(number):
            columns.append("other")
            pictures = np.concatenate([pictures, np.stack([other] * len(levels))[:, None]], axis=1)
        figure = sheet(pictures, rows, columns, image)
        _save(figure, self._output, f"overlays/{image}")

    def _write_tables(self, **tables: pd.DataFrame) -> None:
        """Write tables, with the names of the images in place of their numbers."""
        names = dict(enumerate(self._images.names))
        for name, table in tables.items():
            if "image" in table:
                tables[name] = table.assign(image=table["image"].map(names))
        write.tables(self._output, **tables, excluded=self._excluded)

    def _about(self, measured: Mapping[str, pd.DataFrame]) -> str:
        """What a reader must know: the pixels, the clean predictions, and empty heatmaps."""
        images, nissim = measured["images"], measured["nissim"]
        predicted = images.drop_duplicates("image")["predicted_clean"].to_numpy()
        if self._pairs is not None:
            right = (predicted == self._pairs.labels).mean()
            said = f"; the same from a similarity of {self._pairs.threshold:.4f}"
            said += f", so {right:.1%} of the clean pairs right"
        else:
            said = f"; {len(set(predicted))} of {self._model.classes} classes predicted"
        if self._labels is not None:
            share = clean.accuracy(self._model, predicted, self._labels)
            said += f", {share:.1%} of the clean images right by their folders"
        for column, what in (("empty_clean", "clean"), ("empty_perturbed", "attacked")):
            of = nissim.drop_duplicates(["image", "layer"]) if what == "clean" else nissim
            if count := int(of[column].sum()):
                said += f"; {count} of {len(of)} {what} heatmaps are empty"
        return f"{said}; {self._model.pixels}"

    def _left_out(self) -> str:
        count = len(self._excluded)
        return f", {count} left out (excluded.csv)" if count else ""


def _classes_of(names: Sequence[str], graph: FlatGraph) -> np.ndarray | None:
    """The class of each image, int (N,), if the images lie in one folder for each class.

    Classes are taken in the order of the folders' names, as Keras' own loader takes them.
    """
    folders = [name.split("/")[0] for name in names if "/" in name]
    classes = sorted(set(folders))
    if graph.independent or len(folders) < len(names) or len(classes) != graph.classes:
        return None
    return np.array([classes.index(folder) for folder in folders])


def _spread(layers: list[str]) -> list[str]:
    """The layers shown: of too many some, spread evenly over the depth."""
    count = min(len(layers), OVERLAY_COLUMNS)
    chosen = np.linspace(0, len(layers) - 1, count).round().astype(int)
    return [layers[position] for position in chosen]


def _counted(things: Sized, what: str) -> str:
    return f"{len(things)} {what}{'s' * (len(things) != 1)}"


def _tiles(levels: list[Explained], i: int, layers: list[str]) -> np.ndarray:
    """(levels, 1 + layers, H, W, 3): each level's image and its overlays."""
    rows = []
    for level in levels:
        pixels = level.pixels[i]
        overlays = [overlay(pixels, level.heatmaps[layer][i]) for layer in layers]
        rows.append(np.stack([_in_colour(pixels), *overlays]))
    return np.stack(rows)


def _in_colour(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3), also of a grey image."""
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def _save(figure: Any, folder: Path, name: str) -> None:
    import matplotlib.pyplot as plt

    with write.whole_file(read.inside(folder, f"{name}.png")) as temporary:
        figure.savefig(
            temporary, dpi=110, bbox_inches="tight", pil_kwargs={"compress_level": write.PNG_LEVEL}
        )
    plt.close(figure)


def by_layer(result: Dissimilarity) -> pd.DataFrame:
    """The result of :meth:`FolderWork.score` as text, one row per layer.

    MOD at each epsilon and VID, in brackets those of random-sign noise of the same size; and MOD
    of unrelated images. No VID for a single epsilon, of which it is always 0.
    """

    def with_noise(values: pd.Series[float], noise: pd.Series[float]) -> pd.Series[str]:
        both = values.map("{:.4f}".format) + noise.map(" ({:.4f})".format)
        return both.where(values.notna(), "all maps empty")

    mod, vid = result.mod, result.vid.set_index("layer")
    mod = mod.assign(text=with_noise(mod["mod"], mod["mod_noise"]))
    table = mod.pivot(index="layer", columns="epsilon", values="text")
    table.columns = [f"MOD (noise), ε = {epsilon:g}" for epsilon in table.columns]
    unrelated = mod.drop_duplicates("layer").set_index("layer")["unrelated"]
    # Images of a single class have no unrelated ones.
    table["unrelated"] = unrelated.map("{:.4f}".format).where(unrelated.notna(), "–")
    if vid["levels"].max() > 1:
        table["VID (noise)"] = with_noise(vid["vid"], vid["vid_noise"])
    return table.loc[vid.index].reset_index()


def gain_by_layer(result: Dissimilarity) -> pd.DataFrame:
    """The gain of each layer against random noise at each epsilon, with its interval, as text."""
    noise = result.controls.query("control == 'noise'")
    largest = noise["epsilon"].max()
    table = result.gain.query("control == 'noise'")

    # A single image has no interval.
    numbers = table[["gain", "low", "high"]].map("{:.1f}".format).replace("nan", "–")
    bounds = (largest / table["epsilon"]).map("> {:.1f}".format)
    for column in numbers:
        numbers[column] = numbers[column].mask(np.isinf(table[column]), bounds)
    texts = numbers["gain"] + " [" + numbers["low"] + ", " + numbers["high"] + "]"
    wide = table.assign(text=texts).pivot(index="layer", columns="epsilon", values="text")
    wide.columns = [f"gain [95 %], ε = {epsilon:g}" for epsilon in wide.columns]
    return wide.loc[result.vid["layer"]].reset_index()
