"""Data frames and tables in files: whatever library holds them, the same arrays come of them, and
the lines in a message mend what it is about."""

import contextlib
import importlib.util
import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_cmp.datasets.frames import read_frame
from mnist_cmp.datasets.tables_files import read_table

COLUMNS = {
    'age': [31.5, 45.0, 62.0, 28.0, 33.0],
    'visits': [3, 0, 7, 2, 2],
    'smokes': [True, False, True, False, False],
    'ward': ['a', 'b', 'a', 'b', 'a'],
    'diagnosis': ['flu', 'cold', 'flu', 'cold', 'flu'],
}
HAS_ARROW = importlib.util.find_spec('pyarrow') is not None
KINDS = {
    'dict': dict,
    'dict of arrays': lambda columns: {name: np.array(of) for name, of in columns.items()},
    'pandas': pd.DataFrame,
    'nullable': lambda columns: pd.DataFrame(columns).convert_dtypes(),
    'objects': lambda columns: pd.DataFrame(columns).astype(object),
    'index': lambda columns: pd.DataFrame(columns, index=list('vwxyz')),
    'polars': pl.DataFrame,
}
if HAS_ARROW:
    import pyarrow

    KINDS['arrow'] = pyarrow.table


@pytest.mark.parametrize('kind', KINDS)
def test_all_kinds_of_frames_give_the_same(kind):
    arrays = read_frame(KINDS[kind](COLUMNS), 'diagnosis', groups='ward')
    assert arrays.features == ('age', 'visits', 'smokes')
    expected = list(zip(COLUMNS['age'], COLUMNS['visits'], COLUMNS['smokes']))
    assert np.array_equal(arrays.x, np.array(expected, float))
    assert arrays.y.tolist() == COLUMNS['diagnosis']
    assert arrays.groups.tolist() == COLUMNS['ward']
    assert (arrays.classes, arrays.x_test) == (None, None)


@pytest.mark.parametrize('kind', KINDS)
def test_targets_keep_their_type(kind):
    frame = KINDS[kind]({name: COLUMNS[name] for name in ('age', 'visits', 'smokes')})
    for target, kind_of_target in (('age', 'f'), ('visits', 'i'), ('smokes', 'b')):
        assert read_frame(frame, target).y.dtype.kind == kind_of_target
    two = read_frame(frame, ['visits', 'age'])
    assert np.array_equal(two.y, np.array([COLUMNS['visits'], COLUMNS['age']]).T)
    assert two.features == ('smokes',)


@pytest.mark.parametrize('kind', KINDS)
def test_missing_values_are_counted_and_placed(kind):
    holes = COLUMNS | {'age': [31.5, None, 62.0, None, 33.0]}
    with pytest.raises(ValueError) as caught:
        read_frame(KINDS[kind](holes), 'diagnosis', groups='ward')
    assert "'age' has 2, first in row 1 (of 5, counted from 0)" in str(caught.value)


@pytest.mark.parametrize(
    'change, target, words',
    [
        ({}, 'diagnose', "target is 'diagnose', but must be a column of frame. Did you mean 'diag"),
        ({}, ['age', 'wards'], "target is 'wards', but must be a column of frame. Did you mean 'w"),
        ({}, None, 'target is None, but must be a column of frame.'),
        ({}, 'diagnosis', "the column 'ward' holds texts or categories (such as 'a')"),
        ({}, ['age', 'diagnosis'], "the target 'diagnosis' holds texts, but must hold numbers or"),
        ({'ward': pd.date_range('2026-01-01', periods=5)}, 'diagnosis', "'ward' holds dates (such"),
        ({'ward': [[1]] * 5}, 'diagnosis', "the column 'ward' holds objects (such as [1])"),
        ({'ward': [1j] * 5}, 'diagnosis', 'holds objects (such as 1j)'),
        (
            {'ward': [1.0, 2, np.inf, 1, 1]},
            'diagnosis',
            "'ward' holds inf in 1 of 5 rows, first in",
        ),
        ({'ward': ['1', '2', '?', '4', '5']}, 'diagnosis', "but for 1 such as '?'. Make numbers"),
        (
            {'diagnosis': [None] * 5, 'ward': 1},
            'diagnosis',
            "'diagnosis' is missing in 5 of 5 rows",
        ),
    ],
)
def test_refused(change, target, words):
    with pytest.raises(ValueError) as caught:
        read_frame(pd.DataFrame(COLUMNS).assign(**change), target)
    assert words in str(caught.value), str(caught.value)


