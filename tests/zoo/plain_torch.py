"""The zoo's networks written again in plain PyTorch, from their papers: what their outputs are held against."""

import math

from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, ins, planes, stride, wide):
        super().__init__()
        outs = planes * 4 if wide else planes
        self.wide = wide
        if wide:
            self.conv1 = nn.Conv2d(ins, planes, 1, bias=False)
            self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
            self.conv3 = nn.Conv2d(planes, outs, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(outs)
        else:
            self.conv1 = nn.Conv2d(ins, planes, 3, stride, 1, bias=False)
            self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(planes), nn.BatchNorm2d(planes)
        self.downsample = None
        if stride != 1 or ins != outs:
            self.downsample = nn.Sequential(nn.Conv2d(ins, outs, 1, stride, bias=False), nn.BatchNorm2d(outs))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.wide:
            y = self.bn3(self.conv3(F.relu(y)))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(self, counts, wide):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        ins = 64
        for i, count in enumerate(counts):
            blocks = []
            for j in range(count):
                blocks.append(Block(ins, 64 << i, 2 if i and not j else 1, wide))
                ins = (64 << i) * (4 if wide else 1)
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(ins, 1000)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for i in range(1, 5):
            x = getattr(self, f"layer{i}")(x)
        return self.fc(x.mean((2, 3)))


class Columns(nn.Module):
    """`features`, pooled to a side, then `classifier`."""

    def __init__(self, features, side, classifier):
        super().__init__()
        self.features, self.classifier, self.side = nn.Sequential(*features), nn.Sequential(*classifier), side

    def forward(self, x):
        return self.classifier(F.adaptive_avg_pool2d(self.features(x), self.side).flatten(1))


def vgg(widths, norm):
    layers, ins = [], 3
    for width in widths:
        if width == "M":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(ins, width, 3, 1, 1), *([nn.BatchNorm2d(width)] if norm else []), nn.ReLU()]
            ins = width
    relu, drop = nn.ReLU(), nn.Dropout()
    head = [nn.Linear(25088, 4096), relu, drop, nn.Linear(4096, 4096), relu, drop, nn.Linear(4096, 1000)]
    return Columns(layers, 7, head)


def alexnet():
    relu, pool = nn.ReLU(), nn.MaxPool2d(3, 2)
    features = [
        nn.Conv2d(3, 64, 11, 4, 2), relu, pool, nn.Conv2d(64, 192, 5, 1, 2), relu, pool,
        nn.Conv2d(192, 384, 3, 1, 1), relu, nn.Conv2d(384, 256, 3, 1, 1), relu, nn.Conv2d(256, 256, 3, 1, 1), relu, pool,
    ]  # fmt: skip
    drop = nn.Dropout()
    return Columns(
        features, 6, [drop, nn.Linear(9216, 4096), relu, drop, nn.Linear(4096, 4096), relu, nn.Linear(4096, 1000)]
    )


def mobile_layer(ins, outs, kernel, stride=1, groups=1):
    conv = nn.Conv2d(ins, outs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outs), nn.ReLU6())


class Inverted(nn.Module):
    def __init__(self, ins, outs, stride, factor):
        super().__init__()
        wide = ins * factor
        layers = [mobile_layer(ins, wide, 1)] if factor != 1 else []
        layers += [
            mobile_layer(wide, wide, 3, stride, wide),
            nn.Conv2d(wide, outs, 1, bias=False),
            nn.BatchNorm2d(outs),
        ]
        self.conv, self.add = nn.Sequential(*layers), stride == 1 and ins == outs

    def forward(self, x):
        return x + self.conv(x) if self.add else self.conv(x)


def mobilenet_v2():
    layers, ins = [mobile_layer(3, 32, 3, 2)], 32
    rows = ["1 16 1 1", "6 24 2 2", "6 32 3 2", "6 64 4 2", "6 96 3 1", "6 160 3 2", "6 320 1 1"]
    for factor, outs, count, stride in (map(int, row.split()) for row in rows):
        for i in range(count):
            layers.append(Inverted(ins, outs, stride if i == 0 else 1, factor))
            ins = outs
    return Columns([*layers, mobile_layer(ins, 1280, 1)], 1, [nn.Dropout(0.2), nn.Linear(1280, 1000)])


