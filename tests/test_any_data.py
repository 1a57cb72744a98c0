"""Data of any shape, kind of number, scale and kind of label, divided by class and group, in memory
or on the disk; and what a newcomer is told of what can't be so."""

import pickle
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import mnist_cmp as mc
from mnist_cmp import data as chapter
from mnist_cmp.datasets.mapped import MappedRows
from mnist_cmp.models import Shape
from mnist_cmp.study.workers import Splits, map_splits

SIDES = np.arange(120) % 2


def table(n=120, columns=4):
    return np.random.default_rng(n).normal(5, 3, (n, columns))


def pictures(n=120, shape=(3, 12, 10)):
    return np.random.default_rng(n).integers(0, 256, (n, *shape), np.uint8)


def refused(*args, **kwargs):
    "The message of what `from_arrays` refuses, read aloud once: a sentence, and no empty one."
    with pytest.raises((ValueError, TypeError, FileNotFoundError)) as raised:
        mc.Data.from_arrays(*args, **kwargs)
    message = str(raised.value)
    assert len(message) > 20 and 'Traceback' not in message
    return message


def rows_of(data):
    "The places of the examples of each split among those that were given."
    return {split.name: split.places.tolist() for split in data.splits}


# ---- shapes and numbers


@pytest.mark.parametrize(
    'x, inputs, dtype',
    [
        (pictures(), (3, 12, 10), torch.uint8),
        (pictures(shape=(12, 10)), (1, 12, 10), torch.uint8),
        (pictures(shape=(12, 10, 3)), (3, 12, 10), torch.uint8),
        (pictures(shape=(12, 10, 4)) / 255, (4, 12, 10), torch.float32),
        (pictures(shape=(7,)), (7,), torch.int64),
        (table(), (4,), torch.float32),
        (table().astype(np.float16), (4,), torch.float32),
        (torch.from_numpy(table()), (4,), torch.float32),
        (table().tolist(), (4,), torch.float32),
        (pd.DataFrame(table()), (4,), torch.float32),
        (table() > 5, (4,), torch.float32),
        (table().astype(np.int16), (4,), torch.int64),
        (table(columns=20).reshape(120, 5, 4), (5, 4), torch.float32),
        (table(columns=24).reshape(120, 2, 3, 2, 2), (2, 3, 2, 2), torch.float32),
    ],
)
def test_any_shape_and_number(x, inputs, dtype):
    data = mc.Data.from_arrays(x, SIDES)
    assert (data.inputs, data.train.x.dtype) == (inputs, dtype)
    assert [len(split) for split in data.splits] == [80, 16, 24]
    given = np.asarray(x)
    if given.ndim == 4 and given.shape[-1] in (3, 4) and given.shape[1] not in (1, 3, 4):
        given = np.moveaxis(given, 3, 1)
    for split in data.splits:
        expected = given[split.places].reshape(len(split), *inputs)
        assert np.array_equal(split.x.numpy(), expected.astype(split.x.numpy().dtype))
        assert split.y.tolist() == SIDES[split.places].tolist()


def test_what_was_moved_is_said(capsys):
    mc.Data.from_arrays(pictures(shape=(12, 10, 3)), SIDES)
    assert 'channels last: nets get 3×12×10' in capsys.readouterr().err
    mc.Data.from_arrays(pictures(), SIDES)
    assert capsys.readouterr().err == ''


def test_examples_are_copied():
    x = table()
    data = mc.Data.from_arrays(x, SIDES)
    before = data.train.fingerprint
    x[:] = 0
    assert replace(data.train).fingerprint == before


