"""Two runs compared, on small run folders as the report writes them."""

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from gradcam_adv.app import cli
from gradcam_adv.files import hashes, read, write
from gradcam_adv.report import archive
from gradcam_adv.report.compare import Comparison, compare_runs, describe, open_run
from gradcam_adv.runs.records import MANIFEST
from gradcam_adv.study import answers, shifts, tables
from gradcam_adv.study.columns import read_table
from gradcam_adv.study.settings import Readings, Study

STUDY = Study(
    name="one",
    arms=("plain",),
    networks=("vgg16", "resnet50"),
    epsilons=(0.0, 0.05, 0.1),
)
PHOTOS = [(f"{person}/{number}.png", person) for person in "abcd" for number in range(2)]


def nissim_of(study: Study, photos: list[tuple[str, str]], seed: int) -> pd.DataFrame:
    chance = np.random.default_rng(seed)
    rows = [
        (photo, identity, network, attack, epsilon, target, size)
        for network in study.networks
        for attack in ("black-box", "noise", "white-box")
        for epsilon in study.epsilons
        for target in dict.fromkeys([study.readings.explained_class, "clean"])
        for size in ("input", "native")
        for photo, identity in photos
    ]
    columns = ["photo", "identity", "network", "attack", "epsilon", "target", "size"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(nissim=chance.random(len(table)) * (table["epsilon"] > 0))


def predictions_of(study: Study, photos: list[tuple[str, str]], seed: int) -> pd.DataFrame:
    nissim = nissim_of(study, photos, seed).drop_duplicates(
        ["photo", "network", "attack", "epsilon"]
    )
    table = nissim[["photo", "identity", "network", "attack", "epsilon"]]
    chance = np.random.default_rng(seed)
    return table.assign(label=1, predicted=chance.integers(0, 2, len(table)), predicted_clean=1)


def write_run(
    folder: Path,
    study: Study = STUDY,
    photos: list[tuple[str, str]] = PHOTOS,
    *,
    seed: int = 0,
    changed: list[tuple[str, str]] | None = None,
    weights: dict[str, str | None] | None = None,
) -> Path:
    """A finished run with random numbers; the files of ``changed`` photos have other contents."""
    report = folder / "report" / "0a"
    files = []
    for arm in study.arms:
        files += write.tables(
            folder / "tables" / arm,
            predictions=predictions_of(study, photos, seed),
            nissim=nissim_of(study, photos, seed),
        )
    tested = [(*photo, f"{photo[0]} {photo in (changed or [])}") for photo in photos]
    untested = [("a/train.png", "a", "train")]
    listed = pd.DataFrame(tested + untested, columns=["photo", "identity", "sha256"])
    files += write.tables(folder / "tables", photos=listed)
    report.mkdir(parents=True)
    described = {os.path.relpath(path, report): hashes.facts(path) for path in files}
    write.json(report / MANIFEST, {"files": described})
    origin = weights or {"origin": "random", "sha256": None}
    write.json(
        folder / MANIFEST,
        {
            "study": asdict(study),
            "weights": dict.fromkeys(study.networks, origin),
            "tasks": {"plain/data": "plain/data/0b", "report": "report/0a"},
        },
    )
    return folder


def row_of(table: pd.DataFrame, **values: object) -> pd.Series:
    (row,) = tables.select(table, **values).to_dict("records")
    return pd.Series(row)


def compared(folder: Path, study: Study = STUDY, **other: Any) -> Comparison:
    """The run of STUDY compared with another one."""
    return compare_runs(write_run(folder / "1"), write_run(folder / "2", study, **other))


BLACK_BOX = {"network": "vgg16", "attack": "black-box"}
READ = {"target": "predicted", "size": "input"}


def test_the_same_photos_are_compared_one_by_one(tmp_path):
    result = compared(tmp_path, seed=1)
    assert result.tested["plain"].paired
    for table, levels in ((result.accuracy, 3), (result.mod, 3), (result.vid, 1)):
        assert table["paired"].all()
        assert set(table["attack"]) == {"black-box", "white-box", "noise"}
        assert len(table) == 2 * 3 * levels
    # The tables in each run's own report have the same values.
    own = [answers.accuracy(predictions_of(STUDY, PHOTOS, seed)) for seed in (0, 1)]
    values = [row_of(table, **BLACK_BOX, epsilon=0.1)["accuracy"] for table in own]
    row = row_of(result.accuracy, **BLACK_BOX, epsilon=0.1)
    assert row[["first", "second"]].tolist() == values
    assert row["difference"] == pytest.approx(values[1] - values[0])
    own = [shifts.vid(nissim_of(STUDY, PHOTOS, seed), (0.05, 0.1)) for seed in (0, 1)]
    values = [row_of(table, **BLACK_BOX, **READ)["vid"] for table in own]
    row = row_of(result.vid, **BLACK_BOX)
    assert row[["first", "second"]].tolist() == pytest.approx(values)
    assert row[["photos_first", "photos_second"]].tolist() == [8, 8]
    assert row["low"] < row["difference"] < row["high"]


def test_runs_in_the_other_order_differ_by_the_opposite(tmp_path):
    runs = write_run(tmp_path / "1"), write_run(tmp_path / "2", seed=1)
    there, back = compare_runs(*runs).mod, compare_runs(*runs[::-1]).mod
    np.testing.assert_allclose(there["difference"], -back["difference"])
    np.testing.assert_allclose(there["low"], -back["high"], atol=1e-12)


def test_if_most_photos_are_in_both_runs_only_these_count(tmp_path):
    result = compared(tmp_path, photos=PHOTOS[:4])
    row = row_of(result.mod, **BLACK_BOX, epsilon=0.1)
    assert row[["photos_first", "photos_second"]].tolist() == [4, 4]
    nissim = tables.select(nissim_of(STUDY, PHOTOS, 0), **BLACK_BOX, **READ, epsilon=0.1)
    assert row["first"] == pytest.approx(nissim["nissim"].iloc[:4].mean())
    assert "**Paired**: compared photo by photo on the 4" in describe(result)


def test_a_photo_with_the_same_name_and_other_contents_is_another_photo(tmp_path):
    runs = write_run(tmp_path / "1"), write_run(tmp_path / "2", changed=PHOTOS[:1])
    for both in (runs, runs[::-1]):
        result = compare_runs(*both)
        for table in (result.accuracy, result.mod, result.vid):
            assert set(table["photos_first"]) == set(table["photos_second"]) == {7}


@pytest.mark.parametrize(
    "other",
    [
        {"photos": PHOTOS[:3]},  # fewer than half of the first's
        {"changed": PHOTOS},  # the same names, other files
        {"photos": [(f"x{photo}", person) for photo, person in PHOTOS]},
        {"photos": [(photo, "efgh"[i // 2]) for i, (photo, _) in enumerate(PHOTOS)]},
    ],
)
def test_other_photos_are_compared_unpaired(tmp_path, other):
    runs = write_run(tmp_path / "1"), write_run(tmp_path / "2", seed=1, **other)
    result = compare_runs(*runs)
    row = row_of(result.mod, **BLACK_BOX, epsilon=0.1)
    assert not row["paired"]
    assert row[["photos_first", "photos_second"]].tolist() == [8, len(other.get("photos", PHOTOS))]
    assert "**Not paired**" in describe(result)
    assert not compare_runs(*runs[::-1]).mod["paired"].any()


def test_people_in_both_runs_are_counted_if_no_photos_are(tmp_path):
    text = describe(compared(tmp_path, changed=PHOTOS))
    assert "0 photos and 4 names of people are in both" in text


def test_each_run_is_read_by_its_own_readings(tmp_path):
    readings = Readings(explained_class="clean", heatmap_size="native", vid_levels="all")
    other = replace(STUDY, name="two", readings=readings)
    result = compared(tmp_path, other)
    nissim = nissim_of(other, PHOTOS, 0)
    own = shifts.vid(nissim, other.epsilons)
    expected = row_of(own, **BLACK_BOX, target="clean", size="native")["vid"]
    assert row_of(result.vid, **BLACK_BOX)["second"] == pytest.approx(expected)
    condition = {"network": "vgg16", "attack": "white-box", "epsilon": 0.1}
    expected = tables.select(nissim, **condition, target="clean", size="native")["nissim"].mean()
    assert row_of(result.mod, **condition)["second"] == pytest.approx(expected)
    text = describe(result)
    assert "the first explains the class 'predicted' at size 'input', the second 'clean'" in text
    assert "**VID goes over different epsilons**: 'attacked' in the first, 'all' in the" in text
    settings = result.settings.set_index("setting")
    assert settings.loc["readings.explained_class"].tolist() == ["predicted", "clean"]
    # "name" and the three readings, and nothing that is the same.
    assert len(settings) == 4


def test_another_unit_of_epsilon_and_another_source_are_said(tmp_path):
    other = replace(STUDY, source="vgg16", readings=Readings(epsilon_unit="network"))
    text = describe(compared(tmp_path, other))
    assert "**Epsilon does not mean the same in both**" in text
    assert "epsilon in units of the network's own input" in text
    assert "by: VGG16 1 and 0.00392; ResNet50 1 and 0.00392." in text  # 1 / 255
    assert "made on ResNet50 in the first, on VGG16 in the second" in text
    assert "| VGG16 (source of the second: white-box) " in text
    assert "| ResNet50 (source of the first: white-box) " in text


def test_another_attack_is_said(tmp_path):
    result = compared(tmp_path, replace(STUDY, attack={"pgd": {"steps": 3}, "fgsm": {}}))
    row = result.settings.set_index("setting").loc["attack"]
    assert row.tolist() == ["fgsm", "pgd (steps = 3), fgsm"]
    assert "**The attacks differ**: FGSM in the first, PGD in the second." in describe(result)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        # For a network that is fed pixels in [0, 1] its own unit is the pixel's.
        ({"preprocessing": "unit"}, {"preprocessing": "unit", "epsilon_unit": "network"}, True),
        ({"epsilon_unit": "network"}, {"epsilon_unit": "network", "preprocessing": "unit"}, False),
    ],
)
def test_the_unit_of_epsilon_depends_on_what_networks_are_fed(tmp_path, first, second, same):
    studies = [replace(STUDY, readings=Readings(**readings)) for readings in (first, second)]
    runs = [write_run(tmp_path / str(i), study) for i, study in enumerate(studies)]
    assert ("Epsilon does not mean the same" not in describe(compare_runs(*runs))) == same


def test_weights_are_named_by_their_file(tmp_path):
    result = compared(tmp_path, weights={"origin": "file", "sha256": "0123456789abcdef"})
    settings = result.settings.set_index("setting")
    assert settings.loc["weights of vgg16"].tolist() == ["random", "file 01234567"]
    text = describe(result)
    assert "RANDOM (VGG16, ResNet50)" in text
    assert "file 01234567 (VGG16, ResNet50)" in text


def test_what_only_one_run_has_is_left_out_and_named(tmp_path):
    other = replace(
        STUDY,
        arms=("plain", "aligned"),
        networks=("xception", "resnet50"),
        epsilons=(0.0, 0.02, 0.05, 0.1),
    )
    result = compared(tmp_path, other)
    assert set(result.mod["network"]) == {"resnet50"}
    assert set(result.mod["epsilon"]) == {0.0, 0.05, 0.1}
    assert set(result.mod["arm"]) == {"plain"}
    # In the second run, too, VID goes over 0.05 and 0.1 only.
    own = shifts.vid(nissim_of(other, PHOTOS, 0), (0.05, 0.1))
    condition = {"network": "resnet50", "attack": "black-box"}
    expected = row_of(own, **condition, **READ)["vid"]
    assert row_of(result.vid, **condition)["second"] == pytest.approx(expected)
    text = describe(result)
    assert "Only the epsilons of both are compared, 0, 0.05, 0.1, and VID goes over these" in text
    assert "only one run has them: networks vgg16, xception." in text
    assert "only one run has them: arms aligned." in text


def test_noise_stands_below_the_attack(tmp_path):
    result = compared(tmp_path, seed=1)
    lines = describe(result).split("### MOD")[1].split("### VID")[0].splitlines()
    rows = [line for line in lines if "→" in line]
    assert [row.split("|")[1].strip() for row in rows[1::2]] == ["– random-sign noise"] * 2
    for attack, row in zip(("black-box", "noise"), rows, strict=False):
        cell = row_of(result.mod, network="vgg16", attack=attack, epsilon=0.1)
        assert f"{cell['first']:.4f} → {cell['second']:.4f}: " in row


def test_there_is_no_vid_over_one_epsilon(tmp_path):
    # All deviations would be 0, and so would their difference, as if that were a finding.
    result = compared(tmp_path, replace(STUDY, epsilons=(0.0, 0.1)))
    assert result.vid.empty
    text = describe(result)
    assert "VID is left out" in text
    assert "### VID" not in text


def test_attacks_of_the_transfer_matrix_have_no_vid(tmp_path, monkeypatch):
    without = nissim_of

    def with_transfer(*run) -> pd.DataFrame:
        table = without(*run)
        one_level = table[(table["attack"] == "black-box") & (table["epsilon"] == 0.1)]
        return pd.concat([table, one_level.assign(attack="from xception")])

    monkeypatch.setattr(sys.modules[__name__], "nissim_of", with_transfer)
    result = compared(tmp_path, seed=1)
    assert "from xception" not in set(result.vid["attack"])
    own = result.mod[result.mod["attack"] == "from xception"]
    assert own[["network", "epsilon"]].to_numpy().tolist() == [["vgg16", 0.1], ["resnet50", 0.1]]


def test_both_arms(tmp_path):
    run = write_run(tmp_path / "1", replace(STUDY, arms=("plain", "aligned")))
    result = compare_runs(run, run)
    assert result.vid.groupby("arm").size().to_dict() == {"plain": 6, "aligned": 6}
    text = describe(result)
    assert text.count("### VID under the black-box attack") == 2
    assert "The two differ in no setting." in text


def test_cells_are_percentages_and_mod_has_no_clean_column(tmp_path):
    run = write_run(tmp_path / "1")
    own = answers.accuracy(predictions_of(STUDY, PHOTOS, 0))
    clean = 100 * row_of(own, **BLACK_BOX, epsilon=0.0)["accuracy"]
    accuracy, mod = describe(compare_runs(run, run)).split("### Accuracy")[1].split("### MOD")
    # No answer of four people changes: with t = 3.182 up to t^2 / (4 + t^2) of all may.
    assert f"{clean:.2f} → {clean:.2f}: 0.00 [-71.69, 71.69]" in accuracy
    assert ": 0.0000 [0.0000, 0.0000]" in mod
    assert "ε = 0 " in accuracy
    assert "ε = 0 " not in mod
    assert "ε = 0.05 " in mod


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"networks": ("xception",), "source": "xception"}, "a network in common. Received: vgg16"),
        ({"arms": ("aligned",)}, "an arm in common. Received: plain and aligned"),
        ({"epsilons": (0.0, 0.2)}, "an epsilon above 0 in common. Received: 0.05, 0.1 and 0.2"),
    ],
)
def test_runs_with_nothing_in_common_are_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        compared(tmp_path, replace(STUDY, **change))


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Expected the folder of a run.*no_such, which has no"):
        open_run(tmp_path / "no_such")
    # Each task has a manifest of its own, which is no run's.
    folder = write_run(tmp_path / "1") / "report" / "0a"
    with pytest.raises(ValueError, match="Expected the manifest of a run.*no table study"):
        open_run(folder)


