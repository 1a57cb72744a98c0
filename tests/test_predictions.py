"""Predictions from anywhere: whatever order, file or type they come in, the same is kept; odd ones
are answered in words."""

import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_cmp.core import files
from mnist_cmp.evidence import predictions
from mnist_cmp.evidence.predictions import Predictions

MODELS = 'net', 'tree'
WORDS = np.array(['cat', 'dog', 'owl'])
AS_TABLE = {'examples', 'groups', 'group_names'}  # what arrays need not have


def kept(found, but=()):
    "All that is kept, in plain types."
    fields = dict(vars(found))
    fields['answers'] = {model: array.tolist() for model, array in found.answers.items()}
    for name in ('y', 'groups', 'parts'):
        if fields[name] is not None:
            fields[name] = fields[name].tolist()
    return {name: value for name, value in fields.items() if name not in but}


def made(seed=0, trainings=3, n=12):
    "Model → labels of trainings, 0 to 2, and true ones."
    rng = np.random.default_rng(seed)
    y = np.append([0, 1, 2], rng.integers(0, 3, n - 3))
    return {name: rng.integers(0, 3, (trainings, n)) for name in MODELS}, y


def long_of(answers, y):
    "The same as a long table."
    rows = []
    for model, trainings in answers.items():
        for seed, training in enumerate(trainings):
            for example, answer in enumerate(training):
                rows.append((model, seed, example, answer, y[example], f'g{example % 4}'))
    return pd.DataFrame(rows, columns='model seed example prediction label group'.split())


def scores_of(answers):
    "Probabilities that say the same."
    rng = np.random.default_rng(1)
    sure = {}
    for name, labels in answers.items():
        scores = rng.dirichlet(np.ones(3), labels.shape) + 2 * np.eye(3)[labels]
        sure[name] = scores / scores.sum(-1, keepdims=True)
    return sure


def with_scores(table, scores):
    "The long table with columns of scores for predictions."
    columns = np.concatenate([scores[name].reshape(-1, 3) for name in MODELS])
    table = table.drop(columns='prediction')
    return table.assign(**{f'score_{label}': columns[:, label] for label in range(3)})


# ---- what changes nothing


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 12), st.booleans())
def test_order_of_rows_and_columns(random, trainings, as_words):
    table = long_of(*made(trainings, trainings))
    if as_words:
        table = table.assign(**{name: WORDS[table[name]] for name in ('prediction', 'label')})
    rows = list(range(len(table)))
    random.shuffle(rows)
    columns = list(table.columns)
    random.shuffle(columns)
    turned = table.iloc[rows][columns]
    assert kept(Predictions.from_table(turned)) == kept(Predictions.from_table(table))


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(12)))
def test_order_of_examples_with_ids(order):
    answers, y = made()
    groups = np.array([f'g{k % 4}' for k in range(12)])
    known = Predictions.from_arrays(answers, y, examples=range(12), groups=groups, by=y)
    turned = {name: array[:, order] for name, array in answers.items()}
    found = Predictions.from_arrays(
        turned, y[order], examples=order, groups=groups[order], by=y[order]
    )
    assert kept(found) == kept(known)


@settings(max_examples=25, deadline=None)
@given(st.permutations(MODELS), st.permutations(range(3)))
def test_order_of_models_and_seeds(models, seeds):
    table = long_of(*made())
    parts = [table[(table.model == m) & (table.seed == s)] for m in models for s in seeds]
    assert kept(Predictions.from_table(pd.concat(parts))) == kept(Predictions.from_table(table))
    answers, y = made()
    found = Predictions.from_arrays({name: answers[name] for name in models}, y)
    assert found.names == list(models)  # as they were given
    assert found.answers['net'].tolist() == answers['net'].tolist()


@pytest.mark.parametrize(
    'dtype', ['int8', 'uint8', 'int16', '>i4', 'int64', 'uint64', 'float16', '>f8', object, str]
)
def test_types_of_labels(dtype):
    answers, y = made()
    known = kept(Predictions.from_arrays(answers, y))
    turned = {name: array.astype(dtype) for name, array in answers.items()}
    assert kept(Predictions.from_arrays(turned, y)) == known
    assert kept(Predictions.from_arrays(answers, y.astype(dtype))) == known
    assert kept(Predictions.from_arrays({n: a.tolist() for n, a in turned.items()}, y)) == known


@pytest.mark.parametrize('dtype', ['float16', 'float32', '>f4', 'float64', '>f8', 'longdouble'])
def test_types_of_scores(dtype):
    answers, y = made()
    scores = {name: s.astype(np.float16) for name, s in scores_of(answers).items()}
    known = kept(Predictions.from_arrays(scores, y))
    assert known['kind'] == 'probabilities'
    turned = {name: s.astype(dtype) for name, s in scores.items()}
    assert kept(Predictions.from_arrays(turned, y)) == known