@pytest.mark.parametrize(
    'x, words',
    [
        (table()[:, 0], 'x[:, None]'),
        (np.array([['red', 'blue']] * 120), 'pd.get_dummies'),
        (np.full((120, 3), 1j), 'complex128, but must be bools'),
        (np.full((120, 3), 1j).astype(object), 'complex128, but must be bools'),
        (np.full((120, 1), np.complex64(3), object), 'complex128, but must be bools'),
        (np.where(np.arange(120)[:, None] == 7, np.nan, table()), 'the first at index 7'),
        (np.full((120, 2), 1e300), 'numbers beyond float32, the first at index 0'),
        ([[1], [2, 3]], 'cannot be read as an array'),
        ('nowhere.npy', 'There is no file'),
        ('x.csv', 'the path of a .npy file'),
        (None, 'x is None'),
    ],
)
def test_examples_that_are_refused(x, words):
    assert words in refused(x, SIDES)


# ---- scales


def test_bytes_stay_bytes_unless_asked():
    x = pictures()
    for scale in 'auto', 'unit':
        data = mc.Data.from_arrays(x, SIDES, scale=scale)
        assert (data.train.x.dtype, data.scaling) == (torch.uint8, None)
    data = mc.Data.from_arrays(x, SIDES, scale=None)
    assert (data.train.x.dtype, data.train.x.max().item()) == (torch.float32, 255)


def test_standard_is_by_the_training_part_alone():
    x = np.concatenate([table(100), 1000 + table(20)])
    data = mc.Data.from_arrays(x[:100], SIDES[:100], x[100:], SIDES[100:], scale='standard')
    train = x[data.train.places]
    assert np.allclose(data.scaling.mean, train.mean(0))
    assert np.allclose(data.scaling.std, train.std(0))
    assert data.test.x.min() > 100
    for split in data.splits:
        assert split.scaling == data.scaling
    assert np.allclose(data.scaling.undo(data.test.x), x[100:])


def test_images_are_standardised_by_channel():
    data = mc.Data.from_arrays(pictures(), SIDES, scale='standard')
    assert data.scaling.shape == [3, 1, 1]
    assert data.train.x.mean((0, 2, 3)).abs().max() < 1e-5
    kept = mc.Scaling.from_dict(data.scaling.to_dict())
    given = pictures()[data.test.places]
    assert torch.equal(torch.from_numpy(kept.apply(given)), data.test.x)


def test_unit_of_a_table_is_from_0_to_1():
    data = mc.Data.from_arrays(table(), SIDES, scale='unit')
    assert data.train.x.min(0).values.tolist() == [0] * 4
    assert data.train.x.max(0).values.tolist() == [1] * 4


def test_a_constant_column_becomes_0_and_is_said():
    x = table()
    x[:, 2] = 0.1
    with pytest.warns(UserWarning, match='feature 2 is constant in the training part'):
        data = mc.Data.from_arrays(x, SIDES, scale='standard')
    assert data.train.x[:, 2].abs().max() == 0


def test_a_constant_column_is_said_by_its_name():
    frame = pd.DataFrame(table(), columns=['age', 'height', 'one', 'weight']).assign(one=1)
    words = 'feature one is constant in the training part'
    with pytest.warns(UserWarning, match=words):
        data = mc.Data.from_arrays(frame, SIDES)
    with pytest.warns(UserWarning, match=words):
        mc.Data.from_arrays(frame.to_numpy(), SIDES, features=list(frame))
    with pytest.warns(UserWarning, match=words):
        mc.Data.from_frame(frame.assign(side=SIDES), 'side')
    assert data.features == ('age', 'height', 'one', 'weight')
    narrow = {split.name: replace(split, x=split.x[:, 2:]) for split in data.splits}
    assert 'feature 0 is constant' in replace(data, **narrow).remarks[0]
    assert "features is ['age'], but must name each" in refused(table(), SIDES, features=['age'])


def test_a_scale_that_is_none():
    assert "scale is 'max', but must be one of 'auto', 'unit'" in refused(
        table(), SIDES, scale='max'
    )


# ---- labels and tasks


