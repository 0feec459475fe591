"""A saved model of anybody's and a folder of images: what can be explained, maps, MOD and VID."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from gradcam_adv import batching as batches
from gradcam_adv import robustness as whole_model
from gradcam_adv import threads
from gradcam_adv.data import photos
from gradcam_adv.files import artifacts
from gradcam_adv.graph import network as networks
from gradcam_adv.graph.network import Layers
from gradcam_adv.models import classifiers
from gradcam_adv.plots import depth as profiles
from gradcam_adv.plots import overlays

if TYPE_CHECKING:
    import keras

# A sheet of more rows, or an overlay of more columns, can't be read any more.
SHEET_ROWS = 40
OVERLAY_COLUMNS = 24
# Of an image's name: file systems take 255, and a file being written has a longer one.
NAME_BYTES = 220


def layers_of(path: Path) -> pd.DataFrame:
    """What can be explained in a saved model.

    Returns:
        One row a place: index, layer (its path), kind, shape (of a map, "h x w x channels"), and
        groups, those of "conv", "blocks" and "last" that it belongs to.
    """
    network = networks.flatten(classifiers.load(path))
    groups = {
        group: {step.path for step in network.find(group)} for group in ("conv", "blocks", "last")
    }
    rows = []
    for index, step in enumerate(network.places):
        rows.append(
            {
                "index": index,
                "layer": step.path,
                "kind": type(step.operation).__name__,
                "shape": " x ".join("?" if n is None else str(n) for n in step.shape[1:]),
                "groups": " ".join(name for name, paths in groups.items() if step.path in paths),
            }
        )
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Images:
    """Images of a folder, decoded as they are asked for, float32 (n, H, W, C) in [0, 1].

    Attributes:
        paths: of the images.
        names: their paths below the folder.
        shape: (H, W, C) that the model takes.
    """

    paths: list[Path]
    names: list[str]
    shape: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: slice) -> np.ndarray:
        with photos.quiet():
            return np.stack(list(threads.ordered(self._pixels, self.paths[rows])))

    def _pixels(self, path: Path) -> np.ndarray:
        height, width, channels = self.shape
        image = photos.read_known(path).resize((width, height), Image.Resampling.BILINEAR)
        if channels == 1:
            image = image.convert("L")
        return np.asarray(image, np.float32).reshape(self.shape) / 255


def check_output(folder: Path, output: Path) -> None:
    """ValueError for an output whose pictures a second run would take for photos."""
    if output.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"Expected an output outside of the folder of images. Received: {output} in {folder}"
        )


def _check_no_others(output: Path, names: Sequence[str]) -> None:
    """ValueError for an output with pictures of other images, which would lie among these.

    They are not deleted: nothing tells whether their owner still wants them.
    """
    for place, suffix in (("heatmaps", ".npz"), ("overlays", ".png")):
        top = output / place
        own = {f"{name}{suffix}" for name in names}
        # Hidden are those that a killed process was writing.
        found = (path for path in top.rglob("*") if path.is_file() and path.name[0] != ".")
        other = sorted(path for path in found if path.relative_to(top).as_posix() not in own)
        if other:
            raise ValueError(
                f"Expected an output without {place} of other images, such as an earlier call's; "
                f"give another folder, or delete this one. Received: {other[0]}"
            )


def images_of(folder: Path, model: keras.Model) -> tuple[Images, pd.DataFrame]:
    """The images below a folder that can be read, and a table image, reason of the others.

    Raises:
        ValueError: no folder, none that can be read, or a model that takes images of any size or
            of other than 1 or 3 channels.
    """
    shape = tuple(model.input_shape[1:])
    if len(shape) != 3 or None in shape or shape[-1] not in (1, 3):
        raise ValueError(
            f"Expected a model of images of one size, with 1 or 3 channels. Received: {shape}"
        )
    if not folder.is_dir():
        raise ValueError(f"Expected a folder of images. Received: {folder}, which is no folder")
    found = sorted(
        path
        for path in folder.rglob("*")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
        and photos.may_be_photo(path)
    )
    with photos.quiet():
        reasons = list(threads.ordered(_reason, found))
    names = [_shown(path.relative_to(folder).as_posix()) for path in found]
    table = pd.DataFrame({"image": names, "reason": reasons})
    good = [path for path, reason in zip(found, reasons, strict=True) if not reason]
    if not good:
        raise ValueError(
            f"Expected images that can be read in {folder}. Received: none"
            + (f" of {len(found)}, the first: {names[0]}: {reasons[0]}" if found else "")
        )
    kept = table.loc[table["reason"] == "", "image"].tolist()
    return Images(good, kept, shape), table[table["reason"] != ""].reset_index(drop=True)


def _shown(name: str) -> str:
    """A name as it can be printed and written: control characters and broken UTF-8 as escapes."""
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in ("Cc", "Cs") else c
        for c in name
    )


def _reason(path: Path) -> str:
    """Why an image can't be used; its name counts, for what is made of it is called after it."""
    if _shown(str(path)) != str(path):
        return "control characters or no UTF-8 in its name or a folder's"
    if len(path.name.encode()) > NAME_BYTES:
        return f"a name of more than {NAME_BYTES} bytes"
    try:
        photos.read(path)
    except ValueError as error:
        return str(error)
    return ""


