"""What earlier releases left in folders is opened, shown, gone on with and extended: the runs in
`fixtures`, and what they held when they were made."""

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from functools import partial
from html import escape

import fixture_nets
import old_runs
import pytest
from old_runs import (
    FIRST,
    FIXTURES,
    MODELS,
    as_json,
    differing,
    numbers,
    on_machine,
    retraining_numbers,
    search_numbers,
)

import mnist_cmp as mc
from mnist_cmp import cli
from mnist_cmp.comparison import check_extends
from mnist_cmp.core.ledger import LedgerError
from mnist_cmp.core.run_folder import extent_in
from mnist_cmp.core.settings import Effort
from mnist_cmp.report import write_report
from mnist_cmp.ui.run_state import RunState

GOLDEN = json.loads((FIXTURES / 'golden.json').read_text(encoding='utf-8'))
RUNS = {name: FIXTURES / name for name in ('report_3', 'report_3_2019')} | {'run_0.1.0': FIRST}
MAKERS = {'shallow': fixture_nets.shallow, 'deep': fixture_nets.deep}
OLD_MAKERS = {'mlp': partial(mc.MLP, 16, 16), 'deep_mlp': partial(mc.DeepMLP, 12, 5)}
# What is worked out of the records, by other releases of NumPy and SciPy too.
WORKED_OUT = 1e-9


@pytest.fixture(params=RUNS)
def run(request):
    "The name of a finished run, and its folder."
    return request.param, RUNS[request.param]


@pytest.fixture
def copied(tmp_path):
    "Copies a folder of fixtures to where it can be written to."

    def copy(name):
        return shutil.copytree(FIXTURES / name, tmp_path / name)

    return copy


def assert_as_golden(comparison, golden):
    now = numbers(comparison)
    assert differing(golden['recorded'], now['recorded']) == []
    assert differing(golden['worked_out'], now['worked_out'], WORKED_OUT) == []


def tolerance():
    "The share by which a training may differ from `golden.json`: none where PyTorch rounds alike."
    return 0.0 if old_runs.rounding() == GOLDEN['rounding'] else 1e-4


# ---- opened and shown


def test_a_finished_run_opens_with_its_numbers(run):
    name, folder = run
    assert_as_golden(mc.Comparison.load(folder), GOLDEN[name])


def test_the_runs_hold_what_a_reader_has_to_know_how_to_read():
    "Or the other tests show less than they say."
    by_name = {name: GOLDEN[name]['recorded'] for name in RUNS}
    new = by_name['report_3']['models']
    assert {len(model['runs']) for model in new} == {3}
    states = [trial['state'] for model in new for trial in model['search']['trials']]
    assert {'finished', 'diverged'} == set(states)
    assert all(model['cost'] and model['code'] for model in new)
    assert by_name['report_3_2019']['protocol'] == '2019'
    assert [model['code'] for model in by_name['run_0.1.0']['models']] == [None, None]


def test_its_report_is_written_anew(run, tmp_path):
    name, folder = run
    found = mc.Comparison.load(folder)
    page = write_report(found, tmp_path).read_text(encoding='utf-8')
    for line in GOLDEN[name]['worked_out']['verdict']:
        assert escape(line) in page
    again = mc.Comparison.load(tmp_path)
    assert as_json(again.to_dict()) == as_json(found.to_dict())
    assert_as_golden(again, GOLDEN[name])


@pytest.mark.parametrize('name', ['report_3', 'report_3_2019'])
def test_its_searches_open(name):
    for model in GOLDEN[name]['recorded']['models']:
        found = mc.SearchResult.load(FIXTURES / name / 'search' / model['name'])
        assert differing(model['search'], as_json(search_numbers(found))) == []


@pytest.mark.parametrize('name', ['report_3', 'report_3_2019'])
def test_the_panel_shows_it(name, copied):
    folder = copied(name)
    state = RunState.read(folder)
    assert (state.state, state.share) == ('finished', 1)
    assert state.verdict.splitlines() == GOLDEN[name]['worked_out']['verdict']
    for model in GOLDEN[name]['recorded']['models']:
        trials = [history.state for history in state.trials[model['name']].values()]
        assert trials == [trial['state'] for trial in model['search']['trials']]
        seeds = [history.seed for history in state.trainings[model['name']].values()]
        assert seeds == [run['seed'] for run in model['runs']]
    panel = mc.ComparePanel(runs=folder.parent, models=MODELS, workers=1)
    panel.show_last()
    assert panel.state.verdict == state.verdict
    assert panel.settings['models'] == MODELS