def test_bools_are_0_and_1():
    y = np.array([True, False, True])
    found = Predictions.from_arrays({'a': [[1, 0, 0]], 'b': y[None]}, y)
    assert found.classes == ['0', '1']
    assert found.answers['b'].tolist() == [[1, 0, 1]]


def frames():
    "Data frames of all libraries that are there."
    table = long_of(*made())
    yield 'pandas', table
    yield 'pandas, categories', table.astype(dict.fromkeys(['model', 'group'], 'category'))
    yield 'pandas, nullable', table.convert_dtypes()
    yield 'pandas, objects', table.astype(object)
    yield 'columns', table.to_dict('list')
    yield 'pandas, odd index', table.set_index(pd.Index([7] * len(table)))


@pytest.mark.parametrize('name', dict(frames()))
def test_frames(name):
    table = long_of(*made())
    assert kept(Predictions.from_table(dict(frames())[name])) == kept(Predictions.from_table(table))


def test_arrow_and_polars(tmp_path):
    polars = pytest.importorskip('polars')
    arrow = pytest.importorskip('pyarrow')
    table = long_of(*made())
    known = kept(Predictions.from_table(table))
    frame = polars.DataFrame(table.to_dict('list'))
    assert kept(Predictions.from_table(frame)) == known
    assert kept(Predictions.from_table(arrow.table(table.to_dict('list')))) == known
    frame.write_parquet(tmp_path / 'long.parquet')
    assert kept(Predictions.from_table(tmp_path / 'long.parquet')) == known
    with pytest.raises(TypeError, match='table is a LazyFrame, but must be a data frame'):
        Predictions.from_table(frame.lazy())
    (tmp_path / 'odd.parquet').write_bytes(b'PAR1 and no more PAR1')
    with pytest.raises(ValueError, match=r'odd\.parquet can not be read as a Parquet file'):
        Predictions.from_table(tmp_path / 'odd.parquet')


def test_parquet_needs_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pyarrow.parquet', None)
    monkeypatch.setitem(sys.modules, 'pyarrow', None)
    with pytest.raises(ImportError, match=r"pip install 'mnist_cmp\[tables\]'"):
        Predictions.from_table(tmp_path / 'long.parquet')


@pytest.mark.parametrize('separator, suffix', [(',', 'csv'), (';', 'csv'), ('\t', 'tsv')])
@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig'])
@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'])
def test_csv(separator, suffix, encoding, end, tmp_path):
    table = long_of(*made())
    path = tmp_path / f'long.{suffix}'
    text = table.to_csv(None, index=False, sep=separator, lineterminator='\n')
    path.write_bytes(text.replace('\n', end).encode(encoding))
    assert kept(Predictions.from_table(path)) == kept(Predictions.from_table(table))


def test_all_doors_lead_to_the_same(tmp_path):
    answers, y = made(trainings=11)
    known = kept(Predictions.from_arrays(answers, y), AS_TABLE)
    table = long_of(answers, y)
    assert kept(Predictions.from_table(table), AS_TABLE) == known
    assert kept(Predictions.from_table(table.drop(columns='label'), y), AS_TABLE) == known
    by_id = pd.DataFrame({'label': y, 'example': range(12)})
    by_id.to_csv(tmp_path / 'y.csv', index=False)
    by_id[['label']].to_csv(tmp_path / 'alone.csv', index=False)
    np.save(tmp_path / 'y.npy', y)
    for more in (
        by_id,
        dict(enumerate(y)),
        tmp_path / 'y.csv',
        tmp_path / 'alone.csv',
        tmp_path / 'y.npy',
    ):
        assert kept(Predictions.from_table(table.drop(columns='label'), more), AS_TABLE) == known
    for more in (tmp_path / 'alone.csv', str(tmp_path / 'y.npy'), pd.Series(y), y.tolist()):
        assert kept(Predictions.from_arrays(answers, more), AS_TABLE) == known
    np.savez_compressed(tmp_path / 'all.npz', **answers, y=y)
    assert kept(Predictions.from_arrays(tmp_path / 'all.npz'), AS_TABLE) == known
    for name, trainings in answers.items():
        np.save(tmp_path / f'{name}.npy', np.asfortranarray(trainings))
        for seed, training in enumerate(trainings):
            np.save(tmp_path / f'{name}_{seed}.npy', training)
    paths = {name: str(tmp_path / f'{name}_*.npy') for name in MODELS}
    assert kept(Predictions.from_arrays(paths, y), AS_TABLE) == known
    mixed = {'net': tmp_path / 'net.npy', 'tree': list(answers['tree'])}
    assert kept(Predictions.from_arrays(mixed, y), AS_TABLE) == known


