"""Measure the ledger and the search: `python benchmarks/studies.py [ledger | search]`.

The search needs the real MNIST (`MNIST_CMP_DATA`) and half an hour on an otherwise idle machine.
What is compared runs in turn (A, B, A, B). Results go to `nbs/results/bench_*.json`.
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')

from mnist_cmp.core.files import write_json
from mnist_cmp.core.ledger import Ledger
from mnist_cmp.core.settings import Compute, Recipe
from mnist_cmp.core.system import machine
from mnist_cmp.data import load_data
from mnist_cmp.search import tune
from mnist_cmp.training import Epoch, History

RESULTS = Path('nbs/results')


def timed(function, *args, **kwargs):
    "What a call gives, and its seconds."
    start = time.perf_counter()
    return function(*args, **kwargs), time.perf_counter() - start


def ledger(trials=100_000, epochs=3):
    "A ledger of many trials: what one more costs, and what opening and reading it costs."
    history = History(
        0.05,
        32,
        7,
        'autograd',
        1,
        'cpu',
        machine(),
        [Epoch(i, 0.5, 0.8, 1.5, 0.4, 0.85) for i in range(epochs)],
    )
    with tempfile.TemporaryDirectory(dir='.') as folder:
        with Ledger(folder, {'seed': 0}) as book:
            adding = [timed(book.record, i, history)[1] for i in range(trials)]
        opening = []
        reading = []
        loading = []
        for _ in range(5):
            book, seconds = timed(Ledger, folder, {'seed': 0})
            opening.append(seconds)
            reading.append(timed(book.to_frame)[1])
            loading.append(timed(book.histories)[1])
            book.close()
        size = (Path(folder) / 'study.sqlite').stat().st_size
    return {
        'trials': trials,
        'epochs': epochs,
        'bytes': size,
        'add_first_1000_s': statistics.median(adding[:1000]),
        'add_last_1000_s': statistics.median(adding[-1000:]),
        'add_worst_of_last_1000_s': max(adding[-1000:]),
        'open_s': statistics.median(opening),
        'to_frame_s': statistics.median(reading),
        'all_histories_s': statistics.median(loading),
    }


def one_search(mnist, workers, folder):
    """The wall time of the real search of the MLP, and the time that its trials spent on
    training and measuring."""
    found, wall = timed(
        tune,
        'mlp',
        mnist.train,
        mnist.valid,
        recipe=Recipe(epochs=3),
        compute=Compute(workers=workers),
        store=folder,
    )
    return found, {
        'workers': workers,
        'wall_s': wall,
        'training_s': sum(t.history.seconds for t in found.trials),
    }


def whole_search(rounds=2):
    "Twenty trials of the MLP on MNIST with one worker and with two, in turn."
    mnist = load_data('mnist')
    runs = []
    tables = set()
    for _ in range(rounds):
        for workers in (1, 2):
            with tempfile.TemporaryDirectory(dir='.') as folder:
                found, run = one_search(mnist, workers, folder)
            runs.append(run)
            tables.add(str([(t.number, t.config, t.accuracy, t.loss) for t in found.trials]))
            print(run, flush=True)
    assert len(tables) == 1, 'the tables differ'
    one, two = ([r for r in runs if r['workers'] == w] for w in (1, 2))
    return {
        'runs': runs,
        'overhead_one_worker': statistics.median(r['wall_s'] / r['training_s'] - 1 for r in one),
        'throughput_two_workers': statistics.median(
            a['wall_s'] / b['wall_s'] for a, b in zip(one, two)
        ),
        'search': found.to_dict(),
    }


def main(names):
    for name in names or ['ledger', 'search']:
        found = {'machine': machine()} | {'ledger': ledger, 'search': whole_search}[name]()
        write_json(RESULTS / f'bench_{name}.json', found)
        print(name, {k: v for k, v in found.items() if k not in ('runs', 'search')}, flush=True)


if __name__ == '__main__':
    main(sys.argv[1:])
