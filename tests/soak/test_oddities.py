"""Odd arguments for the public functions, and damaged files for the readers.

Whatever comes, a function gives a result without a silent NaN, or a ValueError or TypeError that
names what is wrong; a reader gives what a whole file holds, or one error that names the file. A
short round, always the same; `make fuzz` is a long one.
"""

import contextlib
import faulthandler
import functools
import io
import json
import math
import random
import signal
import sqlite3
import struct
import sys
import tempfile
import time
import warnings
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as with_seed
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from traitlets import TraitError

import mnist_cmp as mc
from mnist_cmp import data, models, training
from mnist_cmp.core import checks, system
from mnist_cmp.core.ledger import Ledger, LedgerError
from mnist_cmp.core.settings import Effort, space_for
from mnist_cmp.datasets import sources
from mnist_cmp.engines import evaluation
from mnist_cmp.ui import pad
from mnist_cmp.ui.run_state import RunState, check_settings

resource = pytest.importorskip('resource', reason='it needs Linux')
# of address space, besides what the process has: a function that would take more fails here, and
# not the machine
GIGABYTES = 4
SECONDS = 20  # for one call

set_hypothesis_home_dir(Path(tempfile.gettempdir()) / 'mnist_cmp_hypothesis')
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(0),  # each call has its own
    pytest.mark.skipif(sys.platform != 'linux', reason='it needs Linux'),
]


