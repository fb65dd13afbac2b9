"""`juanji.finetune` from pictures to a model, by each recipe."""

import shutil

import numpy as np
import pytest

import juanji as jj
from juanji.data import open_image
from juanji.errors import DataError
from juanji.interop.modelfile import load_model
from tune import tiny

SOON = {"model": "tiny", "epochs": 3, "augment": "light", "workers": 0}


def test_head_learns_and_its_file_says_the_same(photos, weights, tmp_path):
    path = tmp_path / "out.safetensors"
    outcome = jj.finetune(photos, model="tiny", weights=weights, recipe="head", out=path)
    assert outcome.classes == list(tiny.CLASSES)
    assert outcome.part == "val"
    assert len(outcome.paths) == len(outcome.labels) == len(outcome.logits) == 6
    assert outcome.accuracy >= 0.6
    assert outcome.metrics["accuracy"] == outcome.accuracy
    assert [row["epoch"] for row in outcome.history] == [0]
    assert outcome.weights["sha256"]
    assert outcome.data["counts"]["bars"] == {"train": 10, "val": 2, "test": 0}
    loaded = load_model(path)
    assert loaded.classes == tiny.CLASSES
    assert loaded.preprocessing == outcome.preprocessing
    pictures = np.stack([loaded.preprocessing.picture(open_image(p, None)) for p in outcome.paths])
    with jj.no_grad():
        logits = loaded.model(jj.from_numpy(loaded.preprocessing.normalize(pictures))).numpy()
    np.testing.assert_allclose(logits, outcome.logits, atol=1e-4)
    assert loaded.metadata["recipe"] == "head"


@pytest.mark.parametrize("recipe", ["full", "bn", "last:1", "scratch", "head"])
def test_every_recipe_trains_what_it_says(photos, weights, recipe):
    options = {**SOON, "recipe": recipe, "weights": None if recipe == "scratch" else weights, "ema": 0, "val": 0}
    if recipe == "head":
        options["head"] = "logistic"
    before = jj.load(weights)
    outcome = jj.finetune(photos, **options)
    after = {name: value.numpy() for name, value in outcome.model.state_dict().items()}
    moved = {
        n for n, v in after.items() if v.shape == tuple(before[n].shape) and not np.array_equal(v, before[n].numpy())
    }
    statistics = {n for n in after if "running" in n or "tracked" in n}
    body = set(after) - {"fc.weight", "fc.bias"}
    expected = {
        "full": body - statistics,
        "scratch": body,
        "bn": {n for n in after if ".1." in n},
        "last:1": {n for n in body - statistics if n.startswith("two.")},
        "head": set(),
    }[recipe]
    assert moved == expected
    assert [row["epoch"] for row in outcome.history if row["phase"] != "head" or recipe == "head"] == [1, 2, 3]


@pytest.mark.parametrize("recipe", ["full", "last:1"])
def test_frozen_statistics_do_not_move(photos, weights, recipe):
    before = jj.load(weights)
    outcome = jj.finetune(photos, **SOON, recipe=recipe, weights=weights)
    found = outcome.model.state_dict()
    names = [n for n in found if "running" in n or "tracked" in n]
    assert len(names) == 6
    for name in names:
        np.testing.assert_array_equal(found[name].numpy(), before[name].numpy(), err_msg=name)


def test_it_learns_from_scratch(photos):
    outcome = jj.finetune(
        photos, model="tiny", recipe="scratch", epochs=40, augment="none", workers=0, ema=0.9, lr=0.01, val=0
    )
    assert outcome.part == "train"
    assert outcome.accuracy > 0.9
    losses = [row["train_loss"] for row in outcome.history]
    assert losses[-1] < losses[0]