def test_the_pad_asks_its_nets(run):
    "They are the nets that the report tells of: they are wrong on as many test images."
    name, folder = run
    pad = mc.DigitPad.load(folder, makers=OLD_MAKERS if name == 'run_0.1.0' else MAKERS)
    wrong = {each: mc.topk_errors(net, pad.test)[1] for each, net in pad.nets.items()}
    models = GOLDEN[name]['recorded']['models']
    assert wrong == {model['name']: model['runs'][0]['errors']['1'] for model in models}


# ---- gone on with


def test_the_command_takes_all_that_is_there(copied, monkeypatch, capsys):
    "Nothing is trained, tested or measured anew, and the verdict is told by today's interval."
    on_machine(monkeypatch)
    folder = copied('report_3')
    kept = {path: path.read_bytes() for path in sorted(folder.rglob('*.json'))}
    options = (
        '--learning_rate 0.1,3 --batch_size 16,48 --points 5 --search_epochs 2 --epochs 3 '
        '--workers 1 --quiet'
    )
    words = ['--models', ','.join(MODELS), *options.split(), '--out', str(folder)]
    assert cli.main([*words, '--seeds', '3']) == 0
    told = capsys.readouterr().out
    for line in mc.judge(mc.Comparison.load(FIXTURES / 'report_3')).verdict().splitlines():
        assert line in told
    changed = [path.name for path, content in kept.items() if path.read_bytes() != content]
    assert changed == ['report.json']  # of another commit, and written at another time
    models = numbers(mc.Comparison.load(folder))['recorded']['models']
    assert differing(GOLDEN['report_3']['recorded']['models'], models) == []


def compare_again(folder, **kwargs):
    "The comparison of `report_3`."
    how = {'points': 5, 'search_epochs': 2, 'epochs': 3, 'seeds': 3, 'workers': 1} | kwargs
    box = {'learning_rate': (0.1, 3.0), 'batch_size': (16, 48)}
    return mc.compare(MODELS, 'digits', box, store=folder, **how)


def test_a_finished_run_is_extended_by_seeds(copied, monkeypatch):
    on_machine(monkeypatch)
    folder = copied('report_3')
    new = []
    found = compare_again(folder, seeds=4, on_run=lambda name, run: new.append((name, run.number)))
    assert new == [('shallow', 3), ('deep', 3)]
    write_report(found, folder)
    data = mc.load_data('digits')
    for was, model in zip(GOLDEN['report_3']['recorded']['models'], found.models):
        now = old_runs.as_json(old_runs.model_numbers(model))
        assert differing(was['runs'], now['runs'][:3]) == []
        fresh = mc.retrain(
            MAKERS[model.name],
            data.train,
            data.valid,
            model.search.best.config,
            seeds=4,
            epochs=3,
            workers=1,
            engine='autograd',
            name=model.name,
        )
        assert retraining_numbers(fresh[3])['epochs'] == [
            old_runs.epoch_numbers(epoch) for epoch in model.runs[3].history.epochs
        ]
    assert as_json(mc.Comparison.load(folder).to_dict()) == as_json(found.to_dict())


def test_what_a_report_would_lose_is_refused(run):
    name, folder = run
    models = [model['maker'] for model in GOLDEN[name]['recorded']['models']]
    recorded = GOLDEN[name]['recorded']
    extent = extent_in(folder)
    assert extent['seeds'] == len(recorded['models'][0]['runs'])
    assert extent['models'] == [model['name'] for model in recorded['models']]
    effort = Effort(
        n_trials=extent['n_trials'],
        seeds=extent['seeds'],
        search_epochs=recorded['models'][0]['search']['epochs'],
        seed=recorded['seed'],
        protocol=recorded['protocol'],
    )
    data = mc.load_data('digits')
    check_extends(folder, models, data, effort, extent['epochs'])
    with pytest.raises(LedgerError, match='seed was 0 and is 1'):
        check_extends(folder, models, data, replace(effort, seed=1), extent['epochs'])
    fewer = replace(effort, n_trials=effort.n_trials - 1)
    with pytest.raises(LedgerError, match=r'n_trials of .* was \d and is \d'):
        check_extends(folder, models, data, fewer, extent['epochs'])


def test_a_half_done_search_ends_as_one_that_was_never_stopped(copied, monkeypatch):
    on_machine(monkeypatch)
    folder = copied('half_search')
    golden = GOLDEN['half_search']
    before = as_json(search_numbers(mc.SearchResult.load(folder)))
    assert before['trials'] == golden['trials'][:2]
    heard = []
    now = as_json(search_numbers(old_runs.search(folder, on_epoch=heard.append)))
    assert len(heard) == 2 + 3  # of the trial that was begun, and of the last one
    assert now['trials'][:2] == golden['trials'][:2]
    assert now['trials'][2]['epochs'][0] == golden['trials'][2]['epochs'][0]
    assert differing(golden, now, tolerance()) == []
    whole = as_json(search_numbers(old_runs.search(None)))
    assert now['trials'][3] == whole['trials'][3]
    assert differing(whole, now, tolerance()) == []


