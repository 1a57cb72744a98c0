"""Splits that the package makes hold every class, on every machine the same; odd ones are warned
of by name; what was begun on an earlier release's split goes on with it."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import grouped, known_costs, one, two

import mnist_cmp as mc
from mnist_cmp import comparison

CLASSES = ['ant', 'bee', 'cat']
BOX = {'batch_size': (8, 16)}


def images(n, seed=0):
    "Noise, no two images alike."
    return np.random.RandomState(seed).randint(0, 256, (n, 28, 28)).astype(np.uint8)


def made(counts, **kwargs):
    "Data whose training images are sorted by class."
    y = np.repeat(np.arange(len(counts)), counts)
    kwargs = dict(classes=CLASSES[: len(counts)], name='insects') | kwargs
    return mc.Data.from_arrays(
        images(len(y)), y, images(15, seed=1), np.arange(15) % len(counts), **kwargs
    )


def counts_of(split):
    return torch.bincount(split.y, minlength=len(split.classes)).tolist()


def warned(call):
    "What a call gives, and its warnings; each must name this file as the user's."
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        found = call()
    assert {w.filename for w in seen} <= {__file__}
    return found, [str(w.message) for w in seen]


# ---- splits that we make


def test_sorted_images_are_divided_by_class():
    data, said = warned(lambda: made([60, 30, 30]))
    assert said == []
    assert counts_of(data.valid) == [10, 5, 5]
    assert counts_of(data.train) == [50, 25, 25]
    # and shuffled: no part is in the order of the classes
    for part in data.train, data.valid:
        assert part.y.tolist() != sorted(part.y.tolist())


def test_the_parts_hold_each_image_once_with_its_label():
    data = made([60, 30, 30])
    given = images(120)
    y = np.repeat(np.arange(3), [60, 30, 30])
    places = torch.cat([data.train.places, data.valid.places])
    assert sorted(places.tolist()) == list(range(120))
    for part in data.train, data.valid:
        assert np.array_equal(part.x[:, 0].numpy(), given[part.places])
        assert np.array_equal(part.y.numpy(), y[part.places])


def test_the_seed_decides():
    first, again, other = (made([60, 30, 30], **how) for how in ({}, {'seed': 0}, {'seed': 1}))
    assert first.valid.fingerprint == again.valid.fingerprint
    assert first.valid.fingerprint != other.valid.fingerprint
    assert counts_of(first.valid) == counts_of(other.valid)
    with pytest.raises(ValueError, match='seed is -1, but must be'):
        made([6, 6], seed=-1)


@pytest.mark.parametrize(
    'counts, valid',
    [
        ([100, 2, 2], [15, 1, 1]),
        ([2, 2, 2], [1, 1, 1]),  # more than a sixth, so that each class is in both parts
        ([3, 3, 600], [1, 1, 99]),
    ],
)
def test_rare_classes_are_in_both_parts(counts, valid):
    data, said = warned(lambda: made(counts))
    assert counts_of(data.valid) == valid
    assert said == []


def test_the_only_image_of_a_class_is_trained_on():
    data, said = warned(lambda: made([30, 29, 1]))
    assert counts_of(data.train)[2] == 1
    assert counts_of(data.valid)[2] == 0
    assert said == [
        'insects: the validation split has no image of 1 of the 3 classes (cat), so '
        'settings are chosen without them.'
    ]


def test_without_an_image_to_spare():
    with pytest.raises(ValueError, match='no class has more than one image .*valid_size=0'):
        made([1, 1, 1])
    assert made([1, 1, 1], valid_size=0).valid is None


# ---- splits that the user makes


def test_an_explicit_size_takes_the_last_and_says_what_they_lack():
    data, said = warned(lambda: made([60, 30, 30], valid_size=30))
    assert data.valid.places is None
    assert counts_of(data.valid) == [0, 0, 30]
    assert said == [
        'insects: the training split has no image of 1 of the 3 classes (cat), so no model can '
        'learn them.',
        'insects: the validation split has no image of 2 of the 3 classes (ant, bee), so settings '
        'are chosen without them.',
    ]


def given_parts(**kwargs):
    "Arguments of `from_arrays`, three parts of noise."
    parts = {
        part: images(n, seed)
        for seed, (part, n) in enumerate({'x_train': 60, 'x_valid': 12, 'x_test': 15}.items())
    }
    labels = {'y' + part[1:]: np.arange(len(x)) % 3 for part, x in parts.items()}
    return parts | labels | dict(classes=CLASSES, name='insects') | kwargs


def from_parts(parts):
    "Data of these parts, by the names that arguments have now."
    now = {'x_train': 'x', 'y_train': 'y'}
    return mc.Data.from_arrays(**{now.get(name, name): value for name, value in parts.items()})


def test_good_parts_are_not_warned_of():
    assert warned(lambda: from_parts(given_parts()))[1] == []


def test_old_names_of_arguments_are_taken_and_warned_of():
    data, said = warned(lambda: mc.Data.from_arrays(**given_parts()))
    assert [text.split()[0] for text in said] == ['x_train', 'y_train']
    assert data.train.fingerprint == from_parts(given_parts()).train.fingerprint


@pytest.mark.parametrize('part', ['train', 'valid', 'test'])
def test_a_missing_class_is_named(part):
    parts = given_parts()
    parts[f'y_{part}'] = np.arange(len(parts[f'x_{part}'])) % 2
    said = warned(lambda: from_parts(parts))[1]
    assert len(said) == 1
    assert {'train': 'training', 'valid': 'validation', 'test': 'test'}[part] in said[0]
    assert 'no image of 1 of the 3 classes (cat)' in said[0]


@pytest.mark.parametrize(
    'part, among, words',
    [
        ('test', 'train', '4 of the 15 test images also stand in the training split'),
        ('valid', 'train', '4 of the 12 validation images also stand in the training split'),
        ('test', 'valid', '4 of the 15 test images also stand in the validation split'),
    ],
)
def test_images_in_two_parts_are_counted_by_class(part, among, words):
    parts = given_parts()
    parts[f'x_{part}'][[0, 3, 6, 1]] = parts[f'x_{among}'][[7, 7, 8, 9]]
    said = warned(lambda: from_parts(parts))[1]
    assert len(said) == 1
    assert words + ' (ant 3, bee 1)' in said[0]
    assert said[0].endswith('Take them out of one of the two.')


def test_the_same_image_as_bytes_and_as_floats():
    parts = given_parts()
    parts['x_test'] = parts['x_train'][:15] / 255
    said = warned(lambda: from_parts(parts))[1]
    assert ['15 of the 15 test images' in text for text in said] == [True]


def test_our_own_split_of_images_that_come_twice():
    x = images(30)
    y = np.arange(60) % 30 % 3
    said = warned(
        lambda: mc.Data.from_arrays(
            np.concatenate([x, x]), y, images(15, seed=1), np.arange(15) % 3, name='insects'
        )
    )[1]
    assert len(said) == 1
    assert 'validation images also stand in the training split' in said[0]
    assert said[0].endswith('drop what they hold twice.')  # nobody can take them out of our parts


def test_data_made_by_hand_are_warned_of_once_by_compare(monkeypatch):
    monkeypatch.setattr(comparison, 'measure_costs', known_costs)
    data = made([30, 30, 30])
    by_hand = replace(data, test=data.train[:12])
    how = grouped(n_trials=1, seeds=1, search_epochs=1, epochs=1, workers=1)

    def compare():
        return mc.compare({'one': one, 'two': two}, by_hand, BOX, **how)

    said = [text for text in warned(compare)[1] if 'one size' not in text]
    assert ['12 of the 12 test images also stand in the training' in text for text in said] == [
        True
    ]
    again = [text for text in warned(compare)[1] if 'one size' not in text]
    assert again == []


def test_named_data_are_as_they_were_and_silent():
    data, said = warned(lambda: mc.load_data('digits'))
    assert said == []
    assert [len(s) for s in data.splits] == [1197, 300, 300]
    assert data.valid.places is None
    assert data.valid.fingerprint[:8] == '6657d310'


# ---- stores of earlier releases


def as_before(data):
    "The same images with the last sixth of them for validation, as earlier releases had them."
    order = torch.cat([data.train.places, data.valid.places]).argsort()
    x = torch.cat([data.train.x, data.valid.x])[order]
    y = torch.cat([data.train.y, data.valid.y])[order]
    return mc.Data.from_arrays(
        x, y, data.test.x, data.test.y, valid_size=len(x) // 6, classes=data.classes, name=data.name
    )


@pytest.fixture
def mixed():
    "Data whose last sixth holds all classes; and the same as earlier releases divided them."
    y = np.arange(60) % 3
    data = mc.Data.from_arrays(
        images(60), y, images(15, seed=1), np.arange(15) % 3, classes=CLASSES, name='insects'
    )
    return data, as_before(data)


def histories(trials):
    return [trial.history.to_dict() for trial in trials]


def test_a_search_goes_on_with_its_split(mixed, tmp_path, capsys):
    now, before = mixed

    def search(data, n):
        return mc.tune(
            one,
            data.train,
            data.valid,
            mc.Space(**BOX),
            n_trials=n,
            recipe=mc.Recipe(epochs=1),
            compute=mc.Compute(workers=1),
            store=tmp_path / 'search',
        )

    begun = search(before, 1)
    assert 'earlier releases' not in capsys.readouterr().err
    found = search(now, 2)
    told = capsys.readouterr().err
    assert 'was begun with the last 10 training images for validation' in told
    assert len(told.strip().splitlines()) == 1
    assert histories(found.trials[:1]) == histories(begun.trials)
    alone = mc.tune(
        one,
        before.train,
        before.valid,
        mc.Space(**BOX),
        n_trials=2,
        recipe=mc.Recipe(epochs=1),
        compute=mc.Compute(workers=1),
    )
    assert [t.accuracy for t in found.trials] == [t.accuracy for t in alone.trials]
    # and a new one has the new split
    new = mc.tune(
        one,
        now.train,
        now.valid,
        mc.Space(**BOX),
        n_trials=2,
        recipe=mc.Recipe(epochs=1),
        compute=mc.Compute(workers=1),
        store=tmp_path / 'new',
    )
    assert [t.loss for t in new.trials] != [t.loss for t in alone.trials]


def test_a_retraining_goes_on_with_its_split(mixed, tmp_path, capsys):
    now, before = mixed

    def retrain(data, seeds):
        return mc.retrain(
            one,
            data.train,
            data.valid,
            mc.Recipe(0.01, 8, epochs=1),
            seeds=seeds,
            compute=mc.Compute(workers=1),
            store=tmp_path,
        )

    begun = retrain(before, 1)
    found = retrain(now, 2)
    assert 'goes on with these' in capsys.readouterr().err
    assert [net.is_new for net in found] == [False, True]
    assert found[0].history.to_dict() == begun[0].history.to_dict()


@pytest.mark.parametrize('end', ['during the search', 'after it'])
def test_a_comparison_goes_on_with_its_split(mixed, tmp_path, capsys, monkeypatch, end):
    monkeypatch.setattr(comparison, 'measure_costs', known_costs)
    now, before = mixed
    asked = []

    def enough():
        asked.append(True)
        return len(asked) > 8

    def compare(data, **kwargs):
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', message='.*parameters')
            return mc.compare(
                {'one': one, 'two': two},
                data,
                BOX,
                n_trials=2,
                seeds=2,
                search_epochs=1,
                recipe=mc.Recipe(epochs=1),
                compute=mc.Compute(workers=1),
                store=tmp_path,
                **kwargs,
            )

    if end == 'during the search':
        with pytest.raises(comparison.Stopped):
            compare(before, callbacks=mc.Callbacks(should_stop=enough))
    else:
        compare(before)
    capsys.readouterr()
    found = compare(now)
    told = [line for line in capsys.readouterr().err.splitlines() if 'earlier releases' in line]
    assert len(told) == 1
    assert found.fingerprints == {s.name: s.fingerprint for s in before.splits}
    assert [c.wrong for c in compare(before).models] == [c.wrong for c in found.models]


def test_the_old_split_is_warned_of_as_well(tmp_path, monkeypatch):
    "Sorted images: the last sixth is of one class, and the study that was begun on it says so."
    monkeypatch.setattr(comparison, 'measure_costs', known_costs)
    now = made([30, 30, 30])
    before = warned(lambda: as_before(now))[0]

    def compare(data):
        return mc.compare(
            {'one': one, 'two': two},
            data,
            BOX,
            n_trials=1,
            seeds=1,
            search_epochs=1,
            recipe=mc.Recipe(epochs=1),
            compute=mc.Compute(workers=1),
            store=tmp_path,
        )

    warned(lambda: compare(before))
    said = [text for text in warned(lambda: compare(now))[1] if 'one size' not in text]
    assert ['validation split has no image of 2 of the 3' in text for text in said] == [True]


def test_2019_joins_the_images_in_the_order_given(mixed):
    now, before = mixed
    joined = comparison._splits(now, '2019')[0]
    assert joined.fingerprint == comparison._splits(before, '2019')[0].fingerprint


def test_other_images_are_refused_as_before(mixed, tmp_path):
    now, before = mixed
    other = replace(now, train=replace(now.train, x=255 - now.train.x))
    mc.tune(
        one,
        before.train,
        before.valid,
        mc.Space(**BOX),
        n_trials=1,
        recipe=mc.Recipe(epochs=1),
        compute=mc.Compute(workers=1),
        store=tmp_path,
    )
    with pytest.raises(ValueError, match='fingerprint of the training images was'):
        mc.tune(
            one,
            other.train,
            other.valid,
            mc.Space(**BOX),
            n_trials=1,
            recipe=mc.Recipe(epochs=1),
            compute=mc.Compute(workers=1),
            store=tmp_path,
        )
