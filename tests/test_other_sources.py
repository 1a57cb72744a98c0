"""Named sets from files in their makers' formats, served by this machine: what is fetched, checked
and refused, and that the bits are those that torchvision and MedMNIST give."""

import bz2
import gzip
import hashlib
import io
import pickle
import struct
import subprocess
import sys
import tarfile
import threading
import types
import warnings
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from scipy.io import savemat

import mnist_cmp as mc
from mnist_cmp.datasets import named
from mnist_cmp.datasets.sources import Archive, open_archive, torchvision_datasets


class Server:
    "Serves the files of a folder, and keeps what was asked for."

    def __init__(self, folder):
        self.folder = folder
        self.asked = asked = []

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                super().do_GET()

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(('127.0.0.1', 0), partial(Handler, directory=str(folder)))
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def publish(self, name, content):
        "Serve a file; its address and MD5."
        (self.folder / name).write_bytes(content)
        address = f'http://127.0.0.1:{self.http.server_port}/{name}'
        return address, hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    (tmp_path / 'served').mkdir()
    server = Server(tmp_path / 'served')
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def chance():
    return np.random.default_rng(0)


def pixels(chance, *shape):
    return chance.integers(0, 256, shape, np.uint8)


def idx(values, code=8):
    "A file in IDX format."
    head = struct.pack(f'>HBB{values.ndim}I', 0, code, values.ndim, *values.shape)
    return head + values.astype('>i4' if code == 12 else np.uint8).tobytes()


def cifar10(server, chance, monkeypatch):
    source = torchvision_datasets().CIFAR10
    data = {}
    with tarfile.open(fileobj=(made := io.BytesIO()), mode='w:gz') as members:
        names = [name for name, _ in source.train_list + source.test_list]
        contents = {}
        for name in names:
            data[name] = pixels(chance, 4, 3072)
            contents[name] = {'data': data[name], 'labels': [0, 1, 2, 9]}
        contents['batches.meta'] = {'label_names': [f'name {k}' for k in range(10)]}
        for name, content in contents.items():
            packed = pickle.dumps(content, protocol=4)
            member = tarfile.TarInfo(f'cifar-10-batches-py/{name}')
            member.size = len(packed)
            members.addfile(member, io.BytesIO(packed))
    address, md5 = server.publish('cifar-10-python.tar.gz', made.getvalue())
    monkeypatch.setattr(source, 'url', address)
    monkeypatch.setattr(source, 'tgz_md5', md5)
    x = np.concatenate([data[name] for name in names[:5]]).reshape(-1, 3, 32, 32)
    y = [0, 1, 2, 9]
    return x, y * 5, data['test_batch'].reshape(-1, 3, 32, 32), y


def svhn(server, chance, monkeypatch):
    parts = []
    listed = {}
    for part, n in (('train', 11), ('test', 10)):
        x = pixels(chance, 32, 32, 3, n)
        y = np.arange(n)[:, None] % 10 + 1
        savemat(made := io.BytesIO(), {'X': x, 'y': y.astype(np.uint8)})
        name = f'{part}_32x32.mat'
        address, md5 = server.publish(name, made.getvalue())
        listed[part] = [address, name, md5]
        parts += [x.transpose(3, 2, 0, 1), (y[:, 0] % 10).tolist()]
    monkeypatch.setattr(torchvision_datasets().SVHN, 'split_list', listed)
    return parts


def usps(server, chance, monkeypatch):
    parts = []
    listed = {}
    for part, name in (('train', 'usps.bz2'), ('test', 'usps.t.bz2')):
        values = chance.uniform(-1, 1, (12, 256)).round(3)
        labels = np.arange(12) % 10
        lines = [
            f'{label + 1} ' + ' '.join(f'{k}:{value}' for k, value in enumerate(row, 1))
            for label, row in zip(labels, values)
        ]
        address, md5 = server.publish(name, bz2.compress('\n'.join(lines).encode()))
        listed[part] = [address, name, md5]
        images = ((values.astype(np.float32) + 1) / 2 * 255).astype(np.uint8)
        parts += [images.reshape(-1, 1, 16, 16), labels.tolist()]
    monkeypatch.setattr(torchvision_datasets().USPS, 'split_list', listed)
    return parts


