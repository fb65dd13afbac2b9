"""Article 001, sections 5.1 and 5.3: the network and one pass of the training loop.

The article uses `F`, `optim` and `num_flat_features` and defines none; with the two imports and the method it runs.
The whole program on the digits is examples/lenet_mnist.py; here four made-up images show that a step lowers the loss.

Prints:
logits (4, 10)
parameters 60074
loss falls: True
"""

import juanji as jj
import juanji.nn as nn
import juanji.nn.functional as F
import juanji.optim as optim


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


jj.manual_seed(0)
net = Net()
criterion = nn.CrossEntropyLoss()
optimizer = optim.SGD(net.parameters(), lr=0.001, momentum=0.9)
inputs, labels = jj.randn(4, 1, 28, 28), jj.tensor([3, 1, 4, 1])
losses = []
for _ in range(20):
    optimizer.zero_grad()

    outputs = net(inputs)
    loss = criterion(outputs, labels)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
print("logits", tuple(outputs.shape))
print("parameters", sum(p.numel() for p in net.parameters()))
print("loss falls:", losses[-1] < losses[0])
