"Spaces and configs of settings of any name: what they take, what they refuse, what files hold."

import json
import math
import pickle
from contextlib import suppress

import jsonschema
import numpy as np
import pytest
from torch import nn

import mnist_cmp as mc
from mnist_cmp.core.files import json_text
from mnist_cmp.core.points import sobol_points
from mnist_cmp.core.records import json_schema, side_to_json
from mnist_cmp.core.settings import space_for
from mnist_cmp.core.spaces import spaces_for


def sent(value):
    "As it arrives in another process."
    return pickle.loads(pickle.dumps(value))  # noqa: S301 (our own)


def by_json(space):
    return json.loads(json_text(space.to_dict()))


def test_each_kind_of_side_takes_its_dimension():
    space = mc.Space(
        learning_rate=mc.loguniform(1e-4, 1e-1),
        batch_size=(16, 256),
        width=[16, 32, 64],
        dropout=(0.0, 0.5),
        depth=(1, 4),
        optimizer=['sgd', ('adamw', {'betas': (0.9, 0.95)})],
        schedule='cosine',
        hidden=mc.fixed((64, 64)),
    )
    assert list(space.sides) == [
        'learning_rate',
        'batch_size',
        'width',
        'dropout',
        'depth',
        'optimizer',
    ]
    configs = sobol_points(space, n=256)
    assert {c.width for c in configs} == {16, 32, 64}
    assert {c.depth for c in configs} == {1, 2, 3, 4}
    assert all(isinstance(c.depth, int) and isinstance(c.batch_size, int) for c in configs)
    assert all(0 <= c.dropout <= 0.5 and 1e-4 <= c.learning_rate <= 0.1 for c in configs)
    assert {c.of_recipe['schedule'] for c in configs} == {'cosine'}
    assert {c.of_model['hidden'] for c in configs} == {(64, 64)}
    assert len({c.optimizer if isinstance(c.optimizer, str) else 'pair' for c in configs}) == 2
    counts = [sum(c.depth == depth for c in configs) for depth in range(1, 5)]
    assert max(counts) - min(counts) <= 2  # each whole number is equally likely
    rates = np.log10([c.learning_rate for c in configs])
    assert np.histogram(rates, bins=3, range=(-4, -1))[0].tolist() == pytest.approx([85] * 3, abs=2)


def test_settings_in_common_have_the_same_values_whatever_follows():
    takes = {'small': ['width'], 'big': ['width', 'dropout', 'depth'], 'odd': ['dropout', 'width']}
    sides = {'depth': (1, 9), 'dropout': (0.0, 0.5), 'width': [1, 2, 3], 'clip': (0.5, 1.0)}
    spaces = spaces_for(takes, sides, mc.Recipe())
    drawn = {name: sobol_points(space, n=40) for name, space in spaces.items()}
    for name in ('learning_rate', 'batch_size', 'width', 'clip'):
        values = [[config.get(name) for config in of] for of in drawn.values()]
        assert values[0] == values[1] == values[2]
    dropouts = [[config.dropout for config in drawn[name]] for name in ('big', 'odd')]
    assert dropouts[0] == dropouts[1]


def test_old_spaces_are_written_as_they_were():
    old = {'learning_rate': [0.001, 0.1], 'batch_size': [16, 48], 'momentum': None}
    assert by_json(mc.Space()) == old | {'weight_decay': None, 'log': False}
    four = mc.Space((0.05, 0.5), (16, 48), momentum=(0.0, 0.5), log=True, start=9)
    assert by_json(four) == {
        'learning_rate': [0.05, 0.5],
        'batch_size': [16, 48],
        'momentum': [0.0, 0.5],
        'weight_decay': None,
        'log': True,
    }
    assert list(by_json(four)) == ['learning_rate', 'batch_size', 'momentum', 'weight_decay', 'log']
    assert four.sides == {
        'learning_rate': (0.05, 0.5),
        'batch_size': (16, 48),
        'momentum': (0.0, 0.5),
    }
    assert [four.is_log(name) for name in four.sides] == [True, False, False]
    assert mc.Space().plain and not four.plain
    assert len({mc.Space(), mc.Space((0.001, 0.1)), four}) == 2


@pytest.mark.parametrize(
    'space',
    [
        mc.Space(learning_rate=mc.loguniform(1e-4, 0.1), width=[1, None, 'wide', True]),
        mc.Space(learning_rate=[0.1, 0.2, 0.3], batch_size=[8, 16, 32], momentum=0.9),
        mc.Space(optimizer=[('adamw', {'eps': 1e-8}), 'sgd'], model__momentum=(0.0, 0.5)),
        mc.Space(learning_rate=0.1, batch_size=32, start=7),
    ],
)
def test_a_space_comes_back_from_json_and_from_another_process(space):
    again = mc.Space.from_dict(by_json(space))
    assert again == space.replaced(start=None)
    assert hash(again) == hash(space.replaced(start=None))
    assert list(again.all_sides) == list(space.all_sides)
    back = sent(space)
    assert (back, back.said, hash(back)) == (space, space.said, hash(space))
    jsonschema.validate(by_json(space), json_schema(mc.Space))
    assert mc.Space.of_identity(json.loads(json_text(space.identity))) == again


