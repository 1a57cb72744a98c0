"What several tests share: small data, small models, and runs of them."

import os
import warnings

os.environ.update(OMP_NUM_THREADS='1', MNIST_CMP_QUIET='1', MPLBACKEND='agg')

import pytest
import torch
from check import hear_signals
from tiny import grouped, known_costs, noise, one, two

import mnist_cmp as mc
from mnist_cmp import comparison

hear_signals()


@pytest.fixture(autouse=True)
def one_thread():
    "Small nets are quickest, and the same everywhere, on one thread."
    torch.set_num_threads(1)


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