@pytest.mark.parametrize(
    'y, classes',
    [
        (SIDES, ('0', '1')),
        (SIDES + 7, ('7', '8')),
        (SIDES * 2 - 1, ('-1', '1')),
        (SIDES / 1, ('0', '1')),
        (SIDES == 1, ('False', 'True')),
        (np.where(SIDES, 'cat', 'dog'), ('cat', 'dog')),
        (np.where(SIDES, '10', '9'), ('9', '10')),
        (['b', 'a'] * 60, ('a', 'b')),
        (pd.Categorical(['b', 'a'] * 60, ['b', 'a', 'c']), ('b', 'a')),
        (SIDES[:, None], ('0', '1')),
        (np.eye(2)[SIDES], ('0', '1')),
        (pd.DataFrame(np.eye(2)[SIDES], columns=['no', 'yes']), ('no', 'yes')),
        (torch.from_numpy(SIDES), ('0', '1')),
    ],
)
def test_labels_are_tidied(y, classes):
    data = mc.Data.from_arrays(table(), y)
    assert (data.classes, data.task, data.outputs) == (classes, 'classes', 2)
    sides = {split.name: SIDES[split.places] for split in data.splits}
    for split in data.splits:
        same = split.y.numpy() == sides[split.name]
        assert same.all() or not same.any()  # the second class may come first in the order


@pytest.mark.parametrize('ordered', [False, True])
@pytest.mark.parametrize(
    'values, categories, classes',
    [
        ([1, 0], [1, 0], ('1', '0')),
        ([10, 20, 30], [10, 20, 30], ('10', '20', '30')),
        ([3, 1, 2], [3, 9, 2, 1], ('3', '2', '1')),
        ([0.5, 2.0, -1.5], [2.0, 0.5, 7.0, -1.5], ('2', '0.5', '-1.5')),
        (['1', '10', '0'], ['10', '1', 'none', '0'], ('10', '1', '0')),
        ([True, False], [True, False], ('True', 'False')),
    ],
)
def test_categories_keep_their_names(values, categories, classes, ordered):
    given = [values[k % len(values)] for k in range(120)]
    text = [str(int(value) if value == 2.0 and type(value) is float else value) for value in given]
    column = pd.Series(pd.Categorical(given, categories, ordered=ordered))
    frame = pd.DataFrame(table(), columns=list('abcd')).assign(y=column)
    datas = [
        mc.Data.from_arrays(table(), column),
        mc.Data.from_arrays(table(), column, classes=classes),
        mc.Data.from_arrays(table(), column, table() + 100, column),
    ]
    if all(type(value) is not float for value in values):
        datas.append(mc.Data.from_frame(frame, 'y'))
    for data in datas:
        assert data.classes == classes
        for split in data.splits:
            places = range(120) if split.places is None else split.places
            assert [classes[label] for label in split.y] == [text[place] for place in places]


def test_labels_among_named_classes():
    data = mc.Data.from_arrays(table(), np.where(SIDES, 'b', 'a'), classes=['b', 'a'])
    assert data.train.y.tolist() == (1 - SIDES[data.train.places]).tolist()
    with pytest.warns(UserWarning, match='no example of 1 of the 3 classes'):
        mc.Data.from_arrays(table(), SIDES, classes=['b', 'a', 'c'])


@pytest.mark.parametrize('y', [table()[:, 0], table()[:, :2], np.arange(120.0) * 3])
def test_numbers_are_predicted_and_given_back(y):
    data = mc.Data.from_arrays(table(), y)
    assert (data.task, data.classes, data.outputs) == ('regression', (), y[:1].size)
    assert data.train.y.dtype == torch.float32
    assert data.train.y.mean(0).abs().max() < 1e-5
    for split in data.splits:
        assert split.y.shape == (len(split), *y.shape[1:])
        assert np.allclose(split.in_units(split.y), y[split.places], atol=1e-4)


def test_whole_numbers_as_the_user_says():
    ages = np.arange(120) % 20
    assert "Say which: task='classes' or task='regression'" in refused(table(), ages + 18)
    assert mc.Data.from_arrays(table(), ages, task='regression').task == 'regression'
    assert mc.Data.from_arrays(table(), ages, task='classes').outputs == 20


