"""Where nobody says how many processes train, small trainings stay in this one, long ones get
others; the numbers are the same to the last bit."""

import os
import signal
import threading
import time

import pytest
from tiny import grouped, one

import mnist_cmp as mc
from mnist_cmp import training
from mnist_cmp.cli import _parser
from mnist_cmp.core.process import sealed
from mnist_cmp.study import scheduling, workers
from mnist_cmp.study.scheduling import _Pace

HERE = f'process {os.getpid()}'


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    "Two cores, and trainings that ask before each step whether to stop."
    monkeypatch.setattr(scheduling, 'available_cores', lambda: 2)
    monkeypatch.setattr(training, '_BETWEEN', 0.0)


def numbers(found):
    return [(t.number, [e.train_loss for e in t.history.epochs], t.accuracy) for t in found.trials]


def searched(data, store=None, **kwargs):
    how = grouped(**dict(n_trials=3, epochs=3) | kwargs)
    space = mc.Space(batch_size=(8, 16))
    return mc.tune({'one': one}, data.train, data.valid, space, store=store, **how)


def test_small_trainings_start_no_process(data, monkeypatch):
    def begin(*_):
        raise AssertionError('a process was started')

    monkeypatch.setattr(workers, '_Worker', begin)
    found = searched(data)
    assert {t.worker for t in found.trials} == {HERE}
    point = mc.Config(0.1, 8)
    assert len(mc.retrain(one, data.train, data.valid, mc.Recipe(epochs=1).at(point), seeds=2)) == 2


def test_number_that_is_given_is_honoured(data):
    found = searched(data, workers=2)
    assert HERE not in {t.worker for t in found.trials}
    assert numbers(found) == numbers(searched(data, workers=1))


def pays_after(epochs, trials=0):
    "Processes pay once a training has so many epochs, after so many whole trainings."

    def pays(pace):
        return pace.left <= 3 - trials and pace.done >= epochs

    return pays


@pytest.mark.parametrize('kept', [True, False])
@pytest.mark.parametrize('when', [(0, 0), (1, 0), (2, 1), (0, 2)])
def test_results_do_not_depend_on_when_processes_begin_to_pay(
    data, tmp_path, monkeypatch, kept, when
):
    expected = numbers(searched(data, workers=1))
    monkeypatch.setattr(_Pace, 'pays', pays_after(*when))
    found = searched(data, tmp_path if kept else None)
    assert numbers(found) == expected
    trained_here = [t for t in found.trials if t.worker == HERE]
    assert len(trained_here) == when[1]
    assert not [p.name for p in tmp_path.glob('trial_*')]  # no checkpoint is left


def test_training_that_moves_goes_on_where_it_was(data, tmp_path, monkeypatch):
    "Each of its epochs is trained once."
    monkeypatch.setattr(_Pace, 'pays', pays_after(2))
    heard = []
    searched(data, tmp_path, n_trials=1, on_epoch=lambda h: heard.append(len(h.epochs)))
    assert heard == [1, 2, 3]


def test_weights_of_retraining(data, tmp_path, monkeypatch):
    def trained(**kwargs):
        nets = mc.retrain(
            one, data.train, data.valid, mc.Recipe(0.1, 8, epochs=2), seeds=3, **grouped(**kwargs)
        )
        return [{name: w.tolist() for name, w in net.weights.items()} for net in nets]

    expected = trained(workers=1)
    monkeypatch.setattr(_Pace, 'pays', pays_after(1, trials=1))
    assert trained(store=tmp_path) == expected


def test_asked_to_stop_no_process_is_started(data, tmp_path, monkeypatch):
    heard = []

    def begin(*_):
        raise AssertionError('a process was started')

    with monkeypatch.context() as patch:
        patch.setattr(workers, '_Worker', begin)
        found = searched(data, tmp_path, on_epoch=heard.append, should_stop=lambda: bool(heard))
    assert len(found.trials) == 0 and len(heard) == 1
    assert numbers(searched(data, tmp_path)) == numbers(searched(data))


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Heard:
    "A history of epochs that took so long."

    class Epoch:
        def __init__(self, seconds):
            self.seconds = seconds

    def __init__(self, *seconds):
        self.epochs = [self.Epoch(s) for s in seconds]


def test_what_pays():
    clock = Clock()
    pace = _Pace(10, 5, 2, clock)  # 10 trainings of 5 epochs, 2 cores
    pace.note(None)
    assert not pace.pays()
    pace.note(Heard(0.1))
    # 0.1 s·(50 − 1) are left here, 3 s + 0.1 s·25 there
    assert not pace.pays()
    pace.note(Heard(0.2))
    assert pace.pays()
    for _ in range(9):
        pace.ended()
    assert not pace.pays()  # the last one gains nothing by another process