def test_scores_from_all_doors(tmp_path):
    answers, y = made()
    scores = scores_of(answers)
    known = kept(Predictions.from_arrays(scores, y), AS_TABLE)
    assert known['kind'] == 'probabilities'
    table = with_scores(long_of(answers, y), scores)
    table.to_csv(tmp_path / 'scores.csv', index=False)
    assert kept(Predictions.from_table(tmp_path / 'scores.csv'), AS_TABLE) == known
    turned = table[[*table.columns[::-1]]]  # columns of scores in another order
    assert kept(Predictions.from_table(turned), AS_TABLE) == known
    named = kept(Predictions.from_table(table, classes=WORDS), AS_TABLE)
    assert named == known | {'classes': WORDS.tolist()}


def test_losses_and_numbers_to_the_last_digit(tmp_path):
    rng = np.random.default_rng(2)
    values = {name: rng.random((2, 50)) * 10.0 ** rng.integers(-9, 9, 50) for name in MODELS}
    y = rng.random(50)
    table = long_of(values, y)
    path = tmp_path / 'numbers.csv'
    table.to_csv(path, index=False)
    known = kept(Predictions.from_arrays(values, y, task='regression'), AS_TABLE)
    assert kept(Predictions.from_table(path, task='regression'), AS_TABLE) == known
    table.rename(columns={'prediction': 'loss'}).to_csv(path, index=False)
    known = kept(Predictions.from_arrays(values), AS_TABLE)
    assert known['kind'] == 'losses'
    assert kept(Predictions.from_table(path), AS_TABLE) == known


