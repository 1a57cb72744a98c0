"""Which nets are taken for chains, for what can be recorded, and for neither: what is certain,
and nothing else."""

import math
import random
import time
import types
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

import mnist_cmp as mc
from mnist_cmp.engines.chains import recognise, why_no_chain, why_not_fixed
from mnist_cmp.engines.graphs import Again, why_no_graph
from mnist_cmp.engines.steps import choose_engine
from mnist_cmp.study.population import why_no_population


class Two(nn.Module):
    "Two linear layers; `forward` is what the cases differ in."

    def __init__(self, act=None):
        super().__init__()
        self.fc1 = nn.Linear(784, 16)
        self.fc2 = nn.Linear(16, 3)
        self.act = act
        self.features = 784

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


def two(forward, act=None, **more):
    "A maker of a net of the class `Two` with this `forward`, and these attributes of the class."
    kind = type('Net', (Two,), {'forward': forward, '__module__': __name__} | more)
    return partial(kind, act)


def f_relu(self, x):
    x = x.view(-1, 28 * 28)
    x = F.relu(self.fc1(x))
    return self.fc2(x)


def t_relu(self, x):
    return self.fc2(torch.relu(self.fc1(torch.flatten(x, 1))))


def m_relu(self, x):
    return self.fc2(self.fc1(x.reshape(x.shape[0], -1)).relu())


def in_place(self, x):
    x = self.fc1(x.view(x.size(0), -1))
    F.relu(x, inplace=True)
    return self.fc2(x)


def in_place_passed_on(self, x):
    x = F.relu(self.fc1(x.view(x.size(0), -1)), inplace=True)
    return self.fc2(x)


def sized(self, x):
    return self.fc2(F.relu(self.fc1(x.view(-1, self.features))))


def in_features(self, x):
    return self.fc2(F.relu(self.fc1(x.view(-1, self.fc1.in_features))))


def unpacked(self, x):
    n, c, h, w = x.shape
    return self.fc2(F.relu(self.fc1(x.view(n, c * h * w))))


def attribute(self, x):
    return self.fc2(self.act(self.fc1(x.flatten(1))))


def helper(self, x):
    return F.relu(self.fc1(x.flatten(1)))


def helped(self, x):
    return self.fc2(self.helper(x))


def in_training(self, x):
    x = F.relu(self.fc1(x.flatten(1)))
    return self.fc2(F.dropout(x, 0.5) if self.training else x)


def passing_training(self, x):
    return self.fc2(F.dropout(F.relu(self.fc1(x.flatten(1))), 0.5, self.training))


def functional_dropout(self, x):
    return self.fc2(F.dropout(F.relu(self.fc1(x.flatten(1)))))


def by_python(self, x):
    x = x.flatten(1)
    return self.fc2(F.relu(self.fc1(x))) if random.random() < 2 else self.fc2(self.fc1(x))


def by_numpy(self, x):
    return self.fc2(F.relu(self.fc1(x.flatten(1) * np.random.rand())))


def by_torch(self, x):
    return self.fc2(F.relu(self.fc1(x.flatten(1) * torch.rand(()))))


def by_clock(self, x):
    return self.fc2(F.relu(self.fc1(x.flatten(1)))) if time.time() > 0 else x


def by_count(self, x):
    self.calls += 1
    return self.fc2(F.relu(self.fc1(x.flatten(1))))


CALLS = [0]


def by_global(self, x):
    CALLS[0] += 1
    return self.fc2(F.relu(self.fc1(x.flatten(1))))


SLOPE = 0


def by_global_number(self, x):
    return (
        self.fc2(F.relu(self.fc1(x.flatten(1)))) if SLOPE == 0 else self.fc2(self.fc1(x.flatten(1)))
    )


def by_flag(self, x):
    x = self.fc1(x.flatten(1))
    return self.fc2(F.relu(x) if self.features else x)


def by_values(self, x):
    x = self.fc1(x.flatten(1))
    return self.fc2(F.relu(x)) if x.mean() > 0 else self.fc2(x)


def by_batch(self, x):
    x = self.fc1(x.flatten(1))
    return self.fc2(F.relu(x)) if x.shape[0] > 1 else self.fc2(x)


def by_batch_equal(self, x):
    x = self.fc1(x.flatten(1))
    return self.fc2(x) if x.size(0) == 1 else self.fc2(F.relu(x))


def by_batch_truth(self, x):
    x = self.fc1(x.flatten(1))
    return self.fc2(F.relu(x)) if x.size(0) else self.fc2(x)


def residual(self, x):
    x = F.relu(self.fc1(x.flatten(1)))
    return self.fc2(x + x)


def scaled(self, x):
    return self.fc2(F.relu(self.fc1(x.flatten(1)))) * 2


