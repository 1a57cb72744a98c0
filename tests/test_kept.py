"""What a comparison keeps in its folder is looked at when it goes on: by content, by range, and
by whose it is."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

import mnist_cmp as mc
from mnist_cmp import comparison
from mnist_cmp.core.ledger import LedgerError
from mnist_cmp.engines.evaluation import has_digest, read_weights, write_tensors


@pytest.fixture
def run(compare_in, tmp_path):
    "A finished comparison, its folder, and what it found."
    return tmp_path / 'run', compare_in(tmp_path / 'run')


def numbers(found):
    return [
        (run.test, [e.train_loss for e in run.history.epochs])
        for model in found.models
        for run in model.runs
    ]


def flipped(file):
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)


def changed(file, change):
    kept = json.loads(file.read_text())
    change(kept)
    file.write_text(json.dumps(kept))


DAMAGES = {
    'one digit': lambda kept: kept['found'].update(accuracy=0.5),
    'an accuracy of 7e9': lambda kept: kept['found'].update(accuracy=7e9),
    'nothing found': lambda kept: kept.pop('found'),
    'no identity': lambda kept: kept.pop('of'),
    'a list': lambda kept: kept.update(found=[]),
    'an empty digest': lambda kept: kept.update(sha256=''),
}


@pytest.mark.parametrize('damage', DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_test_is_measured_again(run, compare_in, damage, capsys):
    folder, found = run
    file = folder / 'tests' / 'one_0.json'
    before = file.read_bytes()
    changed(file, damage)
    assert numbers(compare_in(folder)) == numbers(found)
    assert 'one_0.json is damaged' in capsys.readouterr().err
    assert file.read_bytes() == before


@pytest.mark.parametrize('content', ['', '{', '[]', 'null', '{"of": 3, "found": {}}', '\x00' * 99])
def test_whatever_stands_in_the_file(run, compare_in, content):
    folder, found = run
    (folder / 'tests' / 'two_1.json').write_text(content)
    (folder / 'costs' / 'one.json').write_text(content)
    assert numbers(compare_in(folder)) == numbers(found)


def test_another_nets_test_is_refused_in_words(run, compare_in):
    folder, _ = run
    (folder / 'tests' / 'one_1.json').write_bytes((folder / 'tests' / 'one_0.json').read_bytes())
    with pytest.raises(LedgerError, match='one_1.json is of another net or other images'):
        compare_in(folder)


COSTS = {
    'negative': {'latency_1': -1.0},
    'a text': {'latency_1000': '<b>'},
    'half a byte': {'training_memory': 0.5},
    'a stranger': {'price': 3},
}


@pytest.mark.parametrize('odd', COSTS.values(), ids=COSTS)
@pytest.mark.parametrize('with_digest', [True, False])
def test_a_cost_that_cannot_be_is_measured_again(run, compare_in, odd, with_digest):
    folder, found = run

    def change(kept):
        kept['found'].update(odd)
        kept.pop('sha256')
        if with_digest:  # as a stranger would
            kept['sha256'] = comparison._digest_of(kept)

    changed(folder / 'costs' / 'one.json', change)
    assert compare_in(folder)['one'].cost == found['one'].cost


def test_files_of_older_releases_are_checked_and_given_a_digest(run, compare_in):
    folder, found = run
    tests = folder / 'tests' / 'one_0.json'
    costs = folder / 'costs' / 'one.json'
    weights = folder / 'weights' / 'one' / 'seed_0.safetensors'
    before = [file.read_bytes() for file in (tests, costs, weights)]

    def as_it_was(kept):
        kept.pop('sha256')
        kept['of'].pop('weights', None)

    # true once, and damaged since
    changed(tests, lambda kept: (as_it_was(kept), kept['found'].update(accuracy=0.25)))
    changed(costs, as_it_was)
    tensors, words = read_weights(weights)
    write_tensors(weights, tensors, words)
    assert not has_digest(weights)
    assert numbers(compare_in(folder)) == numbers(found)
    assert [file.read_bytes() for file in (tests, costs, weights)] == before


@pytest.mark.parametrize(
    'damage', ['flipped', 'gone', 'cut', 'of another seed', 'of another net', 'a link']
)
def test_damaged_weights_are_trained_again_to_the_same_bits(
    run,
    compare_in,
    data,
    damage,
    tmp_path,
    capsys,
):
    folder, found = run
    file = folder / 'weights' / 'one' / 'seed_0.safetensors'
    before = file.read_bytes()
    if damage == 'flipped':
        flipped(file)
    if damage == 'gone':
        file.unlink()
    if damage == 'cut':
        file.write_bytes(before[:-9])
    if damage == 'of another seed':
        file.write_bytes(file.with_name('seed_1.safetensors').read_bytes())
    if damage == 'of another net':
        file.write_bytes((folder / 'weights' / 'two' / 'seed_0.safetensors').read_bytes())
    if damage == 'a link':
        file.rename(tmp_path / 'elsewhere')
        file.symlink_to(tmp_path / 'elsewhere')
    again = compare_in(folder)
    assert 'Training 0 of one is done again' in capsys.readouterr().err
    assert numbers(again) == numbers(found)
    assert not file.is_symlink() and file.read_bytes() == before
    again.save(folder)
    net = mc.Comparison.load(folder).load_net('one', folder, 0, make=tiny.one)
    assert mc.topk_errors(net, data.test, (1,))[1] == again['one'].runs[0].test.errors[1]


@pytest.mark.parametrize(
    'name', ['tests', 'costs', 'weights', 'search', 'weights/one', 'search/two']
)
def test_nothing_is_written_through_a_link(run, compare_in, name, tmp_path):
    folder, _ = run
    (folder / name).rename(tmp_path / 'elsewhere')
    (folder / name).symlink_to(tmp_path / 'elsewhere')
    before = sorted(
        (path.name, path.stat().st_mtime_ns) for path in (tmp_path / 'elsewhere').rglob('*')
    )
    with pytest.raises(ValueError, match=f'{name} is a link'):
        compare_in(folder)
    assert (
        sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / 'elsewhere').rglob('*'))
        == before
    )


def test_a_linked_checkpoint_is_not_followed(search_in, tmp_path):
    search_in(tmp_path / 's', n_trials=1)
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 's' / 'trial_1031_0a1b2c').symlink_to(tmp_path / 'elsewhere')
    with pytest.raises(LedgerError, match='is a link'):
        search_in(tmp_path / 's')
    assert list((tmp_path / 'elsewhere').iterdir()) == []


def test_the_users_files_stay(compare_in, tmp_path):
    "Whatever a run folder, or a folder below it, holds beside our own files is left alone."
    folder = tmp_path / 'run'
    names = [
        '.env.partial',
        '.notes.part2.txt',
        '.a.parts',
        'sub/.config.particles',
        'data.safetensors',
        'tests/.x.part',
        'search/one/data.safetensors',
        'trial_1_notes/plan.txt',
        'search/one/trial_1030_notes/plan.txt',
    ]
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('mine')
    compare_in(folder, workers=2)
    compare_in(folder)
    assert [name for name in names if (folder / name).read_text() != 'mine'] == []


def test_new_folders_are_on_the_disk(compare_in, tmp_path, monkeypatch):
    "The name of each new folder is flushed in the folder above it."
    flushed = set()
    made = []
    fsync = os.fsync
    mkdir = Path.mkdir

    def watched_fsync(fd):
        flushed.add(os.readlink(f'/proc/self/fd/{fd}'))
        return fsync(fd)

    def watched_mkdir(self, *args, **kwargs):
        made.append(self)
        return mkdir(self, *args, **kwargs)

    if not Path('/proc/self/fd').exists():
        pytest.skip('this system does not tell the names of open files')
    monkeypatch.setattr(os, 'fsync', watched_fsync)
    monkeypatch.setattr(Path, 'mkdir', watched_mkdir)
    compare_in(tmp_path / 'a' / 'run')
    ours = [path for path in made if path.is_relative_to(tmp_path / 'a') or path == tmp_path / 'a']
    assert len(ours) > 6
    assert [str(path) for path in ours if str(path.parent.resolve()) not in flushed] == []


@pytest.mark.parametrize('letter', ['a', '模'])
def test_a_name_too_long_for_a_file_is_refused_before_any_work(compare_in, tmp_path, letter):
    with pytest.raises(ValueError, match='models has a name of 101 letters'):
        compare_in(tmp_path / 'run', models={letter * 101: tiny.one, 'b': tiny.two})
    assert not list((tmp_path / 'run').glob('*/*'))
    compare_in(tmp_path / 'run', models={letter * 66: tiny.one, 'b': tiny.two}).save(
        tmp_path / 'run'
    )


class Noisy(torch.nn.Sequential):
    "A net with chance of its own, which no seed of ours repeats."

    def __init__(self):
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(784, 3))

    def forward(self, x):
        y = super().forward(x)
        return y + np.random.rand() * y if self.training else y


def test_lost_weights_of_a_net_that_cannot_be_repeated(compare_in, tmp_path):
    "Another net takes its place, and is tested in its place."
    models = {'noisy': Noisy, 'two': tiny.two}
    compare_in(tmp_path, models=models)
    (tmp_path / 'weights' / 'noisy' / 'seed_0.safetensors').unlink()
    found = compare_in(tmp_path, models=models)
    assert numbers(compare_in(tmp_path, models=models)) == numbers(found)


@pytest.mark.parametrize(
    'name', ['tests/one_0.json', 'costs/one.json', 'weights/one/seed_0.safetensors']
)
def test_a_folder_in_a_files_place_is_named(run, compare_in, name):
    folder, _ = run
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(OSError, match=Path(name).name):
        compare_in(folder)
    (folder / name).rmdir()
    compare_in(folder)