def test_the_same_seed_gives_the_same_weights_for_any_number_of_workers(photos, weights):
    options = {**SOON, "weights": weights, "recipe": "full", "augment": "strong", "mix": "both"}
    states = [
        jj.finetune(photos, **{**options, "workers": n}, seed=s).model.state_dict() for n, s in ((0, 1), (3, 1), (0, 2))
    ]
    for name, value in states[0].items():
        np.testing.assert_array_equal(value.numpy(), states[1][name].numpy(), err_msg=name)
    assert any(not np.array_equal(v.numpy(), states[2][n].numpy()) for n, v in states[0].items())


def test_accumulation_is_as_a_larger_batch(photos, weights):
    options = {"model": "tiny", "weights": weights, "recipe": "last:1", "augment": "none", "workers": 0, "ema": 0}
    options |= {"val": 0, "epochs": 2, "label_smoothing": 0}

    def trained(**more):
        return jj.finetune(photos, **options, **more).model.state_dict()

    one, two = trained(batch_size=12), trained(batch_size=6, accumulate=2)
    for name, value in one.items():
        np.testing.assert_allclose(value.numpy(), two[name].numpy(), atol=2e-5, err_msg=name)


def test_patience_ends_early_and_the_best_is_kept(photos, weights):
    outcome = jj.finetune(
        photos, model="tiny", weights=weights, recipe="full", epochs=30, patience=2, lr=0.3, ema=0, workers=0
    )
    rows = outcome.history
    assert len(rows) < 30
    best = max(rows, key=lambda r: (r["val_accuracy"], -r["val_loss"]))
    assert outcome.best_epoch == best["epoch"]
    assert outcome.metrics["accuracy"] == pytest.approx(best["val_accuracy"])
    assert outcome.metrics["loss"] == pytest.approx(best["val_loss"], abs=1e-4)


def test_class_weights_and_the_learning_rate_finder(photos, weights, tmp_path):
    few = tmp_path / "few"
    shutil.copytree(photos, few)
    for path in sorted((few / "dots").iterdir())[4:]:
        path.unlink()
    outcome = jj.finetune(few, **SOON, weights=weights, recipe="full", class_weights=True, find_lr=True, val=0)
    assert any("learning rate" in reason for reason in outcome.reasons)
    assert 0 < outcome.settings["lr"] < 1
    plain = jj.finetune(few, model="tiny", weights=weights, recipe="head", val=0)
    alike = jj.finetune(few, model="tiny", weights=weights, recipe="head", val=0, class_weights=True)
    dots = plain.classes.index("dots")
    assert alike.probabilities[:, dots].mean() > plain.probabilities[:, dots].mean()


def test_auto_says_what_it_chose_and_why(photos, weights, tmp_path):
    outcome = jj.finetune(photos, model="tiny", weights=weights)
    assert outcome.recipe == "head"
    assert any(reason.startswith("head: ") for reason in outcome.reasons)
    many = tiny.pictures(tmp_path / "many", each=60, seed=3)
    outcome = jj.finetune(many, model="tiny", weights=weights, budget=60.0, workers=0)
    assert outcome.recipe == "full"
    assert any(reason.startswith("full: ") for reason in outcome.reasons)
    outcome = jj.finetune(many, model="tiny", weights=weights, budget=0.001, workers=0)
    assert outcome.recipe == "head"


def test_a_tree_and_a_table(photos, weights, tmp_path):
    tree = tmp_path / "tree"
    shutil.copytree(photos, tree / "train")
    tiny.pictures(tree / "val", 4, seed=1)
    tiny.pictures(tree / "test", 5, seed=2)
    outcome = jj.finetune(tree, model="tiny", weights=weights, recipe="head")
    assert outcome.part == "test"
    assert len(outcome.labels) == 15
    assert outcome.metrics["val_count"] == 12
    rows = [f"{p.relative_to(photos)},{p.parent.name}" for p in sorted(photos.rglob("*.png"))]
    shutil.copytree(photos, tmp_path / "table")
    (tmp_path / "table" / "labels.csv").write_text("path,label\n" + "\n".join(rows))
    outcome = jj.finetune(tmp_path / "table", model="tiny", weights=weights, recipe="head")
    assert outcome.data["layout"] == "table"
    assert outcome.classes == list(tiny.CLASSES)


