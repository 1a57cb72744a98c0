"""What a study will do with a model is tried before the first training; what can be served is
served."""

import contextlib
import threading
from functools import partial

import pytest
import torch
from tiny import noise, one
from torch import nn
from torch.nn.utils import parametrizations, prune

import mnist_cmp as mc
from mnist_cmp import comparison

AROUND = {
    'plain': contextlib.nullcontext,
    'no_grad': torch.no_grad,
    'inference_mode': torch.inference_mode,
}


class Wide(nn.Module):
    "One layer, and what a test adds to it."

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(784, 3)

    def forward(self, x):
        return self.fc(x.flatten(1))


class Squeezed(Wide):
    def forward(self, x):
        return super().forward(x).squeeze()


class InTraining(Wide):
    def forward(self, x):
        return super().forward(x) if not self.training else x.nonsense


class Forgetful(Wide):
    "Answers by something that no file of weights holds."

    def __init__(self):
        super().__init__()
        self.mean = torch.rand(1)

    def forward(self, x):
        return super().forward(x - self.mean)


class Hidden(Wide):
    def get_extra_state(self):
        return {'seen': 3}

    def set_extra_state(self, state):
        pass


class Sparse(Wide):
    def __init__(self):
        super().__init__()
        self.register_buffer('few', torch.eye(3).to_sparse())


class Changing(Wide):
    "Another size at each call of its maker."

    def __init__(self):
        super().__init__()
        self.more = nn.Parameter(torch.zeros(torch.randint(2, 10**6, ()).item()))


class Infinite(Wide):
    def forward(self, x):
        return super().forward(x) + float('nan')


class Whole(Wide):
    def forward(self, x):
        return super().forward(x).long()


class Detached(Wide):
    def forward(self, x):
        return super().forward(x).detach()


class Described(Wide):
    def describe(self):
        return self.nonsense


def unmade():
    raise KeyError('weights.pth')


def late():
    "Lazy layers of which the forward makes no use."
    net = Wide()
    net.unused = nn.LazyLinear(3)
    return net


REFUSED = {
    Squeezed: r'odd: an answer to a single image: The net gives torch.float32 of shape \(3,\)',
    InTraining: "odd: a training step: AttributeError: 'Tensor' object has no attribute",
    Forgetful: 'odd: its weights, kept and put into a net made anew: .* register_buffer',
    Hidden: 'odd: its weights, kept and put into a net made anew: ',
    Sparse: 'odd: its weights, kept and put into a net made anew: ',
    Changing: 'odd: its weights, kept and put into a net made anew: ',
    Infinite: 'odd: The net gives logits that are not finite',
    Whole: 'odd: The net gives torch.int64',
    Detached: "odd: The net's logits do not depend on its parameters",
    Described: 'odd: its size and its operations: AttributeError',
    unmade: "odd: the net cannot be made. KeyError: 'weights.pth'",
    late: 'odd: the net cannot be made. The net has lazy layers .* makes no use',
}


@pytest.mark.filterwarnings('ignore:Lazy modules')
@pytest.mark.parametrize('make', REFUSED, ids=lambda make: make.__name__)
def test_a_model_that_would_fail_is_refused_by_name_first(data, tmp_path, make):
    said = REFUSED[make]
    begun = []

    def note(*what):
        begun.append(what)

    splits = data.train, data.valid
    for study in (
        partial(
            mc.search,
            make,
            *splits,
            mc.Space(batch_size=(8, 16)),
            n=1,
            epochs=1,
            workers=1,
            on_epoch=note,
            store=tmp_path / 'search',
        ),
        partial(
            mc.retrain,
            make,
            *splits,
            mc.Config(0.1, 8),
            seeds=1,
            epochs=1,
            workers=1,
            on_epoch=note,
            store=tmp_path / 'weights',
        ),
    ):
        with pytest.raises(ValueError, match=said):
            study(name='odd')
    with pytest.raises(ValueError, match=said):
        mc.compare(
            {'one': one, 'odd': make},
            data,
            {'batch_size': (8, 16)},
            compute=mc.Compute(workers=1),
            callbacks=mc.Callbacks(on_epoch=note),
            store=tmp_path / 'all',
        )
    assert not begun
    assert not list(tmp_path.rglob('study.sqlite'))