def catching(self, x):
    try:
        return self.fc2(F.relu(self.fc1(x.flatten(1))))
    except RuntimeError:
        return x


def in_context(self, x):
    with torch.no_grad():
        x = self.fc1(x.flatten(1))
    return self.fc2(F.relu(x))


def by_default(self, x, act=F.relu):
    return self.fc2(act(self.fc1(x.flatten(1))))


def switching(self, x):
    self.train(False)
    return self.fc2(F.relu(self.fc1(x.flatten(1))))


def detached(self, x):
    return self.fc2(F.relu(self.fc1(x.flatten(1))).detach())


def softmaxed(self, x):
    return self.fc2(F.relu(self.fc1(x.flatten(1)))).log_softmax(1)


def local_function(self, x):
    def act(x):
        return F.relu(x)

    return self.fc2(act(self.fc1(x.flatten(1))))


def importing(self, x):
    import torch.nn.functional as G

    return self.fc2(G.relu(self.fc1(x.flatten(1))))


def flip(x):
    return x.flip(3) if random.random() < 0.5 else x


class Doubling:
    def __call__(self, x):
        return 2 * x


class Grudging(nn.Module):
    "A module with a call of its own."

    def __call__(self, x):
        return super().__call__(x)

    def forward(self, x):
        return x


class Louder(nn.ReLU):
    def forward(self, x):
        return super().forward(x) * 1.5


class Lost(nn.Module):
    "Gives what it is asked for, and it may be anything."

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(784, 3)

    def __getattr__(self, name):
        return super().__getattr__('fc' if name == 'layer' else name)

    def forward(self, x):
        return self.layer(x.flatten(1))


class Turning(nn.Module):
    "Does something when it is put into training mode."

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(784, 3)

    def train(self, mode=True):
        return super().train(mode)

    def forward(self, x):
        return self.fc(x.flatten(1))


class Looped(nn.Module):
    def __init__(self, act=F.relu):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(784, 16), nn.Linear(16, 16), nn.Linear(16, 3)])
        self.act = act

    def forward(self, x):
        x = x.flatten(1)
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i < len(self.layers) - 1:
                x = F.relu(x)
        return x


class Nested(nn.Module):
    "The usual convolutional net: a block of its own, and functions."

    class Block(nn.Module):
        def __init__(self, i, o):
            super().__init__()
            self.conv = nn.Conv2d(i, o, 3, padding=1)
            self.pool = nn.MaxPool2d(2)

        def forward(self, x):
            return self.pool(F.relu(self.conv(x)))

    def __init__(self):
        super().__init__()
        self.one = self.Block(1, 4)
        self.two = self.Block(4, 8)
        self.fc = nn.Linear(8 * 49, 3)

    def forward(self, x):
        x = self.two(self.one(x))
        x = x.view(x.size(0), -1)
        return self.fc(x)


class OwnSequential(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 3))


def sequential(*layers):
    return partial(nn.Sequential, nn.Flatten(), *layers)


def changed(make, change):
    "A maker that changes its net."

    def made():
        net = make()
        change(net)
        return net

    return made


def with_closure():
    calls = []

    def forward(self, x):
        calls.append(1)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))

    return two(forward)()


def put(name, value):
    def change(net):
        setattr(net, name, value)

    return change


def hook_forward(net):
    net.fc1.register_forward_hook(lambda *_: None)


def hook_backward(net):
    net.fc1.register_full_backward_hook(lambda *_: None)


def hook_weight(net):
    net.fc1.weight.register_hook(lambda g: g)


def normalise_weight(net):
    nn.utils.parametrizations.weight_norm(net.fc1)


def freeze(net):
    net.fc1.requires_grad_(False)


def tie(net):
    net.fc3 = net.fc2


def add_buffer(net):
    net.register_buffer('mask', torch.ones(784))


CHAINS = {
    'MLP': partial(mc.MLP, 16, 16),
    'CNN': partial(mc.CNNClassifier, 16),
    'deep': partial(mc.DeepMLP, 16, 4),
    'Sequential': sequential(nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 3)),
    'Sequential with Identity': sequential(
        nn.Identity(), nn.Linear(784, 16), nn.ReLU(inplace=True), nn.Linear(16, 3)
    ),
    'own Sequential': OwnSequential,
    'logistic regression': sequential(nn.Linear(784, 3, bias=False)),
    'F.relu': two(f_relu),
    'torch.relu': two(t_relu),
    'x.relu': two(m_relu),
    'in place': two(in_place_passed_on),
    'view by an attribute': two(sized),
    'view by in_features': two(in_features),
    'unpacked shape': two(unpacked),
    'act=F.relu': two(attribute, F.relu),
    'act=torch.relu': two(attribute, torch.relu),
    'act=nn.ReLU()': two(attribute, nn.ReLU()),
    'act=nn.Identity()': two(attribute, nn.Identity()),
    'a helper': two(helped, helper=helper),
    'a loop': Looped,
    'blocks': Nested,
    'evaluation mode': changed(two(f_relu), nn.Module.eval),
    'an unused lambda': changed(two(f_relu), put('note', lambda: 0)),
    'convolutions': lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
    ),
}