def emnist_letters(server, chance, monkeypatch):
    parts = []
    with zipfile.ZipFile(made := io.BytesIO(), 'w') as members:
        for part, n in (('train', 52), ('test', 26)):
            x = pixels(chance, n, 28, 28)
            y = np.arange(n) % 26
            for kind, values in (('images-idx3', x), ('labels-idx1', y + 1)):
                name = f'gzip/emnist-letters-{part}-{kind}-ubyte.gz'
                members.writestr(name, gzip.compress(idx(values)))
            parts += [x.transpose(0, 2, 1)[:, None], y.tolist()]
    address, md5 = server.publish('gzip.zip', made.getvalue())
    monkeypatch.setattr(torchvision_datasets().EMNIST, 'url', address)
    monkeypatch.setattr(torchvision_datasets().EMNIST, 'md5', md5)
    return parts


def qmnist(server, chance, monkeypatch):
    parts = []
    resources = {}
    for part, n in (('train', 20), ('test', 10)):
        x = pixels(chance, n, 28, 28)
        rows = chance.integers(0, 2**31, (n, 8))
        rows[:, 0] = np.arange(n) % 10
        contents = {
            f'qmnist-{part}-images-idx3-ubyte.gz': idx(x),
            f'qmnist-{part}-labels-idx2-int.gz': idx(rows, 12),
        }
        resources[part] = [server.publish(k, gzip.compress(v)) for k, v in contents.items()]
        parts += [x[:, None], rows[:, 0].tolist()]
    monkeypatch.setattr(torchvision_datasets().QMNIST, 'resources', resources)
    return parts


MAKERS = {
    'cifar10': cifar10,
    'svhn': svhn,
    'usps': usps,
    'emnist_letters': emnist_letters,
    'qmnist': qmnist,
}


def medical(server, chance, monkeypatch, name, channels=(), **changes):
    "A set in MedMNIST's layout, and a stand-in for the package that knows where it is."
    arrays = {}
    counts = {'train': 12, 'val': 4, 'test': 6}
    for part, n in counts.items():
        arrays[f'{part}_images'] = pixels(chance, n, 28, 28, *channels)
        arrays[f'{part}_labels'] = (np.arange(n) % 3)[:, None].astype(np.uint8)
    np.savez_compressed(made := io.BytesIO(), **arrays)
    address, md5 = server.publish(f'{name}.npz', made.getvalue())
    about = {
        'url': f'{address}?download=1',
        'MD5': md5,
        'label': {'2': 'c', '0': 'a', '1': 'b'},
        'n_channels': (*channels, 1)[0],
        'n_samples': counts,
    }
    stub = types.ModuleType('medmnist')
    stub.INFO = {name: about | changes}
    monkeypatch.setitem(sys.modules, 'medmnist', stub)
    return arrays


@pytest.mark.parametrize('name', MAKERS)
def test_a_set_is_what_its_files_hold(server, chance, monkeypatch, tmp_path, name):
    x, y, x_test, y_test = MAKERS[name](server, chance, monkeypatch)
    arrays = named.read_named(name, tmp_path / 'data')
    assert arrays.x.dtype == arrays.x_test.dtype == np.uint8
    assert np.array_equal(arrays.x, x)
    assert np.array_equal(arrays.x_test, x_test)
    assert (arrays.y.tolist(), arrays.y_test.tolist()) == (y, y_test)
    assert arrays.y.dtype == arrays.y_test.dtype == np.int64
    assert arrays.name == name
    assert arrays.x_valid is None
    known = named.NAMES[name]
    assert (arrays.x.shape[1:], len(arrays.classes)) == (known.shape, known.n_classes)


