"""One line says what is going on, where somebody watches: the same in compare, search and
retrain; and the work goes on whatever becomes of the line."""

import io
import sys
import time

import pytest
from tiny import one

import mnist_cmp as mc
from mnist_cmp.core import display as room
from mnist_cmp.core.display import Progress, Status


class Terminal(io.TextIOWrapper):
    "A terminal that can be read."

    def __init__(self, encoding='utf-8', errors='strict'):
        super().__init__(io.BytesIO(), encoding, errors, write_through=True)

    def isatty(self):
        return True

    def text(self):
        return self.buffer.getvalue().decode(self.encoding)


class Broken(Terminal):
    "A terminal that has gone after so many writes."

    def __init__(self, left):
        super().__init__()
        self.left = left

    def write(self, text):
        self.left -= 1
        if self.left < 0:
            raise OSError(5, 'Input/output error')
        return super().write(text)


@pytest.fixture
def watch(monkeypatch):
    "Have errors printed to a stream, as in a session that nobody has asked to be quiet."
    for name in 'MNIST_CMP_QUIET', 'IN_TEST':
        monkeypatch.delenv(name, raising=False)

    def begin(stream):
        monkeypatch.setattr(sys, 'stderr', stream)
        return stream

    return begin


def parts(told):
    "The pieces of work in their order, and how far each got."
    order = list(dict.fromkeys(status.what for status in told))
    return [(what, max(s.done for s in told if s.what == what)) for what in order]


def test_function_is_told_each_step_of_a_comparison(compare_in, tmp_path):
    told = []
    compare_in(tmp_path, progress=told.append)
    assert all(isinstance(status, Status) for status in told)
    assert parts(told)[:4] == [
        ('one: search', 1),
        ('two: search', 1),
        ('one: trainings', 2),
        ('two: trainings', 2),
    ]
    assert parts(told)[4][0] == 'measuring costs'
    assert 'one: search, 0 of 1, none good yet, epoch 1 of 1' in ' '.join(map(str, told))
    assert any('best ' in status.note for status in told)


def test_what_is_done_already_is_counted(compare_in, tmp_path):
    compare_in(tmp_path)
    told = []
    compare_in(tmp_path, progress=told.append)
    first = next(s for s in told if s.what == 'one: trainings')
    assert (first.done, first.total) == (2, 2)


def test_models_are_counted_while_costs_are_measured(data, tmp_path):
    told = []
    mc.compare(
        {'one': one, 'other': one},
        data,
        {'batch_size': (8, 16)},
        n_trials=1,
        seeds=1,
        search_epochs=1,
        recipe=mc.Recipe(epochs=1),
        compute=mc.Compute(workers=1),
        callbacks=mc.Callbacks(progress=told.append),
    )
    costs = [s for s in told if s.what == 'measuring costs']
    assert [(s.done, s.total, s.note) for s in costs] == [
        (0, 2, ''),
        (1, 2, 'one'),
        (2, 2, 'other'),
    ]


@pytest.mark.parametrize('progress', [None, 'yes', 1.5])
def test_wrong_value_is_refused_before_work(data, compare_in, search_in, tmp_path, progress):
    with pytest.raises(ValueError, match='progress is .*, but must be True, False, or a function'):
        compare_in(tmp_path, progress=progress)
    with pytest.raises(ValueError, match='progress is '):
        search_in(tmp_path, progress=progress)
    with pytest.raises(ValueError, match='progress is '):
        mc.retrain(
            one,
            data.train,
            data.valid,
            mc.Recipe(0.1, 8, epochs=1),
            callbacks=mc.Callbacks(progress=progress),
        )
    assert not list(tmp_path.iterdir())


def test_error_of_the_function_comes_through(search_in, tmp_path):
    def fail(status):
        if status.note:
            raise KeyError('a fault of its own')

    with pytest.raises(KeyError, match='a fault of its own'):
        search_in(tmp_path, progress=fail)


def retrained(data, **kwargs):
    return mc.retrain(
        {'one': one},
        data.train,
        data.valid,
        mc.Recipe(0.1, 8, epochs=2),
        seeds=2,
        compute=mc.Compute(workers=1),
        **kwargs,
    )