DECIDES = {  # in Python, and perhaps differently next time
    'a function': two(attribute, flip),
    'a lambda': two(attribute, lambda x: F.relu(x) * random.random()),
    'an object': two(attribute, Doubling()),
    'a partial': two(attribute, partial(F.relu, inplace=random.random() < 2)),
    'Python': two(by_python),
    'NumPy': two(by_numpy),
    'the clock': two(by_clock),
    'a count': two(by_count, calls=0),
    'a global list': two(by_global),
    'a global number': two(by_global_number),
    'a closure': with_closure,
    'an import': two(importing),
    'changes its mode': two(switching),
    'own call': two(attribute, Grudging()),
    'own getattr': Lost,
    'caught errors': two(catching),
    'hooks': changed(Two, hook_forward),
    'hooks backward': changed(Two, hook_backward),
    'patched': changed(Two, put('forward', lambda x: x.flatten(1)[:, :3])),
}

OTHERS = {  # no chains, but the same in Python each time
    'dropout': sequential(nn.Linear(784, 16), nn.Dropout(), nn.Linear(16, 3)),
    'tanh': two(attribute, torch.tanh),
    'nn.Tanh': two(attribute, nn.Tanh()),
    'batch normalisation': sequential(nn.Linear(784, 16), nn.BatchNorm1d(16), nn.Linear(16, 3)),
    'in training': two(in_training),
    'passing training': two(passing_training),
    'functional dropout': two(functional_dropout),
    'torch': two(by_torch),
    'a flag': two(by_flag),
    'values': two(by_values),
    'the batch': two(by_batch),
    'the batch, equal': two(by_batch_equal),
    'the batch, truth': two(by_batch_truth),
    'residual': two(residual),
    'scaled': two(scaled),
    'a context': two(in_context),
    'detached': two(detached),
    'softmax': two(softmaxed),
    'a local function': two(local_function),
    'a default': two(by_default),
    'in place, not passed on': two(in_place),
    'own ReLU': two(attribute, Louder()),
    'frozen': changed(Two, freeze),
    'hook on a weight': changed(Two, hook_weight),
    'weight_norm': changed(Two, normalise_weight),
    'tied': changed(Two, tie),
    'a buffer': changed(Two, add_buffer),
    'own train': Turning,
    'double': changed(Two, nn.Module.double),
    'a ReLU at the end': sequential(nn.Linear(784, 3), nn.ReLU()),
}


@pytest.mark.parametrize('name', CHAINS)
def test_chains_are_recognised(name):
    net = CHAINS[name]()
    assert why_no_chain(net) == ''
    assert recognise(net)
    assert why_not_fixed(net) == ''


@pytest.mark.parametrize('name', DECIDES)
def test_what_decides_in_python_is_left_to_the_general_path(name):
    net = DECIDES[name]()
    assert recognise(net) is None
    assert why_no_chain(net)
    assert why_no_graph(net, Again())
    assert why_no_population(net)
    assert choose_engine(net) == 'autograd'


@pytest.mark.parametrize('name', OTHERS)
def test_other_nets_are_no_chains(name):
    net = OTHERS[name]()
    assert recognise(net) is None
    assert why_no_chain(net)
    assert choose_engine(net) == 'autograd'


def test_what_is_the_same_in_python_each_time_can_be_recorded():
    doubts = {name: why_not_fixed(make()) for name, make in OTHERS.items()}
    assert {name: why for name, why in doubts.items() if why} == {
        'a default': 'by_default has a default that may change, the function relu'
    }


@pytest.mark.parametrize('engine', ['onednn', 'compiled'])
@pytest.mark.parametrize('name', ['a function', 'a count', 'dropout', 'values', 'hooks'])
def test_who_insists_is_told_why_not(name, engine, monkeypatch):
    from mnist_cmp.engines import steps

    monkeypatch.setattr(steps, 'build_kernel', lambda should_stop: None)
    net = (DECIDES | OTHERS)[name]()
    with pytest.raises(ValueError) as error:
        choose_engine(net, engine)
    assert why_no_chain(net) in str(error.value)
    assert "Take engine='auto'" in str(error.value)


def test_reasons_name_the_call_or_the_layer():
    assert why_no_chain(DECIDES['a function']()) == 'attribute uses act, the function flip'
    assert why_no_chain(DECIDES['an object']()) == 'attribute uses act, a Doubling'
    assert (
        why_no_chain(OTHERS['dropout']())
        == 'its part 2 is a Dropout, which has no place in a chain'
    )
    assert why_no_chain(OTHERS['in training']()).startswith('in_training uses ')
    assert (
        why_no_chain(DECIDES['a count']())
        == 'by_count sets or imports calls, and may do so differently each time'
    )


