"""The network, the data and the training of article 001, section 5, with only the imports changed.

What the article leaves out is filled in: the imports of `F` and `optim`, the method `num_flat_features`, the
test at the end. Run `python examples/lenet_mnist.py`, or with `--compile` to run each training step as one
compiled plan: that is the one decorator `@jj.compile` on `step`.
"""

import argparse
import time

import juanji as jj
import juanji.nn as nn
import juanji.nn.functional as F
import juanji.optim as optim
from juanji.data import DataLoader, datasets, transforms


class Net(nn.Module):
    def __init__(self):
        super(Net, self).__init__()  # noqa: UP008 (as the article prints it)
        self.conv1 = nn.Conv2d(1, 6, 3)
        self.conv2 = nn.Conv2d(6, 16, 3)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), (2, 2))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.view(-1, self.num_flat_features(x))
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        x = self.fc3(x)
        return x

    def num_flat_features(self, x):
        features = 1
        for size in x.size()[1:]:  # all dimensions but the batch's
            features *= size
        return features


def loaders(root):
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
    trainset = datasets.MNIST(root=root, train=True, download=True, transform=transform)
    trainloader = DataLoader(trainset, batch_size=4, shuffle=True, num_workers=2)
    testset = datasets.MNIST(root=root, train=False, download=True, transform=transform)
    testloader = DataLoader(testset, batch_size=4, shuffle=False, num_workers=2)
    return trainloader, testloader


def main():
    parser = argparse.ArgumentParser(description="The article's LeNet on MNIST.")
    parser.add_argument("--compile", action="store_true", help="run each step as one compiled plan")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--root", default="./data", help="where the digits are kept")
    options = parser.parse_args()

    jj.manual_seed(options.seed)
    trainloader, testloader = loaders(options.root)

    net = Net()
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.SGD(net.parameters(), lr=0.001, momentum=0.9)

    def step(inputs, labels):
        optimizer.zero_grad()

        outputs = net(inputs)
        loss = criterion(outputs, labels)
        loss.backward()
        optimizer.step()
        return loss

    if options.compile:
        step = jj.compile(step)  # the same as writing @jj.compile above it

    begin = time.perf_counter()
    for epoch in range(options.epochs):
        running_loss, steps = 0.0, 0
        for i, data in enumerate(trainloader, 0):
            inputs, labels = data
            running_loss += step(inputs, labels).item()
            steps += 1
            if i % 2000 == 1999 or i + 1 == len(trainloader):
                print("[%d, %5d] loss: %.3f" % (epoch + 1, i + 1, running_loss / steps), flush=True)  # noqa: UP031
                running_loss, steps = 0.0, 0

    print("Finished Training", f"({time.perf_counter() - begin:.1f} s)")

    correct = total = 0
    with jj.no_grad():
        for inputs, labels in testloader:
            predicted = net(inputs).argmax(dim=1)
            correct += (predicted == labels).sum().item()
            total += len(labels)
    print(f"Accuracy on the {total:,} test digits: {correct / total:.1%}")


if __name__ == "__main__":
    main()
