"""How well does `juanji finetune` learn from few pictures? Five splits of tuxpaint-stamps-default, beside PyTorch.

Seven classes of photographs, 211 in all, cartoons left out; 70% to learn from, 30% to test with, divided by class with
five seeds. The same pictures, the same weights and the same recipe in PyTorch: its network makes the features, and the
head is found in the same way. Beside it a plain linear head in PyTorch, trained by Adam on the middle of the pictures.

    python benchmarks/stamps.py [--folder DIR] [--seeds 5] [--no-torch] [--json]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
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


def photographs(folder: Path, into: Path) -> int:
    """Links to the photographs, a folder for each class; gives their number."""
    count = 0
    for name, place in CLASSES.items():
        (into / name).mkdir(parents=True)
        for path in sorted((folder / place).rglob("*.png")):
            if not LEFT_OUT & set(path.parts):
                (into / name / path.name).symlink_to(path)
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
            path.symlink_to(os.path.realpath(sample.path))
    return into


def ours(tree: Path, seed: int, options: dict[str, Any]) -> dict[str, Any]:
    """A fine-tuning of Juanji's, all training pictures learned from, the others asked once."""
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


def shown(values: list[float]) -> str:
    """Mean and standard error, in percent."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):.1%} (standard error {100 * error:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not arguments.folder.is_dir():
        sys.exit(f"there is no {arguments.folder}: install Debian's tuxpaint-stamps-default, or name it with --folder")
    with_torch = not arguments.no_torch and race.installed("torch")
    results: dict[str, Any] = {"machine": race.machine(), "rows": {}}
    with tempfile.TemporaryDirectory() as scratch:
        pictures = Path(scratch) / "stamps"
        results["pictures"] = photographs(arguments.folder, pictures)
        race.note(f"{results['pictures']} photographs of {len(CLASSES)} classes")
        results["head seconds"] = head_seconds(pictures)
        race.note(f"juanji finetune --model mobilenet_v2 --recipe head --report: {results['head seconds']}")
        trees = [divided(pictures, Path(scratch) / f"split{seed}", seed) for seed in range(arguments.seeds)]
        for name, options in CHOICES.items():
            runs = [ours(tree, seed, options) for seed, tree in enumerate(trees)]
            row = {"juanji": [r["accuracy"] for r in runs], "runs": runs}
            if with_torch:
                peer = Torch(runs[0]["model"])
                row["torch, same recipe"] = [peer.same(tree, seed) for seed, tree in enumerate(trees)]
                row["torch, plain head"] = [peer.plain(tree, seed) for seed, tree in enumerate(trees)]
            results["rows"][name] = row
            race.note(f"{name} ({runs[0]['model']}, {runs[0]['recipe']}): juanji {shown(row['juanji'])}")
            for key in ("torch, same recipe", "torch, plain head"):
                if key in row:
                    race.note(f"    {key}: {shown(row[key])}")
    if arguments.json:
        print(json.dumps(results, indent=1))
        return
    kinds = ("juanji", "torch, same recipe", "torch, plain head")
    rows = [
        [name, row["runs"][0]["model"], *(shown(row[kind]) if kind in row else "" for kind in kinds)]
        for name, row in results["rows"].items()
    ]
    print(race.table(["choice", "network", "Juanji", "PyTorch, same recipe", "PyTorch, plain linear head"], rows))


if __name__ == "__main__":
    main()