def edit_manifest(folder: Path, **values: object) -> None:
    path = folder / MANIFEST
    write.json(path, read.json(path) | values)


def test_a_run_without_a_finished_report_is_refused(tmp_path):
    folder = write_run(tmp_path / "1")
    edit_manifest(folder, tasks={"plain/data": "plain/data/0b"})
    with pytest.raises(ValueError, match="Expected a run with a finished report.*Received: .*1"):
        open_run(folder)
    edit_manifest(folder, tasks={"report": "report/gone"})
    with pytest.raises(ValueError, match="Expected a whole run.*gone"):
        open_run(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"study": {**asdict(STUDY), "epsilon": 1}}, "epsilon"),
        ({"study": {**asdict(STUDY), "image_size": "big"}}, "image_size"),
        ({"weights": {"vgg16": {"origin": "random"}}}, "origin of weights. Received: None"),
    ],
)
def test_a_manifest_of_another_version_is_refused_by_its_key(tmp_path, values, message):
    folder = write_run(tmp_path / "1")
    edit_manifest(folder, **values)
    with pytest.raises(ValueError, match=f"Expected a whole run.*{message}"):
        open_run(folder)


@pytest.mark.parametrize("name", ["plain/nissim.csv", "photos.csv"])
@pytest.mark.parametrize("gone", [True, False])
def test_tables_that_changed_after_the_report_are_refused(tmp_path, name, gone):
    # As after a report that was stopped while it was made again.
    run, other = write_run(tmp_path / "1"), write_run(tmp_path / "2")
    path = other / "tables" / name
    if gone:
        path.unlink()
    else:
        path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")
    with pytest.raises(ValueError, match=f"Expected .*{name} as the run's report wrote it"):
        compare_runs(run, other)


