"What a report in a folder asks of the comparisons that come after it, and what becomes of it."

import shutil

import pytest
import tiny
import torch
from checkout import ROOT

import mnist_cmp as mc
from mnist_cmp import comparison
from mnist_cmp.comparison import Stopped, check_extends
from mnist_cmp.core.ledger import LedgerError
from mnist_cmp.core.settings import Effort
from mnist_cmp.report import write_report


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    from mnist_cmp import report
    from mnist_cmp.evidence import figures

    monkeypatch.setattr(report, 'comparison_figures', lambda comparison: [])
    monkeypatch.setattr(figures, 'comparison_figures', lambda comparison: [])


def three():
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(784, 2), torch.nn.Tanh(), torch.nn.Linear(2, 3)
    )


def extends(folder, models, data, epochs=1, **how):
    effort = Effort(**dict(n_trials=1, seeds=2, search_epochs=1) | how)
    check_extends(folder, models, data, effort, epochs)


# ---- the nets of a folder that the first release began


def is_net(net, weights):
    return all(torch.equal(w, weights[name]) for name, w in net.state_dict().items())


def test_the_first_releases_net_is_that_of_run_0_alone(compare_in, tmp_path):
    found = compare_in(tmp_path)
    write_report(found, tmp_path)
    shutil.copy(
        tmp_path / 'weights' / 'one' / 'seed_1.safetensors',
        tmp_path / 'weights' / 'one.safetensors',
    )
    again = mc.Comparison.load(tmp_path)
    for number, weights in enumerate(found.weights['one']):
        assert is_net(again.load_net('one', tmp_path, number, make=tiny.one), weights)
    (tmp_path / 'weights' / 'one' / 'seed_0.safetensors').unlink()
    net = again.load_net('one', tmp_path, 0, make=tiny.one)
    assert is_net(net, found.weights['one'][1])  # it has no other one
    (tmp_path / 'weights' / 'one' / 'seed_1.safetensors').unlink()
    with pytest.raises(FileNotFoundError, match='seed_1.safetensors'):
        again.load_net('one', tmp_path, 1, make=tiny.one)


def test_the_first_releases_nets_go_aside_with_their_report(compare_in, tmp_path):
    folder = tmp_path / 'run'
    shutil.copytree(ROOT / 'nbs' / 'fixtures' / 'run_0.1.0', folder)
    before = mc.Comparison.load(folder)
    nets = {path.name: path.read_bytes() for path in (folder / 'weights').glob('*.safetensors')}
    assert nets
    found = compare_in(None)
    write_report(found, folder, overwrite=True)
    assert not list((folder / 'weights').glob('*.safetensors'))
    (aside,) = (folder / 'kept').glob('report_*')
    assert mc.Comparison.load(aside) == before
    assert {path.name: path.read_bytes() for path in (aside / 'weights').iterdir()} == nets


# ---- models whose names grow


def home_of(tmp_path, monkeypatch, *modules):
    monkeypatch.syspath_prepend(tmp_path)
    for name in modules:
        (tmp_path / f'{name}.py').write_text(
            'import torch\ndef Net(): return torch.nn.Sequential(torch.nn.Flatten(), '
            'torch.nn.Linear(784, 3))\n'
        )


@pytest.mark.parametrize('finished', [True, False])
def test_two_models_of_one_name_are_refused_before_any_work(
    compare_in, tmp_path, monkeypatch, finished
):
    home_of(tmp_path, monkeypatch, 'home_a', 'home_b')
    folder = tmp_path / 'run'
    seen = []
    small = compare_in(folder, models={'one': tiny.one, 'Net': 'home_a:Net'})
    if finished:
        write_report(small, folder)
    with pytest.raises(
        LedgerError,
        match='Net would be dropped.*Several models are called Net now: name them in a dict',
    ):
        compare_in(folder, models=[tiny.one, 'home_a:Net', 'home_b:Net'], on_epoch=seen.append)
    assert seen == [] and not (folder / 'search' / 'home_a.Net').exists()
    named = {'one': tiny.one, 'Net': 'home_a:Net', 'other': 'home_b:Net'}
    grown = compare_in(folder, models=named)  # the way out
    write_report(grown, folder)
    assert mc.Comparison.load(folder).names == list(named)


