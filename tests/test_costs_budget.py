"""Measuring what a model costs takes two seconds for each model, by a clock that only the model
moves, and a single call of it where that takes longer."""

import json
import os

import pytest
import torch
from tiny import grouped, one, two

import mnist_cmp as mc
from mnist_cmp import comparison
from mnist_cmp.comparison import Stopped
from mnist_cmp.core.records import Cost
from mnist_cmp.study import costs, workers
from mnist_cmp.study.costs import MEASURING

POINT = mc.Config(0.1, 8)


class Clock:
    "Stands still, but for what moves it."

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Slow(torch.nn.Module):
    "A net whose call takes so many seconds by a clock."

    def __init__(self, clock, seconds):
        super().__init__()
        self.clock = clock
        self.seconds = seconds
        self.calls = 0
        self.layers = one()

    def forward(self, x):
        self.calls += 1
        self.clock.now += self.seconds
        return self.layers(x)


def measured(data, seconds):
    "The cost of a net whose calls take so long, the clock after it, and the net."
    clock = Clock()
    nets = []

    def make():
        nets.append(Slow(clock, seconds))
        return nets[-1]

    model = costs._Measured(make, POINT, 'autograd')
    return costs._measure(model, data.train, 'cpu', clock), clock.now, nets[-1]


@pytest.mark.parametrize('seconds', [5e-4, 0.01, 0.05, 0.1])
def test_whole_measurement_takes_two_seconds(data, seconds):
    cost, spent, _ = measured(data, seconds)
    assert spent <= MEASURING + seconds
    assert cost.latency_1 == pytest.approx(seconds)
    assert cost.latency_1000 == pytest.approx(seconds)


def test_fast_model_is_measured_often(data):
    cost, spent, _ = measured(data, 1e-3)
    assert min(cost.calls_1, cost.calls_1000) >= 16
    # Calls that all take the same are known precisely before the time is over.
    assert spent < MEASURING


@pytest.mark.parametrize('seconds', [1.0, 30.0])
def test_slow_model_is_measured_once(data, seconds):
    cost, _, net = measured(data, seconds)
    assert (cost.calls_1, cost.calls_1000) == (1, 1)
    assert cost.latency_1 == pytest.approx(seconds)
    # One step of training, two measured calls, and what is tried of a net before its first step.
    assert net.calls <= 6


def test_latency_is_told_by_the_clock_and_leaves_the_net_as_it_was(data):
    clock = Clock()
    net = Slow(clock, 0.25)
    net.train()
    net.layers.eval()
    assert mc.latency(net, data.train, 1, 1.0, clock) == 0.25
    assert net.calls == 4
    assert net.training and not net.layers.training


def test_time_that_swings_is_measured_as_long_as_there_is_time():
    clock = Clock()
    swings = iter([0.001, 0.002] * 10**6)

    def call():
        clock.now += next(swings)

    taken = costs._repeated(call, 1.0, clock)
    assert 0.99 < clock.now <= 1.0
    assert len(taken) > 600


def test_only_the_images_that_are_used_travel(data, monkeypatch):
    many = mc.load_data('digits').train
    sent = []

    def run_jobs(work, jobs, shared, **how):
        sent.append(shared)
        return iter(())

    monkeypatch.setattr(costs, 'run_jobs', run_jobs)
    costs.measure_costs({'one': one}, many, {'one': mc.Config(0.1, 16)})
    assert len(many) > 1000 and len(sent[0]) == 1000
    costs.measure_costs({'one': one}, many, {'one': mc.Config(0.1, 60)})
    assert len(sent[1]) == min(len(many), 1200)


def test_processes_start_together_and_measure_alone(data, monkeypatch):
    "Two models, two processes: both are there before the first one measures."
    started = []
    begin = workers._Crew._begin

    def count(crew):
        begin(crew)
        started.append(len(crew.members))

    monkeypatch.setattr(workers._Crew, '_begin', count)
    monkeypatch.setattr(costs, 'available_cores', lambda: 2)
    begun = []
    points = dict.fromkeys(('one', 'two', 'three'), POINT)
    costs.measure_costs(
        {'one': one, 'two': two, 'three': one},
        data.train,
        points,
        on_cost=lambda name, cost: begun.append((name, list(started))),
    )
    assert [name for name, _ in begun] == ['one', 'two', 'three']
    assert [several for _, several in begun] == [[1, 2], [1, 2], [1, 2, 1]]


def test_process_that_dies_while_others_wait_costs_a_try(data, tmp_path):
    here = os.getpid()

    def make():
        mark = tmp_path / 'died'
        if os.getpid() != here and not mark.exists():
            mark.touch()
            os._exit(3)
        return one()

    found = costs.measure_costs({'one': make, 'two': two}, data.train, {'one': POINT, 'two': POINT})
    assert set(found) == {'one', 'two'}
    assert (tmp_path / 'died').exists()


@pytest.fixture
def asked(monkeypatch):
    "The names of the models that each call of `measure_costs` measures."
    calls = []

    def measure(models, *args, on_cost=None, **kwargs):
        calls.append(list(models))
        return {name: Cost(0.001, 0.002, None, 7, 3) for name in models}

    monkeypatch.setattr(comparison, 'measure_costs', measure)
    return calls


@pytest.fixture
def compared(data, asked):
    def run(folder, **kwargs):
        how = dict(n_trials=1, seeds=1, search_epochs=1, epochs=1, workers=1) | kwargs
        models = {'one': one, 'two': two}
        return mc.compare(models, data, {'batch_size': (8, 16)}, store=folder, **grouped(**how))

    return run


@pytest.mark.filterwarnings('ignore:.*parameters')
def test_comparison_measures_all_together_and_once(compared, asked, tmp_path):
    compared(tmp_path)
    assert asked == [['one', 'two']]
    compared(tmp_path)
    assert asked == [['one', 'two']]
    (tmp_path / 'costs' / 'two.json').unlink()
    found = compared(tmp_path)
    assert asked[1:] == [['two']]
    assert (found['two'].cost.calls_1, found['two'].cost.calls_1000) == (7, 3)
    found.save(tmp_path)
    assert mc.Comparison.load(tmp_path)['two'].cost == found['two'].cost


@pytest.mark.filterwarnings('ignore:.*parameters')
def test_cost_of_an_older_version_is_read(compared, asked, tmp_path):
    compared(tmp_path)
    for name in 'one', 'two':
        file = tmp_path / 'costs' / f'{name}.json'
        kept = json.loads(file.read_text())
        for new in 'calls_1', 'calls_1000', 'sha256':
            kept['found'].pop(new, None)
            kept.pop(new, None)
        file.write_text(json.dumps(kept))
    found = compared(tmp_path)
    assert asked == [['one', 'two']]
    assert found['one'].cost == Cost(0.001, 0.002, None)
    assert found['one'].cost.calls_1 is None


@pytest.mark.filterwarnings('ignore:.*parameters')
def test_stopped_while_costs_are_measured(compared, monkeypatch, tmp_path):
    runs = []
    monkeypatch.setattr(comparison, 'measure_costs', costs.measure_costs)
    with pytest.raises(Stopped, match='while costs were measured'):
        compared(tmp_path, on_run=lambda *run: runs.append(run), should_stop=lambda: len(runs) == 2)
    assert len(runs) == 2
    assert compared(tmp_path)['two'].cost.calls_1 >= 1
