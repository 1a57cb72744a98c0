"""Measure training, scoring and searching beside the libraries that people use instead: `make
bench`.

All variants run in turn, round after round (A, B, C, A, B, C …), in one process, on the same
model, batch, images and number of steps; medians count. Loading and compiling are timed apart.
`--rounds`, `--jobs`, `--parts` and `--threads` choose; one thread means one core. Results go to
nbs/results/bench_speed_<threads>.json, and bars beside it (.svg). Needs the real MNIST
(`MNIST_CMP_DATA`); peers that are not installed are left out, and said to be (`pip install
'mnist_cmp[bench]'`).
"""

import argparse
import contextlib
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from unittest import mock

import torch
from peers import NETS, PEERS

from mnist_cmp.core.display import plot_style
from mnist_cmp.core.files import atomic_path, read_json, write_json
from mnist_cmp.core.points import sobol_points
from mnist_cmp.core.settings import Callbacks, Compute, Recipe
from mnist_cmp.core.system import format_seconds, machine
from mnist_cmp.data import load_data
from mnist_cmp.engines.compiled import build_kernel
from mnist_cmp.engines.evaluation import measure
from mnist_cmp.engines.steps import ENGINES, make_step
from mnist_cmp.models import MLP, initialise
from mnist_cmp.params import flops, number_of_params
from mnist_cmp.search import tune
from mnist_cmp.training import train

RESULTS = Path('nbs/results')
# the latter: gpu.py
OURS = {f'ours, {engine}': engine for engine in ENGINES if engine not in ('auto', 'cudagraph')}
JOBS = {
    'mlp 31': ('mlp', 31, 300),
    'mlp 466': ('mlp', 466, 60),
    'cnn 19': ('cnn', 19, 60),
    'cnn 373': ('cnn', 373, 6),
}
PARTS = 'building', 'jobs', 'scoring', 'memory', 'stopping', 'scaling', 'search'
RATE = 0.01


def fma_rate(threads):
    "The processor's fp32 multiply-adds in GFLOP/s: the best of five tries."
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / 'peak.so'
        subprocess.run(
            [
                'g++',
                '-O3',
                '-march=native',
                '-ffp-contract=fast',
                '-fopenmp',
                '-shared',
                '-fPIC',
                str(Path(__file__).with_name('peak.cpp')),
                '-o',
                str(built),
            ],
            check=True,
        )
        rate = ctypes.CDLL(str(built)).fma_rate
        rate.restype = ctypes.c_double
        return max(rate(threads, ctypes.c_long(5_000_000)) for _ in range(5))


def ours(engine):
    "A runner, as in `peers`, of one of our steps."

    def make(model, x, y, batch, rate):
        try:
            step = make_step(initialise(NETS[model]), rate, engine=engine)
        except OSError as e:
            raise ImportError(e.strerror) from None  # no compiler

        def run(steps):
            places = torch.randperm(len(x))[torch.arange(steps * batch) % len(x)]
            step.train_epoch(x, y, places.split(batch))

        return run

    return make


def prepare(job, split):
    """The runners that can be made for a job, with the seconds until the first few steps were
    done; and those left out."""
    model, batch, steps = JOBS[job]
    runners = {}
    ready = {}
    missing = {}
    for name, make in ({k: ours(v) for k, v in OURS.items()} | PEERS).items():
        start = time.perf_counter()
        try:
            runners[name] = make(model, split.x, split.y, batch, RATE)
            runners[name](steps)
            ready[name] = time.perf_counter() - start
        except ImportError as e:
            missing[name] = str(e)
    return runners, ready, missing


def measure_job(job, split, rounds, limit):
    """A row for each variant: milliseconds a step in each round, their median, GFLOP/s and its
    share of `limit`."""
    model, batch, steps = JOBS[job]
    runners, ready, missing = prepare(job, split)
    times = {name: [] for name in runners}
    for _ in range(rounds):
        for name, run in runners.items():
            time.sleep(0.4)  # until the threads of the one before have gone to sleep
            run(1)
            start = time.perf_counter()
            run(steps)
            times[name].append((time.perf_counter() - start) / steps * 1e3)
    work = flops(NETS[model]()).training * batch

    def row(name):
        ms = statistics.median(times[name])
        return {
            'ms': ms,
            'rounds': times[name],
            'gflops': work / ms / 1e6,
            'share_of_limit': work / ms / 1e6 / limit,
            'ready_s': ready[name],
        }

    return {'steps': steps, 'missing': missing, 'variants': {name: row(name) for name in runners}}


def building():
    "Seconds to compile our kernel, which is done once on a machine; None without a compiler."
    with (
        tempfile.TemporaryDirectory() as empty,
        mock.patch.dict(os.environ, MNIST_CMP_KERNELS=empty),
    ):
        start = time.perf_counter()
        with contextlib.suppress(OSError):
            build_kernel()
            return {'seconds': time.perf_counter() - start}


