"""Makes the runs in `tests/fixtures` that `tests/test_old_runs.py` opens and goes on with, and
`golden.json`, the numbers that they hold. Those that are there were made by the package at commit
f571d5c, whose reports are of format 3. They stay as they are: a later release has its runs made
beside them, by its own name in `main`.

    OMP_NUM_THREADS=1 python tests/make_fixtures.py FOLDER
"""

import json
import sys
from pathlib import Path

import pytest
from mnist_cmp.figures import comparison_figures
from old_runs import (
    FIRST,
    MODELS,
    as_json,
    numbers,
    on_machine,
    retrain,
    retraining_numbers,
    rounding,
    search,
    search_numbers,
)

import mnist_cmp as mc
from mnist_cmp import report
from mnist_cmp.ui.run_process import compare_as_noted
from mnist_cmp.ui.run_state import update_note

SETTINGS = {
    'dataset': 'digits',
    'models': MODELS,
    'protocol': 'holdout',
    'learning_rate': [0.1, 3.0],
    'batch_size': [16, 48],
    'points': 5,
    'search_epochs': 2,
    'epochs': 3,
    'seeds': 3,
    'seed': 0,
}
HOW = {'workers': 1, 'data_dir': None, 'download': False}


def finished_run(folder, figures=(), **settings):
    "A run as the panel starts one, to its end; of the figures only some are drawn: they are large."
    folder.mkdir()
    update_note(folder, settings=SETTINGS | settings, how=HOW, state='running')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, 'comparison_figures', lambda found: some_figures(found, figures))
        compare_as_noted(folder, lambda: False)
    update_note(folder, state='finished')
    return numbers(mc.Comparison.load(folder))


def some_figures(comparison, names):
    return [figure for figure in comparison_figures(comparison) if figure[1] in names]


def ended_after(n):
    "Who hears of the epochs, and who asks for the end after `n` of them, as keywords."
    heard = []
    return {'on_epoch': heard.append, 'should_stop': lambda: len(heard) >= n}


def main(target):
    golden = {'rounding': rounding()}
    with pytest.MonkeyPatch.context() as patch:
        on_machine(patch)
        golden['report_3'] = finished_run(target / 'report_3', ['search_deep'])
        golden['report_3_2019'] = finished_run(
            target / 'report_3_2019', protocol='2019', points=2, seeds=2, epochs=2
        )
        # Two trials and one epoch of the third; one training and two epochs of the second.
        search(target / 'half_search', **ended_after(7))
        retrain(target / 'half_retraining', **ended_after(6))
        golden['half_search'] = as_json(search_numbers(search(None)))
        golden['half_retraining'] = as_json([retraining_numbers(each) for each in retrain(None)])
    golden['run_0.1.0'] = numbers(mc.Comparison.load(FIRST))
    for lock in target.rglob('.lock'):
        lock.unlink()
    text = json.dumps(golden, indent=1, ensure_ascii=False)
    (target / 'golden.json').write_text(f'{text}\n', encoding='utf-8')


if __name__ == '__main__':
    main(Path(sys.argv[1]))
