"A slip of the pen is answered with what was given, what is wanted, and what to write instead."

import warnings

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from torch import nn

import mnist_cmp as mc
from mnist_cmp.comparison import save_weights
from mnist_cmp.core.ledger import LedgerError
from mnist_cmp.evidence import figures
from mnist_cmp.evidence.verdict_data import verdict_data
from mnist_cmp.report import narrow_summary, report_page, write_report

CHANCE = np.random.default_rng(0)
X = CHANCE.normal(size=(300, 4)).astype('float32')
Y = (X[:, 0] + X[:, 1] > 0).astype(int)
FEW = dict(n_trials=1, seeds=2, search_epochs=1, recipe=mc.Recipe(epochs=1))


def linear(inputs, outputs):
    return nn.Linear(int(np.prod(inputs)), outputs)


def deep(inputs, outputs):
    return nn.Sequential(linear(inputs, 2), nn.ReLU(), nn.Linear(2, outputs))


def compare(models, table, *args, **kwargs):
    "A tiny comparison, without the warning that sizes differ."
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='.*match_params')
        return mc.compare(models, table, *args, **FEW | kwargs)


@pytest.fixture
def table():
    return mc.Data.from_arrays(X, Y)


@pytest.fixture(autouse=True)
def no_costs(free_costs):
    "No time is spent on measuring."


# Where a comparison lies


def test_a_report_is_loaded_by_its_file_too(compare_in, tmp_path):
    found = compare_in(tmp_path)
    found.save(tmp_path)
    again = mc.Comparison.load(tmp_path / 'report.json')
    assert again.names == found.names
    net = again.load_net('one', tmp_path / 'report.json', make=tiny.one)
    assert torch.equal(net[1].weight, found.weights['one'][0]['1.weight'])
    (tmp_path / 'notes.txt').touch()
    with pytest.raises(ValueError, match='notes.txt.*Give the folder of report.json'):
        mc.Comparison.load(tmp_path / 'notes.txt')


@pytest.mark.parametrize('name', ['found.json', 'found.html'])
def test_a_folder_is_not_named_like_a_file(compare_in, tmp_path, name):
    found = compare_in(None)
    for write in found.save, found.report:
        with pytest.raises(ValueError, match=f'{name}.*but must be a folder'):
            write(tmp_path / name)
    assert not (tmp_path / name).exists()
    (tmp_path / name).mkdir()
    assert found.save(tmp_path / name) == tmp_path / name


def test_weights_go_along_with_a_comparison_that_was_read(compare_in, tmp_path):
    found = compare_in(tmp_path / 'run')
    found.save(tmp_path / 'run')
    of_no_run = tmp_path / 'run' / 'weights' / 'one' / 'seed_9.safetensors'
    of_no_run.write_bytes(b'another')
    read = mc.Comparison.load(tmp_path / 'run')
    read.save(tmp_path / 'saved')
    read.report(tmp_path / 'reported')
    for folder in tmp_path / 'saved', tmp_path / 'reported':
        assert len([*folder.rglob('*.safetensors')]) == 4
        for number, weights in enumerate(found.weights['two']):
            net = mc.Comparison.load(folder).load_net('two', folder, number, make=tiny.two)
            assert torch.equal(net[2].weight, weights['2.weight'])
        read.save(folder)  # once more


def test_weights_that_are_there_are_not_written_over(compare_in, tmp_path):
    compare_in(tmp_path / 'run').save(tmp_path / 'run')
    read = mc.Comparison.load(tmp_path / 'run')
    theirs = tmp_path / 'theirs' / 'weights' / 'one' / 'seed_1.safetensors'
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b'theirs')
    with pytest.raises(LedgerError, match='seed_1.safetensors'):
        read.save(tmp_path / 'theirs')
    assert theirs.read_bytes() == b'theirs'
    read.save(tmp_path / 'theirs', overwrite=True)
    (aside,) = (tmp_path / 'theirs' / 'kept').rglob('seed_1.safetensors')
    assert aside.read_bytes() == b'theirs' and len(theirs.read_bytes()) > 100