@pytest.mark.parametrize(
    'y, how, words',
    [
        ([None, *['a', 'b'] * 59, 'a'], {}, 'the first at index 0'),
        (np.where(np.arange(120) == 5, np.nan, table()[:, 0]), {}, 'the first at index 5'),
        (np.where(np.arange(120) == 5, '', 'a'), {}, 'the first at index 5'),
        (np.ones((120, 3)), {}, 'Examples of several labels'),
        (SIDES[:100], {}, '120 examples, but 100 labels'),
        (['a', 'b'] * 60, {'task': 'regression'}, 'text, but must be numbers'),
        (SIDES, {'classes': ['a']}, 'must lie from 0 to 0'),
        (['a', 'b'] * 60, {'classes': ['a', 'c']}, 'labels have b, but classes has'),
        (pd.to_datetime(['2020-01-01'] * 120), {}, 'Make numbers of dates'),
        (None, {}, 'y is None'),
        (np.uint64(2**63) + SIDES.astype(np.uint64), {}, 'such as 9223372036854775809, but must'),
        (np.uint64(2**63) * SIDES.astype(np.uint64), {'task': 'regression'}, 'but must lie from'),
        ([2**63 + 5, 2**63 + 6, 7] * 40, {}, 'can not be told apart'),
        (np.eye(2)[SIDES], {'classes': ['1', '0']}, 'names in another order'),
    ],
)
def test_labels_that_are_refused(y, how, words):
    assert words in refused(table(), y, **how)


def test_a_label_of_the_test_part_alone():
    words = refused(table(), SIDES, table(30), np.arange(30) % 3)
    assert 'No training example has label 2, which the test part has' in words


# ---- who is in which part


def test_parts_are_by_class_and_by_seed():
    y = np.repeat(['rare', 'usual'], [12, 108])
    first, again = (mc.Data.from_arrays(table(), y) for _ in range(2))
    other = mc.Data.from_arrays(table(), y, seed=1)
    assert rows_of(first) == rows_of(again) != rows_of(other)
    assert sorted(sum(rows_of(first).values(), [])) == list(range(120))
    assert [int((split.y == 0).sum()) for split in first.splits] == [8, 2, 2]


@pytest.mark.parametrize(
    'how, sizes',
    [
        ({'test_size': 0.5}, (50, 10, 60)),
        ({'test_size': 30}, (75, 15, 30)),
        ({'valid_size': 0.25}, (72, 24, 24)),
        ({'valid_size': 0}, (96, 24)),
    ],
)
def test_sizes(how, sizes):
    data = mc.Data.from_arrays(table(), SIDES, **how)
    assert tuple(len(split) for split in data.splits) == sizes


def test_a_fifth_tests_whether_said_or_not():
    first, again = (
        mc.Data.from_arrays(table(), SIDES),
        mc.Data.from_arrays(table(), SIDES, test_size=0.2),
    )
    assert rows_of(first) == rows_of(again)
    assert len(first.test) == 24


@pytest.mark.parametrize('of_test', [True, False])
@pytest.mark.parametrize('how', [{}, {'valid_size': 20}, {'seed': 3}])
def test_a_group_is_in_one_part(of_test, how):
    groups = [f'patient {i // 5}' for i in range(120)]
    test = (table(9), np.arange(9) % 2) if of_test else ()
    data = mc.Data.from_arrays(table(), SIDES, *test, groups=groups, **how)
    made = data.splits[: 2 if of_test else 3]
    in_part = [{groups[place] for place in split.places} for split in made]
    assert sum(map(len, in_part)) == 24 == len(set().union(*in_part))
    assert all(0.3 < split.y.float().mean() < 0.7 for split in made)
    assert data.test.groups is None if of_test else data.test.groups is not None