def test_first_epoch_need_not_be_over():
    clock = Clock()
    pace = _Pace(10, 5, 2, clock)
    pace.note(None)
    clock.now = 0.1
    assert not pace.pays()
    clock.now = 1.0
    assert pace.pays()


def test_command_leaves_the_number_open():
    assert _parser().parse_args([]).workers is None
    assert _parser().parse_args(['--workers', '3']).workers == 3


def hungry(shared, job, note, should_stop):
    if job == 1:
        raise MemoryError
    return job


def test_worker_out_of_memory_is_replaced_by_one(monkeypatch):
    sizes = []
    begin = workers._Crew._begin

    def count(crew):
        begin(crew)
        sizes.append(len(crew.members))

    monkeypatch.setattr(workers._Crew, '_begin', count)
    found = {o.job: o.state for o in workers.run_jobs(hungry, [0, 1, 2], workers=2)}
    assert found == {0: 'done', 1: 'crashed', 2: 'done'}
    assert max(sizes) == 2


@pytest.mark.skipif(os.name != 'posix', reason='sends a signal')
def test_ctrl_c_in_a_training_that_stayed_here(data, tmp_path):
    def interrupt(history):
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        searched(data, tmp_path, on_epoch=interrupt)
    assert numbers(searched(data, tmp_path)) == numbers(searched(data))


def no_process(*_):
    raise AssertionError('a process was started')


@pytest.mark.parametrize('slow, when', [('on_epoch', 1), ('should_stop', 2)])
def test_time_of_the_caller_starts_no_process(data, monkeypatch, slow, when):
    """Epochs of some milliseconds, and a callback that takes longer than processes would need to
    pay."""
    monkeypatch.setattr(workers, '_Worker', no_process)
    monkeypatch.setattr(training, '_BETWEEN', 0.05)
    monkeypatch.setattr(scheduling, 'STARTING', 4.0)  # processes pay from 1.3 s an epoch
    called = []

    def sleep(*_):
        called.append(1)
        if len(called) == when:  # should_stop: within the first training
            time.sleep(2.0)

    found = searched(data, n_trials=4, epochs=2, **{slow: sleep})
    assert len(called) > when
    assert len(found.trials) == 4
    assert {t.worker for t in found.trials} == {HERE}
    assert sum(t.history.seconds for t in found.trials) < 1.5


def test_waiting_for_another_thread_is_no_time_of_an_epoch(data):
    "The lock that the training gives back for a question is taken, and kept for a while."
    asked = []
    holders = []

    def hold(holds):
        with sealed(1):
            holds.set()
            time.sleep(2.0)

    def should_stop():
        asked.append(1)
        if len(asked) == 4:  # within an epoch
            holds = threading.Event()
            holders.append(threading.Thread(target=hold, args=[holds], daemon=True))
            holders[0].start()
            assert holds.wait(60)
        return False

    net = mc.initialise(one)
    history = mc.train(
        net,
        data.train,
        data.valid,
        mc.Recipe(learning_rate=0.1, batch_size=8, epochs=2),
        callbacks=mc.Callbacks(should_stop=should_stop, progress=False),
        compute=mc.Compute(threads=1),
    )
    holders[0].join(60)
    assert history.seconds < 1.8


@pytest.mark.parametrize('threads, processes', [(1, 4), (2, 2), (3, 1), (4, 1), (8, 1)])
def test_processes_that_share_the_cores_by_their_threads(data, monkeypatch, threads, processes):
    cores = []
    begin = _Pace.__init__

    def count(pace, jobs, epochs, cores_of_it, *args):
        cores.append(cores_of_it)
        begin(pace, jobs, epochs, cores_of_it, *args)

    monkeypatch.setattr(scheduling, 'available_cores', lambda: 4)
    monkeypatch.setattr(_Pace, '__init__', count)
    searched(data, n_trials=1, epochs=1, threads=threads)
    assert cores == [processes]


@pytest.mark.parametrize('threads, processes', [(1, 4), (2, 2), (3, 1), (8, 1)])
def test_so_many_processes_are_started(data, monkeypatch, threads, processes):
    "And not one for each core, whose threads would stand in each other's way."
    started = []
    run_jobs = scheduling.run_jobs

    def count(plan, jobs, splits, workers=None, **told):
        if workers is None:
            return run_jobs(plan, jobs, splits, **told)
        started.append(workers)
        return iter(())

    monkeypatch.setattr(scheduling, 'available_cores', lambda: 4)
    monkeypatch.setattr(scheduling, 'run_jobs', count)
    monkeypatch.setattr(_Pace, 'pays', lambda pace: True)
    searched(data, n_trials=2, epochs=1, threads=threads)
    assert started == [processes]
