"Makers of nets: what they are told by the data, and what of them a search may choose."

import functools
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest
import torch
import torch.nn as nn

import mnist_cmp as mc
from mnist_cmp.engines.evaluation import rehearse, weights_digest
from mnist_cmp.models import Shape, begin, distinct_names, fitted, initialise, own_init, told
from mnist_cmp.params import match_params, number_of_params
from mnist_cmp.study.provenance import code_note
from mnist_cmp.study.workers import why_not_sent

VECTORS = Shape((30,), 2)
COLOUR = Shape((3, 32, 32), 43)


def conv(inputs, classes, width=16, dropout=0.0):
    return nn.Sequential(
        nn.Conv2d(inputs[0], width, 3),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(4 * width, classes),
    )


def plain():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


class Callable:
    "An object that is called."

    def __call__(self, *, inputs, classes, width=4):
        return mc.MLP(width, width, classes, inputs)


class ByKeywords(nn.Module):
    "Takes its parameters in a dict."

    def __init__(self, **settings):
        super().__init__()
        self.settings = settings
        self.layer = nn.Linear(784, 10)


class Own(nn.Module):
    "A net that is told what it takes."

    def __init__(self, inputs, outputs=7):
        super().__init__()
        self.layer = nn.Linear(inputs[0], outputs)


@functools.wraps(conv)
def wrapped(*args, **kwargs):
    return conv(*args, **kwargs)


@functools.wraps(conv)
def wrapped_without():
    return plain()


def alone(inputs, /):
    return plain()


@pytest.mark.parametrize(
    'make, given',
    [
        (conv, {'inputs': (3, 32, 32), 'classes': 43}),
        (functools.partial(conv, classes=9), {'inputs': (3, 32, 32)}),
        (functools.partial(functools.partial(conv, width=9), (3, 8, 8)), {'classes': 43}),
        (Callable(), {'inputs': (3, 32, 32), 'classes': 43}),
        (Own, {'inputs': (3, 32, 32), 'outputs': 43}),
        (wrapped, {'inputs': (3, 32, 32), 'classes': 43}),
        (wrapped_without, {}),
        (plain, {}),
        (lambda: plain(), {}),
        (ByKeywords, {}),
        (functools.partial(nn.Linear, 784, 10), {}),
        (nn.Identity, {}),
        (dict, {}),
    ],
)
def test_what_a_maker_is_told(make, given):
    assert told(make, COLOUR) == given
    assert told(make, None) == {}


def test_makers_without_arguments_are_left_alone():
    for make in plain, ByKeywords, nn.Identity, functools.partial(nn.Linear, 784, 10):
        assert fitted(make, COLOUR) is make


def test_positional_only_is_not_told_by_name():
    with pytest.raises(TypeError, match='inputs'):
        fitted(alone, COLOUR)()


@pytest.mark.parametrize(
    'make, names',
    [
        (conv, ['width', 'dropout']),
        (functools.partial(conv, dropout=0.5), ['width']),
        (mc.CNNClassifier, ['size']),
        (Callable(), ['width']),
        (ByKeywords, None),
        (plain, []),
        (dict, []),
    ],
)
def test_what_a_search_may_choose(make, names):
    assert mc.maker_settings(make) == names


def test_settings_reach_the_maker():
    assert initialise(conv, shape=COLOUR, settings={'width': 5})[0].out_channels == 5
    assert initialise(ByKeywords, settings={'depth': 3}).settings == {'depth': 3}
    with pytest.raises(ValueError, match='conv takes no depth. It takes width, dropout'):
        initialise(conv, shape=COLOUR, settings={'depth': 3})
    with pytest.raises(ValueError, match='plain takes no width. It takes no settings'):
        initialise(plain, settings={'width': 3})
    for make in conv, ByKeywords:
        with pytest.raises(ValueError, match='takes no inputs'):
            initialise(make, shape=COLOUR, settings={'inputs': 3})


def test_what_is_missing_is_said():
    with pytest.raises(ValueError, match='conv is not told inputs. Pass the data'):
        initialise(conv)
    with pytest.raises(ValueError, match='Linear is not told in_features. Give it a default'):
        initialise(nn.Linear, shape=COLOUR)