def explain(
    path: Path,
    folder: Path,
    output: Path,
    *,
    layers: Layers,
    epsilons: Sequence[float],
    explainer: str,
    batch_size: int | None,
) -> str:
    """Attack the images of a folder on a saved model, explain them, and write what came of it.

    Into ``output``: ``heatmaps/<image>.npz`` with an array "<epsilon> <layer>" each, float32
    (h, w) in [0, 1]; ``overlays/<image>.png``, a row an epsilon and a column a layer;
    ``images.csv`` and ``nissim.csv`` as of :func:`gradcam_adv.dissimilarity`; ``sheet.png``, the
    last of the layers for the first images; ``excluded.csv``. The class attacked and explained is
    the predicted one, for nobody says which is true.

    Returns:
        One line on what was written.

    Raises:
        ValueError: as :func:`images_of`, an output among the images, or one that holds pictures of
            others.
    """
    check_output(folder, output)
    model = classifiers.load(path)
    network = networks.flatten(model)
    names = [step.path for step in network.find(layers)]
    images, excluded = images_of(folder, model)
    _check_no_others(output, images.names)
    attacked = whole_model.attacked_batches(
        network,
        images,
        None,
        epsilons,
        names,
        targets="predicted",
        explainer=explainer,
        controls=False,
        batch_size=batch_size,
    )
    shown, scores, tiles = [], [], []
    with (
        tqdm(total=len(images), desc="explain", unit="image", disable=None) as bar,
        batches.naming(images.names, path.name),
    ):
        for batch in attacked:
            levels = [batch.clean, *batch.attacked]
            shown.append(whole_model.images_of(batch))
            scores.append(whole_model.nissim_of(batch, "input"))
            for i, number in enumerate(batch.images):
                _write_image(output, images.names[number], levels, i, names)
                if number < SHEET_ROWS:
                    tiles.append(_tiles(levels, i, names[-1:]))
            bar.update(len(batch.images))
    artifacts.write_tables(
        output,
        images=_named(pd.concat(shown), images),
        nissim=_named(pd.concat(scores), images),
        excluded=excluded,
    )
    rows = images.names[: len(tiles)]
    columns = ["image", *(f"ε = {level.epsilon:g}" for level in levels)]
    pictures = np.stack([np.concatenate([t[:1, 0], t[:, 1]]) for t in tiles])
    of = f", the first {len(tiles)} of {len(images)} images" if len(tiles) < len(images) else ""
    title = f"{path.name}, {names[-1]}{of}"
    _save(overlays.sheet(pictures, rows, columns, title), output, "sheet")
    counts = (_counted(len(images), "image"), _counted(len(names), "layer"))
    return f"{', '.join(counts)} in {output}{_left_out(excluded)}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _left_out(excluded: pd.DataFrame) -> str:
    return f", {len(excluded)} left out (excluded.csv)" if len(excluded) else ""


def _named(table: pd.DataFrame, images: Images) -> pd.DataFrame:
    return table.assign(image=table["image"].map(dict(enumerate(images.names))))


