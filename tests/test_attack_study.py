"""Studies of other attacks than FGSM, and of several, on networks of two layers."""

import pickle
import re
import subprocess
import sys

import keras
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import write_photo

from gradcam_adv import PGD, load_model, perturb, predict_logits
from gradcam_adv.app import Pipeline, cli
from gradcam_adv.attacks.gradients import MarginGradient
from gradcam_adv.files import read
from gradcam_adv.graph.flat import flatten
from gradcam_adv.models import backbones, bases, training
from gradcam_adv.report import attacks, early, figures, overview, report, sections
from gradcam_adv.runs import engines
from gradcam_adv.study import config, perturbed_set, sanity
from gradcam_adv.study.stages.attack import ScaledAttack
from gradcam_adv.study.stages.evaluate import Evaluate
from gradcam_adv.study.tables import select

STUDY = {
    "name": "tiny", "photos": "people", "image_size": 72, "networks": ["vgg16", "xception"],
    "source": "vgg16", "weights": "random", "epochs": 1, "epsilons": [0.02, 0.1],
    "gain_epsilons": [0.01], "noise_epsilons": [0.3], "noise_draws": 2,
    "control_epsilons": [0.05],
    "examples": 1, "arms": ["plain"], "layers": "last",
}  # fmt: skip
SEVERAL = {"pgd": {"steps": 2}, "fgsm": {}}


