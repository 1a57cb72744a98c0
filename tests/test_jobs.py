"""Sixteen jobs as users bring them: each is a script of ten lines at most, which is run in a folder
of data, and each must do better than an answer that takes no look at the example."""

import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

JOBS = Path(__file__).with_name('jobs')
HELPERS = {'nets.py', 'backbone.py'}  # models, which users have
NAMES = sorted(path.stem for path in JOBS.glob('*.py') if path.name not in HELPERS)


def make_patches(folder):
    "Colour patches of two photographs, by the region that they are of."
    from sklearn.datasets import load_sample_images

    temple, flower = load_sample_images().images
    regions = {
        'pagoda': temple[140:325, 105:310],
        'sky': temple[:200, 340:560],
        'petals': flower[140:320, 205:410],
        'leaves': flower[:380, 480:],
    }
    chance = np.random.default_rng(0)
    x = []
    y = []
    for name, region in regions.items():
        for _ in range(90):
            top = chance.integers(0, region.shape[0] - 31)
            left = chance.integers(0, region.shape[1] - 31)
            x.append(region[top : top + 32, left : left + 32].transpose(2, 0, 1))
            y.append(name)
    x = np.array(x, np.uint8)
    y = np.array(y)
    order = chance.permutation(len(x))
    return x[order], y[order]


def write_patches(folder):
    x, y = make_patches(folder)
    np.savez(folder / 'patches.npz', x=x, y=y)
    np.save(folder / 'patches.npy', x)
    np.save(folder / 'regions.npy', y)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=2),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(4),
        torch.nn.Flatten(),
    )
    torch.save(net.state_dict(), folder / 'features.pt')
    write_folder(folder / 'regions', x, y)


def write_folder(folder, x, y):
    from PIL import Image

    for i, (image, name) in enumerate(zip(x, y, strict=True)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / name / f'{i:04}.png')


def write_waves(folder):
    "Two channels of 40 steps: a slow or a fast wave in noise."
    chance = np.random.default_rng(1)
    is_fast = chance.integers(0, 2, 400)
    period = np.where(is_fast, 5.0, 13.0)
    steps = np.arange(40) + 20 * chance.random((400, 1))
    wave = np.sin(2 * np.pi * steps / period[:, None])
    x = np.stack([wave, wave**2], 1) + 0.3 * chance.standard_normal((400, 2, 40))
    np.savez(folder / 'waves.npz', x=x, y=np.where(is_fast, 'fast', 'slow'))


def write_signs(folder):
    "62 classes of made 10×10 signs, 20 examples of each."
    chance = np.random.default_rng(2)
    signs = chance.random((62, 1, 10, 10)) > 0.5
    y = np.repeat(np.arange(62), 20)
    noise = chance.integers(0, 120, (len(y), 1, 10, 10))
    x = (135 * signs[y] + noise).astype(np.uint8)
    order = chance.permutation(len(y))
    np.savez(folder / 'signs.npz', x=x[order], y=y[order])


def write_table(folder):
    from sklearn.datasets import load_breast_cancer

    tumours = load_breast_cancer(as_frame=True)
    frame = tumours.data.assign(diagnosis=tumours.target_names[tumours.target])
    frame.to_csv(folder / 'tumours.csv', index=False)


def write_medmnist(folder):
    "MedMNIST's layout, of random bytes that are brighter for the higher classes."
    chance = np.random.default_rng(3)
    parts = {}
    for part, n in (('train', 300), ('val', 60), ('test', 90)):
        labels = chance.integers(0, 3, (n, 1))
        noise = chance.integers(0, 150, (n, 28, 28, 3))
        parts[f'{part}_images'] = (noise + 50 * labels[:, :, None, None]).astype(np.uint8)
        parts[f'{part}_labels'] = labels.astype(np.uint8)
    np.savez(folder / 'pathmnist.npz', **parts)


@pytest.fixture(scope='module')
def workplace(tmp_path_factory):
    "A folder with the data of all jobs and their scripts."
    folder = tmp_path_factory.mktemp('jobs')
    for write in write_patches, write_waves, write_signs, write_table, write_medmnist:
        write(folder)
    for script in JOBS.glob('*.py'):
        shutil.copy(script, folder)
    return folder


@pytest.fixture
def here(workplace, monkeypatch):
    "Within the folder, as a user who runs a script there."
    monkeypatch.chdir(workplace)
    monkeypatch.syspath_prepend(workplace)
    names = [Path(helper).stem for helper in HELPERS]
    for name in names:  # other tests have modules of such names
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield workplace
    for name in names:
        sys.modules.pop(name, None)


def test_there_are_all_jobs():
    assert len(NAMES) >= 15


@pytest.mark.parametrize('name', NAMES)
def test_a_job_is_short(name):
    lines = (JOBS / f'{name}.py').read_text().splitlines()
    assert sum(bool(line.strip()) for line in lines) <= 10


@pytest.mark.parametrize('name', NAMES)
def test_a_job_learns(name, here):
    job = runpy.run_path(str(here / f'{name}.py'))
    result = job['result']
    if result.classes:
        labels = np.array(result.labels)
        majority = np.bincount(labels).max() / len(labels)
        assert 1 - result.best.error > majority + (1 - majority) / 4
    else:
        test = job['data'].test
        targets = test.in_units(test.y)
        assert result.best.value < float(targets.var(unbiased=False))