def test_a_half_done_search_of_the_first_release_ends_as_it_would_have_there(copied, monkeypatch):
    on_machine(monkeypatch)
    folder = copied('half_search_0.1.0')
    text = (FIXTURES / 'golden_0.1.0.json').read_text(encoding='utf-8')
    golden = json.loads(text)['half_search_0.1.0']
    data = mc.load_data('digits')
    heard = []
    found = mc.tune(
        {'deep': fixture_nets.deep},
        data.train,
        data.valid,
        mc.Space(learning_rate=(0.05, 0.5), batch_size=(16, 48)),
        n_trials=4,
        recipe=mc.Recipe(epochs=3),
        store=folder,
        compute=mc.Compute(workers=1),
        callbacks=mc.Callbacks(on_epoch=heard.append),
    )
    assert len(heard) == 2 * 3  # of the two trials that were missing
    now = [
        {key: trial[key] for key in ('place', 'seed', 'epochs')}
        for trial in as_json(search_numbers(found))['trials']
    ]
    assert now[:2] == golden[:2]
    assert differing(golden, now, tolerance()) == []
    assert as_json(search_numbers(mc.SearchResult.load(folder))) == as_json(search_numbers(found))


def test_half_done_trainings_end_as_those_that_were_never_stopped(copied, monkeypatch):
    on_machine(monkeypatch)
    folder = copied('half_retraining')
    golden = GOLDEN['half_retraining']
    heard = []
    now = [retraining_numbers(each) for each in old_runs.retrain(folder, on_epoch=heard.append)]
    assert len(heard) == 2 + 4
    assert now[0] == golden[0]
    assert now[1]['epochs'][:2] == golden[1]['epochs'][:2]
    assert differing(golden, now, tolerance()) == []
    # a fourth one, beside the three
    more = [retraining_numbers(each) for each in old_runs.retrain(folder, seeds=4)]
    whole = [retraining_numbers(each) for each in old_runs.retrain(None, seeds=4)]
    assert more[:3] == now
    assert more[2:] == whole[2:]
    assert differing(whole, more, tolerance()) == []


def test_another_machine_does_not_go_on_with_it(copied, monkeypatch):
    "Or the tests above would not show that this is looked at."
    on_machine(monkeypatch, 'Linux x86_64, another processor, 2 cores, torch 2.13.0')
    with pytest.raises(LedgerError, match='machine was .*a made-up processor.* and is .*another'):
        old_runs.search(copied('half_search'))
    with pytest.raises(LedgerError, match='machine was .*a made-up processor.* and is .*another'):
        old_runs.retrain(copied('half_retraining'))


# ---- of a release that is not known


def of_later_release(folder):
    "The folder, with a report of a format that there is not yet."
    path = folder / 'report.json'
    saved = json.loads(path.read_text(encoding='utf-8')) | {'format': 'mnist_cmp report 99'}
    path.write_text(json.dumps(saved), encoding='utf-8')
    return folder


def test_a_report_of_an_unknown_format_is_refused_in_words(copied, tmp_path, monkeypatch):
    folder = of_later_release(copied('report_3'))
    content = (folder / 'report.json').read_bytes()
    opened_by = 'Open it with the release of mnist_cmp that wrote it'
    with pytest.raises(ValueError, match=f'report.json is no mnist_cmp report .*{opened_by}'):
        mc.Comparison.load(folder)
    with pytest.raises(ValueError, match=opened_by):
        RunState.read(folder)
    with pytest.raises(ValueError, match=opened_by):
        mc.DigitPad.load(folder, makers=MAKERS)
    other = mc.Comparison.load(FIXTURES / 'report_3')
    for refused in (
        lambda: write_report(other, folder),
        lambda: compare_again(folder),
        lambda: extent_in(folder),
    ):
        with pytest.raises(LedgerError, match='is no mnist_cmp report .*Choose another folder'):
            refused()
    assert (folder / 'report.json').read_bytes() == content


def test_a_ledger_of_an_unknown_format_is_refused_in_words(copied, monkeypatch):
    on_machine(monkeypatch)
    folder = copied('half_search')
    with closing(sqlite3.connect(folder / 'study.sqlite')) as ledger:
        ledger.execute('PRAGMA user_version=99')
    content = (folder / 'study.sqlite').read_bytes()
    for refused in (lambda: mc.SearchResult.load(folder), lambda: old_runs.search(folder)):
        with pytest.raises(LedgerError, match='has format 99.*Update mnist_cmp'):
            refused()
    assert (folder / 'study.sqlite').read_bytes() == content
