"""Models of the runs in `tests/fixtures`, as they were when these were made: a change here is a
change of their code, of which each of these runs would warn.

A fresh net is the same, bit for bit, on every processor: its weights are drawn between -1/2 and
1/2, where nothing is rounded, and its last layer is 0, so that it gives 0 for each class."""

import torch
from torch import nn


def shallow():
    "One layer on the means of 4×4 pixels: 500 parameters."
    net = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(49, 10))
    return with_even_start(net)


def deep():
    "Two layers with nothing between them, which diverge early: 490 parameters."
    net = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(49, 8), nn.Linear(8, 10))
    return with_even_start(net)


def with_even_start(net):
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.uniform_(-0.5, 0.5)
        for parameter in net[-1].parameters():
            parameter.zero_()
    return net
