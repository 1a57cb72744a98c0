"""Data sets of PyTorch and Hugging Face, and archives of arrays: read once, to the values that they
give, and refused in words where they can not be kept in memory as they are."""

import io
import sys
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    random_split,
)

import mnist_cmp as mc
from mnist_cmp.datasets.npz import read_npz
from mnist_cmp.datasets.sources import torchvision_datasets
from mnist_cmp.datasets.torch_datasets import read_dataset

X = torch.rand(30, 3, 4, 5, generator=torch.Generator().manual_seed(0))
Y = torch.arange(30) % 3
TENSORS = TensorDataset(X, Y)


class Own(Dataset):
    "Counts how often each example is read."

    classes = ['a', 'b', 'c']

    def __init__(self, change=None):
        self.change = change
        self.reads = [0] * 30

    def __len__(self):
        return 30

    def __getitem__(self, index):
        self.reads[index] += 1
        pair = X[index], int(Y[index])
        return self.change(*pair) if self.change else pair


def rows(**names):
    return [{names.get('x', 'image'): x, names.get('y', 'label'): int(y)} for x, y in zip(X, Y)]


class Columns(list):
    "A table of Hugging Face: rows that are dicts, and features with the names of the classes."

    features = {'image': None, 'label': SimpleNamespace(names=['a', 'b', 'c'])}


@pytest.mark.parametrize(
    'dataset',
    [
        TENSORS,
        Subset(TENSORS, range(30)),
        ConcatDataset([Subset(TENSORS, range(9)), Subset(TENSORS, range(9, 30))]),
        Own(),
        Subset(Own(), list(range(30))),
        list(zip(X, Y)),
        [(x.numpy(), y) for x, y in zip(X, Y.tolist())],
        [(x.tolist(), y) for x, y in zip(X.double(), Y.tolist())],
        rows(),
        rows(x='pixel_values', y='labels'),
        rows(x='tokens', y='fine_label'),
        Columns(rows()),
    ],
    ids=lambda dataset: type(dataset).__name__,
)
def test_all_kinds_give_the_same(dataset):
    arrays = read_dataset(dataset)
    assert np.array_equal(arrays.x, X.numpy())
    assert arrays.y.tolist() == Y.tolist()
    named = 'classes' in dir(getattr(dataset, 'dataset', dataset)) or hasattr(dataset, 'features')
    assert arrays.classes == (('a', 'b', 'c') if named else None)


def test_the_order_of_a_subset_is_kept():
    part = random_split(TENSORS, [11, 19], torch.Generator().manual_seed(1))[0]
    assert np.array_equal(read_dataset(part).x, X[part.indices])
    deeper = Subset(part, [3, 1])
    assert np.array_equal(read_dataset(deeper).x, X[part.indices][[3, 1]])


def test_examples_are_read_once_and_a_few_three_times():
    dataset = Own()
    read_dataset(dataset)
    assert set(dataset.reads) == {1, 3}
    assert dataset.reads.count(3) == 16
    assert (dataset.reads[0], dataset.reads[-1]) == (3, 3)


def test_what_is_drawn_at_random_is_refused():
    def flip(x, y):
        return (x.flip(-1), y) if torch.rand(1) < 0.5 else (x, y)

    for change in (flip, lambda x, y: (x + torch.randn(()), y), lambda x, y: (x, torch.rand(1))):
        with pytest.raises(ValueError, match=r'was not the same .* Recipe\(augment=…\)'):
            read_dataset(Own(change))
    nan = Own(lambda x, y: (x * np.nan, float('nan')))
    assert np.isnan(read_dataset(nan).x).all()  # the same each time; who splits them refuses it


@pytest.mark.parametrize('mode, channels', [('L', 1), ('1', 1), ('RGB', 3), ('RGBA', 3), ('P', 3)])
def test_images_of_pillow(mode, channels):
    colors = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), np.uint8)
    pictures = [Image.fromarray(each).convert(mode) for each in colors]
    arrays = read_dataset([(picture, k) for k, picture in enumerate(pictures)])
    assert (arrays.x.shape, arrays.x.dtype) == ((4, channels, 6, 5), np.uint8)
    if mode == 'RGB':
        assert np.array_equal(arrays.x, colors.transpose(0, 3, 1, 2))


def test_a_data_set_of_torchvision():
    fake = torchvision_datasets().FakeData(size=6, image_size=(3, 8, 7), num_classes=3)
    arrays = read_dataset(fake)
    assert np.array_equal(arrays.x[4], np.asarray(fake[4][0]).transpose(2, 0, 1))
    assert arrays.y.tolist() == [int(fake[k][1]) for k in range(6)]


def test_parts_by_name():
    parts = {'train': rows()[:20], 'validation': rows()[20:24], 'test': rows()[24:], 'extra': []}
    arrays = read_dataset(parts)
    assert [len(x) for x in (arrays.x, arrays.x_valid, arrays.x_test)] == [20, 4, 6]
    assert np.array_equal(arrays.x_test, X[24:])
    with pytest.raises(ValueError, match=r"has the parts \['val', 'validation'\], but must have"):
        read_dataset(parts | {'val': rows()})


