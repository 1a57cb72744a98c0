"""Measure the whole experiment of 2019 on an NVIDIA GPU, and a small population on the
processor: `python benchmarks/gpu.py`.

The experiment: the CNN for 10 epochs at a batch size of 19, the MLP's search (20 points, 3
epochs, scored on its training images, as then), and the MLP at its best point for 10 epochs.
Loading, and warming up and recording of graphs, are timed apart; accuracies stand beside. Where
there is no GPU this is said, and left out. On the processor a population and the same nets one
by one take turns (A, B, C, A, B, C …); medians count, and it is an indication only. `--parts`
chooses; `--rounds` are those on the processor. Results go to nbs/results/bench_gpu.json. Needs
the real MNIST (`MNIST_CMP_DATA`).
"""

import argparse
import os
import statistics
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch

from mnist_cmp.core.files import read_json, write_json
from mnist_cmp.core.points import Config, Space, sobol_points
from mnist_cmp.core.settings import Callbacks, Compute, Recipe
from mnist_cmp.core.system import machine
from mnist_cmp.data import load_data
from mnist_cmp.engines.evaluation import measure_accuracy
from mnist_cmp.engines.graphs import GraphStep
from mnist_cmp.models import get_model, initialise
from mnist_cmp.search import tune
from mnist_cmp.study.population import _Population, train_population
from mnist_cmp.training import device_of, train

RESULT = Path('nbs/results/bench_gpu.json')
CNN_2019 = Config(0.0831689, 19)
BOX_2019 = Space((0.001, 0.1), (16, 48))


def wait(device):
    "Until the device has done its work."
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def timed(device, function, *args, **kwargs):
    "What a call gives, and its seconds until the device is done."
    wait(device)
    start = time.perf_counter()
    value = function(*args, **kwargs)
    wait(device)
    return value, time.perf_counter() - start


@contextmanager
def recordings(device):
    "Inside the block the seconds of warming up and recording are put into the list that it gives."
    spent = []

    def clocked(method):
        def call(*args):
            value, seconds = timed(device, method, *args)
            spent.append(seconds)
            return value

        return call

    with (
        mock.patch.object(GraphStep, '_record', clocked(GraphStep._record)),
        mock.patch.object(_Population, 'record', clocked(_Population.record)),
    ):
        yield spent


def part(device, function, describe):
    """A part of the experiment: what it gave, and a row with its seconds, those of recording in
    it, and what `describe` says."""
    with recordings(device) as spent:
        value, seconds = timed(device, function)
    return value, {
        'seconds': seconds,
        'recording_s': sum(spent),
        'recordings': len(spent),
        **describe(value),
    }


def final(device, split, test, name, point, epochs, **how):
    "A training as in 2019, measured on the test images after each epoch."
    net = initialise(get_model(name))
    history = train(
        net,
        split,
        test,
        Recipe(epochs=epochs).at(point),
        compute=Compute(device=device),
        callbacks=Callbacks(progress=False),
        **how,
    )
    return history, measure_accuracy(net, test)


def said(value):
    history, accuracy = value
    return {
        'engine': history.engine,
        'test_accuracy': accuracy,
        'seconds_per_epoch': [e.seconds for e in history.epochs],
    }


def experiment(device, data, n=20, search_epochs=3, epochs=10, engine='auto'):
    "Row by row the experiment of 2019."
    rows, (mnist, loading) = {}, data
    torch.zeros(1, device=device)  # the first call makes ready what the others use
    split, moving = timed(device, mnist.train.to, device)
    rows['cnn'] = part(
        device, lambda: final(device, split, mnist.test, 'cnn', CNN_2019, epochs), said
    )[1]

    def searched():
        return tune(
            'mlp',
            split,
            split,
            BOX_2019,
            n_trials=n,
            recipe=Recipe(epochs=search_epochs),
            compute=Compute(device=device, engine=engine, workers=1),
        )

    found, rows['search'] = part(
        device,
        searched,
        lambda r: {
            'engine': r.best.history.engine,
            'best': r.best.config._asdict(),
            'accuracy': r.best.accuracy,
        },
    )
    rows['mlp'] = part(
        device, lambda: final(device, split, mnist.test, 'mlp', found.best.config, epochs), said
    )[1]
    # an epoch of each step, the graph's and the general one
    for name, point in ('cnn', CNN_2019), ('mlp', found.best.config):
        for step in ('cudagraph', 'autograd') if device.type == 'cuda' else ('autograd',):
            rows[f'{name}, an epoch by {step}'] = part(
                device, lambda: final(device, split, mnist.test, name, point, 1, engine=step), said
            )[1]
    return {
        'device': device_of(device)[1],
        'loading_s': loading,
        'to_device_s': moving,
        'rows': rows,
        'whole_s': loading
        + moving
        + sum(rows[name]['seconds'] for name in ('cnn', 'search', 'mlp')),
    }


def on_processor(mnist, rounds, threads=1):
    """Seconds of an epoch of four nets: as a population, and one by one by the general step and
    by the one that `auto` takes."""
    found = {}
    device = torch.device('cpu')
    for name, images in ('mlp', 4000), ('cnn', 800):
        split = mnist.train[:images]
        points = sobol_points(n=4)

        def fresh():
            return [initialise(get_model(name), seed=s) for s in range(4)]

        compute = Compute(device='cpu', threads=threads)
        quiet = Callbacks(progress=False)

        def singly(engine):
            for s, (net, p) in enumerate(zip(fresh(), points)):
                train(
                    net,
                    split,
                    recipe=Recipe(epochs=1).at(p),
                    seed=s,
                    compute=replace(compute, engine=engine),
                    callbacks=quiet,
                )

        ways = {
            'population': lambda: train_population(
                fresh(),
                split,
                recipes=[Recipe(epochs=1).at(p) for p in points],
                seeds=range(4),
                compute=compute,
                callbacks=quiet,
            ),
            'one by one, autograd': lambda: singly('autograd'),
            'one by one, auto': lambda: singly('auto'),
        }
        times = {way: [] for way in ways}
        for _ in range(rounds + 1):
            for way, run in ways.items():
                times[way].append(timed(device, run)[1])
        found[name] = {
            'images': images,
            'nets': 4,
            'batch_sizes': [p.batch_size for p in points],
            'seconds': {way: statistics.median(t[1:]) for way, t in times.items()},
            'rounds': {way: t[1:] for way, t in times.items()},
        }
    return {'machine': machine(), 'threads': threads, 'load': os.getloadavg()[0], 'nets': found}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--parts', nargs='*', choices=('gpu', 'processor'), default=['gpu', 'processor']
    )
    parser.add_argument('--rounds', type=int, default=5)
    args = parser.parse_args()
    data = timed(torch.device('cpu'), load_data, 'mnist', valid_size=0)
    found = read_json(RESULT) if RESULT.exists() else {}
    if 'gpu' in args.parts:
        if torch.cuda.is_available():
            found['gpu'] = {'machine': machine()} | experiment(torch.device('cuda'), data)
        else:
            print('There is no NVIDIA GPU here: the experiment of 2019 on a GPU is left out.')
    if 'processor' in args.parts:
        found['processor'] = on_processor(data[0], args.rounds)
    for name, value in found.items():
        print(name, value)
    write_json(RESULT, found)


if __name__ == '__main__':
    main()
