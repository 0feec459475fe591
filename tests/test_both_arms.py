"""A study of both arms from the command line, on real photos laid out as VGGFace2 is."""

import numpy as np
import pandas as pd
import pytest
from conftest import command_here, read_photo, write_photo
from PIL import Image

from gradcam_adv import FGSM, GradCAM, load_model, metrics, perturb, predict_logits
from gradcam_adv.data import faces, sources
from gradcam_adv.data.photos import decode_all
from gradcam_adv.explain import resize
from gradcam_adv.study.columns import read_table

STUDY = """
name = "arms"
photos = "vggface2:VGGFace2"
classes = 4
image_size = 48
networks = ["vgg16"]
source = "vgg16"
weights = "random"
epochs = 2
epsilons = [0.1]
examples = 1
layers = "last"
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arms")
    (folder / "study.toml").write_text(STUDY)
    listing = sources.list_photos("orl", classes=5, min_photos=3, seed=1)
    meta = ["Class_ID, Name, Sample_Num, Flag, Gender"]
    for number, (identity, rows) in enumerate(listing.files.groupby("identity")):
        person = f"n{number + 1:06d}"
        place = folder / "VGGFace2" / ("test" if number == 4 else "train") / person
        place.mkdir(parents=True)
        meta.append(f'{person}, "Person_{identity}", 12, 1, m')
        for i, photo in enumerate(rows["photo"]):
            read_photo(listing.root / photo)[0].save(place / f"{i:04d}_01.jpg", quality=95)
        write_photo(place / "9999_01.jpg", number)
    (folder / "VGGFace2" / "identity_meta.csv").write_text("\n".join(meta) + "\n")
    result = command_here(folder, "reproduce", "study.toml")
    assert result.returncode == 0, result.stderr
    (folder / "log.txt").write_text(result.stdout)
    return folder


def table(run, name: str) -> pd.DataFrame:
    return read_table(run / "runs" / "arms" / "tables" / f"{name}.csv")


def test_the_log_and_tables_say_who_was_chosen_and_what_was_left_out(run):
    log = (run / "log.txt").read_text()
    assert "44 photos of 4 people" in log
    assert "aligned: 40 photos with a face; 4 left out without one" in log
    identities = table(run, "identities")
    assert identities["chosen"].sum() == 4
    assert identities["name"].str.startswith("Person ").all()
    assert "not among the 4 chosen" in identities.loc[~identities["chosen"], "reason"].item()
    excluded = table(run, "aligned/excluded")
    assert set(excluded["reason"]) == {"no face found"}
    assert len(excluded) == 4


def test_the_report_has_tables_1_and_2_and_the_photos_of_each_arm(run):
    short = (run / "runs" / "arms" / "report.md").read_text()
    assert short.index("## Table 1,") < short.index("## Table 2,")
    assert r"87.54 \| " in short  # the paper's VGG16 with preprocessing, beside this run's
    assert short.count("## Table 3,") == 2
    text = " ".join((run / "runs" / "arms" / "report.html").read_text().split())
    assert "VGGFace2, photos as they are, 4 people, 44 photos" in text
    assert "VGGFace2, faces aligned by MTCNN, margin 0.1, 4 people, 40 photos" in text
    assert "not VGGFace2" not in text
    assert 'id="results-plain-mod"' in text and 'id="results-aligned-mod"' in text
    assert 'id="results-plain-vid"' in text and 'id="results-aligned-vid"' in text
    assert "n000001/9999_01.jpg" in text or "n000002/9999_01.jpg" in text
    tests = [len(table(run, f"{arm}photos").query("split == 'test'")) for arm in ("", "aligned/")]
    both = len(set(table(run, "aligned/photos").query("split == 'test'")["photo"]))
    assert f"On the {both} test photos that both arms have ({tests[0]} plain, {tests[1]}" in text
    with Image.open(run / "runs" / "arms" / "figures" / "aligned" / "crops.png") as image:
        assert image.width > 300


def test_the_aligned_arm_is_measured_on_the_crops(run):
    """Accuracy and MOD, computed from the saved model and the crops with the public library."""
    rows = table(run, "aligned/photos").query("split == 'test'")
    (data,) = {path.parent for path in (run / "runs" / "arms").rglob("crops-0000000.npy")}
    pixels = np.stack(
        [np.load(data / f)[i] for f, i in zip(rows["crops"], rows["crop"], strict=True)]
    )
    pixels = pixels.astype(np.float32) / 255
    model = load_model(run / "models" / "arms" / "aligned" / "vgg16.keras")
    labels = rows["label"].to_numpy()
    attacked = perturb(pixels, FGSM(model)(pixels, labels, [0.1])[0.1])
    right = [(predict_logits(model, x).argmax(axis=1) == labels).sum() for x in (pixels, attacked)]
    stated = table(run, "aligned/accuracy").query("attack == 'black-box'")
    assert stated["right"].tolist() == right
    explain = GradCAM(model)
    maps = [resize(explain(x)["block5_conv3"], 48) for x in (pixels, attacked)]
    mod = table(run, "aligned/table_3").query("epsilon == 0.1")["mod"].item()
    assert mod == pytest.approx(metrics.mod(metrics.nissim(*maps)), abs=1e-3)


def test_heat_outside_the_face_is_that_outside_mtcnns_box(run):
    """In the plain arm, from MTCNN's box; photos without a face have no number."""
    rows = table(run, "photos").query("split == 'test'")
    model = load_model(run / "models" / "arms" / "plain" / "vgg16.keras")
    pixels = decode_all([run / "VGGFace2" / photo for photo in rows["photo"]], 48)
    maps = resize(GradCAM(model)(pixels)["block5_conv3"], 48)
    found = faces.Detector()(
        [faces.for_detection(Image.open(run / "VGGFace2" / photo)) for photo in rows["photo"]]
    )
    stated = clean_scores(run, "plain").loc[rows["photo"]]
    assert any(face is None for face in found) < len(found)
    for face, one, row in zip(found, maps, stated.itertuples(), strict=True):
        if face is None:
            assert np.isnan([row.background, row.forehead]).all()
            continue
        ends = face.left, face.top, face.left + face.width, face.top + face.height
        eyes = (face.left_eye_y + face.right_eye_y) / 2
        expected = np.ravel(metrics.face_heat([one], [(*ends, eyes)]))
        np.testing.assert_allclose([row.background, row.forehead], expected, atol=1e-3)


