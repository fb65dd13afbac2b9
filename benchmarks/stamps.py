"""How well does `juanji finetune` learn from few pictures? Splits of tuxpaint-stamps-default, beside PyTorch.

Seven classes of photographs, 211 in all, cartoons left out; 70% to learn from, 30% to test with, divided by class, each
split with another seed: mean accuracy, and the standard error of that mean. The same pictures, the same weights and the
same recipe in PyTorch: its network makes the features, and the head is found in the same way. Beside it a plain linear
head in PyTorch, trained by Adam on the middle of the pictures. The seconds are those of the whole program, from the
pictures to the report, as a user has it, on all processors.

    python benchmarks/stamps.py [--quick] [--folder DIR] [--seeds 5] [--no-torch] [--json]
    python benchmarks/stamps.py --pictures FOLDER     # only the photographs, a folder for each class
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import race

FOLDER = Path("/usr/share/tuxpaint/stamps")
CLASSES = {
    "birds": "animals/birds",
    "mammals": "animals/mammals",
    "fruit": "food/fruit",
    "flowers": "plants/flowers",
    "vegetables": "food/vegetables",
    "fish": "animals/fish",
    "household": "household",
}
#: No photographs: drawings, and a picture of a flower of plastic.
LEFT_OUT = {"cartoon", "plastic"}
TEST = 0.3
CHOICES: dict[str, dict[str, Any]] = {
    "default": {},
    "head mobilenet_v2": {"model": "mobilenet_v2", "recipe": "head"},
    "head efficientnet_lite0": {"model": "efficientnet_lite0", "recipe": "head"},
}


def link(path: Path, to: Path) -> None:
    """A link to a file, or a copy of it where there can be none, as without the right to make them on Windows."""
    try:
        to.symlink_to(path)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):
        shutil.copyfile(path, to)


def photographs(folder: Path, into: Path) -> int:
    """Links to the photographs, a folder for each class; gives their number.

    Raises:
        race.MissingError: the stamps are not installed.
        FileExistsError: there is something in `into` already.
    """
    if not all((folder / place).is_dir() for place in CLASSES.values()):
        raise race.MissingError(
            f"the stamps are not in {folder}: install Debian's package tuxpaint-stamps-default, or say where they are "
            "with --folder"
        )
    if into.exists() and any(into.iterdir()):
        raise FileExistsError(f"{into} is not empty")
    count = 0
    for name, place in CLASSES.items():
        (into / name).mkdir(parents=True)
        root = (folder / place).resolve()
        for path in sorted(root.rglob("*.png")):
            if not LEFT_OUT & set(path.relative_to(root).parts):
                link(path, into / name / path.name)
                count += 1
    return count


def divided(pictures: Path, into: Path, seed: int) -> Path:
    """The set with parts train and test."""
    from juanji.data import scan, split

    found = scan(pictures)
    parts = split(found.samples, {"train": None, "test": TEST}, seed=seed)
    for part, samples in parts.items():
        for sample in samples:
            path = into / part / sample.name
            path.parent.mkdir(parents=True, exist_ok=True)
            link(Path(os.path.realpath(sample.path)), path)
    return into


def ours(tree: Path, seed: int, options: dict[str, Any]) -> dict[str, Any]:
    """A fine-tuning of Juanji's: all training pictures are learned from, the others asked once."""
    import juanji as jj

    outcome = jj.finetune(tree, val=0, seed=seed, **options)
    return {
        "accuracy": outcome.accuracy,
        "model": outcome.settings["model"],
        "recipe": outcome.recipe,
        "view": outcome.settings["view"],
        "seconds": outcome.seconds,
    }


