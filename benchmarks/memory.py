"""Peak memory of a training on MNIST: `python benchmarks/memory.py MODEL BATCH_SIZE ENGINE`
prints it in JSON. Linux only.

Each needs a process of its own, which `speed.py` starts.
"""

import json
import sys

import torch


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


if __name__ == '__main__':
    main(*sys.argv[1:])
