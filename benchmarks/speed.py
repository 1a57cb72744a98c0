"""Measure training and scoring beside the libraries that people use instead: `make bench`.

All variants run in turn, round after round (A, B, C, A, B, C …), in one process, on the same model, batch, images and number
of steps; medians count. Loading and compiling are timed apart. `--rounds`, `--jobs` and `--threads` choose; results go to
nbs/results/bench_speed_<threads>.json and .png. Needs the real MNIST (`MNIST_CMP_DATA`); peers that are not installed are
left out, and said to be (`pip install 'mnist_cmp[bench]'`).
"""
import argparse
import ctypes
import os
import statistics
import subprocess
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from mnist_cmp.compiled import CompiledStep, build_kernel
from mnist_cmp.core import format_seconds, machine, plot_style, write_json
from mnist_cmp.data import load_data
from mnist_cmp.evaluation import measure
from mnist_cmp.autograd import AutogradStep
from mnist_cmp.models import initialise
from mnist_cmp.onednn import OneDNNStep
from mnist_cmp.params import flops
from peers import NETS, PEERS

RESULTS = Path('nbs/results')
ENGINES = {'ours, compiled': CompiledStep, 'ours, onednn': OneDNNStep, 'ours, autograd': AutogradStep}
JOBS = {'mlp 31': ('mlp', 31, 100), 'mlp 466': ('mlp', 466, 12), 'cnn 19': ('cnn', 19, 24), 'cnn 373': ('cnn', 373, 3)}
RATE = .01


def fma_rate(threads):
    "The processor's fp32 multiply-adds in GFLOP/s: the best of five tries."
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder)/'peak.so'
        subprocess.run(['g++', '-O3', '-march=native', '-ffp-contract=fast', '-fopenmp', '-shared', '-fPIC',
                        str(Path(__file__).with_name('peak.cpp')), '-o', str(built)], check=True)
        rate = ctypes.CDLL(str(built)).fma_rate
        rate.restype = ctypes.c_double
        return max(rate(threads, ctypes.c_long(5_000_000)) for _ in range(5))


def ours(kind):
    "A runner, as in `peers`, of one of our steps."
    def make(model, x, y, batch, rate):
        step = kind(initialise(NETS[model]), rate)

        def run(steps):
            order = torch.randperm(len(x))
            for k in range(steps):
                i = order[torch.arange(k*batch, (k + 1)*batch) % len(x)]
                step(x[i], y[i])
        return run
    return make


def prepare(job, split):
    "The runners that can be made for a job, with the seconds until the first few steps were done; and those left out."
    model, batch, steps = JOBS[job]
    runners, ready, missing = {}, {}, {}
    for name, make in ({k: ours(v) for k, v in ENGINES.items()} | PEERS).items():
        start = time.perf_counter()
        try:
            runners[name] = make(model, split.x, split.y, batch, RATE)
            runners[name](steps)
            ready[name] = time.perf_counter() - start
        except ImportError as e: missing[name] = str(e)
    return runners, ready, missing


def measure_job(job, split, rounds, limit):
    "A row for each variant: milliseconds a step in each round, their median, GFLOP/s and its share of `limit`."
    model, batch, steps = JOBS[job]
    runners, ready, missing = prepare(job, split)
    times = {name: [] for name in runners}
    for _ in range(rounds):
        for name, run in runners.items():
            start = time.perf_counter()
            run(steps)
            times[name].append((time.perf_counter() - start)/steps*1e3)
    work = flops(NETS[model]()).training*batch
    def row(name):
        ms = statistics.median(times[name])
        return {'ms': ms, 'rounds': times[name], 'gflops': work/ms/1e6, 'share_of_limit': work/ms/1e6/limit, 'ready_s': ready[name]}
    return {'steps': steps, 'missing': missing, 'variants': {name: row(name) for name in runners}}


def scoring(mnist, rounds):
    "Seconds to score 10,000 images."
    nets, times = {name: initialise(make) for name, make in NETS.items()}, {name: [] for name in NETS}
    for _ in range(rounds + 1):
        for name, net in nets.items():
            start = time.perf_counter()
            measure(net, mnist.test)
            times[name].append(time.perf_counter() - start)
    return {name: {'seconds': statistics.median(t[1:]), 'rounds': t[1:]} for name, t in times.items()}


def versions():
    "Versions of what is compared."
    found = {}
    for name in ('torch', 'torchvision', 'jax', 'keras', 'skorch', 'lightning', 'scikit-learn'):
        try: found[name] = version(name)
        except PackageNotFoundError: pass
    return found


def table(found):
    "The results as lines of text."
    for job, rows in found['jobs'].items():
        base = rows['variants']['2019 loop']['ms'] if '2019 loop' in rows['variants'] else None
        yield f'{job}: {"":15} ms a step   × the 2019 loop   share of the limit   ready in'
        for name, r in sorted(rows['variants'].items(), key=lambda item: item[1]['ms']):
            ratio = f'{base/r["ms"]:15.2f}' if base else ' '*15
            yield f'  {name:22} {r["ms"]:9.3f} {ratio} {r["share_of_limit"]:20.0%} {format_seconds(r["ready_s"]):>10}'
        for name, why in rows['missing'].items(): yield f'  {name:22} left out: {why}'


def plot(found, path):
    "Bars of speed against the limit, a panel for each job."
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    with plot_style():
        fig, axes = plt.subplots(2, 2, figsize=(9, 6.4))
        for ax, (job, rows) in zip(axes.flat, found['jobs'].items()):
            rows = sorted(rows['variants'].items(), key=lambda item: -item[1]['ms'])
            names, shares = [n for n, _ in rows], [100*r['share_of_limit'] for _, r in rows]
            ax.barh(names, shares, color=['#D55E00' if n.startswith('ours') else '#0072B2' for n in names])
            ax.set(title=job.replace(' ', ', batch '), xlabel='share of the processor\'s limit (%)', xlim=(0, 100))
        fig.savefig(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--jobs', nargs='*', choices=JOBS, default=list(JOBS))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    build_kernel()
    mnist, before = load_data('mnist', valid_size=0), os.getloadavg()[0]
    limits = [fma_rate(args.threads)]
    found = {'machine': machine(), 'versions': versions(), 'threads': args.threads, 'rounds': args.rounds, 'jobs': {}}
    for job in args.jobs:
        found['jobs'][job] = measure_job(job, mnist.train, args.rounds, limits[0])
        print(*list(table({'jobs': {job: found['jobs'][job]}})), sep='\n', flush=True)
    found['scoring'] = scoring(mnist, args.rounds)
    limits.append(fma_rate(args.threads))
    found |= {'limit_gflops': limits, 'load_before_and_after': [before, os.getloadavg()[0]]}
    print(f'limit before and after: {limits} GFLOP/s; scoring 10,000 images:', {k: round(v['seconds'], 3) for k, v in found['scoring'].items()})
    write_json(RESULTS/f'bench_speed_{args.threads}.json', found)
    plot(found, RESULTS/f'bench_speed_{args.threads}.png')


if __name__ == '__main__': main()