class Torch:
    """PyTorch's side: its network makes the features, of the same views of the pictures."""

    def __init__(self, model: str) -> None:
        import torch

        from juanji import zoo
        from juanji.tune.plan import views
        from juanji.tune.settings import Settings

        spec = importlib.util.spec_from_file_location("plain_torch", race.ROOT / "tests" / "zoo" / "plain_torch.py")
        assert spec is not None
        assert spec.loader is not None
        plain = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(plain)
        self.torch = torch
        weights = zoo.create(model, pretrained=True)
        self.net = plain.NETWORKS[model]()
        self.net.load_state_dict(
            {k: torch.from_numpy(v.detach().numpy().copy()) for k, v in weights.state_dict().items()}
        )
        last = self.net.classifier
        if isinstance(last, torch.nn.Sequential):
            last[-1] = torch.nn.Identity()
        else:
            self.net.classifier = torch.nn.Identity()
        self.net.eval()
        self.views = views(Settings(), model)
        self.known: dict[tuple[str, str], Any] = {}

    def features(self, paths: list[str], view: str) -> Any:
        """(n, F) of pictures."""
        from juanji.data import open_image

        paths = [os.path.realpath(p) for p in paths]  # the same in every split
        todo = [p for p in paths if (p, view) not in self.known]
        made = self.views[view]
        for at in range(0, len(todo), 16):
            part = todo[at : at + 16]
            pictures = np.stack([made.picture(open_image(p, None)) for p in part])
            with self.torch.no_grad():
                found = self.net(self.torch.from_numpy(made.normalize(pictures))).numpy()
            self.known.update({(p, view): row for p, row in zip(part, found, strict=True)})
        return np.stack([self.known[p, view] for p in paths])

    def same(self, tree: Path, seed: int) -> float:
        """The accuracy of the same recipe."""
        from juanji.data import scan
        from juanji.tune import head

        found = scan(tree)
        train, test = found.part("train"), found.part("test")
        names, labels = [s.path for s in train], np.array([s.label for s in train])
        classes, fold = len(found.classes), head.folds(train, seed=seed)
        tried = {
            view: head.cross_validate(self.features(names, view), labels, classes, fold) for view in ("whole", "middle")
        }
        view = "middle" if head.clearly_better(tried["middle"], tried["whole"]) else "whole"
        assert tried[view].value is not None
        linear = head.Discriminant(self.features(names, view), labels, classes).linear(tried[view].value or 0.5)
        asked = linear(self.features([s.path for s in test], view)).argmax(axis=1)
        return float((asked == np.array([s.label for s in test])).mean())

    def plain(self, tree: Path, seed: int) -> float:
        """The accuracy of a plain linear head on the middle of the pictures."""
        from juanji.data import scan

        torch = self.torch
        found = scan(tree)
        train, test = found.part("train"), found.part("test")
        torch.manual_seed(seed)
        x = torch.from_numpy(self.features([s.path for s in train], "middle"))
        y = torch.tensor([s.label for s in train])
        layer = torch.nn.Linear(x.shape[1], len(found.classes))
        optimizer = torch.optim.Adam(layer.parameters(), lr=1e-3, weight_decay=1e-4)
        for _ in range(300):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(layer(x), y).backward()
            optimizer.step()
        with torch.no_grad():
            asked = layer(torch.from_numpy(self.features([s.path for s in test], "middle"))).argmax(1)
        return float((asked.numpy() == np.array([s.label for s in test])).mean())


def head_seconds(pictures: Path) -> dict[str, float]:
    """Seconds of the program with mobilenet_v2's head and a report: a first time, and with its kernels kept."""
    from juanji.paths import cache_dir

    found = {}
    with tempfile.TemporaryDirectory() as home:
        if (cache_dir() / "weights").is_dir():
            os.symlink(cache_dir() / "weights", Path(home) / "weights")
        for name in ("first", "kernels kept"):
            out = Path(home) / "model.safetensors"
            command = [sys.executable, "-m", "juanji.cli.main", "finetune", str(pictures), "--model", "mobilenet_v2"]
            begin = time.perf_counter()
            subprocess.run(
                [*command, "--recipe", "head", "--out", str(out), "--report", str(Path(home) / "report.html")],
                env={**os.environ, "JUANJI_HOME": home, "PYTHONPATH": str(race.ROOT / "src")},
                capture_output=True,
                check=True,
            )
            found[name] = time.perf_counter() - begin
            for file in Path(home, "features").rglob("*.safetensors"):
                file.unlink()
    return found


# -- workers ----------------------------------------------------------------------------------------------------------
def work(kind: str) -> None:
    """A worker: fine-tunes on what it is told to, and says how often it was right."""

    def prepare() -> Any:
        peers: dict[str, Torch] = {}

        def answer(request: dict[str, Any]) -> dict[str, Any]:
            tree, seed = Path(request["tree"]), request["seed"]
            if kind == "juanji":
                return ours(tree, seed, request["options"])
            model = request["model"]
            if model not in peers:
                peers[model] = Torch(model)
            return {"same recipe": peers[model].same(tree, seed), "plain head": peers[model].plain(tree, seed)}

        return {}, answer

    race.serve(prepare)