def test_light(tmp_path):
    "Arrays and their files need nothing that is slow to import."
    answers, y = made()
    np.savez(tmp_path / 'all.npz', **answers, y=y)
    code = (
        'import sys\n'
        'from mnist_cmp.evidence.predictions import Predictions\n'
        f'print(Predictions.from_arrays({str(tmp_path / "all.npz")!r}))\n'
        "slow = 'torch', 'pandas', 'scipy', 'sklearn', 'matplotlib.pyplot', 'narwhals', 'pyarrow'\n"
        'print([name for name in slow if name in sys.modules])\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == '[]', done.stderr


# ---- seeds


def test_seeds_of_a_glob_are_its_numbers(tmp_path):
    y = [0, 1]
    for seed in (10, 2, 1):
        np.save(tmp_path / f'v2_run_{seed}_e50.npy', np.array([0, seed % 2]))
        (tmp_path / f'seed-{seed}').mkdir()
        np.save(tmp_path / f'seed-{seed}' / 'test.npy', np.array([1, seed % 2]))
    paths = {'net': f'{tmp_path}/v2_run_*_e50.npy', 'tree': f'{tmp_path}/seed-*/test.npy'}
    found = Predictions.from_arrays(paths, y)
    assert found.seeds == {'net': ['1', '2', '10'], 'tree': ['1', '2', '10']}
    assert found.answers['net'].tolist() == [[0, 1], [0, 0], [0, 0]]
    assert found.paired
    assert not found.remarks


def test_names_that_do_not_match_are_unpaired(tmp_path):
    for seed in (3, 4):
        np.save(tmp_path / f'r_{seed}.npy', np.array([0, 1]))
    models = {'net': f'{tmp_path}/r_*.npy', 'tree': [[0, 1], [1, 1], [1, 1]]}
    found = Predictions.from_arrays(models, [0, 1])
    assert not found.paired
    (remark,) = found.remarks
    assert "net has 2 ('3', '4'); tree has 3 ('0', '1', '2')" in remark


def test_numbers_twice_are_told_by_the_rest(tmp_path):
    for name in ('a_1', 'b_1'):
        np.save(tmp_path / f'{name}.npy', np.array([0, 1]))
    models = {'net': f'{tmp_path}/*.npy', 'tree': [[0, 1]]}
    assert Predictions.from_arrays(models, [0, 1]).seeds['net'] == ['a_1', 'b_1']


def test_a_glob_of_too_many_files(tmp_path, monkeypatch):
    monkeypatch.setattr(predictions, '_MOST_FILES', 2)
    for seed in range(3):
        np.save(tmp_path / f'r_{seed}.npy', np.array([0, 1]))
    with pytest.raises(ValueError, match=r"number of files of models\['a'\] is 3"):
        Predictions.from_arrays({'a': f'{tmp_path}/r_*.npy', 'b': [[0, 1]]}, [0, 1])


def test_files_whose_names_hold_wildcards(tmp_path):
    np.save(tmp_path / 'run[1].npy', np.array([[0, 1]]))
    found = Predictions.from_arrays({'a': str(tmp_path / 'run[1].npy'), 'b': [[0, 1]]}, [0, 1])
    assert found.answers['a'].tolist() == [[0, 1]]


# ---- missing


def test_failed_samples_of_scores():
    answers, y = made()
    scores = scores_of(answers)
    scores['net'][1, 5, 2] = np.nan
    told = "net has no answer for 1 of 36 samples, first of training '1', example '5'"
    with pytest.raises(ValueError, match=told):
        Predictions.from_arrays(scores, y)
    found = Predictions.from_arrays(scores, y, missing='wrong')
    assert found.kind == 'probabilities'
    assert np.isnan(found.answers['net'][1, 5]).all()
    assert found.remarks == [f'{told}. They count as wrong.']


@pytest.mark.parametrize('empty', [None, np.nan, pd.NA, ''])
def test_failed_samples_of_labels(empty, tmp_path):
    answers, y = made()
    objects = {name: array.astype(object) for name, array in answers.items()}
    objects['net'][1, 5] = empty
    table = long_of(objects, y)
    table.to_csv(tmp_path / 'long.csv', index=False)
    for found in (
        Predictions.from_arrays(objects, y, missing='wrong'),
        Predictions.from_table(table, missing='wrong'),
        Predictions.from_table(tmp_path / 'long.csv', missing='wrong'),
        Predictions.from_table(table.drop(index=17), missing='wrong'),
    ):
        assert found.answers['net'][1, 5] == -1
        assert (found.answers['net'] == -1).sum() == 1
        assert 'net has no answer for 1 of 36 samples' in found.remarks[0]


def test_a_float_column_with_a_gap_is_of_whole_labels(tmp_path):
    "As pandas writes labels beside an empty cell."
    answers, y = made()
    table = long_of(answers, y).astype({'prediction': float})
    table.loc[17, 'prediction'] = np.nan
    path = tmp_path / 'long.csv'
    table.to_csv(path, index=False)
    assert '2.0' in path.read_text()
    found = Predictions.from_table(path, missing='wrong')
    assert found.classes == ['0', '1', '2']
    assert found.answers['net'][0].tolist() == answers['net'][0].tolist()


@pytest.mark.parametrize('lost', [np.nan, np.inf, -np.inf])
def test_no_loss_is_ever_missing(lost):
    losses = {'a': [[0.5, 1.0]], 'b': [[0.5, lost]]}
    with pytest.raises(ValueError, match="b has no answer .* example '1': NaN, or no finite"):
        Predictions.from_arrays(losses)
    with pytest.raises(ValueError, match="missing is 'wrong', but only answers that are classes"):
        Predictions.from_arrays({'a': [[0.5]], 'b': [[0.5]]}, missing='wrong')


# ---- odd arrays


def answers_with(**changes):
    answers = {'a': [[0, 1, 1]], 'b': [[0, 0, 1]]}
    return answers | changes


ODD = {
    'a single training': (answers_with(b=[0, 1, 1]), 'one training is [p]'),
    'a number': (answers_with(b=3), 'one training is [p]'),
    'nothing': (answers_with(b=None), "models['b'] has the shape ()"),
    'a dict': (answers_with(b={0: [0, 1, 1]}), 'one training is [p]'),
    'a generator': (answers_with(b=iter([[0, 1, 1]])), 'one training is [p]'),
    'no training': (answers_with(b=[]), 'has no training'),
    'no example': (answers_with(b=np.zeros((2, 0))), 'no example is there'),
    'ragged': (answers_with(b=[[0, 1, 1], [0, 1]]), "(3,) in '0', (2,) in '1'"),
    'ragged within': (answers_with(b=[[[0], [1, 2]]]), 'can not be read as an array'),
    'one more example': (answers_with(b=[[0, 1, 1, 1]]), 'All must answer the same examples'),
    'labels and scores': (answers_with(b=np.ones((1, 3, 2))), 'scores.argmax(-1)'),
    'four axes': (answers_with(b=np.ones((1, 3, 2, 2))), 'trainings × N × K'),
    'one column of scores': (answers_with(b=np.ones((1, 3, 1))), 'np.concatenate([1 - p, p]'),
    'probabilities of one class': (answers_with(b=[[0.2, 0.7, 1]]), 'a column for each class'),
    'infinite labels': (answers_with(b=[[0, 1, np.inf]]), 'holds inf'),
    'huge labels': (answers_with(b=[[0, 1, 1e20]]), 'holds 1e+20'),
    'no column of scores': (answers_with(b=[[[], [], []]]), 'no example is there'),
    'a list for a label': (answers_with(b=[np.array([0, 1, [2]], dtype=object)]), 'holds [2]'),
    'complex numbers': (answers_with(b=np.array([[0j, 1, 1]])), 'complex128'),
    'dates': (answers_with(b=np.array([['2026-01-01'] * 3], 'M8[D]')), 'datetime64'),
    'bytes': (answers_with(b=np.array([[b'0'] * 3])), '|S1'),
    'masked': (answers_with(b=np.ma.masked_equal([[0, 1, 2]], 2)), 'masked array'),
    'unknown label': (answers_with(b=[[0, 1, 7]]), "training '0', holds '7', in 1 row"),
    'a name with a slash': (answers_with(**{'c/d': [[0, 1, 1]]}), 'they name files'),
    'a name that is a number': ({'a': [[0, 1, 1]], 1: [[0, 1, 1]]}, 'has the name 1'),
    'a formula for a name': (answers_with(**{'=cmd': [[0, 1, 1]]}), 'they name files'),
    'the name all': (answers_with(all=[[0, 1, 1]]), 'which is taken'),
    'one model': ({'a': [[0, 1, 1]]}, 'two names at least'),
}


@pytest.mark.parametrize('name', ODD)
def test_odd_answers(name):
    answers, told = ODD[name]
    with pytest.raises((ValueError, TypeError)) as error:
        Predictions.from_arrays(answers, [0, 1, 1])
    assert told in str(error.value)


ARGUMENTS = {
    'models is a list': (([[0, 1]], [0, 1]), {}, 'models is a list, but must be a dict'),
    'no y': ((answers_with(a=[[0, 1, 2]]),), {}, 'may be labels'),
    'short y': ((answers_with(), [0, 1]), {}, 'y has 2 values, but trainings have 3'),
    'y of two axes': ((answers_with(), [[0, 1, 1]]), {}, 'y has the shape (1, 3)'),
    'y with a gap': ((answers_with(), [0, None, 1]), {}, "have no true label, first '1'"),
    'y is a number': ((answers_with(), 1), {}, 'y has the shape ()'),
    'classes twice': ((answers_with(), [0, 1, 1]), {'classes': [0, '0', 1]}, "has '0' twice"),
    'a class too few': ((answers_with(), [0, 1, 1]), {'classes': ['0']}, "holds '1'"),
    'classes and losses': ((answers_with(),), {'classes': ['0']}, 'have no classes'),
    'short groups': ((answers_with(), [0, 1, 1]), {'groups': [0, 1]}, 'groups has 2 values'),
    'groups with a gap': ((answers_with(), [0, 1, 1]), {'groups': ['a', None, 'b']}, '1 empty'),
    'by a word': ((answers_with(), [0, 1, 1]), {'by': 'site'}, 'by has the shape ()'),
    'ids twice': ((answers_with(), [0, 1, 1]), {'examples': [4, 4, 5]}, "first '4'"),
    'ids of two types': (
        (answers_with(), [0, 1, 1]),
        {'examples': np.array([1, '1', 2], dtype=object)},
        'holds 1 as a number and as a text',
    ),
    'task': ((answers_with(), [0, 1, 1]), {'task': 'ranking'}, "task is 'ranking'"),
    'missing': ((answers_with(), [0, 1, 1]), {'missing': 'drop'}, "missing is 'drop'"),
    'regression of words': ((answers_with(), ['x'] * 3), {'task': 'regression'}, 'y holds texts'),
    'regression without y': ((answers_with(),), {'task': 'regression'}, 'needs y'),
    'regression with a gap': (
        (answers_with(), [0, np.nan, 1]),
        {'task': 'regression'},
        "have no true number, first '1'",
    ),
}


@pytest.mark.parametrize('name', ARGUMENTS)
def test_odd_arguments(name):
    positional, named, told = ARGUMENTS[name]
    with pytest.raises((ValueError, TypeError)) as error:
        Predictions.from_arrays(*positional, **named)
    assert told in str(error.value)


VALUES = [0, 1, 2, '1', 'a', '', None, np.nan, 1.5, True, np.inf, -1, 10**20, 2**63, pd.NA, '=x']
VALUES += [[1], {}, (1, 2), b'x', 1j, np.float16(1), pd.NaT, '\ud800', '\0']
ANYTHING = st.recursive(st.sampled_from(VALUES), lambda some: st.lists(some, max_size=3))
LABELS = [[0, 1, 2], [2, 1, 0]]


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(st.just(LABELS), ANYTHING),
    st.one_of(st.just(LABELS[0]), ANYTHING),
    st.dictionaries(st.sampled_from(['classes', 'examples', 'groups', 'by', 'task']), ANYTHING),
)
def test_whatever_comes_is_answered_in_words(labels, y, arguments):
    try:
        found = Predictions.from_arrays({'a': labels, 'b': LABELS}, y, **arguments)
    except (ValueError, TypeError) as error:
        assert re.search('(a|has|have|holds|is|are|needs?|must|more) .*[.)]$', str(error), re.S)
    else:
        assert found.answers['a'].shape == found.answers['b'].shape == (2, 3)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 900),
    st.sampled_from([b'"', b',', b'\n', b'\r', b'\xff', b'\0', b';', b'\t', b'nan', b'9' * 30]),
)
def test_any_damage_to_a_table_is_answered_in_words(place, damage):
    content = long_of(*made()).to_csv(index=False).encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'long.csv'
        path.write_bytes(content[:place] + damage + content[place:])
        try:
            found = Predictions.from_table(path)
        except ValueError as error:
            assert str(error).endswith('.')
        else:  # a blank line, or quotes around a cell
            assert found.answers['net'].shape == (3, 12)