def test_the_schema_refuses_what_is_no_side():
    schema = json_schema(mc.Space)
    for odd in ({'width': {'choice': [1, 2]}}, {'width': 3}, {'width': [1, 2, 3]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({'settings': odd}, schema)


@pytest.mark.parametrize(
    ('sides', 'message'),
    [
        ({'width': (64, 16)}, r'width of the space is \(64, 16\).*Turn it round: \(16, 64\)'),
        ({'width': (16, 16)}, 'Write width=16 for that value alone'),
        ({'width': (16,)}, 'must be a pair: its lower and its upper end. Write a list'),
        ({'width': (1, 2, 3)}, r'fixed\(\(a, b, c\)\) for one value that is a tuple'),
        ({'width': []}, 'no choice at all'),
        ({'width': [16]}, 'a single choice, .* Write width=16'),
        ({'width': [1, 2, 1]}, 'has the choice 1 twice'),
        ({'width': {1, 2}}, 'a set, which has no order. Write a list of choices'),
        ({'width': {'a': 1}}, r'a dict. Write a range .* or fixed\({…}\)'),
        ({'dropout': (0.0, math.nan)}, 'dropout of the space is nan'),
        ({'dropout': math.inf}, 'dropout of the space is inf'),
        ({'learning_rate': mc.loguniform(0, 0.1)}, 'learning_rate of the space is 0, but must be'),
        ({'width': mc.loguniform(0, 9)}, 'logarithmic scale, so its lower end must be above 0'),
        ({'width': [max, min]}, 'Give the name of a class or function in its place'),
        ({'momentum': (0, 1)}, 'momentum of the space is 1, but must be'),
        ({'batch_size': (1.5, 3)}, 'batch_size of the space is 1.5, but must be a whole number'),
        ({'epochs': (1, 3)}, r'Write Recipe\(epochs=…\)'),
        ({'init': ['glorot', 'zero']}, r'Write Recipe\(init=…\)'),
        ({'momentum': 0.9, 'recipe__momentum': 0.8}, 'there twice'),
        ({'a b': 1}, 'a setting has a name of Python'),
    ],
)
def test_what_can_be_no_side_is_refused_by_name_with_the_way_out(sides, message):
    with pytest.raises(ValueError, match=message):
        mc.Space(**sides)


def test_a_pair_in_a_list_is_told_from_a_range():
    with pytest.warns(UserWarning, match=r'16 and 48 are its only choices. Write \(16, 48\)'):
        space = mc.Space(batch_size=[16, 48])
    assert {c.batch_size for c in sobol_points(space, n=20)} == {16, 48}


def test_a_config_is_as_it_was_and_holds_more():
    config = mc.Config(0.1, 16)
    rate, size, *_ = config
    assert (rate, size) == (0.1, 16)
    assert config == (0.1, 16, 0.0, 0.0)
    assert config._asdict() == dict(
        learning_rate=0.1, batch_size=16, momentum=0.0, weight_decay=0.0
    )
    more = mc.Config(0.1, 16, optimizer=['adamw', {'eps': 1e-8}], width=32, model__clip=2)
    assert more != config
    assert more.of_recipe == {'optimizer': ('adamw', {'eps': 1e-8})}
    assert more.of_model == {'width': 32, 'clip': 2}
    assert sent(more) == more
    assert hash(sent(more)) == hash(more)
    assert not more.is_close(config) and more.is_close(
        more._replace(learning_rate=0.1 * (1 + 1e-12))
    )
    with pytest.raises(AttributeError, match='stays as it is'):
        more.width = 3
    with pytest.raises(ValueError, match='width is nan'):
        mc.Config(0.1, 16, width=math.nan)


def test_what_the_recipe_and_the_space_both_say_is_refused():
    takes = {'net': ['width']}
    space = spaces_for(takes, {'width': [1, 2]}, mc.Recipe(learning_rate=0.1, momentum=0.9))['net']
    assert space.fixed == {'learning_rate': 0.1, 'momentum': 0.9}
    for sides, recipe in (
        ({'batch_size': (8, 16)}, {'batch_size': 8}),
        ({'optimizer': ['sgd', 'adamw']}, {'optimizer': 'adam'}),
        ({'recipe__clip': (0.5, 1.0)}, {'clip': 1.0}),
    ):
        with pytest.raises(ValueError, match='of the recipe is .*, since a search chooses it'):
            spaces_for(takes, sides, mc.Recipe(**recipe))


def test_sides_are_written_in_words():
    space = space_for('net', space={'width': [1, 'two'], 'dropout': (0.0, 0.5)})
    assert {name: space.words(name) for name in space.settings} == {
        'width': '1 or two',
        'dropout': '0 to 0.5',
    }
    assert mc.Space(log=True).words('learning_rate') == '0.001 to 0.1 (logarithmic)'
    assert side_to_json(space.settings['width']) == {'choices': (1, 'two')}


def test_a_value_that_makes_no_net_is_named_by_compare():
    def small(inputs, outputs, width=4):
        first = nn.Linear(math.prod(inputs), width)
        return nn.Sequential(nn.Flatten(), first, nn.Linear(width, outputs))

    def asked(width):
        mc.compare({'small': small, 'mlp': 'mlp'}, mc.load_data('digits'), {'width': width})

    with pytest.raises(
        ValueError, match='width of the space can be 8.5, with which small makes no'
    ):
        asked((8.5, 16.0))
    with pytest.raises(
        ValueError, match="width of the space can be 'x', with which small makes no"
    ):
        asked(['x', 8])


def test_whole_ends_of_a_share_are_warned_of():
    def small(inputs, outputs, dropout=0.0):
        layers = nn.Flatten(), nn.Dropout(dropout), nn.Linear(math.prod(inputs), outputs)
        return nn.Sequential(*layers)

    def stop():
        return True

    data = mc.load_data('digits')
    callbacks = mc.Callbacks(should_stop=stop, progress=False)
    with pytest.warns(
        UserWarning, match=r'whole numbers: 0 and 1 alone are tried. Write \(0.0, 1.0'
    ):
        with suppress(mc.Stopped):
            mc.compare([small, 'mlp'], data, {'dropout': (0, 1)}, callbacks=callbacks)