@pytest.mark.parametrize('name', MAKERS)
def test_a_set_is_fetched_once_and_checked_each_time(server, chance, monkeypatch, tmp_path, name):
    MAKERS[name](server, chance, monkeypatch)
    root = tmp_path / 'data'
    first = named.read_named(name, root)
    asked = len(server.asked)
    files = [path for path in root.rglob('*') if path.is_file()]
    assert len(files) == asked == len(set(server.asked))
    again = named.read_named(name, root, download=False)
    assert len(server.asked) == asked
    assert np.array_equal(again.x, first.x)
    # a bit turns over on the disk
    content = bytearray(files[0].read_bytes())
    content[len(content) // 2] ^= 1
    files[0].write_bytes(content)
    with pytest.raises(FileNotFoundError, match='does not have the published MD5') as caught:
        named.read_named(name, root, download=False)
    for words in (files[0].name, str(files[0].parent), 'http://127.0.0.1', 'MNIST_CMP_DATA'):
        assert words in str(caught.value)
    assert files[0].read_bytes() == content
    assert np.array_equal(named.read_named(name, root).x, first.x)
    assert len(server.asked) == asked + 1


@pytest.mark.parametrize('name', MAKERS)
def test_load_data_makes_splits_of_a_set(server, chance, monkeypatch, tmp_path, name):
    x, y, x_test, y_test = MAKERS[name](server, chance, monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # the sets are so small that they lack classes
        data = mc.load_data(name, tmp_path)
    assert (data.name, data.inputs, data.outputs) == (name, x.shape[1:], len(data.classes))
    assert np.array_equal(data.test.x, x_test)
    assert data.test.y.tolist() == y_test
    assert len(data.train) + len(data.valid) == len(x)
    assert np.array_equal(data.train.x, x[data.train.places])


def test_load_data_keeps_the_validation_part_of_medmnist(server, chance, monkeypatch, tmp_path):
    made = medical(server, chance, monkeypatch, 'bloodmnist', (3,))
    data = mc.load_data('bloodmnist', tmp_path)
    assert np.array_equal(data.valid.x, made['val_images'].transpose(0, 3, 1, 2))
    with pytest.raises(ValueError, match='valid_size is 2'):
        mc.load_data('bloodmnist', tmp_path, valid_size=2)


def test_all_names_are_offered():
    from mnist_cmp.data import DATASETS

    assert DATASETS == tuple(named.NAMES)
    with pytest.raises(ValueError) as caught:
        mc.load_data('cifar_10')
    assert all(repr(name) in str(caught.value) for name in DATASETS)
    assert "Did you mean 'cifar10'?" in str(caught.value)


def test_files_lie_where_torchvision_puts_them(server, chance, monkeypatch, tmp_path):
    cifar10(server, chance, monkeypatch)
    named.read_named('cifar10', tmp_path)
    assert (tmp_path / 'cifar-10-python.tar.gz').is_file()
    emnist_letters(server, chance, monkeypatch)
    named.read_named('emnist_letters', tmp_path)
    assert (tmp_path / 'EMNIST' / 'raw' / 'gzip.zip').is_file()


def test_the_bits_are_those_of_torchvision(server, chance, monkeypatch, tmp_path):
    svhn(server, chance, monkeypatch)
    usps(server, chance, monkeypatch)
    datasets = torchvision_datasets()
    ours = named.read_named('svhn', tmp_path)
    theirs = datasets.SVHN(tmp_path, split='test')
    assert np.array_equal(ours.x_test, theirs.data)
    assert np.array_equal(ours.y_test, theirs.labels)
    ours = named.read_named('usps', tmp_path)
    theirs = datasets.USPS(tmp_path, train=False)
    assert np.array_equal(ours.x_test[:, 0], theirs.data)
    assert ours.y_test.tolist() == theirs.targets


def test_what_is_no_file_of_the_set_is_not_kept(server, chance, monkeypatch, tmp_path):
    usps(server, chance, monkeypatch)
    (server.folder / 'usps.bz2').write_bytes(b'<html>Moved</html>')
    with pytest.raises(FileNotFoundError, match='what came does not have the published MD5'):
        named.read_named('usps', tmp_path / 'data')
    assert not [path for path in (tmp_path / 'data').rglob('*') if path.is_file()]
    (server.folder / 'usps.bz2').unlink()
    with pytest.raises(FileNotFoundError, match='HTTP status 404'):
        named.read_named('usps', tmp_path / 'data')


def test_no_more_is_fetched_than_a_file_can_have(server, tmp_path):
    address, md5 = server.publish('long', bytes(10_000))
    archive = Archive('long', address, md5, 9_999, retries=0)
    with pytest.raises(FileNotFoundError, match='more than 9,999 bytes came'):
        with open_archive(archive, tmp_path / 'data'):
            pass
    assert list((tmp_path / 'data').iterdir()) == []


@pytest.mark.parametrize('channels', [(), (3,)])
def test_a_set_of_medmnist(server, chance, monkeypatch, tmp_path, channels):
    name = 'bloodmnist'
    made = medical(server, chance, monkeypatch, name, channels)
    arrays = named.read_named(name, tmp_path)
    x = made['train_images']
    assert np.array_equal(arrays.x, x.transpose(0, 3, 1, 2) if channels else x[:, None])
    assert arrays.y_valid.tolist() == made['val_labels'][:, 0].tolist()
    assert arrays.classes == ('a', 'b', 'c')
    assert (tmp_path / 'bloodmnist.npz').is_file()


def test_medmnist_is_an_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'medmnist', None)
    with pytest.raises(ImportError, match=r"pip install 'mnist_cmp\[medmnist\]'"):
        named.read_named('pathmnist', tmp_path)


def test_what_we_say_of_medmnist_is_what_it_says():
    medmnist = pytest.importorskip('medmnist')
    assert set(medmnist.INFO) == set(named.MEDICAL) | set(named._OTHER_MEDICAL)
    for name, known in named.MEDICAL.items():
        about = medmnist.INFO[name]
        assert 'multi-label' not in about['task']
        assert known.shape == (about['n_channels'], 28, 28)
        assert known.n_classes == len(about['label'])
        assert about['url'].startswith('https://')
        assert len(about['MD5']) == 32


@pytest.mark.parametrize(
    'name, words',
    [
        ('chestmnist', 'has up to 14 labels for an image'),
        ('nodulemnist3d', 'has images of three dimensions'),
        ('cifar_10', "Did you mean 'cifar10'?"),
        ('PathMNIST', "Did you mean 'pathmnist'?"),
        ('imagenet', 'For other data take Data.from_arrays'),
        (7, 'name is 7, but must be one of'),
        (['wine'], "but must be one of 'emnist_letters', 'qmnist'"),
    ],
)
def test_unknown_names(name, words):
    with pytest.raises(ValueError) as caught:
        named.read_named(name)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    'evil',
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b'cbuiltins\neval\n(S"1"\ntR.',
        b"cnumpy\nload\n(S'x'\ntR.",
        b'cnumpy.core.multiarray\nscalar\n.',
    ],
)
def test_a_pickle_runs_nothing(evil):
    with pytest.raises(ValueError, match='a pickle that asks for'):
        named._numpy_only()(io.BytesIO(evil))


@pytest.mark.parametrize('name', ['breast_cancer', 'wine', 'diabetes'])
def test_what_scikit_learn_carries(name):
    from sklearn import datasets

    options = {'scaled': False} if name == 'diabetes' else {}
    x, y = getattr(datasets, f'load_{name}')(return_X_y=True, **options)
    arrays = named.read_named(name, download=False)
    assert np.array_equal(arrays.x, x)
    assert np.array_equal(arrays.y, y)


def test_names_cost_no_large_import():
    code = (
        'import sys; import mnist_cmp.datasets.named; '
        "print(sorted({'torch', 'torchvision', 'sklearn', 'scipy', 'pandas', 'PIL', 'medmnist'} "
        '& set(sys.modules)))'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'
