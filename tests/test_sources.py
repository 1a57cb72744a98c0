"Data files: what was checked is what is used, and a compressed file is known by what is in it."

import gzip
import hashlib
import os
import pwd
from dataclasses import replace

import numpy as np
import pytest

import mnist_cmp as mc
from mnist_cmp import data
from mnist_cmp.datasets import sources


@pytest.fixture
def toy():
    "A family of 12 + 6 pictures in three classes, and what belongs into its files."
    chance = np.random.default_rng(0)
    whole = {}
    files = []
    for part, n in ('train', 12), ('t10k', 6):
        pixels = chance.integers(0, 256, (n, 28, 28), np.uint8)
        for kind, values in (
            ('images-idx3', pixels),
            ('labels-idx1', np.arange(n, dtype=np.uint8) % 3),
        ):
            file = sources.IdxFile(f'{part}-{kind}-ubyte', values.shape, '')
            content = file.header + values.tobytes()
            whole[file.name] = content
            files.append(
                replace(
                    file,
                    md5=hashlib.md5(gzip.compress(content, mtime=0)).hexdigest(),  # noqa: S324
                    sha256=hashlib.sha256(content).hexdigest(),
                )
            )
    return sources.Source('toy', 'Toy', (), tuple(files), ('a', 'b', 'c'), retries=0), whole


@pytest.fixture
def root(toy, tmp_path):
    "A folder with all files of the toy, extracted."
    raw = tmp_path / 'Toy' / 'raw'
    raw.mkdir(parents=True)
    for name, content in toy[1].items():
        (raw / name).write_bytes(content)
    return tmp_path


def load(toy, root):
    return data._load_source(toy[0], root, 2, False)


def test_what_was_checked_is_used(toy, root, monkeypatch):
    "Files are swapped right after they were looked at."
    before = load(toy, root)
    check = sources.find_stranger

    def check_then_swap(path, content, file):
        said = check(path, content, file)
        path.write_bytes(bytes(content[:-1]) + bytes([(content[-1] + 1) % 3]))
        return said

    monkeypatch.setattr(sources, 'find_stranger', check_then_swap)
    after = load(toy, root)
    assert [s.fingerprint for s in after.splits] == [s.fingerprint for s in before.splits]
    with pytest.raises(FileNotFoundError, match='does not have the published SHA-256'):
        load(toy, root)


def test_values_are_those_of_the_files(toy, root):
    source, whole = toy
    found = load(toy, root)
    pixels = np.frombuffer(whole['t10k-images-idx3-ubyte'], np.uint8, offset=16).reshape(
        6, 1, 28, 28
    )
    assert (found.test.x.numpy() == pixels).all()
    assert found.train.y.tolist() + found.valid.y.tolist() == [i % 3 for i in range(12)]
    found.train.x[0] = 7  # memory of its own, that can be written to
    assert load(toy, root).train.x[0].float().mean() != 7


@pytest.mark.parametrize('download', [False, True])
@pytest.mark.parametrize(
    'known', [True, False], ids=['content known', 'only the packed file known']
)
def test_offline_with_files_packed_anew(toy, root, known, download):
    source, whole = toy
    unknown = tuple(replace(file, sha256='') for file in source.files)
    if not known:
        source = replace(source, files=unknown)
    raw = root / 'Toy' / 'raw'
    for name, content in whole.items():
        (raw / name).unlink()
        (raw / f'{name}.gz').write_bytes(gzip.compress(content, 1))
    if known:
        sources.ensure_files(source, root, download)
        assert {name: (raw / name).read_bytes() for name in whole} == whole
    else:
        with pytest.raises(FileNotFoundError, match='train-images.*is missing'):
            sources.ensure_files(source, root, download)


def test_packed_file_with_another_content_is_refused(toy, root):
    source, whole = toy
    name = source.files[1].name
    path = root / 'Toy' / 'raw' / name
    path.unlink()
    altered = whole[name][:-1] + bytes([(whole[name][-1] + 1) % 3])
    bomb = gzip.compress(whole[name] + bytes(10**6))
    cut = gzip.compress(whole[name])[:-9]
    for packed in gzip.compress(altered), bomb, cut, b'page':
        path.with_name(f'{name}.gz').write_bytes(packed)
        with pytest.raises(FileNotFoundError, match=f'{name}.*is missing'):
            load(toy, root)
        assert not path.exists()


def test_damaged_file_is_mended_only_if_downloads_are_allowed(toy, root):
    source, whole = toy
    name = source.files[0].name
    path = root / 'Toy' / 'raw' / name
    path.with_name(f'{name}.gz').write_bytes(gzip.compress(whole[name], 1))
    path.write_bytes(b'damaged')
    with pytest.raises(FileNotFoundError, match='is truncated'):
        load(toy, root)
    assert path.read_bytes() == b'damaged'
    sources.ensure_files(source, root)  # which has no mirror
    assert path.read_bytes() == whole[name]


def test_no_home(monkeypatch, tmp_path):
    for name in ('HOME', 'XDG_CACHE_HOME', 'MNIST_CMP_DATA'):
        monkeypatch.delenv(name, raising=False)

    def unknown(uid):
        raise KeyError(uid)

    monkeypatch.setattr(pwd, 'getpwuid', unknown)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match='no home folder.*MNIST_CMP_DATA'):
        mc.load_data('mnist')
    assert os.listdir(tmp_path) == []