def test_names_that_do_not_fit_the_labels_are_left_out():
    class Wide(Own):
        classes = ['a', 'b']

    assert read_dataset(Wide()).classes is None
    assert read_dataset(Own(lambda x, y: (x, y / 2))).classes is None
    assert read_dataset(Own(lambda x, y: (x, 'abc'[y]))).y.tolist() == ['abc'[y] for y in Y]


def test_names_may_be_numbers_in_another_order():
    class Numbered(Own):
        classes = ['1', '2', '0']

    data = mc.Data.from_dataset(Numbered())
    assert data.classes == ('1', '2', '0')
    assert data.train.y.tolist() == Y[data.train.places].tolist()
    with pytest.raises(ValueError, match='come with these names in another order'):
        mc.Data.from_dataset(Numbered(), classes=['0', '1', '2'])


def test_bfloat16_is_taken_as_from_arrays():
    data = mc.Data.from_dataset(TensorDataset(X.bfloat16(), Y))
    row_by_row = mc.Data.from_dataset([(x.bfloat16(), y) for x, y in zip(X, Y)])
    same = mc.Data.from_arrays(X.bfloat16(), Y)
    assert data.train.x.dtype == torch.float32
    for other in same, row_by_row:
        assert [s.fingerprint for s in data.splits] == [s.fingerprint for s in other.splits]
    targets = mc.Data.from_dataset(TensorDataset(X, Y.bfloat16() + 0.5), task='regression')
    assert targets.outputs == 1


def test_several_numbers_to_predict():
    assert read_dataset(Own(lambda x, y: (x, torch.tensor([y, 0.5])))).y.shape == (30, 2)
    assert read_dataset(Own(lambda x, y: (x, torch.tensor([y])))).y.shape == (30, 1)


class Endless(IterableDataset):
    def __iter__(self):
        yield from TENSORS


@pytest.mark.parametrize(
    'dataset, words',
    [
        (Endless(), 'train is a Endless, which has no length, or gives no example by its index'),
        (iter(TENSORS), 'which has no length'),
        ((pair for pair in TENSORS), 'train = list(train)'),
        ({1, 2}, 'which has no length'),
        (None, 'train is a NoneType'),
        (DataLoader(TENSORS), 'give loader.dataset'),
    ],
)
def test_what_has_no_order_is_refused(dataset, words):
    with pytest.raises(TypeError) as caught:
        read_dataset(dataset)
    assert words in str(caught.value)


def failing(x, y):
    raise OSError('disk is gone')


@pytest.mark.parametrize(
    'dataset, words',
    [
        ([], 'train is empty'),
        (X, 'example 0 is of the type Tensor, but must be a pair'),
        ([(1, 2, 3)], 'example 0 is 3 values, but must be a pair'),
        (TensorDataset(X), 'example 0 is 1 values, but must be a pair'),
        ([('text', 1)], "example 0 is 'text', but must be numbers"),
        ([(None, 1)], 'example 0 is an array of object'),
        ([(X[0].to_sparse(), 1)], 'example 0 can not be read as an array'),
        ([(X[0], None)], 'the labels hold None, but must be numbers or texts'),
        ([(X[0], [1]), (X[1], [1, 2])], 'labels differ in shape: (1,), (2,)'),
        ([(X[0], 1), (X[0, :2], 1)], 'example 0 is (3, 4, 5), example 1 is (2, 4, 5). Bring all'),
        ([(X[0], 1), (X[0].double(), 1)], 'example 0 is float32, example 1 is float64'),
        (Own(failing), 'example 0 can not be read (OSError: disk is gone)'),
        ([{'text': 'a', 'score': 1}], 'none of them is a label'),
        ([{'a': 1, 'b': 2, 'label': 1}], 'none of them is an example'),
        ({'test': rows()}, "is a dict without a part train. There is 'test'"),
    ],
)
def test_odd_data_sets_are_refused(dataset, words):
    with pytest.raises(ValueError) as caught:
        read_dataset(dataset)
    assert words in str(caught.value)


def test_the_part_is_named():
    with pytest.raises(ValueError, match='test: example 0 is'):
        read_dataset(TENSORS, [5])
    with pytest.raises(ValueError, match='valid is empty'):
        read_dataset(TENSORS, TENSORS, [])


def test_no_more_than_the_memory_holds(monkeypatch):
    from mnist_cmp.datasets import arrays

    monkeypatch.setattr(arrays, 'MOST_BYTES', 7199)
    with pytest.raises(ValueError, match=r'train would take 7,200 bytes \(30×3×4×5\)'):
        read_dataset(Own())


# Archives


@pytest.fixture
def archive(tmp_path):
    def save(name='my.npz', **arrays):
        np.savez_compressed(tmp_path / name, **arrays)
        return tmp_path / name

    return save


