"""How fast is an epoch of `juanji finetune --recipe full`, loading of the pictures included, beside PyTorch?

MobileNetV2 and EfficientNet-Lite0 at 224 x 224, batches of 16, every layer trained with AdamW, JPEG photographs of
500 x 375 made for it (random parts, mirrored). Each side opens its own files. PyTorch in both memory formats, also
with glibc told to keep freed memory; its normalisations use their running statistics, as this recipe has it.

    python benchmarks/finetune_speed.py [--pictures 64] [--rounds 3] [--threads 1] [--json]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import race

MODELS = ("mobilenet_v2", "efficientnet_lite0")
BATCH, SIZE, CLASSES = 16, 224, 4
RATE = 3e-4
#: Processor time at the beginning of the running epoch.
begun = [0.0]


def photographs(folder: Path, count: int) -> None:
    """Smooth random colours with noise, as JPEG files in a folder for each class."""
    from PIL import Image

    random = np.random.default_rng(0)
    for i in range(count):
        small = random.integers(0, 255, (12, 16, 3)).astype(np.uint8)
        image = Image.fromarray(small).resize((500, 375), Image.Resampling.BICUBIC)
        noisy = np.asarray(image).astype(np.int32) + random.integers(-12, 12, (375, 500, 3))
        place = folder / f"class{i % CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(place / f"{i:04d}.jpg", quality=90)


def peak_memory() -> int:
    """Of this process, in bytes, as Linux counts."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def epoch_done(seconds: float) -> None:
    """Answers the last request, and waits for the next one."""
    used = time.process_time() - begun[0]
    print(json.dumps({"seconds": seconds, "processor": used, "memory": peak_memory()}), flush=True)
    if not sys.stdin.readline():
        sys.exit()
    begun[0] = time.process_time()


def juanji_side(request: dict[str, Any]) -> None:
    """Epochs by what `juanji finetune` is made of."""
    import juanji as jj
    from juanji import optim, zoo
    from juanji.data import scan
    from juanji.train.listener import Listener, Progress
    from juanji.train.loop import fit
    from juanji.tune import recipes
    from juanji.tune.folding import folded
    from juanji.tune.loading import Photos, augmentation, loader
    from juanji.tune.plan import views
    from juanji.tune.settings import Settings

    jj.set_num_threads(request["threads"])
    found = scan(request["folder"])
    view = views(Settings(), request["model"])["whole"]
    model: Any = zoo.create(request["model"], num_classes=CLASSES)
    # Every picture is opened in every epoch, as where they are too many to keep.
    photos = Photos(found.samples, view, augmentation("light", view), kept=0)
    batches = loader(photos, BATCH, shuffle=True, seed=0, workers=request["threads"])
    optimizer = optim.AdamW(recipes.groups("full", model, RATE, 0.6), lr=RATE)

    class Answers(Listener):
        def epoch(self, progress: Progress) -> None:
            epoch_done(progress.seconds)

    with folded(model, jj.zeros(1, 3, SIZE, SIZE)):
        fit(model, batches, optimizer, epochs=10**6, listener=Answers())