MESSY = {
    'colour': ['red', 'blue', None, 'red', 'green', 'red', 'blue', 'blue'],
    'size': pd.Categorical(['s', 'm', 'l', 's', 's', 'm', 'l', 'l']),
    'age': ['31', '45', '50', '51', '52', 'NA', '60', '61'],
    'weight': [70.5, None, 80.0, 65.0, 66.0, 91.0, 55.0, 60.0],
    'seen': pd.date_range('2026-01-01', periods=8),
    'waited': pd.to_timedelta(range(8), unit='h'),
    'path': [{1}] * 8,
    'y': [0, 1, 0, 1, 0, 1, 0, None],
}


def as_polars(columns):
    lists = {name: list(values) for name, values in columns.items()}
    lists['size'] = pl.Series(lists['size'], dtype=pl.Categorical)
    lists['path'] = pl.Series([[1]] * 8)
    return pl.DataFrame(lists)


@pytest.mark.parametrize('make', [dict, pd.DataFrame, as_polars])
@pytest.mark.parametrize('way', [0, -1])
def test_the_lines_of_messages_mend(make, way):
    "Whichever of the ways out is taken, the frame is read in the end, and nothing else changes."
    names = {'frame': make(MESSY), 'pl': pl}
    seen = []
    for _ in range(12):
        try:
            arrays = read_frame(names['frame'], 'y')
            break
        except ValueError as error:
            seen.append(str(error))
            blocks = re.findall(r'((?:\n {4}.*)+)', str(error))
            code = '\n'.join(line.strip() for line in blocks[way].splitlines())
            exec(code, names)  # noqa: S102 - of our own message
    assert 5 <= len(seen) <= 10
    assert len(set(seen)) == len(seen)
    assert len(arrays.x) == (5 if way == 0 else 7)
    assert {'size_s', 'size_m', 'size_l', 'colour_red', 'weight', 'age'} <= set(arrays.features)
    assert 'path' not in arrays.features
    assert ('seen' in arrays.features) == (way == 0)


def test_names_without_an_end_are_to_be_left_out():
    names = [f'Name {k}' for k in range(99)]
    with pytest.raises(ValueError) as caught:
        read_frame({'name': names, 'age': range(99), 'y': range(99)}, 'y')
    assert "frame = frame.drop(columns=['name'])" in str(caught.value)


def test_parts_have_the_same_columns_in_any_order():
    frame = pd.DataFrame(COLUMNS).drop(columns='ward')
    test = frame[::-1][['diagnosis', 'smokes', 'visits', 'age']]
    arrays = read_frame(frame, 'diagnosis', test=test, valid=frame[:2])
    assert np.array_equal(arrays.x_test, arrays.x[::-1])
    assert np.array_equal(arrays.x_valid, arrays.x[:2])
    assert arrays.y_test.tolist() == COLUMNS['diagnosis'][::-1]
    with pytest.raises(ValueError, match="test lacks the columns 'age', 'visits'"):
        read_frame(frame, 'diagnosis', test=test.drop(columns=['age', 'visits']))
    with pytest.raises(ValueError, match="frame lacks the column 'more'"):
        read_frame(frame, 'diagnosis', test=test.assign(more=1))
    with pytest.raises(ValueError, match="test has missing values: 'age' has 5"):
        read_frame(frame, 'diagnosis', test=test.assign(age=np.nan))