def _tiles(levels: list[whole_model.Level], i: int, names: list[str]) -> np.ndarray:
    """(levels, 1 + layers, H, W, 3): each level's image and its overlays."""
    lines = []
    for level in levels:
        pixels = level.pixels[i]
        grey_to_rgb = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
        maps = [overlays.overlay(pixels, level.heatmaps[name][i]) for name in names]
        lines.append(np.stack([grey_to_rgb, *maps]))
    return np.stack(lines)


def _write_image(
    output: Path, image: str, levels: list[whole_model.Level], i: int, names: list[str]
) -> None:
    artifacts.write_arrays(
        artifacts.inside(output / "heatmaps", f"{image}.npz"),
        {f"{lv.epsilon:g} {name}": lv.heatmaps[name][i] for lv in levels for name in names},
    )
    # Evenly spread over the depth where there are too many layers to be seen.
    chosen = np.linspace(0, len(names) - 1, min(len(names), OVERLAY_COLUMNS)).round().astype(int)
    columns = [names[layer] for layer in chosen]
    rows = [f"ε = {lv.epsilon:g}\nclass {lv.predicted[i]}" for lv in levels]
    labels = ["image", *(name.replace("/", "/\n") for name in columns)]
    figure = overlays.sheet(_tiles(levels, i, columns), rows, labels, image)
    _save(figure, output / "overlays", image)


def _save(figure: Any, folder: Path, name: str) -> None:
    import matplotlib.pyplot as plt

    with artifacts.whole_file(artifacts.inside(folder, f"{name}.png")) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)


def score(
    path: Path,
    folder: Path,
    output: Path,
    *,
    layers: Layers,
    epsilons: Sequence[float],
    explainer: str,
    batch_size: int | None,
) -> tuple[whole_model.Dissimilarity, str]:
    """MOD and VID of a saved model on the images of a folder, by layer, with their controls.

    Writes ``mod.csv``, ``vid.csv``, ``nissim.csv``, ``images.csv`` and ``excluded.csv``, for two
    layers or more also ``depth_profile.png``, and keeps no map. The class attacked and explained
    is the predicted one.

    Returns:
        The tables, and one line on what they are of and what is missing.
    """
    check_output(folder, output)
    model = classifiers.load(path)
    images, excluded = images_of(folder, model)
    with batches.naming(images.names, path.name):
        result = whole_model.dissimilarity(
            model, images, None, epsilons, layers, explainer=explainer, batch_size=batch_size
        )
    artifacts.write_tables(
        output,
        mod=result.mod,
        vid=result.vid,
        nissim=_named(result.nissim, images),
        images=_named(result.images, images),
        excluded=excluded,
    )
    if len(result.vid) > 1:
        title = f"{path.name}: MOD along the depth, {len(images)} images, {explainer}"
        _save(profiles.depth_profile(result.mod, title), output, "depth_profile")
    said = f"{_counted(len(images), 'image')}; tables in {output}{_left_out(excluded)}"
    if result.mod["ceiling"].isna().all():
        said += "; no ceiling, for all images are predicted as one class"
    return result, said


def by_layer(result: whole_model.Dissimilarity) -> pd.DataFrame:
    """Of what :func:`score` gives, to be looked at: text, one row a layer.

    Returns:
        layer, MOD at each epsilon (in brackets that of random-sign noise of the same size), the
        ceiling of unrelated images, VID (in brackets that of noise).
    """
    mod = result.mod.assign(
        shown=[
            f"{own:.4f} ({noise:.4f})"
            for own, noise in zip(result.mod["mod"], result.mod["mod_noise"], strict=True)
        ]
    )
    table = mod.pivot(index="layer", columns="epsilon", values="shown")
    table.columns = [f"MOD (noise), ε = {epsilon:g}" for epsilon in table.columns]
    ceiling = mod.drop_duplicates("layer").set_index("layer")["ceiling"]
    vid = result.vid.set_index("layer")
    # Images of one class only have no unrelated ones.
    table["ceiling"] = ["–" if np.isnan(v) else f"{v:.4f}" for v in ceiling.loc[table.index]]
    own = zip(vid.loc[table.index, "vid"], vid.loc[table.index, "vid_noise"], strict=True)
    table["VID (noise)"] = [f"{value:.4f} ({noise:.4f})" for value, noise in own]
    return table.loc[vid.index].reset_index()