def test_a_copied_run_is_whole(tmp_path):
    # A copy's files have another time, so their content decides.
    folder = write_run(tmp_path / "1")
    for path in folder.rglob("*.csv"):
        path.write_bytes(path.read_bytes())
    assert len(compare_runs(folder, folder).mod)


def test_the_command_prints_and_writes(tmp_path):
    runs = [str(write_run(tmp_path / "1")), str(write_run(tmp_path / "2", seed=1))]
    output = tmp_path / "out"
    result = CliRunner().invoke(cli.main, ["compare", *runs, "--output", str(output)])
    assert result.exit_code == 0
    assert result.output.startswith("# Runs compared: one and one\n\n- **First**: ")
    written = {path.name: read_table(path) for path in output.iterdir()}
    assert set(written) == {
        f"compared_{name}.csv" for name in ("settings", "accuracy", "mod", "vid")
    }
    expected = compare_runs(*map(Path, runs))
    pd.testing.assert_frame_equal(written["compared_mod.csv"], expected.mod, check_dtype=False)
    assert written["compared_mod.csv"].columns.tolist() == [
        *("arm", "network", "attack", "epsilon", "first", "second", "difference", "low", "high"),
        *("photos_first", "photos_second", "paired"),
    ]


def test_an_error_of_the_command_is_one_line_with_status_2(tmp_path):
    result = CliRunner().invoke(cli.main, ["compare", str(tmp_path), str(tmp_path)])
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: Expected the folder of a run, such as runs/quick.")
    assert result.stderr.count("\n") == 1