def test_examples_first_is_told_how_to_turn():
    labels = np.zeros((3, 2), int)
    with pytest.raises(ValueError, match=r"turn the array: models\['a'\]\.T"):
        Predictions.from_arrays({'a': labels, 'b': labels}, [0, 1, 0])


def test_too_much_is_refused_before_anything_is_made():
    huge = np.lib.stride_tricks.as_strided(np.zeros(1, np.int8), (20, 10**7), (0, 0))
    y = np.lib.stride_tricks.as_strided(np.zeros(1, np.int8), (10**7,), (0,))
    with pytest.raises(ValueError, match='Take fewer seeds, or fewer test images'):
        Predictions.from_arrays({'a': huge, 'b': huge}, y)
    wide = np.lib.stride_tricks.as_strided(np.zeros(1), (10, 10**5, 1000), (0, 0, 0))
    with pytest.raises(ValueError, match=r'classes is 2000000000.*scores\.argmax\(-1\)'):
        Predictions.from_arrays({'a': wide, 'b': wide}, y[: 10**5])


def test_many_classes():
    labels = np.arange(10_000)
    found = Predictions.from_arrays({'a': labels[None], 'b': labels[None, ::-1]}, labels)
    assert found.answers['b'][0, 0] == 9999
    labels = np.arange(100_001)
    with pytest.raises(ValueError, match='number of classes is 100001'):
        Predictions.from_arrays({'a': labels[None], 'b': labels[None]}, labels)


