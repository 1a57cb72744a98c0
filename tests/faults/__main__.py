"`python -m faults faults kills powerloss`, in a process that `shim.run_python` started."

import argparse
import sys
from functools import partial

from . import powerloss, runs, sweep

PARTS = {
    'faults': partial(sweep.sweep, sweep.FAULTS),
    'kills': partial(sweep.sweep, [sweep.KILL]),
    'powerloss': powerloss.power_losses,
}


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('parts', nargs='+', choices=list(PARTS))
    p.add_argument(
        '--sample', type=int, help='try as many cases of each part (default: all; of powerloss 400)'
    )
    p.add_argument('--seed', type=int, default=0, help='of the sample (default: %(default)s)')
    p.add_argument(
        '--progress',
        default=sweep.default_progress(),
        help='file that keeps what was tried (default: %(default)s)',
    )
    p.add_argument('--only', default='', help='cases that have this text in their names')
    args = p.parse_args()
    progress = sweep.Progress(args.progress)
    several = len(progress.results)
    print(f'Progress is kept in {progress.path}, which holds {several} cases.', flush=True)
    runs.warm_up()
    bad = 0
    for part in args.parts:
        bad += PARTS[part](progress=progress, sample=args.sample, seed=args.seed, only=args.only)
    sys.exit(1 if bad else 0)


if __name__ == '__main__':
    main()