def test_groups_and_sizes_that_are_refused():
    assert 'groups has shape (3,)' in refused(table(), SIDES, groups=[1, 2, 3])
    assert 'number of groups is 1, but must be at least 3' in refused(
        table(), SIDES, groups=[1] * 120
    )
    assert 'test_size is 0' in refused(table(), SIDES, test_size=0)
    both = table(), SIDES, table(9), np.arange(9) % 2
    assert 'test_size is 0.5, but x_test is given' in refused(*both, test_size=0.5)
    assert 'x_test and y_test come together' in refused(table(), SIDES, table(9))
    assert 'no class has more than one example' in refused(table(2), ['a', 'b'])


def test_an_old_call_gives_the_parts_that_it_gave():
    x = np.random.RandomState(0).randint(0, 256, (40, 28, 28)).astype(np.uint8)
    y = np.arange(40) % 4
    data = mc.Data.from_arrays(x[:30], y[:30], x[30:], y[30:])
    assert data.valid.places.tolist() == OLD_PLACES
    assert [split.fingerprint[:8] for split in data.splits] == OLD_FINGERPRINTS


# as the releases before gave them
OLD_PLACES = [10, 4, 11, 5, 8]
OLD_FINGERPRINTS = ['fbc93ce1', 'd436fa87', '775bb682']


# ---- remarks


def test_rows_that_stand_in_two_parts():
    x = table()
    with pytest.warns(UserWarning, match='3 of the 9 test examples also stand in the training'):
        mc.Data.from_arrays(x, SIDES, np.concatenate([x[:3], table(6)]), np.arange(9) % 2)
    doubled = np.concatenate([x, x])
    with pytest.warns(UserWarning, match='The test split was drawn from the training examples'):
        mc.Data.from_arrays(doubled, np.tile(SIDES, 2))


def test_good_data_are_not_warned_of():
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter('always')
        for x in table(), pictures(), table() - 10:
            mc.Data.from_arrays(x, SIDES)
            mc.Data.from_arrays(x, table()[:, 0], scale='standard')
    assert [str(warning.message) for warning in heard] == []


# ---- on the disk


@pytest.fixture
def on_disk(tmp_path):
    np.save(tmp_path / 'x.npy', pictures(300))
    return tmp_path / 'x.npy'


def labels(n=300):
    return np.arange(n) % 3