def plain(*layers):
    return nn.Sequential(nn.Flatten(), *layers)


def scripted():
    return torch.jit.script(plain(nn.Linear(784, 4), nn.ReLU(), nn.Linear(4, 3)))


def traced():
    return torch.jit.trace(plain(nn.Linear(784, 4), nn.Linear(4, 3)), torch.zeros(2, 1, 28, 28))


def lazy():
    return plain(nn.LazyLinear(4), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(3))


def old_norm():
    return plain(nn.utils.weight_norm(nn.Linear(784, 4)), nn.Linear(4, 3))


def pruned():
    return plain(prune.random_unstructured(nn.Linear(784, 4), 'weight', 0.5), nn.Linear(4, 3))


def spectral():
    return plain(parametrizations.spectral_norm(nn.Linear(784, 4)), nn.Linear(4, 3))


def tied():
    net = plain(nn.Linear(784, 4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 3))
    net[4].weight = net[2].weight
    return net


def transposed():
    "A weight that is not contiguous."
    net = Wide()
    net.fc.weight = nn.Parameter(torch.rand(784, 3).T / 28)
    return net


class Locked(Wide):
    "It can't be copied, and neither it nor what makes it can be sent anywhere."

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


SERVED = scripted, traced, lazy, old_norm, pruned, spectral, tied, transposed, Locked


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('make', SERVED, ids=lambda make: make.__name__)
def test_an_unusual_model_goes_all_the_way(compare_in, data, tmp_path, make):
    found = compare_in(tmp_path / 'run', models={'one': one, 'odd': make})
    found.save(tmp_path / 'saved')
    again = mc.Comparison.load(tmp_path / 'saved')
    for run in again['odd'].runs:
        net = again.load_net('odd', tmp_path / 'saved', run.number, make=make)
        assert comparison.measure_test(net, data.test) == run.test
    again = compare_in(tmp_path / 'run', models={'one': one, 'odd': make})  # read from its folder
    assert again['odd'].wrong == found['odd'].wrong


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('make', [lazy, one, tied], ids=lambda make: make.__name__)
def test_gradients_that_the_caller_switched_off_change_nothing(compare_in, data, tmp_path, make):
    def losses(around):
        with AROUND[around]():
            found = compare_in(tmp_path / around, models={'one': one, 'odd': make})
            net = mc.initialise(make, seed=1)
            alone = mc.train(
                net,
                data.train,
                recipe=mc.Recipe(learning_rate=0.1, batch_size=8, epochs=1),
                callbacks=mc.Callbacks(progress=False),
            )
        return [
            [r.history.last.train_loss for r in c.runs] for c in found.models
        ], alone.last.train_loss

    plain = losses('plain')
    assert losses('no_grad') == plain
    assert losses('inference_mode') == plain


def test_a_population_whose_caller_switched_gradients_off(data):
    nets = [mc.initialise(one, seed=seed) for seed in range(2)]
    with torch.inference_mode():
        found = mc.train_population(
            nets,
            data.train,
            recipes=[mc.Recipe(epochs=1).at(p) for p in [mc.Config(0.1, 8)] * 2],
            seeds=[0, 1],
            callbacks=mc.Callbacks(progress=False),
        )
    assert [len(history.epochs) for history in found] == [1, 1]


def test_a_net_that_was_made_in_inference_mode(data):
    with torch.inference_mode():
        net = one()
    with pytest.raises(ValueError, match='made inside torch.inference_mode'):
        mc.train(
            net,
            data.train,
            recipe=mc.Recipe(learning_rate=0.1, batch_size=8, epochs=1),
            callbacks=mc.Callbacks(progress=False),
        )


@pytest.mark.filterwarnings('ignore:Lazy modules')
def test_a_lazy_net_is_trained_as_it_is(data):
    net = plain(nn.LazyLinear(3))
    history = mc.train(
        net,
        data.train,
        recipe=mc.Recipe(learning_rate=0.1, batch_size=8, epochs=1),
        callbacks=mc.Callbacks(progress=False),
    )
    assert history.state == 'finished'
    assert net[1].weight.shape == (3, 784)
    with pytest.raises(ValueError, match="The shape of '1.weight' is not known yet"):
        mc.number_of_params(plain(nn.LazyLinear(3)))