def test_comparing_imports_neither_tensorflow_nor_keras(tmp_path):
    run = str(write_run(tmp_path / "1"))
    code = (
        "import sys; from gradcam_adv.app import cli; "
        f"cli.main(['compare', {run!r}, {run!r}], standalone_mode=False); "
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_with_json_the_command_prints_the_four_tables_and_nothing_else(tmp_path):
    runs = [str(write_run(tmp_path / "1")), str(write_run(tmp_path / "2", seed=1))]
    output = str(tmp_path / "out")
    result = CliRunner().invoke(cli.main, ["compare", *runs, "--json", "--output", output])
    told = json.loads(result.stdout)
    for name, expected in compare_runs(*map(Path, runs)).tables.items():
        table = pd.DataFrame(told[name], columns=expected.columns)
        pd.testing.assert_frame_equal(table, expected, check_dtype=False, rtol=1e-12)
        assert (tmp_path / "out" / f"compared_{name}.csv").exists()


def test_an_archive_of_a_run_is_compared_as_the_run_itself(tmp_path):
    folders = [write_run(tmp_path / "runs" / name, seed=seed) for seed, name in enumerate("ab")]
    files = []
    for folder in folders:
        picture = folder / "figures" / "plain" / "crops.png"
        picture.parent.mkdir(parents=True)
        picture.write_bytes(b"a face")
        files.append(tmp_path / f"{folder.name}.zip")
        count = archive.write_archive(folder, open_run(folder).report, files[-1])
        with zipfile.ZipFile(files[-1]) as content:
            names = content.namelist()
        assert count == len(names) == 5
        assert names == [
            "manifest.json",
            "report/0a/manifest.json",
            "tables/photos.csv",
            "tables/plain/nissim.csv",
            "tables/plain/predictions.csv",
        ]
    own, sent = compare_runs(*folders), compare_runs(*files)
    for name, table in own.tables.items():
        pd.testing.assert_frame_equal(sent.tables[name], table)
    assert sent.runs[0].given == files[0]
    assert describe(sent) == describe(own).replace(str(folders[0]), str(files[0])).replace(
        str(folders[1]), str(files[1])
    )
    again = tmp_path / "again.zip"
    archive.write_archive(folders[0], open_run(folders[0]).report, again)
    assert again.read_bytes() == files[0].read_bytes()


def test_a_table_that_somebody_changed_in_an_archive_is_refused(tmp_path):
    folder = write_run(tmp_path / "a")
    sent = tmp_path / "a.zip"
    archive.write_archive(folder, open_run(folder).report, sent)
    with zipfile.ZipFile(sent) as content:
        members = {name: content.read(name) for name in content.namelist()}
    members["tables/plain/nissim.csv"] = members["tables/plain/nissim.csv"].replace(b"0.", b"1.")
    with zipfile.ZipFile(sent, "w") as content:
        for name, text in members.items():
            content.writestr(name, text)
    with pytest.raises(ValueError, match=r"nissim.csv as the run's report wrote it"):
        compare_runs(folder, sent)


@pytest.mark.parametrize(
    "name", ["../out.csv", "/tmp/out.csv", "tables/plain/a.png", "runs/manifest.json"]
)
def test_an_archive_with_anything_else_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as content:
        content.writestr("manifest.json", "{}")
        content.writestr(name, "x")
    with pytest.raises(ValueError, match=r"manifests and tables alone.*Received: .*, in .*x\.zip"):
        compare_runs(tmp_path / "x.zip", tmp_path)
    assert not (tmp_path / "out.csv").exists()


def test_a_file_that_is_no_archive_or_too_large_is_refused(tmp_path, monkeypatch):
    (tmp_path / "x.zip").write_text("no archive")
    with pytest.raises(ValueError, match=r"Expected a whole archive of a run. Received: .*x\.zip"):
        compare_runs(tmp_path / "x.zip", tmp_path)
    with zipfile.ZipFile(tmp_path / "y.zip", "w") as content:
        content.writestr("manifest.json", "{}" + 100 * " ")
    monkeypatch.setattr(archive, "MOST_BYTES", 101)
    with pytest.raises(ValueError, match="at most 101 bytes of tables. Received: 102"):
        compare_runs(tmp_path / "y.zip", tmp_path)


def test_the_results_of_a_run_are_exported_from_the_command_line(tmp_path):
    write_run(tmp_path / "runs" / "one")
    (tmp_path / "one.toml").write_text("")
    arguments = ["export", str(tmp_path / "one.toml"), "--runs", str(tmp_path / "runs")]
    sent = tmp_path / "one.zip"
    result = CliRunner().invoke(cli.main, [*arguments, "--results", str(sent)])
    assert result.exit_code == 0 and result.output == f"5 files in {sent}\n"
    both = [str(tmp_path / "runs" / "one"), str(sent)]
    assert CliRunner().invoke(cli.main, ["compare", *both]).exit_code == 0
    for wrong, received in (
        (["--network", "vgg16"], "--network"),
        ([], "none of them"),
        (["--results", str(sent), "--epsilon", "0.1"], "--epsilon, --results"),
    ):
        result = CliRunner().invoke(cli.main, [*arguments, *wrong])
        assert result.exit_code == 2
        assert f"or --results alone. Received: {received}" in result.output
