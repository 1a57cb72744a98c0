"""`python victim.py WHAT FOLDER [AT]` runs a search or a comparison, with two workers.

It kills itself `AT` the so-many-th SQL statement, or opening for writing or renaming of a file.
"""

import itertools
import os
import signal
import sys
from functools import partial
from pathlib import Path

TRIALS = 6
EPOCHS = 6
WORKERS = 2


def run_search(folder):
    from mnist_cmp import MLP, Compute, Recipe, load_data, tune

    digits = load_data('digits')
    tune(
        {'mlp': partial(MLP, 64, 64)},
        digits.train,
        digits.valid,
        n_trials=TRIALS,
        recipe=Recipe(epochs=EPOCHS),
        store=folder,
        compute=Compute(workers=WORKERS),
    )


def run_comparison(folder):
    from mnist_cmp.cli import main

    words = (
        '--models mlp,deep_mlp --n_trials 3 --search_epochs 2 --seeds 3 --epochs 3 --workers '
        f'{WORKERS} --quiet'
    )
    sys.exit(main([*words.split(), '--out', str(folder)]))


RUN = {'search': run_search, 'comparison': run_comparison}


def die_in_a_write(folder, at):
    """Kill this process at its `at`th SQL statement, or opening for writing or renaming of a
    file below `folder`."""
    import apsw

    from mnist_cmp.core.ledger import Ledger

    count = itertools.count(1)
    use = Ledger._use

    def tick(*_):
        if next(count) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(self, connection):
        use(self, connection)
        connection.trace_v2(apsw.SQLITE_TRACE_STMT, tick)

    Ledger._use = counted

    def heard(event, args):
        writes = event == 'os.rename' or event == 'open' and set(str(args[1])) & set('wax+')
        if writes and str(args[0]).startswith(str(folder)):
            tick()

    sys.addaudithook(heard)


def main(what, folder, die_at=0):
    if die_at:
        die_in_a_write(folder, die_at)
    try:
        RUN[what](folder)
    # Python alone ends with 1 if anything is imported after it
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == '__main__':
    main(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:]))