def torch_side(request: dict[str, Any]) -> None:
    """The same in PyTorch."""
    import torch
    from PIL import Image

    torch.set_num_threads(request["threads"] or 2)
    spec = importlib.util.spec_from_file_location("plain_torch", race.ROOT / "tests" / "zoo" / "plain_torch.py")
    assert spec is not None
    assert spec.loader is not None
    plain = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plain)
    net = plain.NETWORKS[request["model"]]()
    if isinstance(net.classifier, torch.nn.Sequential):
        net.classifier[-1] = torch.nn.Linear(1280, CLASSES)
    else:
        net.classifier = torch.nn.Linear(1280, CLASSES)
    memory = torch.channels_last if request["channels_last"] else torch.contiguous_format
    net = net.to(memory_format=memory)
    files = sorted(Path(request["folder"]).rglob("*.jpg"))
    labels = [int(p.parent.name[-1]) for p in files]
    random = np.random.default_rng(0)

    class Files(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, index: int) -> Any:
            image = Image.open(files[index]).convert("RGB")
            area = random.uniform(0.6, 1.0) ** 0.5
            w, h = int(image.width * area), int(image.height * area)
            left, top = int(random.integers(image.width - w + 1)), int(random.integers(image.height - h + 1))
            image = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, (left, top, left + w, top + h))
            if random.random() < 0.5:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            values = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
            return values.div_(255).sub_(0.45).div_(0.225), labels[index]

    batches = torch.utils.data.DataLoader(
        Files(), batch_size=BATCH, shuffle=True, drop_last=True, num_workers=request["workers"],
        persistent_workers=request["workers"] > 0,
    )  # fmt: skip
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, fused=True)
    for module in net.modules():
        module.train()
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()

    while True:
        begin = time.perf_counter()
        for inputs, wanted in batches:
            optimizer.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(net(inputs.to(memory_format=memory)), wanted).backward()
            optimizer.step()
        epoch_done(time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("request", nargs="?", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        request = json.loads(arguments.request)
        {"juanji": juanji_side, "torch": torch_side}[arguments.worker](request)
        return
    results: dict[str, Any] = {"machine": race.machine(), "threads": arguments.threads, "rows": {}}
    count = arguments.pictures // BATCH * BATCH
    with tempfile.TemporaryDirectory() as scratch:
        photographs(Path(scratch), arguments.pictures)
        for model in arguments.models:
            results["rows"][model] = raced(model, scratch, count, arguments)
    if arguments.json:
        print(json.dumps(results, indent=1))
        return
    rows = [
        [
            model,
            *(f"{r[side]:.1f}" for side in ("juanji", "torch")),
            *(f"{r[kind]:.2f}x" for kind in ("ratio", "processor ratio")),
            *(f"{n / 1e6:.0f}" for n in r["memory"]),
            f"{r['memory'][0] / r['memory'][1]:.2f}x",
        ]
        for model, r in results["rows"].items()
    ]
    head = [
        "network",
        "Juanji, images/s",
        "PyTorch, images/s",
        "ratio",
        "of processor time",
        "Juanji, MB",
        "PyTorch, MB",
        "ratio",
    ]
    print(race.table(head, rows))


def raced(model: str, folder: str, count: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Epochs of both sides in turns."""
    threads = {name: str(arguments.threads) for name in ("JUANJI_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    common = {"model": model, "folder": folder, "threads": arguments.threads, "workers": arguments.threads - 1}
    sides: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
        "juanji": ("juanji", common, threads),
    }
    if race.installed("torch"):
        for name, last in (("torch", False), ("torch channels_last", True)):
            sides[name] = ("torch", {**common, "channels_last": last}, threads)
            sides[f"{name} kept"] = ("torch", {**common, "channels_last": last}, {**threads, **race.KEPT_MEMORY})
    workers = {
        name: race.Worker(__file__, kind, [json.dumps(request)], env) for name, (kind, request, env) in sides.items()
    }
    times: dict[str, list[float]] = {name: [] for name in workers}
    processor: dict[str, list[float]] = {name: [] for name in workers}
    memory: dict[str, int] = {}
    for _ in range(arguments.rounds):
        for name, worker in workers.items():
            answer = worker.ask(run=1)
            times[name].append(answer["seconds"])
            processor[name].append(answer["processor"])
            memory[name] = answer["memory"]
    for worker in workers.values():
        worker.close()
    for name, seconds in times.items():
        busy = count / min(processor[name])
        race.note(
            f"{model} {name}: {count / min(seconds):.1f} images/s, {busy:.1f} for each second of a processor, "
            f"{memory[name] / 1e6:.0f} MB"
        )
    peers = [name for name in times if name != "juanji"]
    best = min(peers, key=lambda name: min(times[name]), default=None)
    # Keeping freed memory costs memory, so that variant is not asked about it.
    least = min((memory[name] for name in peers if not name.endswith("kept")), default=0)
    return {
        "juanji": count / min(times["juanji"]),
        "torch": count / min(times[best]) if best else float("nan"),
        "best": best,
        "ratio": statistics.median(b / a for a, b in zip(times["juanji"], times[best], strict=True)) if best else 0.0,
        "processor ratio": min(min(processor[name]) for name in peers) / min(processor["juanji"]) if best else 0.0,
        "memory": [memory["juanji"], least],
        "times": times,
    }


if __name__ == "__main__":
    main()