def test_a_comparison_that_a_report_would_lose_by_is_refused_before_any_work(compare_in, tmp_path):
    write_report(compare_in(tmp_path, n_trials=2), tmp_path)
    seen = []
    for change, why in (
        (dict(n_trials=1), 'n_trials of one was 2 and is 1'),
        (dict(n_trials=2, seeds=1), 'seeds of one was 2 and is 1'),
        (dict(n_trials=2, models={'one': tiny.one, 'three': three}), 'two would be dropped'),
    ):
        with pytest.raises(LedgerError, match=why):
            compare_in(tmp_path, on_epoch=seen.append, **change)
    assert seen == []


def test_fewer_points_are_refused_whether_or_not_the_best_one_changes(compare_in, tmp_path):
    write_report(compare_in(tmp_path, n_trials=1), tmp_path)
    grown = compare_in(tmp_path, n_trials=6)
    changed = [c.name for c in grown.models if c.search.best.number != c.search.start]
    assert changed  # or this shows nothing
    write_report(grown, tmp_path)
    with pytest.raises(LedgerError, match='n_trials of one was 6 and is 1'):
        compare_in(tmp_path, n_trials=1)
    assert mc.Comparison.load(tmp_path) == grown


# ---- what is put aside


def test_it_is_told_where_a_report_is_put(compare_in, tmp_path, capsys):
    write_report(compare_in(tmp_path, epochs=1), tmp_path)
    capsys.readouterr()
    compare_in(tmp_path, epochs=2)
    (aside,) = (tmp_path / 'kept').glob('report_*')
    said = ' '.join(capsys.readouterr().err.split())
    assert f'The report that was in {tmp_path} is kept in {aside}.' in said


def test_the_searches_of_a_dropped_model_go_aside_and_are_found_again(compare_in, tmp_path, data):
    folder = tmp_path / 'run'
    first = compare_in(folder, models={'one': tiny.one, 'two': tiny.two})
    write_report(first, folder)
    other = compare_in(None, models={'one': tiny.one, 'three': three})
    with pytest.raises(LedgerError, match='two would be dropped'):
        write_report(other, folder)
    write_report(other, folder, overwrite=True)
    extends(folder, {'one': tiny.one, 'three': three}, data)
    assert not (folder / 'search' / 'two').exists() and not (folder / 'weights' / 'two').exists()
    seen = []
    again = compare_in(
        folder, models={'one': tiny.one, 'two': tiny.two, 'three': three}, on_epoch=seen.append
    )
    assert again['two'].runs == first['two'].runs
    assert again['two'].search == first['two'].search
    # only the third model, compared without a store, has no trials and no trainings there
    assert len(seen) == 3


def test_a_search_that_nothing_was_trained_after_is_lost_by_no_report(compare_in, tmp_path):
    folder = tmp_path / 'run'
    trials = []
    with pytest.raises(Stopped):
        compare_in(
            folder,
            on_trial=lambda *trial: trials.append(trial),
            should_stop=lambda: len(trials) == 2,
        )
    assert (folder / 'search' / 'two' / 'study.sqlite').is_file()
    other = compare_in(None, models={'one': tiny.one, 'three': three})
    with pytest.raises(LedgerError, match='two would be dropped'):
        write_report(other, folder)


# ---- costs


def failing(which, calls):
    "In the place of `measure_costs`: one model can't be measured."

    def measure(models, *args, on_cost=None, **kwargs):
        found = {}
        for name in models:
            calls.append(name)
            if name in which:
                raise RuntimeError(f'The cost of {name} could not be measured: none.')
            found |= tiny.known_costs([name])
            on_cost(name, found[name])
        return found

    return measure


MODELS = {'one': tiny.one, 'two': tiny.two, 'three': three}


@pytest.mark.parametrize('stored', [True, False])
@pytest.mark.parametrize('bad', MODELS)
def test_costs_are_measured_once_where_one_model_fails(
    compare_in, tmp_path, monkeypatch, bad, stored
):
    calls = []
    told = []
    monkeypatch.setattr(comparison, 'measure_costs', failing([bad], calls))
    found = compare_in(tmp_path if stored else None, models=MODELS, seeds=1, progress=told.append)
    assert [c.name for c in found.models if c.cost is None] == [bad]
    assert [calls.count(name) for name in MODELS if name != bad] == [1, 1]
    assert calls.count(bad) <= 2  # once with others, once alone
    steps = [status.done for status in told if status.what == 'measuring costs']
    assert steps == sorted(steps) and steps[0] == 0 and steps[-1] == 3


def test_kept_costs_move_the_bar(compare_in, tmp_path):
    told = []
    compare_in(tmp_path)
    compare_in(tmp_path, progress=told.append)
    assert [s.done for s in told if s.what == 'measuring costs'][-1] == 2