def test_one_example_all_right_and_all_wrong():
    one = Predictions.from_arrays({'a': [['x']], 'b': [['x']]}, ['x'])
    assert (one.n_examples, one.classes) == (1, ['x'])
    y = np.array([0, 1, 0])
    found = Predictions.from_arrays({'a': y[None], 'b': 1 - y[None]}, y)
    assert (found.answers['a'] == found.y).all()
    assert (found.answers['b'] != found.y).all()


def test_infinite_scores_are_scores():
    scores = np.array([[[0.0, -np.inf], [np.inf, 1.0]]])
    assert Predictions.from_arrays({'a': scores, 'b': scores}, [0, 1]).kind == 'scores'


def test_tensors():
    "What offers itself to NumPy is taken, what can't is refused in words."
    torch = pytest.importorskip('torch')
    labels = torch.tensor([[0, 1, 1]])
    found = Predictions.from_arrays({'a': labels, 'b': [torch.tensor([0, 0, 1])]}, labels[0])
    assert found.answers['b'].tolist() == [[0, 0, 1]]
    scores = torch.ones(1, 3, 2, requires_grad=True)
    with pytest.raises(ValueError, match=r"models\['a'\] can not be read as an array .*detach"):
        Predictions.from_arrays({'a': scores, 'b': scores}, labels[0])


def test_nothing_of_the_callers_is_changed():
    answers, y = made()
    scores = scores_of(answers)
    scores['net'][0, 0, 1] = np.nan
    before = scores['net'].copy()
    found = Predictions.from_arrays(scores, y, missing='wrong')
    found.answers['net'][0, 1] = 7
    assert np.array_equal(scores['net'], before, equal_nan=True)


# ---- odd files


def test_objects_are_never_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'sprung'),)

    odd = np.array([[Trap(), Trap()]], dtype=object)
    np.save(tmp_path / 'odd.npy', odd, allow_pickle=True)
    np.savez(tmp_path / 'odd.npz', a=odd, b=odd)
    for models in (tmp_path / 'odd.npz', answers_with(b=tmp_path / 'odd.npy')):
        with pytest.raises(ValueError, match='not of objects'):
            Predictions.from_arrays(models, [0, 1, 1])
    assert not (tmp_path / 'sprung').exists()


def test_archives_that_unpack_to_much(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / 'zeros.npz', a=np.zeros((1, 10**6)), b=np.zeros((1, 10**6)))
    monkeypatch.setattr(predictions, '_MOST_BYTES', 10**6)
    assert (tmp_path / 'zeros.npz').stat().st_size < 10**6
    with pytest.raises(ValueError, match='unpacks to 16,000,'):
        Predictions.from_arrays(tmp_path / 'zeros.npz')


def test_large_files_are_refused_by_their_size(tmp_path, monkeypatch):
    "Sparse files of 3 GB: they are not read."
    monkeypatch.setattr(files, 'read_plain', None)
    for name in ('p.csv', 'p.npy', 'p.npz', 'p.parquet'):
        with open(tmp_path / name, 'wb') as file:
            file.truncate(3 * 10**9)
    told = 'holds 3,000,000,000 bytes, but must hold at most'
    with pytest.raises(ValueError, match=f'{told} 536,870,912. Save trainings .* as .npz'):
        Predictions.from_table(tmp_path / 'p.csv')
    with pytest.raises(ValueError, match=f'{told} 2,147,483,648. Judge fewer'):
        Predictions.from_arrays(tmp_path / 'p.npz')
    with pytest.raises(ValueError, match=f'{told} 2,147,483,648. Judge fewer'):
        Predictions.from_arrays(answers_with(b=tmp_path / 'p.npy'), [0, 1, 1])


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no pipes with names')
def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'pipe.npy')
    os.mkfifo(tmp_path / 'pipe.csv')
    with pytest.raises(ValueError, match='is no file'):
        Predictions.from_arrays(answers_with(b=tmp_path / 'pipe.npy'), [0, 1, 1])
    with pytest.raises(ValueError, match='is no file'):
        Predictions.from_table(tmp_path / 'pipe.csv')
    (tmp_path / 'folder.npy').mkdir()
    with pytest.raises(ValueError, match='is no file'):
        Predictions.from_arrays(answers_with(b=tmp_path / 'folder.npy'), [0, 1, 1])