def test_duplicates_and_groups_stay_together(photos, weights, tmp_path):
    twice = tmp_path / "twice"
    shutil.copytree(photos, twice)
    for path in sorted(twice.rglob("*.png")):
        shutil.copy(path, path.with_name(f"again-{path.name}"))
    outcome = jj.finetune(twice, model="tiny", weights=weights, recipe="head", val=0.3)
    names = {p.rpartition("/")[2] for p in outcome.paths}
    assert all((n.removeprefix("again-") in names) and (f"again-{n.removeprefix('again-')}" in names) for n in names)
    outcome = jj.finetune(photos, model="tiny", weights=weights, recipe="head", group=r"^(\d)", val=0.4)
    tens = {(p.split("/")[-2], p.split("/")[-1][0]) for p in outcome.paths}
    kept = sum(1 for p in photos.rglob("*.png") if (p.parent.name, p.name[0]) in tens)
    assert kept == len(outcome.paths)


def test_bad_files_are_told_and_left_out(photos, weights, tmp_path):
    from juanji.tune.told import Told

    mixed = tmp_path / "mixed"
    shutil.copytree(photos, mixed)
    good = (mixed / "bars" / "00.png").read_bytes()
    (mixed / "bars" / "cut.png").write_bytes(good[: len(good) // 2])
    (mixed / "dots" / "text.jpg").write_text("no picture")
    (mixed / "empty").mkdir()
    notes = []
    told = Told()
    told.note = notes.append
    outcome = jj.finetune(mixed, model="tiny", weights=weights, recipe="head", told=told)
    assert {row["name"] for row in outcome.data["skipped"]} == {"bars/cut.png", "dots/text.jpg"}
    assert any("cut.png" in note for note in notes)
    assert any("'empty'" in note for note in notes)
    assert outcome.classes == list(tiny.CLASSES)


def test_a_class_that_is_only_tested_is_left_out_and_said(photos, weights, tmp_path):
    tree = tmp_path / "tree"
    shutil.copytree(photos, tree / "train")
    tiny.pictures(tree / "val", 4, seed=1)
    shutil.copytree(tree / "val" / "dots", tree / "val" / "stars")
    outcome = jj.finetune(tree, model="tiny", weights=weights, recipe="head")
    assert outcome.classes == list(tiny.CLASSES)
    assert any("'stars'" in text for text in outcome.data["warnings"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"recipe": "heads"}, "recipe='heads'"),
        ({"recipe": "last:0"}, "last:N"),
        ({"recipe": "last:3"}, "2 stages one, two"),
        ({"augment": "much"}, "strong"),
        ({"val": 0.7, "test": 0.4}, "leave pictures"),
        ({"lr": -1}, "lr=-1"),
        ({"epochs": 0}, "epochs=0"),
        ({"group": "("}, "no regular expression"),
        ({"size": 4096}, "at most 1024"),
        ({"model": "nothing"}, "nothing"),
        ({"resume": True}, "out="),
    ],
)
def test_options_that_make_no_sense(photos, weights, options, said):
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        jj.finetune(photos, **{"model": "tiny", "weights": weights, **options})


def test_sets_that_cannot_be_learned(photos, weights, tmp_path):
    with pytest.raises(TypeError, match="no option 'epoch'"):
        jj.finetune(photos, epoch=3)
    (tmp_path / "one").mkdir()
    shutil.copytree(photos / "bars", tmp_path / "one" / "bars")
    with pytest.raises(DataError, match="only the class 'bars'"):
        jj.finetune(tmp_path / "one", model="tiny", weights=weights)
    with pytest.raises(DataError, match="there is none"):
        jj.finetune(tmp_path / "gone", model="tiny", weights=weights)
    with pytest.raises(FileNotFoundError, match="weights"):
        jj.finetune(photos, model="tiny", weights=str(tmp_path / "none.pth"))