def tiny_base(name, image_size, weights, *, preprocessing="own", seed=0):
    """Instead of a network of that name: two layers; the last one has the real one's name."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((image_size, image_size, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, name="first")(inputs)
    last = backbones.BACKBONES[name].last_activation
    return keras.Model(inputs, keras.layers.ReLU(name=last)(x))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with photos; networks are tiny and not trained, and test photos in two slices."""
    folder = tmp_path_factory.mktemp("attacks")
    for person, name in enumerate(("ann", "bob", "cem")):
        for number in range(12):
            write_photo(folder / "people" / name / f"{number}.png", 100 * person + number)
    history = pd.DataFrame({"epoch": [1], "loss": [0.5], "val_loss": [0.5]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bases, "build", tiny_base)
        patch.setattr(engines, "SLICE", 2)
        patch.setattr(bases, "calibrate_batch_norm", lambda *_, **__: None)
        patch.setattr(training, "train_head", lambda *_, **__: history)
        patch.chdir(folder)
        yield folder


def planned(folder, name="runs", **changes):
    study = config.parse(STUDY | {"attack": SEVERAL} | changes)
    return Pipeline(study, folder / name, folder / "models")


@pytest.fixture(scope="module")
def run(folder):
    """A study of three attacks, PGD its own, epsilon in units of the network, that has been run."""
    pipeline = planned(folder, readings={"epsilon_unit": "network"})
    pipeline.run("score")
    return pipeline


@pytest.fixture(scope="module")
def summary(run):
    plan = run.plan.arms["plain"]
    made = plan.tables()
    return made | sections.beside_paper(plan, made) | attacks.derived(plan, made)


def test_a_stored_attack_is_the_attack_itself_in_a_byte_each(run):
    """VGG16's unit is 1/255 of a pixel value, Xception's 1/2; each gets the attack at its size."""
    plan = run.plan.arms["plain"]
    test = plan.photos.test
    pixels, labels = plan.photos.pixels(test), test["label"].to_numpy()
    model = load_model(plan.train["vgg16"].outside)
    epsilons = {"vgg16": 0.1 / 255, "xception": 0.1 / 2}
    expected = PGD(model, steps=2)(pixels, labels, [*epsilons.values()])
    assert len(plan.attack["vgg16"].paths()) == 2
    for network, size in epsilons.items():
        evaluate = plan.evaluate[network]
        added = evaluate.perturbations("black-box", test, 0, [0.1])[size]
        assert (np.abs(added) <= np.abs(expected[size])).all()
        assert np.abs(added - expected[size]).max() <= size / 127
        attacked = evaluate.attacked(pixels, {size: added}, 0.1)
        np.testing.assert_array_equal(attacked, perturb(pixels, added))
        predictions = evaluate.predictions().query("attack == 'black-box' and epsilon == 0.1")
        own = load_model(plan.train[network].outside)
        np.testing.assert_array_equal(
            predictions["predicted"], predict_logits(own, attacked).argmax(axis=1)
        )


def test_the_controls_are_made_of_the_attack(run):
    plan = run.plan.arms["plain"]
    test, evaluate = plan.photos.test, plan.evaluate["xception"]
    (own,), (mirrored,), (others,) = (
        evaluate.perturbations(attack, test, 0, [0.05]).values()
        for attack in ("white-box", "mirrored", "other photo")
    )
    np.testing.assert_array_equal(mirrored, own[:, :, ::-1])
    places = [evaluate.of_another(row) for row in range(len(test))]
    np.testing.assert_array_equal(others, own[places])
    one = evaluate.perturbations("other photo", test.iloc[[1]], 1, [0.05])
    np.testing.assert_array_equal(next(iter(one.values())), own[places[1:2]])


def test_zero_gradients_are_those_of_the_clean_photo(run, summary):
    """Not the pixels that the attack leaves as they are."""
    plan = run.plan.arms["plain"]
    test = plan.photos.test
    graph = flatten(load_model(plan.train["xception"].outside))
    gradient, _ = MarginGradient(graph, 8)(plan.photos.pixels(test), test["label"].to_numpy())
    share = (gradient == 0).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(plan.attack["xception"].zero_gradient(range(len(test))), share)
    assert share.all()  # though a random start leaves no pixel as it is
    found = summary["zero_gradients"].set_index("network")["zero_gradient"]
    assert found["xception"] == pytest.approx(share.mean())


def test_an_attack_is_made_at_the_sizes_that_somebody_needs(folder, run):
    """Its own network gets it at all of them, others at those of the study, or at the largest."""
    unit = {"epsilon_unit": "network"}
    plan = planned(folder, attack=SEVERAL | {"mi-fgsm": {}}, readings=unit).plan.arms["plain"]
    tasks = [*plan.attack.values(), *(t for own in plan.other_attacks.values() for t in own)]
    found = {
        (task.network, task.attack, task.unit): task.epsilons
        for task in tasks
        if isinstance(task, ScaledAttack)
    }
    every, study = (0.01, 0.02, 0.05, 0.1), (0.02, 0.1)
    assert found == {
        ("vgg16", "pgd", 1 / 255): every,
        ("vgg16", "pgd", 0.5): study,
        ("xception", "pgd", 0.5): every,
        ("xception", "pgd", 1 / 255): (0.1,),
        ("vgg16", "mi-fgsm", 1 / 255): study,
        ("vgg16", "mi-fgsm", 0.5): study,
        ("xception", "mi-fgsm", 0.5): study,
    }
    plan = run.plan.arms["plain"]
    with read.arrays(next(iter(plan.attack["vgg16"].paths()))) as arrays:
        assert sum(name.startswith("steps") for name in arrays) == len(every)
        assert all(a.dtype == np.int8 for n, a in arrays.items() if n.startswith("steps"))
    names = [task.name for task in run.plan.tasks]
    assert len(names) == len(set(names))


def test_every_table_has_the_further_attacks(summary):
    further = {"white-box fgsm", "black-box fgsm"}
    for name in ("accuracy", "mod", "psnr", "shift", "vid", "excess", "gain", "predictions"):
        assert further <= set(summary[name]["attack"]), name
    right = summary["accuracy"].set_index(["network", "attack", "epsilon"])["right"]
    of_source = [right.xs(("vgg16", f"{threat} fgsm")) for threat in ("white-box", "black-box")]
    assert of_source[0].equals(of_source[1])  # vgg16 is the source
    compared = summary["attacks"]
    assert len(compared) == 2 * 2 * 2 * 2 * compared.groupby(["target", "size"]).ngroups
    steps = set(zip(*(summary["bracket"][c] for c in ("lower", "upper")), strict=True))
    assert steps == {("noise", "fgsm"), ("fgsm", "pgd")}
    assert set(summary["checks"]["attack"]) == {"pgd", "fgsm"}
    # What is about the study's attack alone has no other.
    assert set(summary["transfer"]["source"]) == {"vgg16", "xception"}
    assert len(summary["transfer"]) == 4
    assert set(summary["half_shift"]["attack"]) == {"white-box", "black-box"}


def test_random_search_has_as_many_draws_as_the_study(run, summary, monkeypatch):
    """With a second draw that makes all answers wrong, random search leaves none right."""
    made = Evaluate.predictions

    def spoilt(task):
        table = made(task)
        return table.assign(predicted=table["predicted"].mask(table["attack"] == "noise 2", -1))

    monkeypatch.setattr(Evaluate, "predictions", spoilt)
    checks = attacks.derived(run.plan.arms["plain"], summary)["checks"]
    about = {"check": sanity.RANDOM, "network": "xception", "attack": "pgd", "than": "noise"}
    (row,) = select(checks, **about).itertuples()
    found = select(summary["predictions"], network="xception", attack="white-box")
    found = found[found["epsilon"] == row.epsilon]
    assert row.value == pytest.approx((found["predicted"] == found["label"]).mean())


def test_the_page_says_what_was_compared(run, summary, tmp_path):
    report.write_pages(tmp_path, run.plan.arms, {"plain": summary}, {})
    page, text = ((tmp_path / f"report.{end}").read_text() for end in ("html", "md"))
    for shown in (page, text):
        assert "PGD, FGSM on 2 face-recognition networks" in shown
        assert "noise ≤ FGSM, white-box: " in shown and "FGSM ≤ PGD, black-box: " in shown
    assert "The attacks compared: the bracket" in page
    assert "Checks that the attack works" in page
    # PGD, the study's attack, adds no signs.
    assert "mirrored signs" not in page and "of one size in every pixel" not in page
    assert page.count("mirrored perturbation") == page.count("another photo&#39;s perturbation") > 0


def test_the_figures_of_the_attack(run, summary):
    plan = run.plan.arms["plain"]
    drawn = attacks.figure(plan, summary["attacks"], summary["bracket"])
    names = {line.get_label() for line in drawn.axes[0].lines}
    assert names >= {"noise", "FGSM", "PGD", "unrelated"}
    steps = select(plan.headline(summary["bracket"]), threat="white-box")
    assert f"in {(steps['low'] > 0).sum()} of {len(steps)} steps" in drawn.get_suptitle()
    example = figures.successful_attack(plan, summary["predictions"])
    assert example.axes[1].get_title().startswith("perturbation, amplified")
    shown = example.axes[1].images[0].get_array()
    assert shown.min() >= 0 and shown.max() <= 1 and {0.0, 1.0} & {shown.min(), shown.max()}


def test_a_failed_check_is_a_warning_beside_the_number(run, summary):
    plan, checks = run.plan.arms["plain"], summary["checks"].copy()
    own = (checks["attack"] == "pgd") & (checks["network"] == "xception")
    checks.loc[own & (checks["check"] == sanity.CHANCE), "verdict"] = "failed"
    checks.loc[checks["attack"] == "fgsm", "verdict"] = "failed"  # not the attack of the numbers
    cards = overview.of_arm(plan, summary | {"checks": checks})
    assert {card.network: len(card.warnings) for card in cards} == {"vgg16": 0, "xception": 1}
    (warning,) = cards[1].warnings
    assert warning.startswith(f"PGD on XceptionNet fails “{sanity.CHANCE}” at ε = 0.1 (")


@pytest.mark.slow
def test_the_early_page_has_the_same_tables(run, summary):
    page = early.Measured().page(run.folder, run.study, run.plan.arms)
    for name in ("attacks", "bracket", "checks"):
        assert len(page.tables["plain"][name]) == len(summary[name])


def test_exporting_takes_the_sizes_that_were_made(run):
    plan = run.plan.arms["plain"]
    _, images = perturbed_set(plan, "xception", 0.05)
    expected = plan.evaluate["xception"].perturbations("white-box", plan.photos.test, 0, [0.05])
    clean = plan.photos.pixels(plan.photos.test)
    np.testing.assert_array_equal(images, perturb(clean, expected[0.025]))
    np.testing.assert_array_equal(perturbed_set(plan, "xception", 0)[1], clean)
    with pytest.raises(ValueError, match=r"PGD is made, out of 0.01, .*, 0.1. Received: 0.03"):
        perturbed_set(plan, "xception", 0.03)


def test_a_further_attack_more_leaves_all_else_as_it_is(folder, run):
    unit = {"epsilon_unit": "network"}
    more = planned(folder, readings=unit, attack=SEVERAL | {"pi-fgsm": {"steps": 2}})
    done = {task.folder for task in run.plan.tasks}
    new = {task.name.removeprefix("plain/") for task in more.plan.tasks if task.folder not in done}
    kinds = {re.split("[/-]", name)[0] for name in new if "pi-fgsm" not in name}
    assert kinds == {"evaluate", "score", "bracket"}  # their summaries
    assert all("pi-fgsm" in name or name.endswith("summary") for name in new)


def test_the_partial_plan_of_the_early_page_has_the_same_tasks(folder, run):
    from gradcam_adv.study import variations

    part = run._planned(variations.of_networks(run.study, ("vgg16",)), layers=True)
    done = {task.folder for task in run.plan.tasks}
    assert all(task.folder in done for task in part.arms["plain"].of("vgg16"))


def test_other_settings_make_another_attack(folder):
    def made(**settings):
        tasks = planned(folder, attack={"pgd": settings}).plan.tasks
        return [task.folder for task in tasks if task.stage == "attack"]

    assert made() == made(steps=10)  # the default
    assert made() != made(steps=11)
    seeds = [planned(folder, attack="pgd", seed=seed).plan.arms["plain"].attack for seed in (3, 4)]
    assert [own["vgg16"].settings["seed"] for own in seeds] == [3, 4]


def test_the_plan_of_any_attack_needs_no_keras(folder):
    """Else status, and a run that is done, would wait for it."""
    names = ["pgd", "mi-fgsm", "pi-fgsm", "explanation", "autopgd", "square"]
    script = (
        "import pathlib, sys; from gradcam_adv.app import Pipeline\n"
        "from gradcam_adv.study import config\n"
        f"study = config.parse({STUDY | {'attack': {name: {'seed': 3} for name in names}}})\n"
        "plan = Pipeline(study, pathlib.Path('runs'), pathlib.Path('models')).plan\n"
        "print(*(task.attack for task in plan.tasks if hasattr(task, 'attack')))\n"
        "assert 'keras' not in sys.modules\n"
    )
    command = [sys.executable, "-c", script]
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    assert set(found.split()) == set(names)


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        ({"pgd": {"steps": 0}}, "steps as a whole number above 0. Received: 0, in attack.pgd"),
        ({"pgd": {"norm": "l1"}}, "norm as one of linf, l2. Received: 'l1', in attack.pgd"),
    ],
)
def test_impossible_settings_are_refused_before_work(folder, attack, message):
    pipeline = planned(folder, "refused", attack=attack)
    with pytest.raises(ValueError, match=message):
        pipeline.run()
    assert not (folder / "refused").exists()


def test_a_worker_in_another_process_gets_the_attack_whole(run):
    task = run.plan.arms["plain"].attack["vgg16"]
    other = pickle.loads(pickle.dumps(task.sliced().begin)).__self__
    assert (other.settings, other.sizes, other.folder) == (task.settings, task.sizes, task.folder)


def test_an_interrupted_attack_goes_on_to_the_same_bytes(folder, run, monkeypatch):
    task = run.plan.arms["plain"].attack["vgg16"]
    *_, path = task.paths()
    before = path.read_bytes()
    path.unlink()
    calls = []
    make = ScaledAttack._prepared
    monkeypatch.setattr(ScaledAttack, "_prepared", lambda *given: calls.append(1) or make(*given))
    run.runner.do([task])
    assert path.read_bytes() == before and calls == [1]
    assert run.runner.is_done(run.plan.arms["plain"].evaluate["vgg16"])


def test_the_command_line_names_the_key(folder):
    (folder / "wrong.toml").write_text("[attack.pgd]\nstepz = 3\n")
    result = CliRunner().invoke(cli.main, ["reproduce", "wrong.toml"])
    assert result.exit_code != 0
    assert "Received: attack.pgd.stepz. Nearest: attack.pgd.steps." in result.output
