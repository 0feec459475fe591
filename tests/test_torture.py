"""A few kills of a study, and whether the comparison of two runs finds every difference."""

import json
import shutil

import pytest
import torture


@pytest.mark.slow
def test_a_study_killed_at_random_moments_ends_like_an_undisturbed_one(tmp_path):
    folder = torture.new_folder(tmp_path / "work", ["vgg16"], ["plain"])
    expected = torture.undisturbed(folder)
    outcome = torture.torture(folder, expected, kills=2, seed=0)
    assert outcome.kills.total() == 2
    assert outcome.differences == []


@pytest.fixture
def finished(tmp_path):
    """Two finished runs that only differ in times."""
    for name, seconds in (("first", 1), ("second", 2)):
        task = tmp_path / name / "runs" / "tiny" / "report" / "0123"
        task.mkdir(parents=True)
        facts = {"size": 1, "mtime_ns": seconds, "sha256": "a"}
        report = {"size": seconds, "mtime_ns": seconds, "sha256": str(seconds)}
        files = {"a.csv": facts, "../../report.md": report}
        (task / "manifest.json").write_text(
            json.dumps({"task": "report", "seconds": seconds, "files": files})
        )
        (task / "a.csv").write_text("a,b\n1,2\n")
        (task.parents[1] / "report.md").write_text(
            f"# Run\n\n## Time\n\n| train | {seconds} |\n\n## How to cite\n\n- so\n"
        )
        (tmp_path / name / "models").mkdir()
    return tmp_path / "first", tmp_path / "second"


def test_times_do_not_count_as_a_difference(finished):
    assert torture.differing(*finished) == []


@pytest.mark.parametrize(
    ("path", "text", "line"),
    [
        ("runs/tiny/report/0123/a.csv", "a,b\n1,3\n", "other content"),
        (
            "runs/tiny/report.md",
            "# Run\n\n## Time\n\n1\n\n## How to cite\n\n- no\n",
            "other content",
        ),
        ("runs/tiny/report/0123/.a.partial.csv", "a,", "too many"),
        ("runs/tiny/report/0123/journal.jsonl", "{}", "too many"),
        ("runs/tiny/.lock", "", "too many"),
        ("models/vgg16.keras", "", "too many"),
    ],
)
def test_a_file_that_differs_or_is_too_many_is_found(finished, path, text, line):
    _, second = finished
    (second / path).write_text(text)
    assert torture.differing(*finished) == [f"{line}: {path}"]


def test_a_missing_file_and_another_record_are_found(finished):
    first, second = finished
    manifest = second / "runs" / "tiny" / "report" / "0123" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"a"', '"b"'))
    (second / "runs" / "tiny" / "report.md").unlink()
    assert torture.differing(first, second) == [
        "missing: runs/tiny/report.md",
        "other content: runs/tiny/report/0123/manifest.json",
    ]
    shutil.rmtree(second / "runs")
    assert len(torture.differing(first, second)) == 3
