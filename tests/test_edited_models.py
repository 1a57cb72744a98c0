"""A store remembers which code trained: changed code is told, once, and a report names the code
that made its results."""

import hashlib
import json
import sqlite3
import subprocess
import sys
import warnings
from contextlib import closing

import jsonschema
import pytest

import mnist_cmp as mc
from mnist_cmp.core.ledger import Ledger, LedgerError

NETS = """import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(784, 3)

    def forward(self, x):
        return self.layer(x.flatten(1))

def Other():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 3))
"""
PLAIN = 'return self.layer(x.flatten(1))'
DROPOUT = 'return self.layer(torch.nn.functional.dropout(x.flatten(1), .5, self.training))'


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def nets(tmp_path, monkeypatch):
    "Write the models' file, as it is read by the next process."
    before = set(sys.modules)
    path = tmp_path / 'nets.py'

    def forget():
        for name in set(sys.modules) - before:
            if name.startswith('nets@'):
                del sys.modules[name]

    def write(text):
        forget()
        path.write_text(text)
        return {'a': f'{path}:Net', 'b': f'{path}:Other'}

    yield write
    forget()


def changes(call):
    "What a call says of changed code, and where; and what it gives."
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter('always')
        found = call()
    return [w for w in heard if 'has changed since' in str(w.message)], found


def in_report(found, folder):
    "The code that a written report names for each model."
    mc.write_report(found, folder)
    report = json.loads((folder / 'report.json').read_text())
    jsonschema.validate(report, mc.report_schema())
    return {c['name']: c['code'] for c in report['contestants']}


def test_an_edited_model_is_told_once_and_its_report_names_the_old_code(nets, compare_in, tmp_path):
    run = tmp_path / 'run'
    said, first = changes(lambda: compare_in(run, models=nets(NETS)))
    assert not said
    edited = NETS.replace(PLAIN, DROPOUT)
    models = nets(edited)
    said, again = changes(lambda: compare_in(run, models=models))
    assert [str(w.message).partition(' has changed')[0] for w in said] == [
        'The code of a (nets.py)'
    ]
    assert f'in {run} were made' in str(said[0].message)
    assert said[0].filename.endswith('conftest.py')  # the line that called compare
    assert again['a'].wrong == first['a'].wrong
    codes = in_report(again, run)
    assert codes['a']['sha256'] == digest(NETS) and codes['a']['also'] == []
    assert digest(NETS) in (run / 'report.html').read_text()
    assert digest(edited) not in (run / 'report.html').read_text()
    assert mc.Comparison.load(run)['a'].code == again['a'].code


def test_what_is_trained_by_changed_code_is_named_beside_the_old(nets, compare_in, tmp_path):
    run = tmp_path / 'run'
    compare_in(run, models=nets(NETS), engine='autograd')
    edited = NETS.replace(PLAIN, DROPOUT)
    models = nets(edited)
    said, found = changes(lambda: compare_in(run, models=models, seeds=3))
    assert len(said) == 1
    codes = in_report(found, run)
    assert (codes['a']['sha256'], codes['a']['also']) == (digest(NETS), [digest(edited)])
    assert (codes['b']['sha256'], codes['b']['also']) == (digest(NETS), [])
    page = (run / 'report.html').read_text()
    assert f'{digest(NETS)}; some of its results by changed code, SHA-256 {digest(edited)}' in page
    models = nets(NETS)  # taken back: a part is still of the other
    said, _ = changes(lambda: compare_in(run, models=models, seeds=3))
    assert len(said) == 1


def test_an_engine_that_does_not_train_changed_code_says_the_cause(nets, compare_in, tmp_path):
    "The plain net was trained as a chain, and this one is none."
    run = tmp_path / 'run'
    try:
        first = compare_in(run, models=nets(NETS), engine='onednn')
    except ValueError as e:
        pytest.skip(str(e))
    models = nets(NETS.replace(PLAIN, DROPOUT))
    with pytest.raises(
        LedgerError,
        match="begun with engine=.onednn., which can't train the model as it is now.*"
        'put the model back.*another folder',
    ):
        changes(lambda: compare_in(run, models=models, seeds=3))
    _, again = changes(lambda: compare_in(run, models=models))  # what is there can be had
    assert again['a'].wrong == first['a'].wrong


@pytest.mark.parametrize(
    'change',
    [
        NETS + '\n# a remark',
        NETS + '\n\nclass Third(Net): pass\n',
        NETS.replace(
            'import torch', 'import torch\nif __name__ == "__main__":\n    compare(seeds=9)'
        ),
    ],
)
def test_what_the_model_does_not_use_is_no_change(nets, compare_in, tmp_path, change):
    "A script that holds the models and the call of compare may be edited."
    run = tmp_path / 'run'
    compare_in(run, models=nets(NETS))
    models = nets(change)
    said, found = changes(lambda: compare_in(run, models=models, seeds=3))
    assert not said
    assert in_report(found, run)['a']['sha256'] == digest(NETS)