class TestNothingIsCalledBefore:
    "A net that counts its calls, or draws, is left as it was found."

    def test_counts(self):
        calls = []
        net = two(attribute, lambda x: calls.append(1) or F.relu(x))()
        for _ in range(3):
            recognise(net), why_no_graph(net, Again()), why_no_population(net), choose_engine(net)
        assert not calls

    def test_generators_modes_and_buffers(self):
        for make in (*CHAINS.values(), *DECIDES.values(), *OTHERS.values()):
            net = make()
            net.fc1.eval() if hasattr(net, 'fc1') else None
            modes = [part.training for part in net.modules()]
            values = [t.clone() for t in net.state_dict().values()]
            before = (
                random.getstate(),
                np.random.get_state()[1].tolist(),
                torch.get_rng_state().tolist(),
            )
            recognise(net)
            why_not_fixed(net)
            assert (
                random.getstate(),
                np.random.get_state()[1].tolist(),
                torch.get_rng_state().tolist(),
            ) == before
            assert [part.training for part in net.modules()] == modes
            assert all(map(torch.equal, net.state_dict().values(), values))


def test_one_net_takes_the_general_path_each_time(data):
    "With a trace, which function was called at the moment decided."

    class Net(Two):
        def forward(self, x):
            return self.fc2(F.relu(self.fc1(self.act(x).flatten(1))))

    random.seed(0)
    engines = {
        mc.train(
            Net(flip),
            data.train,
            recipe=mc.Recipe(learning_rate=0.1, batch_size=20, epochs=1),
            callbacks=mc.Callbacks(progress=False),
        ).engine
        for _ in range(10)
    }
    assert engines == {'autograd'}
    found = mc.tune(
        {'net': lambda: Net(flip)},
        data.train,
        data.valid,
        mc.Space(batch_size=(8, 16)),
        n_trials=4,
        recipe=mc.Recipe(epochs=1),
        compute=mc.Compute(workers=1),
    )
    assert [t.history.state for t in found.trials] == ['finished'] * 4


def test_dropout_by_a_lambda_is_the_same_from_either_mode(data):
    class Drop(Two):
        def __init__(self):
            super().__init__()
            self.drop = lambda x: F.dropout(x, 0.5) if self.training else x

        def forward(self, x):
            return self.fc2(self.drop(F.relu(self.fc1(x.flatten(1)))))

    losses = set()
    for mode in True, False:
        net = mc.initialise(Drop).train(mode)
        history = mc.train(
            net,
            data.train,
            recipe=mc.Recipe(learning_rate=0.1, batch_size=8, epochs=2),
            callbacks=mc.Callbacks(progress=False),
        )
        losses.add((history.engine, history.last.train_loss))
    assert len(losses) == 1


def test_an_activation_that_changes_is_the_same_by_all_engines(data):
    class Warm(Two):
        def __init__(self):
            super().__init__()
            calls = [0]

            def act(x):
                calls[0] += 1
                return F.relu(x) if calls[0] < 5 else torch.tanh(x)

            self.act = act

        def forward(self, x):
            return self.fc2(self.act(self.fc1(x.flatten(1))))

    losses = [
        mc.train(
            mc.initialise(Warm),
            data.train,
            recipe=mc.Recipe(learning_rate=0.1, batch_size=10, epochs=3),
            compute=mc.Compute(engine=engine),
            callbacks=mc.Callbacks(progress=False),
        ).last.train_loss
        for engine in ('auto', 'autograd')
    ]
    assert losses[0] == losses[1]


def test_layers_of_pytorch_that_somebody_changed(monkeypatch):
    net = Two()
    assert recognise(net)
    monkeypatch.setattr(F, 'relu', lambda x, inplace=False: x)
    assert recognise(net) is None
    monkeypatch.undo()
    assert recognise(net)
    monkeypatch.setattr(nn.Linear, 'forward', lambda self, x: 2 * x)
    assert recognise(net) is None


def test_code_without_source():
    "A class that was typed into a prompt has no file; its bytecode is read."
    names = {'nn': nn, 'F': F}
    exec(  # noqa: S102
        """
class Typed(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(784, 3)
    def forward(self, x):
        return self.fc(x.flatten(1))
""",
        names,
    )
    assert recognise(names['Typed']())


def test_a_method_that_an_attribute_hides():
    net = CHAINS['a helper']()
    assert recognise(net)
    net.helper = types.MethodType(lambda self, x: F.relu(self.fc1(x.flatten(1))) * math.pi, net)
    assert recognise(net) is None
