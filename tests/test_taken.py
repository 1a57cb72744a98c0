"""What is taken from a store is said to be so, and told to no callback; with progress=False
nothing is printed; names that share files are refused."""

import io
import sys

import pytest
from test_progress import Handle, Terminal
from tiny import one, two

import mnist_cmp as mc
from mnist_cmp.core import display


@pytest.fixture
def watch(monkeypatch):
    "Have errors printed to a stream, as in a session that nobody has asked to be quiet."
    for name in 'MNIST_CMP_QUIET', 'IN_TEST':
        monkeypatch.delenv(name, raising=False)

    def begin(stream):
        monkeypatch.setattr(sys, 'stderr', stream)
        return stream

    return begin


class Calls:
    "What the two callbacks are told."

    def __init__(self):
        self.trials = []
        self.runs = []
        self.callbacks = {'on_trial': self.trial, 'on_run': self.run}

    def trial(self, trial, result):
        self.trials.append((result.model, trial.number))

    def run(self, name, run):
        self.runs.append((name, run.number))


def test_callbacks_are_told_what_this_call_did(compare_in, tmp_path):
    "Each of the two, by one rule: a rerun tells nothing, a longer run what is new."
    first = Calls()
    compare_in(tmp_path, **first.callbacks)
    assert first.trials == [('one', 1030), ('two', 1030)]
    assert first.runs == [(name, number) for name in ('one', 'two') for number in (0, 1)]
    again = Calls()
    compare_in(tmp_path, **again.callbacks)
    assert (again.trials, again.runs) == ([], [])
    longer = Calls()
    compare_in(tmp_path, seeds=3, **longer.callbacks)
    assert (longer.trials, longer.runs) == ([], [('one', 2), ('two', 2)])


def test_a_training_whose_test_is_new_is_told(compare_in, tmp_path):
    "A kill between the training and its test leaves a run that no callback has heard of."
    compare_in(tmp_path)
    (tmp_path / 'tests' / 'two_1.json').unlink()
    calls = Calls()
    compare_in(tmp_path, **calls.callbacks)
    assert calls.runs == [('two', 1)]


def test_a_run_whose_weights_are_lost_is_told(compare_in, tmp_path):
    compare_in(tmp_path)
    (tmp_path / 'weights' / 'one' / 'seed_0.safetensors').unlink()
    calls = Calls()
    compare_in(tmp_path, **calls.callbacks)
    assert (calls.trials, calls.runs) == ([], [('one', 0)])


def told_of(kind, what, taken, new, folder):
    return f'{what}, {taken} {kind} taken from {folder}, {new} new'


def test_a_function_is_told_what_is_taken(compare_in, tmp_path):
    compare_in(tmp_path)
    told = []
    compare_in(tmp_path, seeds=3, progress=told.append)
    notes = {f'{status.what}, {status.note}' for status in told}
    for name in 'one', 'two':
        assert told_of('trial', f'{name}: search', 1, 0, tmp_path / 'search' / name) in notes
        assert (
            told_of('trainings', f'{name}: trainings', 2, 1, tmp_path / 'weights' / name) in notes
        )


def test_a_first_run_takes_nothing(compare_in, tmp_path, watch):
    told = []
    compare_in(tmp_path, progress=told.append)
    assert not [status for status in told if 'taken' in status.note]
    stream = watch(io.StringIO())
    compare_in(tmp_path / 'other')
    assert 'taken' not in stream.getvalue()


@pytest.mark.parametrize('where', ['terminal', 'log'])
def test_the_line_stays(compare_in, tmp_path, watch, monkeypatch, where):
    compare_in(tmp_path)
    monkeypatch.setenv('COLUMNS', '400')
    stream = watch(Terminal() if where == 'terminal' else io.StringIO())
    compare_in(tmp_path)
    lines = (stream.text() if where == 'terminal' else stream.getvalue()).splitlines()
    for name in 'one', 'two':
        assert told_of('trial', f'{name}: search', 1, 0, tmp_path / 'search' / name) in lines
        assert (
            told_of('trainings', f'{name}: trainings', 2, 0, tmp_path / 'weights' / name) in lines
        )


def test_a_notebook_keeps_the_line(search_in, tmp_path, watch, monkeypatch):
    search_in(tmp_path)
    shown = []
    watch(io.StringIO())
    monkeypatch.setattr(display, '_in_notebook', lambda: True)
    monkeypatch.setattr('IPython.display.display', lambda *args, **kwargs: Handle(shown))
    search_in(tmp_path)
    assert told_of('trials', 'one: search', 2, 0, tmp_path) in shown[-1]


# ---- without progress


def make_noise(compare_in, folder, **kwargs):
    "Run again what has something to say: damage, results of other settings put aside and taken."
    compare_in(folder, **kwargs).save(folder)
    (folder / 'tests' / 'two_1.json').write_text('{')
    (folder / 'weights' / 'one' / 'seed_0.safetensors').write_bytes(b'?')
    compare_in(folder, **kwargs)
    return compare_in(folder, epochs=2, **kwargs)


def test_without_progress_nothing_is_printed(compare_in, tmp_path, watch, capfd):
    loud = watch(io.StringIO())
    make_noise(compare_in, tmp_path / 'loud')
    for words in 'two_1.json is damaged', 'are kept in', 'is done again', 'taken from':
        assert words in loud.getvalue()
    silent = watch(io.StringIO())
    make_noise(compare_in, tmp_path / 'silent', progress=False)
    assert silent.getvalue() == ''
    assert capfd.readouterr().out == ''


def test_silence_ends_with_the_call(search_in, tmp_path, watch):
    stream = watch(io.StringIO())
    with pytest.raises(ValueError):
        search_in(tmp_path, progress=False, n_trials=-1)
    display.tell('heard')
    assert stream.getvalue() == 'heard\n'


# ---- names


@pytest.mark.parametrize(
    'names', [('Net', 'net'), ('\u00c5', '\u212b'), ('Stra\u00dfe', 'STRASSE')]
)
def test_names_that_share_files_are_refused_before_work(compare_in, tmp_path, names):
    for store in tmp_path / 'run', None:
        with pytest.raises(ValueError, match='name the same files on macOS and Windows') as error:
            compare_in(store, models=dict.fromkeys(names, one))
        assert all(repr(name) in str(error.value) for name in names)
    assert not list(tmp_path.glob('run/*'))


@pytest.fixture
def case_matters(tmp_path):
    (tmp_path / 'a').touch()
    if (tmp_path / 'A').exists():
        pytest.skip('these file systems know no capitals')


def test_a_folder_that_keeps_such_names_apart_goes_on(
    case_matters, compare_in, tmp_path, monkeypatch
):
    models = {'Net': one, 'net': two}
    with monkeypatch.context() as before:
        before.setattr('mnist_cmp.comparison._check_apart', lambda names, store: None)
        first = compare_in(tmp_path / 'run', models=models)
        first.save(tmp_path / 'run')
    assert mc.Comparison.load(tmp_path / 'run').names == ['Net', 'net']
    again = compare_in(tmp_path / 'run', models=models)
    assert [c.wrong for c in again.models] == [c.wrong for c in first.models]
    with pytest.raises(ValueError, match='same files'):
        compare_in(tmp_path / 'run', models=models | {'NET': two})


def test_a_name_of_200_letters_is_refused_for_its_length(compare_in, tmp_path):
    with pytest.raises(ValueError, match='a name of 200 letters.*at most.*a shorter name'):
        compare_in(tmp_path, models={'n' * 200: one, 'two': two})
    assert not list(tmp_path.iterdir())