def test_heat_outside_an_aligned_face_is_that_of_the_margin(run):
    stated = clean_scores(run, "aligned")
    empty = stated["empty_perturbed"].astype(bool)
    assert (stated["background"].isna() == empty).all()
    assert not empty.all()
    assert stated["background"].dropna().between(0, 1).all()


def clean_scores(run, arm):
    """NISSIM's rows of the clean photos as the study reads the paper, by photo."""
    tables = (run / "runs" / "arms" / arm / "score" / "vgg16").rglob("nissim-*.csv")
    rows = pd.concat(map(read_table, tables))
    chosen = rows.query(
        "attack == 'black-box' and epsilon == 0 and target == 'predicted' and size == 'input'"
    )
    return chosen.set_index("photo")


def test_the_arms_are_compared_on_the_photos_of_both(run):
    keys = ["network", "attack", "epsilon", "photo"]
    plain, aligned = (
        table(run, f"{arm}/predictions").set_index(keys) for arm in ("plain", "aligned")
    )
    both = plain.index.intersection(aligned.index)
    assert len(both) < len(plain)
    gain = (aligned["predicted"] == aligned["label"]).loc[both].astype(int) - (
        plain["predicted"] == plain["label"]
    ).loc[both].astype(int)
    stated = table(run, "arms_accuracy").query("attack == 'black-box' and epsilon == 0.1")
    own = gain[gain.index.get_level_values("attack") == "black-box"]
    own = own[own.index.get_level_values("epsilon") == 0.1]
    assert stated["photos"].item() == len(own)
    assert stated["difference"].item() == pytest.approx(own.mean())
    assert stated["low"].item() <= own.mean() <= stated["high"].item()