def wait(history=None):
    "Longer than the line stays as it is."
    time.sleep(0.12)


def test_terminal_shows_a_line(watch, data):
    terminal = watch(Terminal())
    retrained(data, on_epoch=wait)
    assert 'one: trainings' in terminal.text()
    assert '1/2' in terminal.text()
    assert 'epoch 2 of 2' in terminal.text()


@pytest.mark.parametrize('how', ['progress', 'variable', 'pipe'])
def test_quiet(watch, data, monkeypatch, how):
    terminal = watch(io.StringIO() if how == 'pipe' else Terminal())
    if how == 'variable':
        monkeypatch.setenv('MNIST_CMP_QUIET', '1')
    retrained(data, progress=how != 'progress')
    assert (terminal.getvalue() if how == 'pipe' else terminal.text()) == ''


@pytest.mark.parametrize('encoding', ['ascii', 'cp1252', 'cp932'])
def test_terminal_that_is_not_utf_8(watch, encoding):
    terminal = watch(Terminal(encoding))
    with Progress(2, 'модель: search') as bar:
        wait()
        bar.update(note='лучшая 90 %')
        assert bar.where == 'terminal'
    assert 'search' in terminal.text() and '1/2' in terminal.text()


@pytest.mark.parametrize('left', [0, 1, 3])
def test_terminal_that_has_gone_ends_no_work(watch, data, left):
    watch(Broken(left))
    assert [r.history.state for r in retrained(data)] == ['finished', 'finished']


def test_no_stderr_ends_no_work(watch, data):
    watch(None)
    assert len(retrained(data)) == 2
    closed = Terminal()
    closed.close()
    watch(closed)
    assert len(retrained(data)) == 2


def test_closed_in_the_middle(watch):
    terminal = watch(Terminal())
    with Progress(3, 'work') as bar:
        bar.update()
        terminal.close()
        bar.update()
        bar.tick()
    assert bar.done == 2


class FalseTime:
    "Stands for the module."

    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now


def test_time_goes_on_between_steps(watch, monkeypatch):
    "Once a second, while it is asked whether to stop."
    clock = FalseTime()
    shown = []
    monkeypatch.setattr(room, 'time', clock)
    monkeypatch.setattr(room, '_watched', lambda: 'notebook')
    monkeypatch.setattr('IPython.display.display', lambda *args, **kwargs: Handle(shown))
    with Progress(2, 'one: trainings') as bar:
        ask = bar.asking(lambda: clock.now > 103)
        answers = []
        for _ in range(40):
            clock.now += 0.1
            answers.append(ask())
    assert answers == [False] * 30 + [True] * 10
    lines = [line for line in shown if line]
    assert 3 <= len(lines) <= 4
    assert 'one: trainings' in lines[-1] and '0/2, ' in lines[-1]
    assert len(set(lines)) == len(lines)
    assert shown[-1] == ''  # at the end nothing is left


class Handle:
    "What IPython gives to change what is displayed."

    def __init__(self, shown):
        self.shown = shown

    def update(self, bundle, raw):
        assert raw and bundle['text/plain'] == ''
        self.shown.append(bundle['text/html'])


def test_notebook_shows_a_line_and_empties_it(watch, data, monkeypatch):
    shown = []
    watch(io.StringIO())
    monkeypatch.setattr(room, '_in_notebook', lambda: True)

    def display(bundle, raw, display_id):
        shown.append(bundle['text/html'])
        return Handle(shown)

    monkeypatch.setattr('IPython.display.display', display)
    retrained(data, on_epoch=wait)
    assert 'one: trainings' in shown[0] and '0/2' in shown[0]
    assert any('2/2' in line for line in shown)
    assert any('epoch 2 of 2' in line for line in shown)
    assert shown[-1] == ''


def test_whoever_is_not_watching_is_asked_no_more_than_before():
    def stop():
        return False

    with Progress(1, 'work') as bar:
        assert bar.asking(stop) is stop
        assert bar.asking(None) is None