def unsendable():
    "A maker that can't be pickled."
    lock = threading.Lock()

    def make(lock=lock):
        return one()

    return make


def test_a_maker_that_cannot_be_sent_to_another_process(compare_in, data, tmp_path):
    models = {'one': one, 'odd': unsendable()}
    begun = []
    with pytest.raises(ValueError, match="odd can't be sent to another process .* workers=1"):
        compare_in(tmp_path, models=models, workers=2, on_epoch=begun.append)
    assert not begun
    assert compare_in(tmp_path, models=models, workers=1).names == ['one', 'odd']
    assert compare_in(tmp_path, models=models, workers=None).names == ['one', 'odd']


def test_a_cost_that_cannot_be_measured_costs_no_more_than_that(data, tmp_path, capfd, monkeypatch):
    "The process that measures may fail where those that train did not."
    measure_costs = comparison.measure_costs

    def failing(models, *args, **kwargs):
        if 'two' in models:
            raise RuntimeError('The cost of two could not be measured: it has gone.')
        return measure_costs(models, *args, **kwargs)

    monkeypatch.setattr(comparison, 'measure_costs', failing)
    found = mc.compare(
        {'one': one, 'two': partial(mc.MLP, 3, 3, classes=3)},
        data,
        {'batch_size': (8, 16)},
        n_trials=1,
        seeds=2,
        search_epochs=1,
        recipe=mc.Recipe(epochs=1),
        compute=mc.Compute(workers=1),
        store=tmp_path,
    )
    assert 'The cost of two could not be measured' in capfd.readouterr().err
    assert found['one'].cost is not None
    assert found['two'].cost is None
    mc.write_report(found, tmp_path)
    assert mc.Comparison.load(tmp_path)['two'].cost is None


@pytest.mark.filterwarnings('ignore')
def test_one_test_image():
    data = noise()
    few = mc.Data.from_arrays(
        data.train.x,
        data.train.y,
        data.test.x[:1],
        data.test.y[:1],
        data.valid.x,
        data.valid.y,
        classes=list('abc'),
    )
    begun = []
    with pytest.raises(ValueError, match='number of test images is 1, but must be .* 2'):
        mc.compare(
            {'one': one, 'odd': Wide},
            few,
            {'batch_size': (8, 16)},
            n_trials=1,
            seeds=2,
            search_epochs=1,
            recipe=mc.Recipe(epochs=1),
            compute=mc.Compute(workers=1),
            callbacks=mc.Callbacks(on_epoch=begun.append),
        )
    assert not begun


@pytest.mark.filterwarnings('ignore')
def test_two_test_images_and_two_classes(free_costs, tmp_path):
    data = noise()
    y = data.train.y % 2
    few = mc.Data.from_arrays(
        data.train.x,
        y,
        data.test.x[:2],
        torch.tensor([0, 1]),
        data.valid.x,
        data.valid.y % 2,
        classes=['a', 'b'],
    )

    def pair():
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 2))

    found = mc.compare(
        {'one': pair, 'two': partial(mc.MLP, 2, 2, classes=2)},
        few,
        {'batch_size': (8, 16)},
        n_trials=1,
        seeds=2,
        search_epochs=1,
        recipe=mc.Recipe(epochs=1),
        compute=mc.Compute(workers=1),
    )
    mc.write_report(found, tmp_path)
    assert mc.verdict(found)


def test_a_maker_that_gives_one_net_again_and_again(data):
    "Its trainings would go on from one another."
    net = one()
    for make in (lambda: net), (lambda: torch.nn.Sequential(*net)):
        with pytest.raises(ValueError, match='shared gives nets that share weights'):
            mc.tune(
                {'shared': make},
                data.train,
                data.valid,
                mc.Space(batch_size=(8, 16)),
                n_trials=1,
                recipe=mc.Recipe(epochs=1),
                compute=mc.Compute(workers=1),
            )
