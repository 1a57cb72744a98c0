"""Makes `fixtures/half_search_0.1.0` and what it becomes, `fixtures/golden_0.1.0.json`, by the
package as it was at commit e6cba89, release 0.1.0: a search of two of four trials.

    git worktree add first e6cba89
    PYTHONPATH=first:tests OMP_NUM_THREADS=1 python tests/make_first_search.py FOLDER
"""

import json
import sys
from pathlib import Path

import fixture_nets
import pytest
from old_runs import as_json, epoch_numbers, on_machine

import mnist_cmp as mc
from mnist_cmp.search import Box, search


def first_search(n, store=None):
    data = mc.load_data('digits')
    box = Box(learning_rate=(0.05, 0.5), batch_size=(16, 48))
    how = {'epochs': 3, 'init': None, 'threads': 1, 'workers': 1, 'name': 'deep'}
    return search(fixture_nets.deep, data.train, data.valid, box, n=n, store=store, **how)


def main(target):
    with pytest.MonkeyPatch.context() as patch:
        on_machine(patch)
        first_search(2, target / 'half_search_0.1.0')
        whole = first_search(4)
    trials = [
        {
            'place': trial.index,
            'seed': trial.history.seed,
            'epochs': [epoch_numbers(epoch) for epoch in trial.history.epochs],
        }
        for trial in whole.trials
    ]
    text = json.dumps({'half_search_0.1.0': as_json(trials)}, indent=1)
    (target / 'golden_0.1.0.json').write_text(f'{text}\n', encoding='utf-8')


if __name__ == '__main__':
    main(Path(sys.argv[1]))