def test_numbers_are_told_as_outputs_or_else_as_classes():
    number = Shape((30,), 3, 'regression')
    assert told(Own, number) == {'inputs': (30,), 'outputs': 3}
    assert told(conv, number) == {'inputs': (30,), 'classes': 3}


@pytest.mark.parametrize('make', [conv, Callable(), mc.MLP, functools.partial(mc.DeepMLP, 8)])
def test_the_maker_within_is_seen(make):
    bound = fitted(make, VECTORS)
    assert own_init(bound) is own_init(make)
    of_bound = code_note(bound)
    of_make = code_note(make)
    assert [of_bound[k] for k in ('file', 'sha256')] == [of_make[k] for k in ('file', 'sha256')]
    assert why_not_sent(bound) == why_not_sent(make) == ''
    assert distinct_names([bound, plain])[0] == distinct_names([make, plain])[0]


def test_rule_of_the_package_for_any_shape():
    for make in mc.MLP, mc.DeepMLP:
        assert begin(make, shape=VECTORS).rule == 'Glorot & Bengio (2010)'
    assert begin(mc.CNNClassifier, shape=COLOUR).rule == 'Glorot & Bengio (2010)'
    assert begin(conv, shape=COLOUR).rule == "the model's own"


def test_a_file_of_makers_in_another_process(tmp_path):
    file = tmp_path / 'nets.py'
    file.write_text(
        'import torch.nn as nn\n'
        'def net(inputs, classes, width=3):\n'
        '    return nn.Sequential(nn.Linear(inputs[0], width), nn.Linear(width, classes))\n'
    )
    make = fitted(mc.get_model(f'{file}:net'), VECTORS, {'width': 5})
    code = 'import sys, pickle; print(pickle.load(sys.stdin.buffer)()[0].weight.shape)'
    done = subprocess.run(
        [sys.executable, '-c', code],
        input=cloudpickle.dumps(make),
        capture_output=True,
        cwd=Path(mc.__file__).parent.parent,
    )
    assert done.stdout.decode().strip() == 'torch.Size([5, 30])'


SEEDS = {  # first weights at seed 3, before makers were told anything
    'mlp': 'dd3e79e0d71977d2',
    'cnn': 'ea067174409e23d1',
    'deep_mlp': '4bde4da8a558b9a4',
}


@pytest.mark.parametrize('name', SEEDS)
@pytest.mark.parametrize('shape', [None, Shape()])
def test_grey_images_get_the_same_nets_as_ever(name, shape):
    net = initialise(mc.get_model(name), seed=3, shape=shape)
    assert weights_digest(net.state_dict(), {})[:16] == SEEDS[name]


@pytest.mark.parametrize('inputs', [(1, 8, 8), (3, 32, 32), (2, 17, 40), (3, 100, 8), (1, 28, 28)])
def test_the_cnn_follows_images(inputs):
    net = mc.CNNClassifier(8, classes=5, inputs=inputs)
    assert net(torch.rand(2, *inputs)).shape == (2, 5)
    assert f'convolutions {inputs[0]} → 16' in net.describe()
    assert f'linear {net.fct1.in_features} → 8 → 5' in net.describe()


@pytest.mark.parametrize('inputs', [(30,), (12, 8), (1, 7, 28), (28, 28, 1)])
def test_the_cnn_refuses_what_is_no_image(inputs):
    with pytest.raises(ValueError, match='inputs is .*mlp'):
        mc.CNNClassifier(inputs=inputs)


def test_sizes_match_for_the_data():
    match = match_params(conv, 20_000, tolerance=0, shape=COLOUR)
    assert match.count == number_of_params(conv(COLOUR.inputs, 43, match.width))[0]
    assert abs(match.deviation) < 0.02


def test_a_rehearsal_names_what_the_maker_was_told():
    table = mc.Split(torch.rand(8, 30), torch.arange(8) % 2, 'train', ('a', 'b'))
    with pytest.raises(ValueError, match=r'cnn: the net cannot be made with inputs=\(30,\)'):
        rehearse(mc.CNNClassifier, table)
    assert rehearse(mc.MLP, table).net.fc3.out_features == 2