def test_a_link_that_the_caller_names_is_followed(tmp_path):
    np.save(tmp_path / 'p.npy', np.array([[0, 0, 1]]))
    (tmp_path / 'link.npy').symlink_to(tmp_path / 'p.npy')
    found = Predictions.from_arrays(answers_with(b=tmp_path / 'link.npy'), [0, 1, 1])
    assert found.answers['b'].tolist() == [[0, 0, 1]]


def test_damaged_archives(tmp_path):
    np.savez(tmp_path / 'p.npz', a=np.zeros((1, 100)), b=np.ones((1, 100)))
    content = bytearray((tmp_path / 'p.npz').read_bytes())
    content[300] ^= 255
    (tmp_path / 'p.npz').write_bytes(content)
    with pytest.raises(ValueError, match='can not be read as arrays'):
        Predictions.from_arrays(tmp_path / 'p.npz')
    with zipfile.ZipFile(tmp_path / 'odd.npz', 'w') as file:
        file.writestr('a', 'hello')
    with pytest.raises((ValueError, TypeError)):
        Predictions.from_arrays(tmp_path / 'odd.npz')


# ---- odd tables

HEAD = 'model,seed,example,prediction,label\n'
ROWS = 'a,0,x,1,1\na,0,y,0,0\nb,0,x,1,1\nb,0,y,1,0\n'
TABLES = {
    'empty file': ('', 'must name columns'),
    'no header': (ROWS, "begins with the line 'a,0,x,1,1'"),
    'header alone': (HEAD, 'has no row'),
    'no model': ('example,prediction,label\nx,1,1\n', 'but needs model'),
    'no answer': ('model,example,label\na,x,1\nb,x,1\n', 'must have one of prediction, score_'),
    'two answers': (HEAD.replace('label', 'loss') + ROWS, 'columns of prediction and loss'),
    'no label': ('model,example,prediction\na,x,1\nb,x,1\n', 'labels must be given'),
    'twice the same row': (HEAD + ROWS + 'a,0,x,1,1\n', '1 samples of a more than once, first of'),
    'a gap': (HEAD + ROWS[:-10], "b has no answer for 1 of 2 samples, first of training '0'"),
    'an empty answer': (HEAD + ROWS.replace('a,0,y,0', 'a,0,y,'), "training '0', example 'y'"),
    'an empty model': (HEAD + ',0,x,1,1\n', 'model has 1 empty cells, first in row 1'),
    'an empty id': (HEAD + 'a,0,,1,1\n' + ROWS, 'example has 1 empty cells, first in row 1'),
    'an empty seed': (HEAD + ROWS + 'a,,x,1,1\n', 'seed has 1 empty cells, first in row 5'),
    'another label': (HEAD + ROWS.replace('b,0,y,1,0', 'b,0,y,1,1'), "first 'y'"),
    'unknown label': (HEAD + ROWS.replace('y,0', 'y,bird'), "prediction holds 'bird', in 1 row"),
    'ids that differ': (HEAD + ROWS.replace('b,0,x', 'b,0,X'), 'has no answer for 1 of 3'),
    'zeros before ids': (HEAD + ROWS.replace('b,0,x', 'b,0,0x'), 'has no answer for 1 of 3'),
    'a cell too many': (HEAD + ROWS + 'a,1,x,1,1,7\n', 'Expected 5 fields in line 6, saw 6'),
    'a cell too few': (HEAD + ROWS + 'a,1\n', 'example has 1 empty cells, first in row 5'),
    'one model': (HEAD + ROWS[:20], 'two names at least'),
    'a formula for a name': (HEAD + ROWS.replace('a,0', '=cmd,0'), "the name '=cmd'"),
    'a word for a loss': (
        'model,example,loss\na,x,0.5\nb,x,high\n',
        "the column 'loss' holds 'high' in row 2, but must hold numbers",
    ),
    'a comma in a number': ('model;example;loss\na;x;0,5\nb;x;1\n', "decimal comma, such as '0,5'"),
    'an infinite loss': ('model,example,loss\na,x,inf\nb,x,1\n', 'NaN, or no finite number'),
    'one column of scores': ('model,example,score_1,label\na,x,1,1\nb,x,1,1\n', 'each class needs'),
    'a class of no column': (
        'model,example,score_1,score_2,label\na,x,1,0,1\nb,x,1,0,1\na,y,1,0,3\nb,y,1,0,3\n',
        "label holds '3', in 1 row, which is not a column of scores",
    ),
    'scores of one class': (
        'model,example,score_1,score_1.0,label\na,x,1,0,1\nb,x,1,0,1\n',
        'each needs its own class',
    ),
    'a stray quote': (HEAD + ROWS + 'a,1,"x,1,1\n', 'EOF inside string'),
    'null bytes': (HEAD + ROWS + 'a,1,\0,1,1\n', 'is no text in UTF-8'),
}