def scoring(mnist, rounds):
    "Seconds to score 10,000 images."
    nets = {name: initialise(make) for name, make in NETS.items()}
    times = {name: [] for name in NETS}
    for _ in range(rounds + 1):
        for name, net in nets.items():
            start = time.perf_counter()
            measure(net, mnist.test)
            times[name].append(time.perf_counter() - start)
    return {
        name: {'seconds': statistics.median(t[1:]), 'rounds': t[1:]} for name, t in times.items()
    }


def whole_search(split, limit, rounds, epochs=3):
    """Seconds of the MLP's search, twenty points: ours with all that belongs to it, by two
    workers; of the others the training alone, with all threads, one point after the other; of
    the 2019 loop one epoch, counted `epochs` times."""
    points = sobol_points()
    part = split[:-10_000]
    times = {}

    def ours(engine):
        with tempfile.TemporaryDirectory() as folder:
            tune(
                'mlp',
                part,
                split[-10_000:],
                recipe=Recipe(epochs=epochs),
                compute=Compute(workers=2, engine=engine),
                store=folder,
            )

    def theirs(name, epochs):
        for p in points:
            PEERS[name]('mlp', part.x, part.y, p.batch_size, p.learning_rate)(
                epochs * -(-len(part) // p.batch_size)
            )

    variants = {
        f'ours, {engine}, two workers': (1, lambda engine=engine: ours(engine))
        for engine in ('compiled', 'onednn')
    }
    variants |= {
        name: (1, lambda name=name: theirs(name, epochs)) for name in ('PyTorch in memory', 'JAX')
    }
    variants['2019 loop'] = epochs, lambda: theirs('2019 loop', 1)
    for _ in range(rounds):
        for name, (share, run) in variants.items():
            start = time.perf_counter()
            try:
                run()
            except (ImportError, OSError):
                continue  # not installed; no compiler
            times.setdefault(name, []).append(share * (time.perf_counter() - start))
            print(f'search, {name}: {times[name][-1]:.1f} s', flush=True)
    work = flops(MLP()).training * len(part) * epochs * len(points)
    return {
        'epochs': epochs,
        'points': len(points),
        'variants': {
            name: {
                'seconds': statistics.median(t),
                'rounds': t,
                'share_of_limit': work / statistics.median(t) / 1e9 / limit,
            }
            for name, t in times.items()
        },
    }


def exponent(x, y):
    "The slope of a straight line through the logarithms."
    import numpy as np

    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def scaling(split, rounds=3):
    """Seconds of an epoch of the MLP against images, ms of a step against parameters, seconds of
    a search against workers; with the exponents."""

    def median(function):
        times = []
        for _ in range(rounds + 1):
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
        return statistics.median(times[1:])

    images = [2500, 5000, 10_000, 20_000, 40_000]
    net = initialise(MLP)

    def epoch(n):
        return train(
            net,
            split[:n],
            recipe=Recipe(learning_rate=RATE, batch_size=31, epochs=1),
            callbacks=Callbacks(progress=False),
        )

    by_images = [median(lambda: epoch(n)) for n in images]
    widths = [155, 310, 620, 1240, 2480]
    params = []
    by_params = []
    for width in widths:
        net = initialise(partial(MLP, width, width))
        step = make_step(net, RATE)
        params.append(number_of_params(net)[0])
        by_params.append(
            median(lambda: [step(split.x[:31], split.y[:31]) for _ in range(40)]) / 40 * 1e3
        )

    def trials(workers):
        tune(
            'mlp',
            split[:40_000],
            split[-10_000:],
            n_trials=20,
            recipe=Recipe(epochs=1),
            compute=Compute(workers=workers),
        )

    crews = [1, 2, 4][: len(os.sched_getaffinity(0)).bit_length()]  # no more than cores
    by_workers = [median(lambda: trials(workers)) for workers in crews]
    return {
        'images': {'n': images, 'seconds': by_images, 'exponent': exponent(images, by_images)},
        'parameters': {'n': params, 'ms': by_params, 'exponent': exponent(params, by_params)},
        'workers': {'n': crews, 'seconds': by_workers, 'exponent': exponent(crews, by_workers)},
    }


def memory():
    """Peak memory of an epoch on MNIST, MB, in a process of its own, beyond that of an idle
    `import torch`, and of the data."""
    found = {}
    for job in [
        (model, batch, engine) for model, batch, _ in JOBS.values() for engine in OURS.values()
    ] + [('cnn', 2048, 'onednn')]:
        done = subprocess.run(
            [sys.executable, Path(__file__).with_name('memory.py'), *map(str, job)],
            capture_output=True,
            text=True,
        )
        if done.returncode == 0:
            found['{} {}, {}'.format(*job)] = json.loads(done.stdout)
    return found


def stopping(split, rounds):
    "Seconds from the instant at which `should_stop` says yes until the training has ended."
    found = {}
    for model, batch, _ in JOBS.values():
        for engine in OURS.values():
            waits = []
            for turn in range(rounds):
                at = time.perf_counter() + 1 + 0.13 * turn
                with contextlib.suppress(OSError):  # no compiler
                    h = train(
                        initialise(NETS[model]),
                        split,
                        split[:1000],
                        Recipe(learning_rate=RATE, batch_size=batch, epochs=9),
                        compute=Compute(engine=engine, threads=torch.get_num_threads()),
                        callbacks=Callbacks(
                            should_stop=lambda: time.perf_counter() > at, progress=False
                        ),
                    )
                    assert h.state == 'stopped'
                    waits.append(time.perf_counter() - at)
            if waits:
                found[f'{model} {batch}, {engine}'] = {
                    'seconds': statistics.median(waits),
                    'longest': max(waits),
                }
    return found


def versions():
    "Versions of what is compared."
    found = {}
    for name in ('torch', 'torchvision', 'jax', 'keras', 'skorch', 'lightning', 'scikit-learn'):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            pass
    return found


def table(found):
    "The results as lines of text."
    for job, rows in found['jobs'].items():
        base = rows['variants']['2019 loop']['ms'] if '2019 loop' in rows['variants'] else None
        yield f'{job}: {"":15} ms a step   × the 2019 loop   share of the limit   ready in'
        for name, r in sorted(rows['variants'].items(), key=lambda item: item[1]['ms']):
            ratio = f'{base / r["ms"]:15.2f}' if base else ' ' * 15
            yield (
                f'  {name:22} {r["ms"]:9.3f} {ratio} {r["share_of_limit"]:20.0%} '
                f'{format_seconds(r["ready_s"]):>10}'
            )
        for name, why in rows['missing'].items():
            yield f'  {name:22} left out: {why}'


def draw(jobs, path):
    "How many times as fast as the loop of 2019 each variant is, as bars."
    import matplotlib.pyplot as plt

    with plot_style():
        fig, axes = plt.subplots(2, 2, figsize=(9, 7))
    for ax, job in zip(axes.flat, JOBS):
        rows = sorted(jobs[job]['variants'].items(), key=lambda item: -item[1]['ms'])
        times = [dict(rows)['2019 loop']['ms'] / r['ms'] for _, r in rows]
        # no model's
        colours = ['#333333' if name.startswith('ours') else '#bbbbbb' for name, _ in rows]
        bars = ax.barh([name for name, _ in rows], times, color=colours)
        ax.bar_label(bars, fmt='{:.2g}', padding=2, fontsize=8)
        model, batch = job.split()
        ax.set(title=f'{model.upper()}, batch {batch}', xlim=(0, 1.15 * max(times)))
    fig.supxlabel('times as fast as the loop of 2019', fontsize=10)
    with atomic_path(path) as p, plt.rc_context({'svg.hashsalt': 'bench'}):
        fig.savefig(p, format='svg', metadata={'Date': None})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--search_rounds', type=int, default=3)
    parser.add_argument('--jobs', nargs='*', choices=JOBS, default=list(JOBS))
    parser.add_argument('--parts', nargs='*', choices=PARTS, default=PARTS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    # one core for all that a library does
    if args.threads == 1:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    warnings.filterwarnings('ignore')  # of forks and trees, by the peers
    mnist = load_data('mnist', valid_size=0)
    before = os.getloadavg()[0]
    limits = [fma_rate(args.threads)]
    path = RESULTS / f'bench_speed_{args.threads}.json'
    found = read_json(path) if path.exists() else {}
    found |= {
        'machine': machine(),
        'versions': versions(),
        'threads': args.threads,
        'rounds': args.rounds,
    }
    for job in args.jobs if 'jobs' in args.parts else ():
        found.setdefault('jobs', {})[job] = measure_job(job, mnist.train, args.rounds, limits[0])
        print(*table({'jobs': {job: found['jobs'][job]}}), sep='\n', flush=True)
    parts = {
        'building': building,
        'scoring': lambda: scoring(mnist, args.rounds),
        'memory': memory,
        'stopping': lambda: stopping(mnist.train, args.rounds),
        'scaling': lambda: scaling(mnist.train),
        'search': lambda: whole_search(mnist.train, limits[0], args.search_rounds),
    }
    for part in args.parts:
        if part in parts:
            found[part] = parts[part]()
            write_json(path, found)
            print(part, found[part], flush=True)
    limits.append(fma_rate(args.threads))
    if 'jobs' in args.parts:
        found |= {'limit_gflops': limits, 'load_before_and_after': [before, os.getloadavg()[0]]}
    print(f'limit before and after: {limits} GFLOP/s')
    write_json(path, found)
    jobs = found.get('jobs', {})
    if all(job in jobs and '2019 loop' in jobs[job]['variants'] for job in JOBS):
        draw(jobs, path.with_suffix('.svg'))


if __name__ == '__main__':
    main()