def test_what_the_model_uses_is_a_change(nets, compare_in, tmp_path):
    before = NETS.replace(PLAIN, 'return mixed(self.layer(x.flatten(1)), self.training)') + (
        '\nSHARE = 0.\ndef mixed(x, training): return x + SHARE*training\n'
    )
    compare_in(tmp_path / 'run', models=nets(before))
    models = nets(before.replace('SHARE = 0.', 'SHARE = .5'))
    said, _ = changes(lambda: compare_in(tmp_path / 'run', models=models))
    assert ['The code of a ' in str(w.message) for w in said] == [True]


def test_an_edit_in_the_same_process_changes_nothing_that_runs(nets, compare_in, tmp_path):
    "Python has the module as it was; so has the note."
    models = nets(NETS)
    compare_in(tmp_path / 'run', models=models)
    (tmp_path / 'nets.py').write_text(NETS.replace(PLAIN, DROPOUT))
    said, found = changes(lambda: compare_in(tmp_path / 'run', models=models, seeds=3))
    assert not said
    assert found['a'].code.sha256 == digest(NETS)


def forget_notes(folder):
    "Have a run folder as earlier releases left it."
    ledgers = list(folder.glob('*/*/study.sqlite'))
    for path in ledgers:
        with closing(sqlite3.connect(path)) as ledger, ledger:
            ledger.execute("DELETE FROM study WHERE key='codes'")
    assert len(ledgers) == 4


def test_an_older_store_goes_on_and_nothing_is_claimed(nets, compare_in, tmp_path):
    run = tmp_path / 'run'
    first = compare_in(run, models=nets(NETS), engine='autograd')
    forget_notes(run)
    models = nets(NETS.replace(PLAIN, DROPOUT))
    said, again = changes(lambda: compare_in(run, models=models))
    assert not said
    assert again['a'].wrong == first['a'].wrong
    assert in_report(again, run) == {'a': None, 'b': None}
    assert 'code of a' not in (run / 'report.html').read_text()
    compare_in(run, models=models, seeds=3)  # from here on something is known
    models = nets(NETS)
    said, longer = changes(lambda: compare_in(run, models=models, seeds=3))
    assert len(said) == 1
    assert longer['a'].code is None


def test_search_and_retrain_tell_it_too(nets, search_in, data, tmp_path):
    from mnist_cmp.models import get_model

    def both(text):
        make = get_model(nets(text)['a'])
        search_in(tmp_path / 'search', make=make)
        mc.retrain(
            {'one': make},
            data.train,
            data.valid,
            mc.Recipe(0.1, 8, epochs=1),
            seeds=1,
            compute=mc.Compute(workers=1),
            store=tmp_path / 'weights',
        )

    both(NETS)
    said, _ = changes(lambda: both(NETS))
    assert not said
    said, _ = changes(lambda: both(NETS.replace(PLAIN, DROPOUT)))
    assert [
        f'in {tmp_path / place} were' in str(w.message)
        for place, w in zip(('search', 'weights'), said, strict=True)
    ] == [True, True]
    assert said[1].filename == __file__


def test_another_class_of_a_notebook_is_told(search_in, tmp_path):
    "Of what is typed there is no file; a cell that a model uses counts."
    code = """
import warnings, torch, linecache, sys
sys.path.insert(0, {tests!r})
import mnist_cmp as mc
from tiny import noise
data = noise()

def cell(text, number):
    name = f'<cell {{number}}>'
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    exec(compile(text, name, 'exec'), globals())

def searched():
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter('always')
        mc.tune({{'one': make}}, data.train, data.valid, mc.Space(batch_size=(8, 16)), n_trials=1,
                recipe=mc.Recipe(epochs=1), compute=mc.Compute(workers=1), store={store!r})
    return ['has changed' in str(w.message) for w in heard]

cell('def noisy(x, on): return x', 1)
cell('''class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(784, 3)
    def forward(self, x): return self.layer(noisy(x.flatten(1), self.training))''', 2)
cell('def make(): return Net()', 3)
print(searched(), searched())
cell('def noisy(x, on): return x + .1*on', 4)
print(searched())
"""
    from pathlib import Path

    code = code.format(tests=str(Path(__file__).parent), store=str(tmp_path / 'run'))
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ['[] []', '[True]'], done.stderr


@pytest.mark.parametrize('value', ['[{}]', '{}x', '3', '[{"source": "x"}]'])
def test_a_damaged_note_is_named(search_in, tmp_path, value):
    search_in(tmp_path)
    with closing(sqlite3.connect(tmp_path / 'study.sqlite')) as ledger, ledger:
        ledger.execute("UPDATE study SET value=? WHERE key='codes'", [value])
    with pytest.raises(LedgerError, match='study.sqlite is damaged'):
        search_in(tmp_path)


def test_a_note_is_kept_with_the_trainings(nets, compare_in, tmp_path):
    compare_in(tmp_path / 'run', models=nets(NETS))
    for kind in 'search', 'weights':
        with Ledger.read(tmp_path / 'run' / kind / 'a') as ledger:
            (note,) = ledger.codes()
        assert (note['file'], note['sha256']) == ('nets.py', digest(NETS))
