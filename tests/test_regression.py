"""Models whose targets are numbers, from data to verdict and report."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn as nn
from sklearn.datasets import load_diabetes
from tiny import known_costs

import mnist_cmp as mc
from mnist_cmp import comparison
from mnist_cmp.comparison import measure_test
from mnist_cmp.core.files import json_text
from mnist_cmp.core.ledger import LedgerError
from mnist_cmp.evidence.comparison import Comparison
from mnist_cmp.evidence.judging import evaluate_numbers
from mnist_cmp.evidence.metrics import METRICS, Metric
from mnist_cmp.evidence.verdict_data import verdict_data
from mnist_cmp.report import narrow_summary, summary

SPACE = {'learning_rate': (0.001, 0.1), 'batch_size': (8, 32)}


def linear(inputs, outputs):
    return nn.Linear(inputs[0], outputs)


def small_mlp(inputs, outputs, width=16):
    return nn.Sequential(nn.Linear(inputs[0], width), nn.ReLU(), nn.Linear(width, outputs))


class Constant(nn.Module):
    "A net that can't look at what it is given."

    def __init__(self, inputs, outputs):
        super().__init__()
        self.answer = nn.Parameter(torch.zeros(outputs))

    def forward(self, x):
        return self.answer.expand(len(x), -1)


def compared(models, data, **settings):
    "A small comparison."
    usual = {'n_trials': 3, 'seeds': 4, 'search_epochs': 4, 'recipe': mc.Recipe(epochs=12)}
    settings = usual | {'compute': mc.Compute(threads=1, workers=1)} | settings
    return mc.compare(models, data, SPACE, **settings)


@pytest.fixture(scope='module', autouse=True)
def unmeasured():
    "No time is spent on measuring what a model costs."
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, 'measure_costs', known_costs)
        yield


@pytest.fixture(scope='module')
def data():
    x, y = load_diabetes(return_X_y=True)
    return mc.Data.from_arrays(x, y, scale='standard', name='diabetes', seed=1)


@pytest.fixture(scope='module')
def result(data):
    with pytest.warns(UserWarning, match='not of one size'):
        return compared({'linear': linear, 'mlp': small_mlp}, data)


def test_both_are_better_than_the_mean(data, result):
    truth = data.test.in_units(data.test.y).numpy()
    of_mean = ((truth - data.targets.mean) ** 2).mean()
    for model in result.models:
        assert model.value < 0.75 * of_mean
        assert [run.health for run in model.runs] == [[]] * 4
        assert all(math.isnan(run.test.accuracy) for run in model.runs)
        assert all(run.training.last.valid_accuracy is None for run in model.runs)


def test_the_metric_is_the_squared_error_in_units(data, result):
    assert (result.metric.name, result.metric.title) == ('squared_error', 'mean squared error')
    truth = data.test.in_units(data.test.y).numpy().astype(np.float32)
    for model, weights in zip(result.models, result.weights.values()):
        net = {'linear': linear, 'mlp': small_mlp}[model.name](data.inputs, data.outputs)
        for run, of_run in zip(model.runs, weights):
            net.load_state_dict(of_run)
            with torch.no_grad():
                answers = data.test.in_units(net(data.test.x)[:, 0]).numpy()
            assert run.test.value == pytest.approx(((answers - truth) ** 2).mean(), rel=1e-4)
            assert run.test.values.mean() == pytest.approx(run.test.value)
            assert run.test.loss * data.targets.std**2 == pytest.approx(run.test.value, rel=1e-4)


def test_trials_are_chosen_by_the_metric(result):
    for model in result.models:
        scores = [trial.score for trial in model.tuning.trials]
        assert None not in scores
        assert model.tuning.best.score == min(scores)
        losses = [trial.loss for trial in model.tuning.trials]
        assert np.argsort(scores).tolist() == np.argsort(losses).tolist()


def test_judge_gives_the_same_verdict_on_the_same_predictions(result):
    predictions = {c.name: np.stack([run.test.numbers for run in c.runs]) for c in result.models}
    judged = mc.judge(predictions, result.truth, metric='squared_error')
    pair = result.pairs[0]
    ours, theirs = result.difference(*pair), judged.difference(*pair)
    for name in ('estimate', 'low', 'high', 'seeds', 'images', 'wins', 'method'):
        assert getattr(ours, name) == getattr(theirs, name)
    lines = [x.verdict().splitlines()[0].replace(', so tuned,', '') for x in (result, judged)]
    assert lines[0] == lines[1]
    for name in result.names:
        assert [run.test.value for run in result[name].runs] == judged[name].values


def test_a_comparison_can_be_judged_anew_by_another_metric(result):
    by_size = mc.judge(result, metric='absolute_error', margin=20)
    answers = {c.name: np.stack([run.test.numbers for run in c.runs]) for c in result.models}
    for name, numbers in answers.items():
        sizes = abs(numbers - result.truth).mean(1)
        assert by_size[name].values == pytest.approx(sizes.tolist())
    assert by_size.decisions()['as good'].all()
    assert result.metric.name == 'squared_error'
    with pytest.raises(ValueError, match='needs labels, but the predictions are numbers'):
        mc.judge(result, metric='error')


def test_metrics_of_the_other_task_are_refused_before_any_work(data):
    models = {'linear': linear, 'mlp': small_mlp}
    for metric in ('error', 'auroc', 'log_loss'):
        with pytest.raises(ValueError, match='but the targets here are numbers'):
            compared(models, data, metric=metric)
    with pytest.raises(ValueError, match='the models here are classifiers'):
        mc.compare(['mlp', 'cnn'], 'digits', metric='squared_error')
    with pytest.raises(ValueError, match='margin'):
        compared(models, data, margin='1%')


def test_an_own_metric_and_a_margin(data):
    def largest(truth, answers):
        return abs(truth - answers).max()

    metric = Metric(largest, greater_is_better=False, needs='numbers', title='largest error')
    result = compared(
        {'linear': linear, 'again': linear}, data, metric=metric, margin=1000, n_trials=2, seeds=3
    )
    assert result.metric.kind == 'bootstrap'
    for model in result.models:
        expected = [abs(run.test.numbers - result.truth).max() for run in model.runs]
        assert model.values == pytest.approx(expected)
    assert 'largest error' in result.verdict()
    assert 'largest error' in summary(result)


def test_the_report_is_written_read_and_shown(result, tmp_path):
    path = result.report(tmp_path / 'report')
    again = Comparison.load(path.parent)
    assert json_text(again.to_dict()) == json_text(result.to_dict())
    assert again.verdict() == result.verdict()
    page = re.sub(r'<style>.*?</style>', '', path.read_text(encoding='utf-8'), flags=re.S)
    text = re.sub(r'<[^>]*>', ' ', page)  # what a reader sees
    for word in (r'\bnan\b', 'accurac', 'image', 'calibration', r'error %'):
        assert not re.search(word, text, flags=re.I), word
    assert 'squared error of the standardised targets' in text
    figures = {file.stem for file in (path.parent / 'figures').iterdir()}
    usual = {'runs', 'differences', 'curves', 'budget', 'predictions', 'residuals', 'costs'}
    assert usual | {'search_linear', 'search_mlp'} == figures
    runs = (path.parent / 'runs.csv').read_text()
    assert 'accuracy' not in runs and 'squared_error' in runs


def test_tables_and_lines_say_no_nan(result):
    from mnist_cmp.cli import _run_line, _trial_line

    model = result.models[0]
    lines = [_trial_line(model.tuning.best, model.tuning), _run_line(model.name, model.runs[0])]
    texts = [*lines, summary(result), narrow_summary(result, 40), result._repr_html_()]
    texts += [model.tuning._repr_html_(), model.runs[0].training._repr_html_()]
    for text in texts:
        assert not re.search(r'\bnan\b', text, flags=re.I)
    assert max(map(len, summary(result).splitlines())) <= 80
    json.dumps(verdict_data(result), allow_nan=False)
    assert set(result.to_frame()) >= {'training loss', 'validation loss', 'mean squared error'}
    budget = result.budget('linear')
    assert budget.expected.between(0, 1).all()
    assert budget.expected.is_monotonic_increasing


def test_a_store_is_gone_on_with(data, tmp_path):
    models = {'linear': linear, 'mlp': small_mlp}
    first = compared(models, data, store=tmp_path, n_trials=2, seeds=2)
    more = compared(models, data, store=tmp_path, n_trials=2, seeds=3)
    for name in models:
        assert [run.test for run in more[name].runs[:2]] == [run.test for run in first[name].runs]
    assert len(more.test_reads) == 6
    assert {read['times'] for read in more.test_reads} == {1}


def test_who_learns_nothing_is_named(data):
    result = compared({'constant': Constant, 'linear': linear}, data, seeds=3)
    assert result.health('constant') == [['at_chance']] * 3
    assert result.health('linear') == [[]] * 3
    said = 'constant was no better than the mean of the training targets'
    assert said in result.verdict()
    assert result.best.name == 'linear'


def test_what_diverged_has_no_metric(result):
    run = result['mlp'].runs[1]
    lost = replace(run, test=replace(run.test, numbers=run.test.numbers * math.nan))
    runs = [result['mlp'].runs[0], lost, *result['mlp'].runs[2:]]
    odd = replace(result, models=[result.models[0], replace(result['mlp'], runs=runs)])
    with pytest.raises(ValueError, match='Training 1 of mlp diverged'):
        evaluate_numbers(odd, METRICS['squared_error'])


def test_several_targets_count_in_standard_deviations(data, tmp_path):
    x = data.train.x.numpy()
    rng = np.random.default_rng(0)
    # the second target is a thousand times the first
    y = np.stack([x[:, 2] + 0.3 * x[:, 8], 1000 * (x[:, 3] - x[:, 0])], 1)
    y = y + rng.normal(0, 0.1, y.shape) * y.std(0)
    both = mc.Data.from_arrays(x, y, scale='standard', name='two')
    assert (both.outputs, both.task) == (2, 'regression')
    result = compared({'linear': linear, 'mlp': small_mlp}, both, seeds=3)
    assert result.metric.title == 'standardised mean squared error'
    for model in result.models:
        for run in model.runs:
            errors = (run.test.numbers - result.truth).reshape(-1, 2) / both.targets.std
            assert run.test.value == pytest.approx((errors**2).mean(), rel=1e-4)
        assert model.value < 0.5
    assert len(result.plot_predictions().axes) == 4
    path = result.report(tmp_path / 'two')
    said = 'Each of the 2 targets is taken in units of its standard deviation'
    assert said in path.read_text(encoding='utf-8')
    assert Comparison.load(path.parent).verdict() == result.verdict()


def test_nets_may_give_n_or_n_by_one(data):
    net = linear(data.inputs, 1)

    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x)[:, 0]

    assert measure_test(Flat(), data.test) == measure_test(net, data.test)


@pytest.mark.parametrize('far', [0, 1.6e9])
def test_numbers_far_from_0_keep_their_digits(data, far):
    whole = np.round(data.train.in_units(data.train.y).reshape(-1)) + far
    moved = mc.Data.from_arrays(data.train.x.numpy(), whole, search_epochs=2, epochs=3)
    result = compared({'linear': linear, 'mlp': small_mlp}, moved, n_trials=2, seeds=2)
    assert result.truth.tolist() == whole[moved.test.places.numpy()].tolist()
    run = result['mlp'].runs[0].test
    assert len(set(run.numbers.tolist())) > 50
    error = np.mean((run.numbers - result.truth) ** 2)
    assert run.value == pytest.approx(error)
    assert 1 < error < 20_000


def test_other_units_are_other_data(data, tmp_path):
    x, y = load_diabetes(return_X_y=True)
    go = {'n_trials': 2, 'seeds': 2, 'store': tmp_path, 'search_epochs': 1}
    models = {'linear': linear, 'mlp': small_mlp}
    one = mc.Data.from_arrays(x, y, scale='standard', name='diabetes', seed=1)
    other = mc.Data.from_arrays(x, 100 * y, scale='standard', name='diabetes', seed=1)
    compared(models, one, **go)
    with pytest.raises(LedgerError, match='fingerprint'):
        compared(models, other, **go)