def test_weights_of_another_report_are_not_taken_along(compare_in, tmp_path):
    compare_in(tmp_path / 'run').save(tmp_path / 'run')
    read = mc.Comparison.load(tmp_path / 'run')
    compare_in(tmp_path / 'other', seed=1).save(tmp_path / 'run', overwrite=True)
    with pytest.warns(UserWarning, match='no longer holds the report of this comparison'):
        read.save(tmp_path / 'saved')
    assert not (tmp_path / 'saved' / 'weights').exists()


# What is no comparison, no shape and no part of the data


FUNCTIONS = [
    mc.verdict,
    mc.summary,
    lambda found: narrow_summary(found, 80),
    lambda found: write_report(found, 'rep'),
    report_page,
    verdict_data,
    lambda found: save_weights(found, 'rep'),
    figures.plot_runs,
    figures.plot_differences,
    figures.plot_curves,
    figures.plot_kbest,
    figures.plot_budget,
    figures.plot_costs,
    figures.plot_confusions,
    figures.plot_class_errors,
    lambda found: figures.plot_pictures(found, 'all'),
    figures.plot_calibration,
    figures.plot_predictions,
    figures.plot_residuals,
]


@pytest.mark.parametrize('place', range(len(FUNCTIONS)))
def test_what_is_no_comparison(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TypeError, match="is 'x', but must be a Comparison, as compare, judge or"):
        FUNCTIONS[place]('x')
    assert not any(tmp_path.iterdir())


def test_a_shape_is_no_tuple():
    for shape in (5,), 5:
        with pytest.raises(
            TypeError, match=r'shape is .*5.*Shape\(\(5,\), 3\).* a Split or a Data'
        ):
            mc.initialise(linear, shape=shape)


def test_a_part_of_the_data_is_named(table):
    net = mc.initialise(linear, shape=table)
    for call in (mc.train, mc.measure):
        with pytest.raises(TypeError, match=r'must be a Split. Give a part of it: \.train or'):
            call(net, table)
    with pytest.raises(TypeError, match=r'must be a Split. Give a part of it: \.train or'):
        mc.tune(linear, table)


def test_what_is_no_data_is_shown_on_a_line():
    frame = pd.DataFrame(X).assign(y=Y)
    for given, words in (frame, r'DataFrame of shape \(300, 5\)'), ((X, Y), r'\(array'):
        with pytest.raises(TypeError, match=f'data is {words}.*Data.from_frame.*from_arrays') as e:
            mc.compare([linear, deep], given)
        assert '\n' not in str(e.value) and len(str(e.value)) < 300


def test_a_net_of_a_report_is_made_by_somebody(compare_in, tmp_path):
    found = compare_in(tmp_path)
    found.save(tmp_path)
    with pytest.raises(ValueError, match='one was made by one, which is no short name.*pass make='):
        found.load_net('one', tmp_path)
    with pytest.raises(TypeError, match='folder is 0, but must be a path'):
        found.load_net('one', 0)


# What the targets are


@pytest.fixture(scope='module')
def of_numbers():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mc.comparison, 'measure_costs', tiny.known_costs)
        return compare([linear, deep], mc.Data.from_arrays(X, 2 * X[:, 0] + 1))


@pytest.mark.parametrize(
    'name',
    ['class_errors', 'agreement', 'plot_confusions', 'plot_class_errors', 'plot_kbest'],
)
def test_numbers_have_no_classes(of_numbers, name):
    with pytest.raises(ValueError, match=r'are numbers, not classes: .*plot_residuals\(\)'):
        getattr(of_numbers, name)()


def test_numbers_have_no_confusion_and_no_confidence(of_numbers):
    for asked in of_numbers.confusion, of_numbers.calibration:
        with pytest.raises(ValueError, match=r'are numbers, not classes: .*plot_residuals\(\)'):
            asked('deep')
    with pytest.raises(ValueError, match='are numbers, not classes'):
        of_numbers.plot_calibration()


# Settings


def test_warmup_longer_than_a_trial(table, tmp_path):
    for how in (
        dict(recipe=mc.Recipe(warmup=1, epochs=2)),
        dict(recipe=mc.Recipe(epochs=2), space={'warmup': [0.5, 1.0]}),
    ):
        with pytest.raises(ValueError, match='warmup is 1.0, but must be .* search_epochs=1'):
            compare([linear, deep], table, store=tmp_path / 'run', **how)
    assert not (tmp_path / 'run').exists()