LAYOUTS = {
    'MedMNIST': ('train_images', 'train_labels', 'val_images', 'val_labels', 'test_images')
    + ('test_labels',),
    'Keras': ('x_train', 'y_train', 'x_valid', 'y_valid', 'x_test', 'y_test'),
    'scikit-learn': ('X_train', 'y_train', 'X_val', 'y_val', 'X_test', 'y_test'),
}


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('channels', [(), (1,), (3,)])
def test_layouts(archive, layout, channels):
    chance = np.random.default_rng(0)
    arrays = {}
    for k, n in enumerate((9, 3, 4)):
        arrays[LAYOUTS[layout][2 * k]] = chance.integers(0, 256, (n, 8, 6, *channels), np.uint8)
        arrays[LAYOUTS[layout][2 * k + 1]] = (np.arange(n) % 2)[:, None]
    read = read_npz(archive(**arrays))
    for part, x, y in (
        ('train', read.x, read.y),
        ('valid', read.x_valid, read.y_valid),
        ('test', read.x_test, read.y_test),
    ):
        k = ('train', 'valid', 'test').index(part)
        given = arrays[LAYOUTS[layout][2 * k]]
        images = given.transpose(0, 3, 1, 2) if channels else given[:, None]
        assert np.array_equal(x, images)
        assert np.array_equal(y, np.arange(len(given)) % 2)


def test_floats_keep_their_axes(archive):
    x = np.zeros((5, 8, 8, 3))
    assert read_npz(archive(x=x, y=range(5))).x.shape == x.shape
    read = read_npz(
        archive(X=x[:, 0, 0], y=list('ababa'), groups=[1, 1, 2, 2, 3], classes=['a', 'b'])
    )
    assert (read.y.tolist(), read.groups.tolist()) == (list('ababa'), [1, 1, 2, 2, 3])
    assert read.classes == ('a', 'b')


@pytest.mark.parametrize(
    'arrays, words',
    [
        ({}, 'my.npz has no array, but no training examples'),
        ({'a': [1], 'b': [2]}, 'my.npz has a (1,), b (1,), but no training examples under a known'),
        ({'x': [1, 2]}, 'my.npz holds x, but no y, the name under which its other half is looked'),
        ({'x': [1, 2], 'y': [1]}, 'y has the shape (1,), but must have one label for each of 2'),
        ({'x': 1, 'y': 1}, 'x has the shape (): no example is there'),
        ({'x': [1], 'y': [1], 'x_test': [1]}, 'my.npz holds x_test, but no y_test'),
        ({'x': [1], 'y': [1], 'classes': [[1.5]]}, 'classes is an array of float64'),
        ({'x': [{}], 'y': [1]}, 'can not be read as arrays of numbers'),
    ],
)
def test_odd_archives_are_refused(archive, arrays, words):
    with pytest.raises(ValueError) as caught:
        read_npz(archive(**arrays))
    assert words in str(caught.value), str(caught.value)


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {'descr': '|u1', 'fortran_order': False, 'shape': (2**34,)}
    )
    with zipfile.ZipFile(tmp_path / 'bomb.npz', 'w', zipfile.ZIP_DEFLATED) as made:
        made.writestr('y.npy', b'')
        with made.open('x.npy', 'w', force_zip64=True) as member:
            member.write(head.getvalue())
            for _ in range(9):
                member.write(bytes(2**20))
    monkeypatch.setattr('mnist_cmp.datasets.npz.read_arrays.__defaults__', (2**23,))
    with pytest.raises(ValueError, match='unpacks to 9,437,.* bytes, but must unpack to at most'):
        read_npz(tmp_path / 'bomb.npz')


def test_files_that_are_no_archives(tmp_path):
    with pytest.raises(ValueError, match='must be the path of a .npz file. Save one by np.savez'):
        read_npz(tmp_path / 'a.npy')
    with pytest.raises(OSError, match='No such file'):
        read_npz(tmp_path / 'none.npz')
    (tmp_path / 'text.npz').write_text('text')
    with pytest.raises(ValueError, match='text.npz can not be read as arrays of numbers'):
        read_npz(tmp_path / 'text.npz')
    (tmp_path / 'folder.npz').mkdir()
    with pytest.raises(ValueError, match='folder.npz is no file'):
        read_npz(tmp_path / 'folder.npz')


def test_hugging_face_itself(tmp_path):
    datasets = pytest.importorskip('datasets')
    table = datasets.Dataset.from_dict({'x': X.tolist(), 'label': Y.tolist()})
    table = table.cast_column('label', datasets.ClassLabel(names=['a', 'b', 'c']))
    arrays = read_dataset(datasets.DatasetDict(train=table, test=table))
    assert np.allclose(arrays.x_test, X)
    assert arrays.classes == ('a', 'b', 'c')
    assert 'datasets' in sys.modules
