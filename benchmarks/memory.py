"""Peak memory of a training on MNIST: `python benchmarks/memory.py MODEL BATCH_SIZE ENGINE`
prints it in JSON. Linux only.

Each needs a process of its own, which `speed.py` starts.

`python benchmarks/memory.py larger` writes made-up colour images of 32×32 to a file, as many as
CIFAR-10 has and 5 GB of them, and measures what it takes to train on them in memory and from the
file: each in a process of its own, into nbs/results/bench_memory.json.
"""

import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import torch

RESULTS = Path(__file__).resolve().parent.parent / 'nbs' / 'results' / 'bench_memory.json'
EXAMPLE = 3, 32, 32
SIZES = {'CIFAR-10': 50_000, '5 GB': 5 * 10**9 // 3072}  # images
TRAINED = 25_600  # images of a short epoch: more than are read at once


def status(key):
    "A size of this process, MB."
    with open('/proc/self/status') as f:
        return int(next(line for line in f if line.startswith(key)).split()[1]) / 1024


def main(model, batch_size, engine):
    idle = status('VmRSS')  # torch alone has been imported
    from mnist_cmp.core.settings import Callbacks, Compute, Recipe
    from mnist_cmp.data import load_data
    from mnist_cmp.models import get_model, initialise
    from mnist_cmp.training import train

    mnist = load_data('mnist')
    data = (
        sum(
            part.numel() * part.element_size()
            for split in (mnist.train, mnist.valid, mnist.test)
            for part in (split.x, split.y)
        )
        / 2**20
    )
    h = train(
        initialise(get_model(model)),
        mnist.train,
        mnist.valid,
        Recipe(learning_rate=0.01, batch_size=int(batch_size), epochs=1),
        compute=Compute(engine=engine, threads=torch.get_num_threads()),
        callbacks=Callbacks(progress=False),
    )
    print(
        json.dumps(
            {'engine': h.engine, 'idle_mb': idle, 'data_mb': data, 'peak_mb': status('VmHWM')}
        )
    )


class Watch:
    "The largest own memory of this process, without pages of files, while the block runs."

    def __enter__(self):
        self.peak = status('RssAnon')
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def _watch(self):
        while not self.done.wait(0.01):
            self.peak = max(self.peak, status('RssAnon'))

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()


def write_images(path, n):
    "Write so many made-up images to a .npy file, block by block."
    images = np.lib.format.open_memmap(path, 'w+', np.uint8, (n, *EXAMPLE))
    chance = np.random.default_rng(0)
    for begin in range(0, n, 10_000):
        end = min(n, begin + 10_000)
        images[begin:end] = chance.integers(0, 256, (end - begin, *EXAMPLE), np.uint8)
    images.flush()


def measure_made_up(path, way):
    "Train for a short epoch on the images of a file, mapped or read: what memory that takes, MB."
    idle = status('RssAnon')
    from mnist_cmp.core.settings import Callbacks, Recipe
    from mnist_cmp.data import Data
    from mnist_cmp.models import begin, get_model
    from mnist_cmp.training import train

    with Watch() as watch:
        x = np.load(path, mmap_mode='r') if way == 'file' else np.load(path)
        data = Data.from_arrays(x, np.arange(len(x)) % 10)
        del x
        checked = watch.peak
        short = data.train[torch.randperm(len(data.train))[:TRAINED]]
        recipe = Recipe(learning_rate=0.01, batch_size=64, epochs=1)
        net = begin(get_model('mlp'), shape=short).net
        history = train(net, short, None, recipe, callbacks=Callbacks(progress=False))
    file_mb = Path(path).stat().st_size / 2**20
    of_data = {'images': sum(map(len, data.splits)), 'file_mb': file_mb, 'way': way}
    took = {'engine': history.engine, 'checked_mb': checked - idle, 'peak_mb': watch.peak - idle}
    print(json.dumps(of_data | took))


def measure_larger():
    "All sizes, mapped, and the smaller ones read as well; into the results."
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, n in SIZES.items():
            path = Path(folder) / 'images.npy'
            write_images(path, n)
            for way in ('memory', 'file') if n < 10**6 else ('file',):
                command = [sys.executable, __file__, 'made_up', str(path), way]
                said = subprocess.check_output(command, text=True)
                results[f'{name}, {way}'] = json.loads(said.splitlines()[-1])
                print(name, said, flush=True)
            path.unlink()
    RESULTS.write_text(json.dumps(results, indent=1) + '\n')


if __name__ == '__main__':
    if sys.argv[1:] == ['larger']:
        measure_larger()
    elif sys.argv[1:2] == ['made_up']:
        measure_made_up(*sys.argv[2:])
    else:
        main(*sys.argv[1:])
