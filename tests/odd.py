"Nets that go wrong in known ways, and small data that they go wrong on."

import numpy as np
import torch
from torch import nn

import mnist_cmp as mc


def linear(classes=2):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, classes))


class Counting(nn.Module):
    "A linear net that counts its training steps, and knows when there were more than its limit."

    def __init__(self, steps, classes=2):
        super().__init__()
        self.limit = steps
        self.layer = nn.Linear(784, classes)
        self.register_buffer('steps', torch.zeros((), dtype=torch.int64))

    def logits(self, x):
        if self.training:
            self.steps += 1
        return self.layer(x.flatten(1)), bool(self.steps > self.limit)


class Diverging(Counting):
    "Its logits are infinite in training after so many steps; the search never sees it."

    def __init__(self, steps=40, classes=2):
        super().__init__(steps, classes)

    def forward(self, x):
        logits, is_over = self.logits(x)
        return logits * float('inf') if self.training and is_over else logits


class Constant(nn.Module):
    "Answers class 0 to every image, a little more surely by training."

    def __init__(self, classes=2):
        super().__init__()
        self.layer = nn.Linear(1, classes)
        self.layer.first = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        logits = self.layer(x.flatten(1)[:, :1] * 0) * 0
        sure = 1 + self.layer.first.abs()
        return logits + torch.nn.functional.one_hot(torch.tensor(0), logits.shape[1]) * sure


class Guessing(nn.Module):
    "Answers by the brightness of one pixel of noise, which says nothing."

    def __init__(self, classes=2):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(classes))

    def forward(self, x):
        noise = x.flatten(1)[:, 300 : 300 + len(self.scale)]
        return noise * self.scale


class Falling(Counting):
    "It turns its answers round after so many steps."

    def __init__(self, steps=100, classes=2):
        super().__init__(steps, classes)

    def forward(self, x):
        logits, is_over = self.logits(x)
        return -logits if is_over else logits


def images(labels, contrast=90):
    "Noise, with a band for each class that is brighter by the contrast."
    labels = np.asarray(labels)
    chance = np.random.default_rng(len(labels))
    x = chance.integers(0, 150, (len(labels), 28, 28))
    for label in range(max(labels) + 1):
        x[labels == label, 8 * label : 8 * label + 8] += contrast
    return x.astype(np.uint8)


def data_of(classes=2, train=120, valid=80, test=100, rare=None, contrast=90):
    "Data in some classes, all equally often, or the last one with the share `rare`."
    parts = []
    for n in (train, test, valid):
        labels = np.arange(n) % classes
        if rare is not None:
            labels = (np.arange(n) * rare % 1 + rare > 1 - 1e-9) * 1
        parts += [images(labels, contrast), labels]
    return mc.Data.from_arrays(
        *parts, name='made up', classes=[f'class {k}' for k in range(classes)]
    )
