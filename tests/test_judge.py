"""The verdict on predictions: what must not change it, and odd predictions, answered in words."""

import csv
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_cmp.core.files import json_text
from mnist_cmp.core.records import read_report
from mnist_cmp.evidence.comparison import Comparison
from mnist_cmp.evidence.judging import judge
from mnist_cmp.evidence.metrics import Metric
from mnist_cmp.evidence.verdict_data import verdict_data
from mnist_cmp.report import report_page

N = 60
RNG = np.random.default_rng(7)
Y = RNG.integers(0, 3, N)
LABELS = {
    name: np.where(RNG.random((4, N)) < error, (Y + 1) % 3, Y)
    for name, error in (('ant', 0.3), ('bee', 0.1), ('cow', 0.2))
}
SCORES = {
    name: np.abs(np.eye(3)[Y] * lead + RNG.random((4, N, 3)))
    for name, lead in (('ant', 0.3), ('bee', 0.9), ('cow', 0.6))
}
SHARES = {name: x / x.sum(-1, keepdims=True) for name, x in SCORES.items()}


def numbers_of(record):
    "What a verdict says of each pair of models, whatever their order."
    result = {}
    for pair in verdict_data(record)['pairs']:
        a, b = sorted((pair['a'], pair['b']))
        sign = 1 if a == pair['a'] else -1
        ends = sorted((sign * pair['low'], sign * pair['high']))
        result[a, b] = (sign * pair['estimate'], *ends, pair['better'])
    return result


METRICS = ('error', 'log_loss', 'brier', 'balanced_error', 'auroc', 'f1_macro', 'top2_error')


@pytest.mark.parametrize('metric', METRICS)
@settings(max_examples=8, deadline=None)
@given(chance=st.randoms(use_true_random=False))
def test_no_order_changes_a_digit(metric, chance):
    examples = chance.sample(range(N), N)
    seeds = chance.sample(range(4), 4)
    names = chance.sample(sorted(SHARES), 3)
    ids = [f'case {k:02d}' for k in range(N)]
    turned = {name: SHARES[name][seeds][:, examples] for name in names}
    here = judge(SHARES, Y, metric=metric, examples=ids)
    there = judge(turned, Y[examples], metric=metric, examples=[ids[k] for k in examples])
    assert numbers_of(there) == numbers_of(here)


@pytest.mark.parametrize('dtype', ['int8', 'uint64', '>i4', 'float16', 'float64', 'str', 'object'])
def test_no_type_of_labels_changes_a_digit(dtype):
    given_so = {name: x.astype(dtype) for name, x in LABELS.items()}
    assert numbers_of(judge(given_so, Y.astype(dtype))) == numbers_of(judge(LABELS, Y))


def test_names_of_examples_and_files_change_no_digit(tmp_path):
    plain = numbers_of(judge(LABELS, Y))
    assert numbers_of(judge(LABELS, Y, examples=[f'x{k:03d}' for k in range(N)])) == plain
    np.savez(tmp_path / 'p.npz', y=Y, **LABELS)
    assert numbers_of(judge(tmp_path / 'p.npz')) == plain
    rows = [('model', 'seed', 'example', 'prediction', 'label')]
    for name, of_model in LABELS.items():
        for seed, of_seed in enumerate(of_model):
            rows += [(name, seed, k, of_seed[k], Y[k]) for k in range(N)]
    with open(tmp_path / 'p.csv', 'w', newline='', encoding='utf-8') as f:
        csv.writer(f).writerows(rows)
    assert numbers_of(judge(tmp_path / 'p.csv')) == plain
    for name, of_model in LABELS.items():
        for seed, of_seed in enumerate(of_model):
            np.save(tmp_path / f'{name}_{seed}.npy', of_seed)
    globs = {name: str(tmp_path / f'{name}_*.npy') for name in LABELS}
    assert numbers_of(judge(globs, Y)) == plain


@pytest.mark.parametrize(
    'metric', [*METRICS, Metric(lambda y, p: float((y == p).mean()) ** 2, True)]
)
def test_a_report_that_is_opened_again_says_the_same(metric, tmp_path):
    record = judge(SHARES, Y, metric=metric, margin=0.05, by=Y % 2, baseline='ant')
    record.save(tmp_path)
    again = Comparison.load(tmp_path)
    assert again == record
    assert verdict_data(again) == verdict_data(record)
    assert read_report(json.loads(json_text(record.to_dict()))).names == record.names


@pytest.mark.parametrize(
    ('models', 'y', 'words'),
    [
        ({'a': [[0]], 'b': [[1]]}, [0], "Can't tell"),  # one example
        ({'a': [[0] * 9] * 3, 'b': [[0] * 9] * 3}, [0] * 9, 'gave the same answer'),  # all right
        ({'a': [[1] * 9] * 3, 'b': [[2] * 9] * 3}, [0] * 9, 'a and b'),  # all wrong
        ({'a': [[0, 1] * 9] * 3, 'b': [[1, 0] * 9] * 3}, [0, 1] * 9, 'a makes'),  # no chance left
    ],
    ids=['one example', 'all right', 'all wrong', 'opposite'],
)
def test_odd_predictions_have_a_verdict(models, y, words):
    record = judge(models, y, classes=[0, 1, 2])
    text = record.verdict()
    assert text
    assert 'nan' not in text.lower()
    if words != 'a and b':
        assert words in text
    assert '<h1>' in report_page(record)


@pytest.mark.parametrize('n_classes', [2, 1000, 10_000])
def test_many_classes(n_classes):
    y = np.arange(n_classes) % n_classes
    shifted = np.stack([np.roll(y, k) for k in (1, 3, 5)])
    record = judge({'a': np.tile(y, (3, 1)), 'b': shifted}, y)
    assert record.difference('b', 'a').better == 'a'
    assert '<h1>' in report_page(record)


def test_unpaired_and_unequal_trainings():
    record = judge({'ant': LABELS['ant'], 'bee': LABELS['bee'][:3]}, Y)
    d = record.difference('ant', 'bee')
    assert (d.method, d.wins, d.mcnemar) == ('unpaired', None, ())
    assert any('unpaired' in line or 'not paired' in line for line in record.verdict().splitlines())
    assert '<h1>' in report_page(record)
    one = judge({'ant': LABELS['ant'][:1], 'bee': LABELS['bee'][:1]}, Y)
    assert one.difference('ant', 'bee').better is None
    assert 'is the better one' not in one.verdict()


def test_a_formula_stays_text(tmp_path):
    names = ['=cmd|calc', '@sum', '-1', '+2']
    record = judge({'a': LABELS['ant'], 'b': LABELS['bee']}, Y)
    for model in record.models:
        for run, name in zip(model.runs, names):
            run.name = name
    record.report(tmp_path / 'r')
    with open(tmp_path / 'r' / 'runs.csv', encoding='utf-8', newline='') as f:
        trainings = [row['training'] for row in csv.DictReader(f)]
    assert trainings == [f"'{name}" for name in names] * 2


def test_groups_and_parts_are_read_from_the_record(tmp_path):
    groups = np.arange(N) // 3
    record = judge(LABELS, Y, groups=groups, by=np.arange(N) % 2)
    record.save(tmp_path)
    again = Comparison.load(tmp_path)
    assert again.difference('ant', 'bee').n_groups == N // 3
    assert again.parts().equals(record.parts())
    wider = record.difference('ant', 'bee')
    assert wider.level == judge(LABELS, Y).difference('ant', 'bee').level