def test_usual_names_of_settings_and_metrics(table):
    with pytest.raises(ValueError, match='Did you mean learning_rate'):
        compare([linear, deep], table, space={'lr': (0.1, 0.2)})
    with pytest.raises(ValueError, match="Did you mean 'squared_error'"):
        compare([linear, deep], table, metric='mse')


def test_the_positive_class_of_many(table):
    three = mc.Data.from_arrays(X, Y + (X[:, 2] > 0))
    with pytest.raises(ValueError, match=r"metric=METRICS\['f1'\]\.of\('2'\).*'f1_macro'"):
        compare([linear, deep], three, metric='f1')
    found = compare([linear, deep], three, metric=mc.METRICS['f1'].of('2'))
    assert found.metric.positive == '2' and 'F1' in mc.verdict(found)


class Several(nn.Linear):
    def __init__(self, kind):
        super().__init__(4, 2)
        self.kind = kind

    def forward(self, x):
        out = super().forward(x)
        return {'tuple': (out, None), 'dict': {'logits': out}}[self.kind]


@pytest.mark.parametrize(
    'kind, words', [('tuple', 'a tuple of Tensor, NoneType'), ('dict', "a dict with 'logits'")]
)
def test_a_net_that_gives_more_than_a_tensor(table, kind, words):
    with pytest.raises(ValueError, match=f'gives {words} .*Have its forward return that alone'):
        compare({'several': lambda: Several(kind), 'linear': linear}, table)


def test_a_net_of_doubles(table):
    with pytest.raises(ValueError, match=r'parameters of torch.float64: .*net.float\(\)'):
        compare({'double': lambda: nn.Linear(4, 2).double(), 'linear': linear}, table)


def test_a_class_where_an_object_is_meant():
    with pytest.raises(TypeError, match=r'loss is the class .* write CrossEntropyLoss\(\)'):
        mc.Recipe(loss=nn.CrossEntropyLoss)
    with pytest.raises(TypeError, match=r'augment is the class .* write random_flip\(\)'):
        mc.Recipe(augment=[mc.random_shift(1), mc.random_flip])


# Few examples


def test_usual_batches_of_few_examples(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr('mnist_cmp.core.spaces.tell', said.append)
    few = mc.Data.from_arrays(X[:40], Y[:40])
    n = len(few.train)
    found = compare([linear, deep], few, store=tmp_path / 'run')
    spaces = [model.search.space for model in found.models]
    assert spaces == [mc.Space(batch_size=(n // 3, n))] * 2
    assert said == [
        f'Batch sizes are from {n // 3} to {n}, since there are {n} examples to train on.'
    ]
    result = mc.tune(linear, few.train, few.valid, n_trials=1, recipe=mc.Recipe(epochs=1))
    assert result.space == spaces[0]
    folds = compare([linear, deep], few, tuning=mc.Tuning(cv=3))
    assert folds['deep'].search.space.batch_size[1] == n - n // 3


def test_enough_examples_are_searched_as_ever(table, monkeypatch):
    said = []
    monkeypatch.setattr('mnist_cmp.core.spaces.tell', said.append)
    assert compare([linear, deep], table)['deep'].search.space == mc.Space()
    assert said == []


def test_batches_that_were_asked_for_are_refused_before_work(tmp_path):
    few = mc.Data.from_arrays(X[:40], Y[:40])
    with pytest.raises(ValueError, match=r"there are \d+ examples to train on.*'batch_size': \("):
        compare([linear, deep], few, {'batch_size': (16, 48)}, store=tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


# Once each


def softmax(inputs, outputs):
    return nn.Sequential(linear(inputs, outputs), nn.Softmax(1))


def test_each_warning_is_given_once(table):
    for _ in range(2):  # by each call
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            mc.compare([softmax, linear], table, {'learning_rate': [0.01, 0.1]}, **FEW)
        said = [str(warning.message) for warning in caught]
        assert len([text for text in said if 'after a softmax' in text]) == 1
        assert len([text for text in said if 'are its only choices' in text]) == 1
        assert {warning.filename for warning in caught} == {__file__}