class Same(nn.Conv2d):
    def forward(self, x):
        pads = []
        for size, k, s in zip(reversed(x.shape[2:]), reversed(self.kernel_size), reversed(self.stride), strict=True):
            total = max((math.ceil(size / s) - 1) * s + k - size, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pads))


class LiteBlock(nn.Module):
    def __init__(self, ins, outs, kernel, stride, factor):
        super().__init__()
        wide, self.add, self.first = ins * factor, stride == 1 and ins == outs, factor == 1
        norm = lambda n: nn.BatchNorm2d(n, eps=1e-3)  # noqa: E731
        if self.first:
            self.conv_dw, self.bn1 = Same(ins, ins, kernel, stride, groups=ins, bias=False), norm(ins)
            self.conv_pw, self.bn2 = nn.Conv2d(ins, outs, 1, bias=False), norm(outs)
        else:
            self.conv_pw, self.bn1 = nn.Conv2d(ins, wide, 1, bias=False), norm(wide)
            self.conv_dw, self.bn2 = Same(wide, wide, kernel, stride, groups=wide, bias=False), norm(wide)
            self.conv_pwl, self.bn3 = nn.Conv2d(wide, outs, 1, bias=False), norm(outs)

    def forward(self, x):
        if self.first:
            y = self.bn2(self.conv_pw(F.relu6(self.bn1(self.conv_dw(x)))))
        else:
            y = F.relu6(self.bn2(self.conv_dw(F.relu6(self.bn1(self.conv_pw(x))))))
            y = self.bn3(self.conv_pwl(y))
        return x + y if self.add else y


class Lite(nn.Module):
    def __init__(self, width, depth):
        super().__init__()
        self.conv_stem, self.bn1 = Same(3, 32, 3, 2, bias=False), nn.BatchNorm2d(32, eps=1e-3)
        ins, stages = 32, []
        rows = ["1 3 1 1 16", "2 3 2 6 24", "2 5 2 6 40", "3 3 2 6 80", "3 5 1 6 112", "4 5 2 6 192", "1 3 1 6 320"]
        for at, (count, kernel, stride, factor, base) in enumerate(tuple(map(int, row.split())) for row in rows):
            outs = int(base * width + 4) // 8 * 8
            outs += 8 if outs < 0.9 * base * width else 0
            count = count if at in (0, 6) else math.ceil(count * depth)
            blocks = []
            for i in range(count):
                blocks.append(LiteBlock(ins, outs, kernel, stride if i == 0 else 1, factor))
                ins = outs
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.conv_head, self.bn2 = nn.Conv2d(ins, 1280, 1, bias=False), nn.BatchNorm2d(1280, eps=1e-3)
        self.classifier = nn.Linear(1280, 1000)

    def forward(self, x):
        x = self.blocks(F.relu6(self.bn1(self.conv_stem(x))))
        return self.classifier(F.relu6(self.bn2(self.conv_head(x))).mean((2, 3)))


A, B, C, D = [64, "M", 128, "M"], [64, 64, "M", 128, 128, "M"], [256, 256], [512, 512]
NETWORKS = {
    "resnet18": lambda: ResNet((2, 2, 2, 2), False),
    "resnet34": lambda: ResNet((3, 4, 6, 3), False),
    "resnet50": lambda: ResNet((3, 4, 6, 3), True),
    "alexnet": alexnet,
    "mobilenet_v2": mobilenet_v2,
    **{f"efficientnet_lite{i}": lambda w=w, d=d: Lite(w, d)
       for i, (w, d) in enumerate(((1, 1), (1, 1.1), (1.1, 1.2), (1.2, 1.4), (1.4, 1.8)))},
    **{f"vgg{n}{'_bn' * norm}": lambda rows=rows, norm=norm: vgg(rows, norm)
       for n, rows in {
           11: [*A, *C, "M", *D, "M", *D, "M"],
           13: [*B, *C, "M", *D, "M", *D, "M"],
           16: [*B, *C, 256, "M", *D, 512, "M", *D, 512, "M"],
           19: [*B, *C, *C, "M", *D, *D, "M", *D, *D, "M"],
       }.items() for norm in (0, 1)},
}  # fmt: skip
