"""What several tests share: options, places for files, small data, small models, and runs of them.

`make test` runs all but what is marked `soak` or `browser`. Tests run side by side where
pytest-xdist is told to (`-n auto`); one that is marked `alone` has the machine for itself.
"""

import os
import signal
import tempfile
import warnings
from contextlib import ExitStack
from pathlib import Path

os.environ.update(OMP_NUM_THREADS='1', MNIST_CMP_QUIET='1', MPLBACKEND='agg')

import pytest
import torch
from checkout import copy_checkout
from filelock import FileLock, ReadWriteLock
from tiny import grouped, known_costs, noise, one, two

import mnist_cmp as mc
from mnist_cmp import comparison


def pytest_addoption(parser):
    group = parser.getgroup('mnist_cmp')
    group.addoption(
        '--seed', type=int, default=0, help='of what tests draw at random (default: %(default)s)'
    )
    group.addoption(
        '--examples', type=int, default=15, help='odd calls of each function (default: %(default)s)'
    )
    group.addoption(
        '--mutations',
        type=int,
        default=900,
        help='damaged files for the readers (default: %(default)s)',
    )
    group.addoption(
        '--kills',
        type=int,
        default=4,
        help='of a search and of a comparison (default: %(default)s)',
    )
    group.addoption(
        '--minutes', type=float, default=30, help='that memory is watched (default: %(default)s)'
    )
    group.addoption(
        '--sample',
        help='of faults, kills and powerloss: try as many cases, or `all`, which takes hours '
        '(default: some ten of each)',
    )
    group.addoption('--progress', help='file that keeps what they tried, and from which they go on')
    group.addoption(
        '--only',
        help='of their cases: those that have this text in their names: "search, wal, EIO"',
    )
    group.addoption(
        '--site', type=Path, help='folder of a built site to look at (default: one is built)'
    )
    group.addoption(
        '--pictures', type=Path, help='folder for pictures of panel, pad, report, app and site'
    )


@pytest.fixture(scope='session')
def seed(request):
    "Of what a test draws at random."
    return request.config.getoption('seed')


# Side by side


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    """Of the tests side by side, one that is marked `alone` waits for the others, and they for it.

    The others share the second lock. The first is a turnstile: who has passed it comes next.
    """
    if not hasattr(item.config, 'workerinput'):
        return (yield)
    folder = item.config._tmp_path_factory.getbasetemp().parent
    machine = ReadWriteLock(folder / 'machine.lock')
    with ExitStack() as stack:
        with FileLock(folder / 'turnstile.lock'):
            alone = item.get_closest_marker('alone')
            stack.enter_context(machine.write_lock() if alone else machine.read_lock())
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session):
    "The last line says how many tests passed, failed and were skipped."
    result = yield
    reporter = session.config.pluginmanager.get_plugin('terminalreporter')
    if reporter and not hasattr(session.config, 'workerinput'):
        counts = {key: len(reporter.getreports(key)) for key in ('passed', 'skipped')}
        failed = len(reporter.getreports('failed')) + len(reporter.getreports('error'))
        reporter.write_line(
            f'{counts["passed"]} passed, {failed} failed, {counts["skipped"]} skipped'
        )
    return result


# Machine and files


def hear_signals():
    """Where a parent had signals ignored, as `nohup` does, have them heard again: tests send
    them to what they start."""
    for name in ('SIGINT', 'SIGHUP', 'SIGTERM'):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(
                number, signal.default_int_handler if name == 'SIGINT' else signal.SIG_DFL
            )


hear_signals()


@pytest.fixture(scope='session', autouse=True)
def temporary_files(tmp_path_factory):
    "What tests, notebooks and killed processes leave behind lies in pytest's own folder."
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp('t')
        patch.setenv('TMPDIR', str(folder))
        patch.setattr(tempfile, 'tempdir', str(folder))
        yield folder


@pytest.fixture
def checkout(tmp_path):
    "A copy of the checkout, so that nothing of it is changed."
    return copy_checkout(tmp_path / 'copy')


@pytest.fixture(autouse=True)
def one_thread():
    "Small nets are quickest, and the same everywhere, on one thread."
    torch.set_num_threads(1)


# Data and runs


@pytest.fixture(scope='session')
def data():
    "Noise in three classes: 40 images to learn from, 24 to choose with, 16 to test."
    return noise()


@pytest.fixture
def free_costs(monkeypatch):
    "No time is spent on measuring what a model costs."
    monkeypatch.setattr(comparison, 'measure_costs', known_costs)


@pytest.fixture
def search_in(data):
    "A tiny search in a folder: 2 trials of 2 epochs; keywords as fields of settings."

    def run(folder, **kwargs):
        kwargs = dict(n_trials=2, epochs=2, workers=1, name='one') | kwargs
        model = {kwargs.pop('name'): kwargs.pop('make', one)}
        space = kwargs.pop('space', mc.Space(batch_size=(8, 16)))
        return mc.tune(model, data.train, data.valid, space, store=folder, **grouped(**kwargs))

    return run


@pytest.fixture
def compare_in(data, free_costs):
    """A tiny comparison in a folder: 1 trial and 2 trainings of each of two models, 1 epoch;
    keywords as fields of settings."""

    def run(folder, **kwargs):
        kwargs = dict(n_trials=1, seeds=2, search_epochs=1, epochs=1, workers=1) | kwargs
        models = kwargs.pop('models', {'one': one, 'two': two})
        with warnings.catch_warnings():
            # their sizes differ on purpose
            warnings.filterwarnings('ignore', message='.*parameters')
            space = kwargs.pop('space', {'batch_size': (8, 16)})
            return mc.compare(models, data, space, store=folder, **grouped(**kwargs))

    return run
