"""What is the machine's or the caller's is never a trial's, wherever the trial runs; and what is
the model's is."""

import os
from pathlib import Path

import pytest
import torch

from mnist_cmp import training
from mnist_cmp.core.checks import MachineError
from mnist_cmp.study.scheduling import checkpoint_of

WAYS = {
    'here': dict(workers=1),
    'in processes': dict(workers=2),
    'as a population': dict(engine='population', device='cpu'),
}


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def way(request):
    return request.param


@pytest.fixture(scope='module')
def client():
    distributed = pytest.importorskip('distributed')
    with distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        dashboard_address=None,
        host='127.0.0.1',
    ) as cluster:
        with distributed.Client(cluster) as client:
            yield client


def states(found):
    return [trial.history.state for trial in found.trials]


def begin(search_in, store, **way):
    "A search that has a ledger and no trial yet."
    search_in(store, should_stop=lambda: True, **way)
    assert (store / 'study.sqlite').exists()


def in_the_way(store):
    "A file stands where a trial's checkpoint should go."
    place = checkpoint_of(str(store), 'trial', 1030)
    place.touch()
    return place


def test_a_checkpoint_that_cannot_be_written(search_in, tmp_path, way):
    begin(search_in, tmp_path, **way)
    place = in_the_way(tmp_path)
    with pytest.raises(OSError, match=place.name) as raised:
        search_in(tmp_path, **way)
    assert isinstance(raised.value, MachineError)
    place.unlink()
    assert states(search_in(tmp_path, **way)) == ['finished', 'finished']


def test_the_same_on_a_cluster(search_in, tmp_path, client):
    begin(search_in, tmp_path, client=client)
    place = in_the_way(tmp_path)
    with pytest.raises(MachineError, match=place.name):
        search_in(tmp_path, client=client)
    place.unlink()
    assert states(search_in(tmp_path, client=client)) == ['finished', 'finished']


@pytest.mark.parametrize('number', ['ENOSPC', 'EIO', 'EROFS', 'EDQUOT', 'EMFILE'])
def test_a_disk_that_fails_once(search_in, tmp_path, monkeypatch, number):
    import errno

    save = training._Checkpoint.save
    calls = []

    def fails_at_second(self, *args, **kwargs):
        calls.append(self.file)
        if len(calls) == 2:
            monkeypatch.setattr(os, 'fsync', broken)
        return save(self, *args, **kwargs)

    real = os.fsync

    def broken(fd):
        monkeypatch.setattr(os, 'fsync', real)
        raise OSError(getattr(errno, number), os.strerror(getattr(errno, number)))

    monkeypatch.setattr(training._Checkpoint, 'save', fails_at_second)
    with pytest.raises(MachineError, match=f'{os.strerror(getattr(errno, number))}.*is safe'):
        search_in(tmp_path)
    assert states(search_in(tmp_path)) == ['finished', 'finished']


class NeedsAFile(torch.nn.Linear):
    "Reads a file that is soon gone, as a model might that caches something."

    steps = 0

    def forward(self, x):
        self.steps += self.training
        if self.steps > 3:  # after it was rehearsed
            Path('no such folder', 'cache').read_bytes()
        return super().forward(x.flatten(1))


def test_an_error_of_the_system_in_a_model_is_the_models(search_in, tmp_path, way):
    if 'engine' in way:
        pytest.skip('such a net is refused as a population before it is trained')
    found = search_in(tmp_path, make=lambda: NeedsAFile(784, 3), **way)
    assert states(found) == ['failed', 'failed']
    assert 'no such folder' in found.trials[0].error


class Mine(Exception):
    pass


ERRORS = Mine('mine'), OSError('mine'), ValueError('mine'), MemoryError('mine')
CALLBACKS = 'on_epoch', 'on_trial', 'should_stop'
CASES = [(WAYS['here'], callback, error) for callback in CALLBACKS for error in ERRORS]
CASES += [(way, callback, ERRORS[1]) for way in list(WAYS.values())[1:] for callback in CALLBACKS]


@pytest.mark.parametrize(('way', 'callback', 'error'), CASES)
def test_a_callback_that_raises_is_the_callers(search_in, tmp_path, way, callback, error):
    calls = []

    def raises_later(*args):
        calls.append(args)
        if len(calls) > (callback != 'on_trial'):
            raise error
        return False

    with pytest.raises(type(error), match='mine') as raised:
        search_in(tmp_path, epochs=3, **{callback: raises_later}, **way)
    assert raised.value is error
    assert states(search_in(tmp_path, epochs=3, **way)) == ['finished', 'finished']