def test_categories_keep_their_order():
    stages = pd.CategoricalDtype(['none', 'mild', 'severe', 'fatal'], ordered=True)
    frame = pd.DataFrame({'x': range(4), 'y': ['severe', 'none', 'mild', 'none']})
    arrays = read_frame(frame.astype({'y': stages}), 'y')
    assert (arrays.classes, arrays.y.tolist()) == (('none', 'mild', 'severe'), [2, 0, 1, 0])
    years = frame.assign(y=pd.Categorical([2020, 2019, 2020, 2021], [2019, 2020, 2021]))
    assert read_frame(years, 'y').classes == ('2019', '2020', '2021')


cells = st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text())


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=6))
def test_any_cells_are_read_or_refused_in_words(rows):
    frame = dict(zip(('a', 'b', 'y'), map(list, zip(*rows))))
    with contextlib.suppress(ValueError):
        arrays = read_frame(frame, 'y')
        assert arrays.x.shape == (len(rows), 2)
        assert np.isfinite(arrays.x).all()


def test_a_file_is_read_as_its_frame(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = pd.DataFrame(COLUMNS).drop(columns='ward')
    expected = read_frame(frame, 'diagnosis')
    for name, separator in (('a.csv', ','), ('b.CSV', ';'), ('c.tsv', '\t')):
        frame.to_csv(name, sep=separator, index=False)
        arrays = read_table(name, 'diagnosis')
        assert np.array_equal(arrays.x, expected.x)
        assert (arrays.y.tolist(), arrays.name) == (expected.y.tolist(), name[0])
    if HAS_ARROW:
        frame.to_parquet('d.parquet')
        assert np.array_equal(read_table('d.parquet', 'diagnosis').x, expected.x)


def test_the_lines_of_messages_on_a_file_mend_a_copy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = pd.DataFrame(COLUMNS)
    frame.to_csv('my.csv', index=False, sep=';')
    before = (tmp_path / 'my.csv').read_bytes()
    with pytest.raises(ValueError) as caught:
        read_table('my.csv', 'diagnosis')
    block = re.findall(r'((?:\n {4}.*)+)', str(caught.value))[0]
    code = '\n'.join(line.strip() for line in block.splitlines())
    exec(code, {})  # noqa: S102 - of our own message
    assert (tmp_path / 'my.csv').read_bytes() == before
    assert read_table('my_new.csv', 'diagnosis').features[-2:] == ('ward_a', 'ward_b')


@pytest.mark.parametrize(
    'content, words',
    [
        (b'', "begins with the line ''"),
        (b'1,2\n3,4\n', "begins with the line '1,2'"),
        (b',a,y\n0,1,2\n', 'column 1 has no name. If it numbers the rows'),
        (b'a,y\n1,2\n1,2,3\n', 'can not be read as a table'),
        (b'a,a,y\n1,2,3\n', "two columns of the name 'a'"),
        (b'a,y\n', 'has no row'),
        (b'a,b\n1,2\n', "target is 'y', but must be a column of my.csv"),
        (b'a,y\n\xff,2\n', 'line 2 holds the byte 0xff. Save it as CSV in UTF-8.'),
        ('a,y\n1,2\n'.encode('utf-16'), 'Save it as CSV in UTF-8'),
        (b'a,y\n1,2\n,3\n', "my.csv has missing values: 'a' has 1, first in row 1"),
    ],
)
def test_odd_files_are_refused(tmp_path, monkeypatch, content, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'my.csv').write_bytes(content)
    with pytest.raises(ValueError) as caught:
        read_table('my.csv', 'y')
    assert words in str(caught.value)
    assert 'my.csv' in str(caught.value)


def test_parquet_is_an_extra(tmp_path, monkeypatch):
    for name in ('pyarrow', 'pyarrow.parquet'):
        monkeypatch.setitem(__import__('sys').modules, name, None)
    (tmp_path / 'a.parquet').touch()
    with pytest.raises(ImportError, match=r"pip install 'mnist_cmp\[tables\]'"):
        read_table(tmp_path / 'a.parquet', 'y')
