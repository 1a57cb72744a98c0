"Data and models that are small enough to be trained hundreds of times, and a call in time."

import threading
from dataclasses import fields

import torch

import mnist_cmp as mc
from mnist_cmp.core.records import Cost
from mnist_cmp.core.settings import OBJECTS


def noise() -> mc.Data:
    "Noise in three classes: 40 images to learn from, 24 to choose with, 16 to test."
    chance = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (80, 28, 28), generator=chance, dtype=torch.uint8)
    y = torch.arange(80) % 3
    return mc.Data.from_arrays(x[:64], y[:64], x[64:], y[64:], valid_size=24, classes=list('abc'))


def one():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 3))


def two():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 2), torch.nn.Linear(2, 3))


def grouped(**flat):
    "Keywords of a call, with those of a recipe, of compute and of callbacks put into objects."
    for name, cls in OBJECTS.items():
        values = {f.name: flat.pop(f.name) for f in fields(cls) if f.name in flat}
        if values:
            flat[name] = cls(**values)
    return flat


def known_costs(models, *args, **kwargs):
    "In the place of `measure_costs`: no time is spent on measuring."
    return {name: Cost(0.001, 0.002, None) for name in models}


def error_of(call, seconds=60):
    "What a call raises; it must not wait for ever."
    errors = []

    def run():
        try:
            call()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), 'it waits for ever'
    return errors[0] if errors else None
