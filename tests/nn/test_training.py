"""A LeNet trained here and in PyTorch from the same weights and batches: the same losses, step by step."""

from __future__ import annotations

import numpy as np
import pytest

import juanji as jj
from juanji import nn, optim, zoo
from juanji.optim import lr_scheduler


def batches(count, size):
    """Blurred class-dependent noise: something that can be learnt."""
    rng = np.random.default_rng(0)
    prototypes = rng.standard_normal((10, 1, 28, 28)).astype(np.float32)
    for _ in range(count):
        labels = rng.integers(0, 10, size)
        noise = rng.standard_normal((size, 1, 28, 28)).astype(np.float32)
        yield (prototypes[labels] + noise).astype(np.float32), labels


@pytest.mark.parametrize(
    ("name", "options"),
    [("SGD", {"lr": 0.01, "momentum": 0.9}), ("AdamW", {"lr": 1e-3, "weight_decay": 0.05})],
)
def test_losses_equal_pytorch(name, options):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional

    class Theirs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = torch.nn.Conv2d(1, 6, 3)
            self.conv2 = torch.nn.Conv2d(6, 16, 3)
            self.fc1 = torch.nn.Linear(400, 120)
            self.fc2 = torch.nn.Linear(120, 84)
            self.fc3 = torch.nn.Linear(84, 10)

        def forward(self, x):
            x = functional.max_pool2d(functional.relu(self.conv1(x)), (2, 2))
            x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
            x = functional.relu(self.fc1(x.flatten(1)))
            return self.fc3(functional.relu(self.fc2(x)))

    torch.manual_seed(0)
    theirs, mine = Theirs(), zoo.LeNet()
    mine.load_state_dict(theirs.state_dict())
    a, b = (
        getattr(optim, name)(mine.parameters(), **options),
        getattr(torch.optim, name)(theirs.parameters(), **options),
    )
    steps = 30
    cycle = {"max_lr": options["lr"] * 2, "total_steps": steps}
    x, y = lr_scheduler.OneCycleLR(a, **cycle), torch.optim.lr_scheduler.OneCycleLR(b, **cycle)
    criterion = nn.CrossEntropyLoss()
    ours, expected = [], []
    for images, labels in batches(steps, 4):
        a.zero_grad()
        loss = criterion(mine(jj.from_numpy(images)), jj.from_numpy(labels))
        loss.backward()
        a.step()
        x.step()
        ours.append(loss.item())
        b.zero_grad()
        loss = functional.cross_entropy(theirs(torch.from_numpy(images)), torch.from_numpy(labels))
        loss.backward()
        b.step()
        y.step()
        expected.append(loss.item())
    np.testing.assert_allclose(ours, expected, rtol=1e-4)
    assert np.mean(ours[-5:]) < np.mean(ours[:5])