@pytest.fixture(autouse=True)
def little_memory():
    "Of address space there is a limit while a test runs."
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    limit = pages * resource.getpagesize() + (GIGABYTES << 30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.fixture(autouse=True)
def known_models(monkeypatch):
    "What a test registers is forgotten."
    monkeypatch.setattr(models, '_registry', dict(models._registry))


# What is odd

NUMBERS = [
    0,
    1,
    -1,
    2,
    3,
    28,
    2**31,
    2**63,
    2**64,
    -(2**63),
    10**30,
    10**400,
    10**5000,
    0.5,
    -0.5,
    1.0,
    1e-300,
    5e-324,
    1e308,
    -1e308,
    math.nan,
    math.inf,
    -math.inf,
    True,
    False,
    Fraction(1, 3),
    np.int8(3),
    np.uint64(2**64 - 1),
    np.float32('nan'),
    np.float64(0.5),
    1j,
]
THINGS = [
    None,
    '',
    'x',
    'mlp',
    'digits',
    '<script>alert(1)</script>',
    '../../x',
    'os:system',
    'a' * 5000,
    'a\0b',
    '\ud800',
    b'',
    b'\x80x',
    [],
    [[]],
    (),
    {},
    {'x': 1},
    set(),
    [None],
    ['x'],
    [1, [2]],
    (1, 2),
    [0.1, 0.2],
    [math.nan],
    [10**400],
    range(3),
    object(),
    int,
    print,
    lambda: None,
    lambda x: x,
    np.zeros(0),
    np.zeros((2, 0)),
    np.array(None),
    np.array('x'),
    np.array([1, 'x'], dtype=object),
    torch.zeros(0),
    torch.zeros(()),
    torch.nn.Linear(2, 2),
    torch.zeros(2, device='meta'),
    torch.zeros(2, 2).to_sparse(),
]
DTYPES = 'bool int8 uint8 uint16 int32 int64 uint64 float16 float32 float64 complex64'.split()


@st.composite
def arrays(draw, shapes=st.lists(st.integers(0, 4), max_size=4)):  # noqa: B008
    """An array of any kind and shape, of few values, some of them odd; sometimes as a tensor or
    as lists."""
    shape = tuple(draw(shapes))
    dtype = draw(st.sampled_from(DTYPES))
    values = draw(
        st.lists(
            st.sampled_from([0, 1, 2, 255, -1, 0.5, 1e30, -1e30, math.nan, math.inf, -math.inf]),
            min_size=1,
            max_size=6,
        )
    )
    with warnings.catch_warnings(), np.errstate(all='ignore'):
        warnings.simplefilter('ignore')
        array = np.resize(np.array(values), shape).astype(dtype)
    kind = draw(st.sampled_from(['array', 'tensor', 'lists']))
    if kind == 'tensor':
        return torch.from_numpy(array)
    return array.tolist() if kind == 'lists' else array


ODD = st.one_of(
    st.sampled_from(NUMBERS),
    st.sampled_from(THINGS),
    arrays(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
)


# What is good

few = st.integers(1, 5)
level = st.sampled_from([0.5, 0.9, 0.95, 0.9999])
share = st.floats(0, 1)
vectors = st.lists(share, min_size=2, max_size=6)
bools = st.builds(
    lambda s, n, k: np.arange(s * n).reshape(s, n) % k == 0,
    few,
    st.integers(1, 8),
    st.integers(1, 5),
)
ints = st.builds(lambda s, n: np.arange(s * n).reshape(s, n) % 3, st.integers(2, 4), few)
images = st.builds(
    lambda n, as_bytes: (
        np.zeros((n, 28, 28), np.uint8) if as_bytes else np.full((n, 1, 28, 28), 0.5, np.float32)
    ),
    few,
    st.booleans(),
)
odd_images = arrays(
    st.lists(st.sampled_from([0, 1, 2, 28]), min_size=3, max_size=4).filter(
        lambda s: math.prod(s) < 5000
    )
)
labels = st.lists(st.integers(0, 9), min_size=1, max_size=5)
sides = st.sampled_from([None, (0.001, 0.1), (1, 2), (1e-9, 1e9)])
CLASSES = tuple('0123456789')
nothing = st.none()


def split_of(n=4, name='train', dtype=torch.uint8):
    return mc.Split(torch.zeros(n, 1, 28, 28, dtype=dtype), torch.arange(n) % 10, name, CLASSES)


SPLIT = split_of(8)
VALID = split_of(5, 'valid')
NET = mc.MLP(3, 3)
splits = st.just(SPLIT)
nets = st.just(NET)


class Odd(torch.nn.Module):
    "A net that gives what a function makes of its images."

    def __init__(self, gives):
        super().__init__()
        self.p = torch.nn.Parameter(torch.zeros(1))
        self.gives = gives

    def forward(self, x):
        return self.gives(x)


GIVES = [
    lambda x: x.flatten(1)[:, :10],
    lambda x: x.flatten(1)[:, :3],
    lambda x: None,
    lambda x: x.sum(),
    lambda x: x.flatten(1)[:, :10] * math.nan,
    lambda x: x.flatten(1)[:, :10].double(),
    lambda x: [x],
]
odd_nets = st.one_of(
    nets,
    st.sampled_from(GIVES).map(Odd),
    st.just(torch.nn.Linear(2, 2)),
    st.just(torch.nn.Identity()),
)
makers = st.sampled_from(['mlp', lambda: mc.MLP(3, 3), functools.partial(mc.MLP, 2, 2)])
EPOCHS = [
    training.Epoch(1, 0.5, 0.5, 0.1, 0.5, 0.5),
    training.Epoch(2, math.nan, 0.5, 0.1, math.nan, None),
]


def numbered(epochs):
    "The epochs, as 1, 2, …"
    return [replace(epoch, epoch=i) for i, epoch in enumerate(epochs, 1)]


def history(epochs):
    return training.History(0.1, 8, 0, 'x', 1, 'cpu', 'here', epochs)


def with_stop(function):
    "The function, stopped at once, by its old argument."
    return lambda **kwargs: function(**kwargs, should_stop=lambda: True)


def within(function, should_stop=lambda: True, **classes):
    """The function, called with the fields of its settings objects, each by its name; an object's
    own name stands for something odd in its place, or None. `classes`: name of an argument → its
    class."""

    def call(**given):
        for name, cls in classes.items():
            values = {f.name: given.pop(f.name) for f in fields(cls) if f.name in given}
            if name == 'callbacks':
                values |= {'should_stop': should_stop, 'progress': False}
            if given.get(name) is None:
                given[name] = cls(**values)
        return function(**given)

    return call


def train_a_while(**kwargs):
    "`train`, stopped after a second, as for 2³¹ epochs."
    end = time.monotonic() + 1
    return within(mc.train, lambda: time.monotonic() > end, **OF_TRAINING)(**kwargs)


OF_TRAINING = {'recipe': mc.Recipe, 'compute': mc.Compute, 'callbacks': mc.Callbacks}
OF_STUDY = {'space': mc.Space} | OF_TRAINING  # arguments that are objects → their classes


def result_of(epochs):
    return mc.SearchResult(
        'mlp', mc.Space(), 0, 3, 1, 'valid', [mc.Trial(0, history(epochs))][: len(epochs) + 1]
    )


def CALLS(folder):
    "Name → function and the strategies of its arguments."
    computed = dict(
        seed=few,
        threads=st.just(1),
        device=st.sampled_from([None, 'cpu']),
        workers=st.just(1),
        store=nothing,
    )
    settled = computed | dict(
        engine=st.sampled_from(['auto', 'autograd']),
        on_epoch=st.sampled_from([None, print]),
        recipe=nothing,
        compute=nothing,
        callbacks=nothing,
    )
    spaces = dict(
        learning_rate=st.just((0.001, 0.1)),
        batch_size=st.just((1, 4)),
        momentum=nothing | st.just((0, 0.9)),
        weight_decay=sides,
        log=st.booleans(),
        start=nothing | few,
        space=nothing,
    )
    configs = dict(
        learning_rate=st.just(0.1),
        batch_size=few,
        momentum=st.sampled_from([0, 0.9]),
        weight_decay=st.sampled_from([0, 0.01]),
    )
    return {
        'Split': (
            mc.Split,
            dict(
                x=images.map(lambda a: torch.from_numpy(a.reshape(-1, 1, 28, 28))),
                y=labels.map(torch.tensor),
                name=st.just('train'),
                classes=st.just(CLASSES),
            ),
        ),
        'Split[]': (
            lambda which: SPLIT[which],
            dict(which=st.one_of(st.slices(8), few.map(lambda n: torch.arange(n)))),
        ),
        'Data': (
            mc.Data,
            dict(
                train=splits,
                valid=st.sampled_from([None, SPLIT]),
                test=splits,
                name=st.just('x'),
                classes=st.just(CLASSES),
                search_epochs=few,
                epochs=few,
            ),
        ),
        'from_arrays': (
            mc.Data.from_arrays,
            dict(
                x=images | odd_images,
                y=labels,
                x_test=images,
                y_test=labels,
                x_valid=nothing,
                y_valid=nothing,
                valid_size=st.sampled_from([None, 0, 1]),
                classes=nothing,
            ),
        ),
        'load_data': (
            functools.partial(mc.load_data, download=False),
            dict(name=st.just('digits'), root=st.just(folder), valid_size=nothing),
        ),
        'show_samples': (mc.show_samples, dict(split=splits, n=few, seed=few)),
        'MLP': (mc.MLP, dict(h1=few, h2=few)),
        'CNN': (mc.CNNClassifier, dict(size=few)),
        'DeepMLP': (mc.DeepMLP, dict(width=few, depth=st.just(3))),
        'initialise': (
            mc.initialise,
            dict(
                make=makers.filter(callable), init=st.sampled_from([mc.glorot_init, None]), seed=few
            ),
        ),
        'get_model': (mc.get_model, dict(spec=makers)),
        'register_model': (mc.register_model, dict(name=st.just('mlp'), make=makers)),
        'number_of_params': (mc.number_of_params, dict(net=nets)),
        'params_table': (mc.params_table, dict(net=nets)),
        'relative_difference': (mc.relative_difference, dict(a=few | nets, b=few | nets)),
        'match_params': (
            mc.match_params,
            dict(
                make=st.just(lambda w: mc.MLP(w, w)),
                target=st.integers(1, 10**6),
                tolerance=share,
                max_width=few,
            ),
        ),
        'flops': (mc.flops, dict(net=nets, input_shape=st.just((1, 28, 28)))),
        'size_table': (mc.size_table, dict(nets=st.just({'a': NET}))),
        'measure': (mc.measure, dict(net=odd_nets, split=splits, batch_size=st.none() | few)),
        'predict': (mc.predict, dict(net=nets, split=splits, batch_size=st.none() | few)),
        'topk_errors': (mc.topk_errors, dict(net=nets, split=splits, ks=st.just((1, 2)))),
        'count_topk_errors': (
            evaluation.count_topk_errors,
            dict(
                logits=few.map(lambda n: torch.zeros(n, 5)),
                y=labels.map(torch.tensor),
                ks=st.just((1, 2)),
            ),
        ),
        'smoke_test': (mc.smoke_test, dict(net=odd_nets, split=splits)),
        'save_model': (mc.save_model, dict(net=nets, path=st.just(folder / 'w.safetensors'))),
        'load_model': (mc.load_model, dict(net=nets, path=st.just(folder / 'w.safetensors'))),
        'train': (
            train_a_while,
            dict(
                net=odd_nets,
                train=splits,
                valid=st.sampled_from([None, VALID]),
                epochs=few,
                checkpoint=nothing,
                measure_train=st.booleans(),
                **configs,
                **{
                    name: each for name, each in settled.items() if name not in ('store', 'workers')
                },
            ),
        ),
        'Recipe': (mc.Recipe, dict(epochs=nothing | few, init=st.just('glorot'), **configs)),
        'Compute': (
            mc.Compute,
            dict(
                device=nothing,
                threads=nothing | few,
                workers=nothing | few,
                engine=st.just('auto'),
            ),
        ),
        'Callbacks': (
            mc.Callbacks,
            dict(
                on_trial=st.sampled_from([None, print]),
                on_run=nothing,
                on_epoch=nothing,
                should_stop=st.sampled_from([None, print]),
                progress=st.booleans(),
            ),
        ),
        'Effort': (
            Effort,
            dict(
                n_trials=few,
                seeds=few,
                search_epochs=nothing | few,
                seed=few,
                protocol=st.sampled_from(['holdout', '2019']),
            ),
        ),
        'space_for': (
            space_for,
            dict(
                model=st.just('cnn'),
                protocol=st.sampled_from(['holdout', '2019']),
                space=st.sampled_from([None, {'batch_size': (1, 4)}, mc.Space(log=True)]),
            ),
        ),
        'old train': (
            mc.train,
            dict(
                net=nets,
                train=splits,
                valid=st.just(VALID),
                epochs=st.just(1),
                should_stop=st.just(lambda: True),
                device=nothing,
                threads=nothing,
                **configs,
            ),
        ),
        'snapshot_accuracies': (
            mc.snapshot_accuracies,
            dict(net=nets, history=st.just(history([])), split=splits),
        ),
        'plot_accuracy': (
            mc.plot_accuracy,
            dict(
                history=st.sampled_from([[], EPOCHS, numbered(3 * EPOCHS)]).map(history),
                title=st.text(max_size=9),
                valid_label=st.just('x'),
                save_to=nothing,
            ),
        ),
        'Space': (
            mc.Space,
            dict(
                learning_rate=st.just((0.001, 0.1)),
                batch_size=st.just((1, 8)),
                momentum=nothing | st.just((0, 0.9)),
                weight_decay=sides,
                log=st.booleans(),
            ),
        ),
        'sobol_points': (
            lambda start, n, **kw: mc.sobol_points(mc.Space(**kw), start, n),
            dict(
                start=st.integers(0, 2**29),
                n=few,
                learning_rate=st.just((0.001, 0.1)),
                batch_size=st.just((1, 8)),
                weight_decay=sides,
                log=st.booleans(),
            ),
        ),
        'plot_sobol': (mc.plot_sobol, dict(space=st.just(mc.Space()), start=few, n=few)),
        'tune': (
            within(mc.tune, **OF_STUDY),
            dict(
                make=makers,
                train=splits,
                valid=st.just(VALID),
                n_trials=few,
                epochs=few,
                init=nothing | st.just('glorot'),
                on_trial=st.sampled_from([None, print]),
                **spaces,
                **settled,
            ),
        ),
        'retrain': (
            within(mc.retrain, **OF_TRAINING),
            dict(
                make=makers,
                train=splits,
                valid=st.just(VALID),
                seeds=few,
                epochs=few,
                init=nothing | st.just('glorot'),
                **configs,
                **settled,
            ),
        ),
        'compare': (
            within(mc.compare, **OF_STUDY),
            dict(
                models=st.sampled_from(
                    [['mlp', 'deep_mlp'], {'a': lambda: mc.MLP(3, 3), 'b': 'mlp'}]
                ),
                data=st.just('digits'),
                n_trials=few,
                seeds=few,
                search_epochs=few,
                epochs=few,
                init=nothing | st.just({'a': 'glorot'}),
                protocol=st.just('holdout'),
                on_trial=st.sampled_from([None, print]),
                on_run=nothing,
                **spaces,
                **settled,
            ),
        ),
        'old search': (
            with_stop(mc.search),
            dict(
                make=makers,
                train=splits,
                valid=st.just(VALID),
                box=st.just(mc.Space(batch_size=(1, 4))),
                start=few,
                n=few,
                epochs=few,
                name=nothing,
                **computed,
            ),
        ),
        'old retrain': (
            with_stop(mc.retrain),
            dict(
                make=makers,
                train=splits,
                valid=st.just(VALID),
                point=st.just(mc.Config(0.1, 4)),
                seeds=few,
                epochs=few,
                name=nothing,
                **computed,
            ),
        ),
        'old compare': (
            with_stop(mc.compare),
            dict(
                models=st.just(['mlp', 'deep_mlp']),
                data=st.just('digits'),
                box=nothing | st.just({'batch_size': (1, 4)}),
                points=few,
                seeds=few,
                start=nothing,
                search_epochs=few,
                epochs=few,
                protocol=st.just('holdout'),
                **computed,
            ),
        ),
        'latency': (mc.latency, dict(net=nets, split=splits, n=few, seconds=st.just(0))),
        'simulate_errors': (
            functools.partial(mc.simulate_errors, np.random.default_rng(0)),
            dict(
                error_a=share,
                error_b=share,
                seeds=few,
                images=few,
                difficulty=share,
                shared=share,
                seed_sd=share,
            ),
        ),
        'wilson_interval': (mc.wilson_interval, dict(errors=few, n=few, level=level)),
        'error_interval': (mc.error_interval, dict(errors=few, n=few, level=level)),
        'mcnemar_exact': (mc.mcnemar_exact, dict(only_a=few, only_b=few)),
        'bonett_price_interval': (
            mc.bonett_price_interval,
            dict(only_a=few, only_b=few, n=st.integers(10, 20), level=level),
        ),
        'paired_t': (mc.paired_t, dict(a=vectors, b=vectors, level=level)),
        'crossed_difference': (
            mc.crossed_difference,
            dict(wrong_a=bools, wrong_b=bools, level=level),
        ),
        'prob_better': (mc.prob_better, dict(a=vectors, b=vectors, level=level)),
        'expected_best': (
            mc.expected_best,
            dict(scores=vectors, level=level, bounds=st.just((0, 1))),
        ),
        'calibration': (
            mc.calibration,
            dict(
                confidence=vectors,
                correct=st.lists(st.booleans(), min_size=1, max_size=6).map(np.array),
                bins=few,
            ),
        ),
        'agreement': (mc.agreement, dict(predictions=ints)),
        'rasterise': (
            pad.rasterise,
            dict(
                strokes=st.just([{'width': 0.08, 'points': [(0.1, 0.2), (0.3, 0.4)]}]),
                side=st.just(28),
            ),
        ),
        'to_mnist': (
            pad.to_mnist,
            dict(ink=arrays(st.lists(few, min_size=2, max_size=2)), box=st.just(20)),
        ),
        'DigitPad': (
            lambda strokes, classes, box: setattr(
                mc.DigitPad({'a': NET}, classes=classes, box=box), 'strokes', strokes
            ),
            dict(
                strokes=st.just([{'width': 0.08, 'points': [(0.1, 0.2)]}]),
                classes=nothing,
                box=st.just(20),
            ),
        ),
        'chime': (lambda seconds: system.format_seconds(seconds), dict(seconds=share)),
        'check_settings': (
            lambda **kw: check_settings(kw),
            dict(
                dataset=st.just('digits'),
                models=st.just(['mlp', 'cnn']),
                points=few,
                learning_rate=st.just([0.1, 0.2]),
                batch_size=st.just([1, 2]),
                protocol=st.just('2019'),
            ),
        ),
        'derive_seed': (system.derive_seed, dict(seed=few)),
    }


ALSO = {  # other words for an argument, in messages
    'Split': ['images', 'labels'],
    'Data': ['classes'],
    'from_arrays': ['images', 'labels', 'split'],
    'Split[]': ['images', 'index'],
    'relative_difference': ['number of parameters'],
    'match_params': ['net', 'number of parameters', 'width', 'h1', 'model'],
    'train': ['net', 'images'],
    'measure': ['net', 'images', 'mat1'],
    'smoke_test': ['net'],
    'initialise': ['model', 'h1', 'argument'],
    'size_table': ['net'],
    'load_model': ['weights'],
    'tune': ['net', 'batch', 'model'],
    'old search': ['net', 'batch', 'space', 'n_trials'],
    'old train': ['net', 'images'],
    'expected_best': ['bounds'],
    'predict': ['net', 'mat1'],
    'topk_errors': ['k'],
    'count_topk_errors': ['k'],
    'plot_accuracy': ['history'],
    'snapshot_accuracies': ['snapshots'],
    'compare': ['model', 'space'],
    'old compare': ['model', 'learning_rate', 'space', 'n_trials'],
    'Space': ['space'],
    'sobol_points': ['space'],
    'retrain': ['net', 'Training', 'model'],
    'old retrain': ['net', 'Training', 'model', 'recipe', 'learning_rate'],
    'get_model': ['model'],
    'DigitPad': ['digits'],
    'flops': ['net'],
    'load_data': ['digits', 'MNIST'],
}
# in a RuntimeError: the net does not fit the images, or the memory
ALLOWED = 'mat1 and mat2', 'allocate memory'
# by their docstrings, or the net's own answer
NAN_IS_SAID = {'crossed_difference', 'calibration', 'train', 'old train', 'measure', 'predict'}


def nan_in(x):
    "Does a result hold a NaN?"
    if isinstance(x, float):
        return math.isnan(x)
    if isinstance(x, dict):
        return any(map(nan_in, x.values()))
    if isinstance(x, (list, tuple)):
        return any(map(nan_in, x))
    if isinstance(x, np.ndarray):
        return x.dtype.kind == 'f' and bool(np.isnan(x).any())
    if hasattr(x, 'to_numpy'):
        return (
            nan_in(x.to_numpy(dtype=float, na_value=0))
            if all(d.kind == 'f' for d in x.dtypes)
            else False
        )
    return (
        nan_in(vars(x))
        if type(x).__module__.startswith('mnist_cmp')
        and hasattr(x, '__dict__')
        and not isinstance(x, torch.nn.Module)
        else False
    )


def judge(name, function, kwargs):
    """Call it; raises AssertionError unless it does as it should. Gives whether it took the
    arguments."""
    from mnist_cmp.comparison import Stopped

    words = [*kwargs, *ALSO.get(name, [])]
    try:
        result = function(**kwargs)
    except (ValueError, TypeError, OSError, TraitError, Stopped, RuntimeError) as e:
        message = str(e)
        if isinstance(e, RuntimeError) and not isinstance(e, Stopped):
            if any(text in message for text in ALLOWED):
                return False
            raise
        assert isinstance(e, Stopped) or any(word in message for word in words), (
            f'{type(e).__name__}, which names no argument: {message[:300]!r}'
        )
        assert len(message) < 2000, f'a message of {len(message)} characters: {message[:100]!r}…'
        return isinstance(e, Stopped)
    assert name in NAN_IS_SAID or not nan_in(result), f'a silent NaN in {result!r}'
    return True


def quietly(function, *args):
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        np.errstate(all='ignore'),
    ):
        warnings.simplefilter('ignore')
        try:
            return function(*args)
        finally:
            if plt := sys.modules.get('matplotlib.pyplot'):
                plt.close('all')


@contextlib.contextmanager
def in_time():
    """The block ends within `SECONDS`, or raises `TimeoutError`; one that does not listen ends
    the program with a traceback."""

    def late(*_):
        raise TimeoutError(f'not done after {SECONDS} s')

    signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    faulthandler.dump_traceback_later(3 * SECONDS, exit=True)
    try:
        yield
    finally:
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()


FUNCTIONS = sorted(CALLS(Path('.')))


@pytest.mark.parametrize('name', FUNCTIONS)
def test_odd_arguments_are_refused_by_name(name, seed, tmp_path, monkeypatch, pytestconfig):
    monkeypatch.chdir(tmp_path)
    mc.save_model(NET, tmp_path / 'w.safetensors')
    function, args = CALLS(tmp_path)[name]
    last = ['']
    judged = []
    examples = pytestconfig.getoption('examples')
    if name.startswith('old '):  # names that go with the next release
        examples = max(1, examples // 3)

    @with_seed(seed)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        phases=[Phase.generate],
    )
    @given(st.data())
    def call(data):
        odd = data.draw(st.sets(st.sampled_from(sorted(args)), max_size=2))
        kwargs = {key: data.draw(ODD if key in odd else good) for key, good in args.items()}
        shown = {k: checks.shown(v) for k, v in kwargs.items()}
        last[:] = [f'{name}({", ".join(f"{k}={v}" for k, v in shown.items())})']
        with in_time():
            judged.append(quietly(judge, name, function, kwargs))

    try:
        call()
    except BaseException as error:
        error.add_note(last[0][:1000])
        raise
    assert judged


# Damaged files

HOSTILE = [
    '<script>alert(1)</script>',
    '"><img src=x onerror=alert(1)>',
    '../../x',
    'os:abort',
    'a' * 10_000,
    '\0',
    'x',
    '',
    0,
    1,
    -1,
    2**31,
    2**63,
    10**20,
    10**4000,
    0.5,
    -0.5,
    1e308,
    math.nan,
    math.inf,
    True,
    None,
    [],
    {},
    [[]],
    {'x': 1},
    [0] * 1000,
]


def flip_bytes(rng, content):
    content = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        content[rng.randrange(len(content))] = rng.choice([0, 1, 255, rng.randrange(256)])
    return bytes(content)


def cut(rng, content):
    return content[: rng.randrange(len(content))]


def lengthen(rng, content):
    return content + rng.choice([b'x', bytes(100), content])


def shift(rng, content):
    i, j = sorted(rng.randrange(len(content)) for _ in range(2))
    return content[:i] + rng.choice(
        [content[j:], bytes(j - i) + content[j:], content[i:j] * 2 + content[j:]]
    )


def huge_number(rng, content):
    i = rng.randrange(max(1, len(content) - 8))
    number = rng.choice(
        [
            struct.pack('<q', -1),
            struct.pack('<q', 2**62),
            struct.pack('>i', 2**31 - 1),
            struct.pack('<i', 2**31 - 1),
        ]
    )
    return content[:i] + number + content[i + len(number) :]


def nodes(obj, items):
    "All dicts and lists in an object."
    if isinstance(obj, (dict, list)) and obj:
        items.append(obj)
        for part in obj.values() if isinstance(obj, dict) else obj:
            nodes(part, items)
    return items


def odd_json(rng, content):
    "A value of a JSON text replaced, left out, doubled or put deep into lists."
    obj = json.loads(content)
    for _ in range(rng.choice([1, 1, 1, 3])):
        node = rng.choice(nodes(obj, []) or [[0]])
        key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
        way = rng.randrange(6)
        if way == 0:
            del node[key]
        elif way == 1 and isinstance(node, list):
            node.append(node[key])
        elif way == 2 and isinstance(node, dict):
            node[rng.choice(['x', '<b>', '../../x', '-1', '9' * 5000])] = node[key]
        else:
            node[key] = rng.choice(HOSTILE)
        if not obj:
            break
    text = json.dumps(obj)
    if rng.random() < 0.02:
        text = '[' * 100_000 + text
    return text.replace(str(10**4000), '9' * 5000).encode()


def odd_sql(rng, content):
    "A value of a ledger replaced by SQL, which SQLite takes."
    with contextlib.closing(sqlite3.connect(':memory:')) as c:
        c.deserialize(content)
        tables = [row[0] for row in c.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        table = rng.choice(tables)
        column = rng.choice([row[1] for row in c.execute(f'PRAGMA table_info({table})')])
        value = rng.choice(
            [
                v
                for v in HOSTILE
                if isinstance(v, (str, float, int))
                and (isinstance(v, (str, float)) or abs(v) < 2**63)
            ]
            + [None, b'x', b'\xff']
        )
        with contextlib.suppress(sqlite3.IntegrityError):
            c.execute(
                f'UPDATE {table} SET "{column}" = ? WHERE rowid IN (SELECT rowid FROM {table} '  # noqa: S608
                'LIMIT 2)'
                if table != 'epoch'
                else f'UPDATE {table} SET "{column}" = ?',  # noqa: S608
                [value],
            )
        if rng.random() < 0.1:
            c.execute(
                rng.choice(
                    [
                        f'DROP TABLE {table}',
                        f'ALTER TABLE {table} ADD x',
                        f'DELETE FROM {table}',  # noqa: S608
                        'PRAGMA user_version=99',
                    ]
                )
            )
        c.commit()
        return c.serialize()


BYTES = [flip_bytes, flip_bytes, cut, lengthen, shift, huge_number]


def odd_header(rng, content):
    "The JSON at the head of a safetensors file, made odd."
    n = struct.unpack('<Q', content[:8])[0]
    head = odd_json(rng, content[8 : 8 + n])
    return struct.pack('<Q', len(head)) + head + content[8 + n :]


def whole_files(folder):
    """Real files to damage: a data set, a search, a comparison, weights, a checkpoint and a
    panel's run."""

    def images(n):
        return torch.arange(n * 784).reshape(n, 28, 28).mul(7).remainder(256).to(torch.uint8)

    small = mc.Data.from_arrays(
        images(24),
        [i % 3 for i in range(24)],
        images(20),
        [i % 3 for i in range(20)],
        valid_size=8,
        classes=list('abc'),
    )

    def thin(width):
        return lambda: torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(784, width), torch.nn.Linear(width, 3)
        )

    result = mc.compare(
        {'one': thin(2), 'two': thin(3)},
        small,
        {'batch_size': (4, 8)},
        n_trials=2,
        seeds=2,
        search_epochs=1,
        recipe=mc.Recipe(epochs=1),
        compute=mc.Compute(workers=1),
        store=folder / 'run',
    )
    result.save(folder / 'run')
    (raw := folder / 'data' / 'Toy' / 'raw').mkdir(parents=True)
    files = [
        sources.IdxFile('train-images', (6, 28, 28), ''),
        sources.IdxFile('train-labels', (6,), ''),
        sources.IdxFile('t10k-images', (4, 28, 28), ''),
        sources.IdxFile('t10k-labels', (4,), ''),
    ]
    for file in files:
        (raw / file.name).write_bytes(
            file.header + bytes(i % 3 for i in range(math.prod(file.shape)))
        )
    net = thin(2)()
    torch.save(net.state_dict(), folder / 'w.pth')
    torch.save(net.state_dict(), folder / 'old.pth', _use_new_zipfile_serialization=False)
    how = dict(
        recipe=mc.Recipe(learning_rate=0.1, batch_size=4, momentum=0.5, epochs=1),
        checkpoint=folder / 'kept',
        callbacks=mc.Callbacks(progress=False),
    )
    mc.train(thin(2)(), small.train, small.valid, **how)
    (folder / 'run' / 'panel.json').write_text(
        json.dumps(
            dict(
                state='stopped',
                error=None,
                how={},
                settings=dict(
                    dataset='digits',
                    models=['one', 'two'],
                    protocol='holdout',
                    learning_rate=[0.001, 0.1],
                    batch_size=[4, 8],
                    points=2,
                    search_epochs=1,
                    epochs=1,
                    seeds=2,
                    seed=0,
                ),
            )
        )
    )
    return small, thin, sources.Source('toy', 'Toy', (), tuple(files), ('a', 'b', 'c')), how


def read_report(folder):
    "All that is made of a report, but its pictures."
    from mnist_cmp.evidence.verdict import verdict
    from mnist_cmp.report import _page, summary

    result = mc.Comparison.load(folder)
    try:
        page = _page(result, {}) + summary(result) + verdict(result)
    except Exception as e:
        raise AssertionError(f'it was taken, but then {type(e).__name__}: {e}') from e
    assert '<script' not in page.split('</style>')[1].split('</html>')[0] and '<img' not in page, (
        'HTML of a stranger in the page'
    )


def READERS(folder):
    "Name → the file, how it is damaged, what reads it, and how often beside the others."
    small, thin, toy, how = whole_files(folder)
    search = folder / 'run' / 'search' / 'one'
    kept = folder / 'kept' / 'last.safetensors'
    identity = Ledger.read(search).identity

    def read_ledger():
        result = mc.SearchResult.load(search)
        result.to_frame(), result._repr_html_()
        with contextlib.suppress(LedgerError), Ledger(search, identity) as ledger:
            ledger.histories(), ledger.to_frame()

    def read_panel():
        from mnist_cmp.ui.run_view import run_sentence, run_table

        state = RunState.read(folder / 'run', running=False)
        try:
            page = run_table(state) + run_sentence(state, 2)
        except Exception as e:
            raise AssertionError(f'it was taken, but then {type(e).__name__}: {e}') from e
        assert '<script' not in page

    def load(name):
        return lambda: mc.load_model(thin(2)(), folder / name)

    def idx(name):
        return (
            folder / 'data' / 'Toy' / 'raw' / name,
            BYTES,
            lambda: data._load_source(toy, folder / 'data', 2, False),
            2,
        )

    return {
        'images': idx('train-images'),
        'labels': idx('t10k-labels'),
        'ledger': (search / 'study.sqlite', [*BYTES, odd_sql, odd_sql, odd_sql], read_ledger, 1),
        'report': (
            folder / 'run' / 'report.json',
            [*BYTES, odd_json, odd_json, odd_json],
            lambda: read_report(folder / 'run'),
            1,
        ),
        'safetensors': (
            folder / 'run' / 'weights' / 'one' / 'seed_0.safetensors',
            [*BYTES, odd_header],
            load('run/weights/one/seed_0.safetensors'),
            2,
        ),
        'pth': (folder / 'w.pth', BYTES, load('w.pth'), 1),
        'old pth': (folder / 'old.pth', BYTES, load('old.pth'), 1),
        'checkpoint': (
            kept,
            [*BYTES, odd_header],
            lambda: mc.train(thin(2)(), small.train, small.valid, **how),
            1,
        ),
        'panel': (folder / 'run' / 'panel.json', [*BYTES, odd_json, odd_json], read_panel, 1),
    }


def read_one(name, path, read):
    """Read a damaged file; raises AssertionError unless it is taken or refused by its name.
    Gives whether it was taken."""
    try:
        read()
    except (ValueError, OSError) as e:
        place = path.parent.name if name in ('ledger', 'checkpoint') else path.name
        assert place in str(e), (
            f'{type(e).__name__}, which does not name {path.name}: {str(e)[:300]!r}'
        )
        assert len(str(e)) < 3000, f'a message of {len(str(e))} characters'
        return False
    return True


NAMES = 'images labels ledger report safetensors pth checkpoint panel'.split() + ['old pth']


@pytest.fixture(scope='module')
def readers(tmp_path_factory):
    "As `READERS` gives them, of files that are made once."
    return quietly(READERS, tmp_path_factory.mktemp('readers'))


@pytest.mark.xdist_group('readers')  # the files are made once
@pytest.mark.parametrize('name', NAMES)
def test_damaged_files_are_taken_or_refused_by_name(name, readers, seed, pytestconfig):
    path, ways, read, share = readers[name]
    shares = sum(share for *_, share in readers.values())
    content = path.read_bytes()
    assert quietly(read_one, name, path, read), 'a whole file was refused'
    content = path.read_bytes() if name == 'ledger' else content
    for i in range(pytestconfig.getoption('mutations') * share // shares):
        rng = random.Random(f'{seed} {name} {i}')
        way = rng.choice(ways)
        try:
            path.write_bytes(way(rng, content))
            with in_time():
                quietly(read_one, name, path, read)
        except BaseException as error:
            error.add_note(f'{name}, {way.__name__} {i}')
            raise
        finally:
            path.write_bytes(content)


@pytest.mark.xdist_group('readers')
def test_every_reader_is_tried(readers):
    assert sorted(readers) == sorted(NAMES)