def test_a_damaged_checkpoint_costs_its_training_and_no_more(search_in, tmp_path, capsys):
    whole = search_in(tmp_path / 'whole')

    def stop(history):
        raise Mine

    with pytest.raises(Mine):
        search_in(tmp_path / 's', on_epoch=stop)
    (file,) = (tmp_path / 's').glob('trial_*/last.safetensors')
    content = bytearray(file.read_bytes())
    content[-10] ^= 1
    file.write_bytes(content)
    again = search_in(tmp_path / 's')
    assert [t.loss for t in again.trials] == [t.loss for t in whole.trials]
    assert 'The training begins anew' in capsys.readouterr().err


def test_workers_that_cannot_read_the_data_say_so(search_in, tmp_path, monkeypatch):
    from mnist_cmp.study import scheduling
    from mnist_cmp.study.workers import MappedSplits

    monkeypatch.setattr(
        scheduling,
        'map_splits',
        lambda splits, folder: MappedSplits(str(tmp_path / 'gone'), {}),
    )
    with pytest.raises(MachineError, match='The data cannot be read'):
        search_in(tmp_path / 's', workers=2)
    monkeypatch.undo()
    assert states(search_in(tmp_path / 's', workers=2)) == ['finished', 'finished']


ODD_CHECKPOINTS = {
    'a folder': lambda file, other: file.mkdir(),
    'a pipe': lambda file, other: os.mkfifo(file),
    'a link': lambda file, other: file.symlink_to(other),
}


@pytest.mark.parametrize('put', ODD_CHECKPOINTS.values(), ids=ODD_CHECKPOINTS)
def test_what_is_no_checkpoint_of_ours_ends_the_search_in_words(search_in, tmp_path, way, put):
    begin(search_in, tmp_path / 's', **way)
    place = checkpoint_of(str(tmp_path / 's'), 'trial', 1030)
    place.mkdir()
    file = place / 'last.safetensors'
    put(file, tmp_path / 'other')
    with pytest.raises(MachineError, match='last.safetensors is a link, or no plain file'):
        search_in(tmp_path / 's', **way)
    if file.is_dir():
        file.rmdir()
    else:
        file.unlink()
    assert states(search_in(tmp_path / 's', **way)) == ['finished', 'finished']


def test_another_trainings_checkpoint_is_not_gone_on_with(search_in, tmp_path, capsys):
    whole = search_in(tmp_path / 'whole')

    def stop(history):
        if history.learning_rate == whole.trials[1].config.learning_rate:
            raise Mine

    with pytest.raises(Mine):
        search_in(tmp_path / 's', on_epoch=stop)
    (theirs,) = (tmp_path / 's').glob('trial_1031_*/last.safetensors')
    begin(search_in, tmp_path / 't')
    place = checkpoint_of(str(tmp_path / 't'), 'trial', 1030)
    place.mkdir()
    (place / 'last.safetensors').write_bytes(theirs.read_bytes())
    again = search_in(tmp_path / 't')
    assert [t.loss for t in again.trials] == [t.loss for t in whole.trials]
    assert 'is of another training' in capsys.readouterr().err


@pytest.mark.parametrize('number', ['EIO', 'ESTALE', 'EACCES'])
def test_a_look_at_a_checkpoint_that_fails(search_in, tmp_path, monkeypatch, number):
    "Each look at a file of a trial's folder fails once."
    import errno

    real = os.stat
    looks = []

    def watched(path, *args, **kwargs):
        if isinstance(path, (str, os.PathLike)) and 'trial_' in str(path):
            looks.append(path)
            if len(looks) == fails_at:
                raise OSError(getattr(errno, number), 'no look', str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, 'stat', watched)
    fails_at = -1
    search_in(tmp_path / 'whole')
    several = len(looks)
    assert several > 5
    for fails_at in range(1, several + 1):
        looks.clear()
        store = tmp_path / str(fails_at)
        try:
            search_in(store)
        except OSError as e:
            assert 'no look' in str(e)
        looks.clear()
        looks.extend([None] * several)
        assert states(search_in(store)) == ['finished', 'finished']