@pytest.mark.parametrize(
    'how', [{}, {'scale': 'standard'}, {'scale': None}, {'groups': labels(300)}]
)
def test_a_file_gives_what_memory_gives(on_disk, how):
    how = how if 'groups' not in how else {'groups': np.arange(300) // 4}
    inside = mc.Data.from_arrays(pictures(300), labels(), **how)
    for given in on_disk, str(on_disk), np.load(on_disk, mmap_mode='r'):
        mapped = mc.Data.from_arrays(given, labels(), **how)
        for one, other in zip(mapped.splits, inside.splits):
            assert isinstance(one.x, MappedRows)
            assert one.fingerprint == other.fingerprint
        assert mapped.remarks == inside.remarks


def test_what_was_changed_in_memory_is_no_file(on_disk):
    changed = np.load(on_disk, mmap_mode='c')
    changed[5] = 255 - changed[5]
    data = mc.Data.from_arrays(changed, labels())
    inside = mc.Data.from_arrays(np.array(changed), labels())
    assert [s.fingerprint for s in data.splits] == [s.fingerprint for s in inside.splits]
    assert not any(isinstance(split.x, MappedRows) for split in data.splits)
    elsewhere = pickle.dumps(data.train)
    again = pickle.loads(elsewhere)  # noqa: S301, ours
    assert torch.equal(again.x, data.train.x)


def net():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(320, 3)
    return nn.Sequential(*layers)


def trained(data):
    model = net()
    recipe = mc.Recipe(learning_rate=0.05, batch_size=16, epochs=2)
    history = mc.train(
        model, data.train, data.valid, recipe, callbacks=mc.Callbacks(progress=False)
    )
    return history, model


def test_training_on_a_file_gives_the_same_weights(on_disk, monkeypatch):
    monkeypatch.setattr(chapter, '_FEW', 0)  # nothing is read at once
    inside = mc.Data.from_arrays(pictures(300), labels())
    mapped = mc.Data.from_arrays(on_disk, labels())
    assert not Shape.of(mapped).in_memory
    histories, models = zip(*(trained(data) for data in (inside, mapped)))
    assert histories[0].last.train_loss == histories[1].last.train_loss
    assert histories[0].last.valid_loss == histories[1].last.valid_loss
    for one, other in zip(models[0].parameters(), models[1].parameters()):
        assert torch.equal(one, other)
    assert torch.equal(mc.predict(models[0], inside.test), mc.predict(models[0], mapped.test))


def test_only_the_general_step_reads_a_file(on_disk):
    data = mc.Data.from_arrays(on_disk, labels())
    with pytest.raises(ValueError, match='read from a file, and this step wants all'):
        mc.train(
            nn.Sequential(nn.Flatten(), nn.Linear(360, 3)),
            data.train,
            recipe=mc.Recipe(learning_rate=0.05, batch_size=16, epochs=1),
            compute=mc.Compute(engine='onednn'),
        )


def test_another_process_reads_the_file_itself(on_disk, tmp_path):
    data = mc.Data.from_arrays(on_disk, labels())
    sent = tmp_path / 'sent.pickle'
    sent.write_bytes(pickle.dumps(map_splits(Splits(data.train, data.valid), tmp_path)))
    code = (
        'import pickle, sys; s = pickle.load(open(sys.argv[1], "rb")).load(); '
        'print(type(s.train.x).__name__, s.train.fingerprint, s.valid.fingerprint)'
    )
    said = subprocess.check_output([sys.executable, '-c', code, str(sent)], text=True).split()
    assert said == ['MappedRows', data.train.fingerprint, data.valid.fingerprint]
    assert sent.stat().st_size < 30_000


def test_a_file_that_is_gone_or_another_is_known(on_disk):
    data = mc.Data.from_arrays(on_disk, labels())
    sent = pickle.dumps(Splits(data.train, data.valid))
    np.save(on_disk, pictures(300) // 2)
    with pytest.raises(ValueError, match='is another file here, or was changed'):
        pickle.loads(sent).load()  # noqa: S301, ours
    on_disk.unlink()
    with pytest.raises(FileNotFoundError, match='Put the file where every worker finds it'):
        pickle.loads(sent).load()  # noqa: S301, ours


def test_a_file_of_floats_is_looked_through(tmp_path):
    x = table(300)
    x[211, 1] = np.inf
    np.save(tmp_path / 'x.npy', x)
    assert 'the first at index 211' in refused(tmp_path / 'x.npy', labels())


# ---- pictures and tables of it


def test_colours_are_drawn_and_tables_are_not():
    import matplotlib.pyplot as plt

    data = mc.Data.from_arrays(pictures(), np.where(SIDES, 'cat', 'dog'))
    ax = mc.show_samples(data.train, 4)
    assert {text.get_text() for text in ax.get_xticklabels()} <= {'cat', 'dog'}
    assert ax.images[0].get_array().shape == (12, 48, 3)
    plt.close(ax.figure)
    with pytest.raises(ValueError, match='but must be images to be drawn'):
        mc.show_samples(mc.Data.from_arrays(table(), SIDES).train)


def test_what_a_data_set_says_of_itself():
    data = mc.Data.from_arrays(table(), SIDES, name='people')
    assert repr(data) == 'people: 80 train, 16 valid, 24 test'
    assert list(data.to_frame().columns) == ['examples', '0', '1']
    numbers = mc.Data.from_arrays(table(), table()[:, 0], name='prices')
    assert repr(numbers) == 'prices: 80 train, 16 valid, 24 test, a number to predict'
    assert list(numbers.to_frame().columns) == ['examples', 'mean', 'std', 'smallest', 'largest']