# -- the race ---------------------------------------------------------------------------------------------------------
def measure(quick: bool = False, folder: Path = FOLDER, seeds: int = 5, with_torch: bool = True) -> dict[str, Any]:
    """Accuracies of every choice for each contestant, a list over the splits, and seconds from pictures to report.

    Args:
        quick: one split, one choice.
        folder: of the stamps.
        seeds: how many splits.
        with_torch: whether PyTorch takes part, if it is there.

    Raises:
        race.MissingError: the stamps are not installed.
    """
    choices = {name: CHOICES[name] for name in (["head mobilenet_v2"] if quick else CHOICES)}
    with tempfile.TemporaryDirectory() as scratch:
        pictures = Path(scratch) / "stamps"
        result: dict[str, Any] = {"pictures": photographs(folder, pictures), "rows": []}
        result["head seconds"] = head_seconds(pictures)
        race.note(f"from pictures to report: {result['head seconds']}")
        trees = [divided(pictures, Path(scratch) / f"split{seed}", seed) for seed in range(1 if quick else seeds)]
        team = {"juanji": race.Worker(__file__, "juanji")}
        if with_torch and race.installed("torch"):
            team["torch"] = race.Worker(__file__, "torch")
        for name, options in choices.items():
            row: dict[str, Any] = {"choice": name, "accuracy": {"Juanji": []}, "runs": []}
            for seed, tree in enumerate(trees):
                run = team["juanji"].ask(tree=str(tree), seed=seed, options=options)
                row["runs"].append(run)
                row["accuracy"]["Juanji"].append(run["accuracy"])
                if "torch" in team:
                    answer = team["torch"].ask(tree=str(tree), seed=seed, model=run["model"])
                    for kind, accuracy in answer.items():
                        row["accuracy"].setdefault(f"PyTorch, {kind}", []).append(accuracy)
            result["rows"].append(row)
            race.note(f"{name}: { ({who: shown(values) for who, values in row['accuracy'].items()}) }")
        for worker in team.values():
            worker.close()
    return result


def shown(values: list[float]) -> str:
    """Mean and its standard error, in percent."""
    if len(values) < 2:
        return f"{values[0]:.1%}"
    return f"{statistics.mean(values):.1%} ± {100 * statistics.stdev(values) / len(values) ** 0.5:.1f}"


def losses(result: dict[str, Any]) -> list[str]:
    """Where PyTorch is right more often."""
    lost = []
    for row in result["rows"]:
        means = {who: statistics.mean(values) for who, values in row["accuracy"].items()}
        for who, mean in means.items():
            if mean > means["Juanji"]:
                lost.append(f"Photographs of stamps, {row['choice']}: {means['Juanji']:.1%}, {who} {mean:.1%}.")
    return lost


def markdown(result: dict[str, Any]) -> str:
    """The section of docs/performance.md."""
    columns = list(dict.fromkeys(who for row in result["rows"] for who in row["accuracy"]))
    lines = []
    for row in result["rows"]:
        chosen = [", ".join(sorted({run[key] for run in row["runs"]})) for key in ("model", "recipe")]
        values = [shown(row["accuracy"][who]) if who in row["accuracy"] else "" for who in columns]
        lines.append([row["choice"], *chosen, *values])
    splits = len(result["rows"][0]["runs"])
    text = " ".join((__doc__ or "").split("    python")[0].split())
    seconds = "; ".join(f"{name} {value:.1f} s" for name, value in result["head seconds"].items())
    return (
        f"## Fine-tuning on few photographs\n\n{text}\n\n"
        f"{race.table([f'{splits} splits' if splits > 1 else 'one split', 'network', 'recipe', *columns], lines)}\n\n"
        f"`juanji finetune --model mobilenet_v2 --recipe head --report`, {result['pictures']} pictures: {seconds}.\n"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one split, one choice")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the stamps are")
    parser.add_argument("--seeds", type=int, default=5, help="how many splits")
    parser.add_argument("--no-torch", action="store_true", help="only Juanji")
    parser.add_argument("--json", action="store_true", help="all numbers instead of the table")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="only put the photographs there, by class")
    parser.add_argument("--worker", choices=("juanji", "torch"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.worker)
        sys.exit()
    try:
        if given.pictures:
            print(f"{photographs(given.folder, given.pictures)} photographs of {len(CLASSES)} classes")
            sys.exit()
        measured = measure(given.quick, given.folder, given.seeds, not given.no_torch)
    except (race.MissingError, FileExistsError) as error:
        sys.exit(str(error))
    if given.json:
        print(json.dumps({"machine": race.machine(), **measured}, indent=1))
    else:
        print(markdown(measured))
        print(os.linesep.join(losses(measured)))