def test_with_another_margin_faces_are_cropped_again_but_not_searched(run):
    (run / "other.toml").write_text("margin = 0.3\n" + STUDY)
    done = command_here(run, "data", "other.toml")
    assert done.returncode == 0, done.stderr
    assert "aligned/data:" in done.stdout
    assert "plain/faces:" not in done.stdout
    assert "plain/data:" not in done.stdout


def test_export_of_the_aligned_arm(run):
    arguments = ["--network", "vgg16", "--epsilon", "0", "--output", "out", "--arm", "aligned"]
    result = command_here(run, "export", "study.toml", *arguments)
    assert result.returncode == 0, result.stderr
    rows = table(run, "aligned/photos").query("split == 'test'")
    assert len(list((run / "out").rglob("*.png"))) == len(rows)
    (run / "plain.toml").write_text('arms = ["plain"]\n' + STUDY)
    refused = command_here(run, "export", "plain.toml", *arguments)
    assert refused.returncode == 2
    assert "Expected --arm out of the study's, plain. Received: 'aligned'" in refused.stderr


@pytest.mark.slow
def test_a_study_of_the_aligned_arm_alone(run):
    (run / "alone.toml").write_text('arms = ["aligned"]\n' + STUDY)
    result = command_here(run, "reproduce", "alone.toml")
    assert result.returncode == 0, result.stderr
    assert "train/" not in result.stdout  # everything is there except the report
    text = (run / "runs" / "arms" / "report.md").read_text()
    assert "Table 2" in text
    assert "Table 1," not in text
    assert "What alignment changes" not in (run / "runs" / "arms" / "report.html").read_text()
    # No table of the earlier report, of both arms, is left.
    tables = {p.name for p in (run / "runs" / "arms" / "tables").iterdir()}
    common = {"photos.csv", "excluded.csv", "identities.csv", "claims.csv"}
    assert tables == common | {"aligned", "plain"}
    assert not list((run / "runs" / "arms" / "tables" / "plain").iterdir())
    assert (run / "runs" / "arms" / "tables" / "aligned" / "table_2.csv").is_file()


def test_new_names_and_people_change_only_the_table_of_identities(run):
    meta = run / "VGGFace2" / "identity_meta.csv"
    before = meta.read_text()
    try:
        meta.write_text(before.replace("Person", "Someone"))
        write_photo(run / "VGGFace2" / "train" / "n000099" / "0001_01.jpg", 1)
        result = command_here(run, "reproduce", "study.toml")
    finally:
        meta.write_text(before)
    assert result.returncode == 0, result.stderr
    assert "train/" not in result.stdout
    identities = table(run, "identities").set_index("identity")
    assert identities["name"].str.startswith("Someone").sum() == 5
    assert identities.loc["n000099", "reason"] == "1 photo, fewer than min_photos = 3"
    assert "4 of 6 identities were chosen" in (run / "runs" / "arms" / "report.html").read_text()


def test_clean_leaves_what_the_user_made_or_changed_and_nothing_else(run):
    """A note in every folder, and an edited report."""
    tops = run / "runs", run / "models"
    made = {path for top in tops for path in top.rglob("*") if path.is_file()}
    assert len(made) > 100
    users = {path.parent / "notes.txt" for path in made} | {run / "runs" / "arms" / "report.html"}
    for path in users:
        path.write_text("mine")
    result = command_here(run, "clean", "study.toml")
    assert result.returncode == 0, result.stderr
    assert {path for top in tops for path in top.rglob("*") if path.is_file()} == users
    assert {path.read_text() for path in users} == {"mine"}
    assert result.stdout.splitlines() == [
        f"{len(made) - 1} files removed",
        "left alone, since somebody changed it: runs/arms/report.html",
    ]
    for path in users:
        path.unlink()