@pytest.mark.parametrize('name', TABLES)
def test_odd_tables(name, tmp_path):
    text, told = TABLES[name]
    (tmp_path / 'long.csv').write_text(text)
    with pytest.raises(ValueError) as error:
        Predictions.from_table(tmp_path / 'long.csv')
    assert told in str(error.value)


def test_the_plain_table_of_these_is_read(tmp_path):
    (tmp_path / 'long.csv').write_text(HEAD + ROWS)
    found = Predictions.from_table(tmp_path / 'long.csv')
    assert found.answers['b'].tolist() == [[1, 1]]
    assert found.y.tolist() == [1, 0]


def test_a_class_that_the_test_lacks(tmp_path):
    (tmp_path / 'long.csv').write_text(HEAD + ROWS.replace('b,0,y,1', 'b,0,y,2'))
    told = "prediction holds '2', in 1 row, which is not a true label. Name all classes by classes="
    with pytest.raises(ValueError, match=told):
        Predictions.from_table(tmp_path / 'long.csv')
    found = Predictions.from_table(tmp_path / 'long.csv', classes=[0, 1, 2])
    assert found.answers['b'].tolist() == [[1, 2]]


def test_formulas_and_quotes_stay_text(tmp_path):
    words = ['=cmd|" /C calc"!A0', '@SUM(1)', 'a,b\nc', '<b>ä</b>']
    answers = {name: np.array([words]) for name in MODELS}
    table = long_of(answers, words).assign(group=words * 2)
    table.to_csv(tmp_path / 'long.csv', index=False)
    found = Predictions.from_table(tmp_path / 'long.csv')
    assert found.classes == sorted(words)
    assert found.group_names == sorted(words)


def test_ids_are_texts(tmp_path):
    text = HEAD + ''.join(f'{m},0,{e},1,1\n' for m in 'ab' for e in ('1', '01', '1.0', ' 1', 'NA'))
    (tmp_path / 'long.csv').write_text(text)
    found = Predictions.from_table(tmp_path / 'long.csv')
    assert found.examples == sorted(['1', '01', '1.0', ' 1', 'NA'])
    mixed = long_of(*made()).astype({'example': object})
    mixed.loc[3, 'example'] = '3'
    with pytest.raises(ValueError, match='example holds 3 as a number and as a text'):
        Predictions.from_table(mixed)


def test_groups_and_parts(tmp_path):
    table = long_of(*made()).assign(site=lambda rows: 's' + (rows.example % 2).astype(str))
    table.to_csv(tmp_path / 'long.csv', index=False)
    found = Predictions.from_table(tmp_path / 'long.csv', by='site')
    assert found.group_names == ['g0', 'g1', 'g2', 'g3']
    assert found.groups.tolist() == [0, 1, 2, 3] * 3
    assert (found.part_names, found.parts.tolist()) == (['s0', 's1'], [0, 1] * 6)
    found = Predictions.from_table(table, groups='site')
    assert found.group_names == ['s0', 's1']
    for wrong, told in {'seed': 'seed differs between rows', 'town': "no column 'town'"}.items():
        with pytest.raises(ValueError, match=told):
            Predictions.from_table(table, by=wrong)
    with pytest.raises(TypeError, match='must be the name of a column'):
        Predictions.from_table(table, groups=[1, 2])


def test_labels_beside_a_table():
    answers, y = made()
    table = long_of(answers, y).drop(columns=['label', 'group'])
    with pytest.raises(ValueError, match='stand in the table too'):
        Predictions.from_table(long_of(answers, y), y)
    for labels, told in [
        (y[:-1], "1 of 12 examples have no true label, first '11'"),
        (np.append(y, 0), "net has no answer for 3 of 39 samples, first of training '0', exam"),
        (dict.fromkeys(map(str, range(12)), None), '12 of 12 examples have no true label'),
        (pd.DataFrame({'example': [0, 0], 'label': [1, 2]}), 'label differs between rows'),
        (pd.DataFrame({'truth': [1, 2]}), "has the columns ['truth'], but none that is known"),
        (pd.DataFrame({'example': [1, 2]}), 'but needs label'),
        ('labels.txt', 'labels.txt'),
    ]:
        with pytest.raises(ValueError) as error:
            Predictions.from_table(table, labels)
        assert told in str(error.value)


def test_too_many_rows(monkeypatch):
    monkeypatch.setattr(predictions, '_MOST_ROWS', 10)
    with pytest.raises(ValueError, match=r'number of rows of table is 72.*as \.npz'):
        Predictions.from_table(long_of(*made()))
