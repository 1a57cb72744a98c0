"A Dask cluster without workers, with workers that lack a module, and one whose last worker dies."

import logging
import os
import signal
import sys
import threading
import time

import pytest
import tiny

import mnist_cmp as mc
from mnist_cmp.comparison import Stopped
from mnist_cmp.study import workers

distributed = pytest.importorskip('distributed', reason='Dask is not installed')


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    "What is said after some seconds is said at once, and this test's models travel by value."
    import cloudpickle

    monkeypatch.setattr(workers, 'PATIENCE', 0.3)
    cloudpickle.register_pickle_by_value(tiny)
    yield
    cloudpickle.unregister_pickle_by_value(tiny)


@pytest.fixture
def cluster():
    "A scheduler on this machine that has no workers yet."
    with distributed.LocalCluster(
        n_workers=0,
        threads_per_worker=1,
        host='127.0.0.1',
        dashboard_address=None,
        silence_logs=logging.CRITICAL,
    ) as made:
        yield made


@pytest.fixture
def client(cluster):
    with distributed.Client(cluster) as made:
        yield made


def after(seconds):
    "A wish to stop that comes so much later than it is first asked for."
    begun = []

    def should_stop():
        if not begun:
            begun.append(time.monotonic())
        return time.monotonic() - begun[0] > seconds

    return should_stop


def is_quick(begun):
    return time.monotonic() - begun < 60  # and not for ever


def losses(found):
    return [trial.loss for trial in found.trials]


def test_the_wish_to_stop_is_heard_while_there_are_no_workers(
    client,
    search_in,
    compare_in,
    data,
    tmp_path,
    capsys,
):
    begun = time.monotonic()
    found = search_in(tmp_path / 's', client=client, should_stop=after(1))
    assert is_quick(begun) and (found.trials, found.done) == ([], False)
    said = capsys.readouterr().err
    assert said.count('has no workers: waiting until one joins') == 1
    assert client.scheduler.address in said
    begun = time.monotonic()
    runs = mc.retrain(
        tiny.one,
        data.train,
        data.valid,
        mc.Recipe(0.1, 8, epochs=1),
        seeds=1,
        compute=mc.Compute(client=client),
        callbacks=mc.Callbacks(should_stop=after(0.2)),
    )
    assert is_quick(begun) and runs == []
    with pytest.raises(Stopped):
        compare_in(tmp_path / 'c', client=client, should_stop=after(0.2))


def test_ctrl_c_is_heard_while_there_are_no_workers(client, search_in, tmp_path):
    begun = time.monotonic()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupt = threading.Timer(1, os.kill, [os.getpid(), signal.SIGINT])
    interrupt.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            search_in(tmp_path, client=client)
    finally:
        interrupt.join()
        signal.signal(signal.SIGINT, before)
    assert is_quick(begun)


def test_work_begins_when_a_worker_joins_and_goes_on_when_the_last_one_is_replaced(
    cluster,
    client,
    search_in,
    tmp_path,
    capsys,
):
    once = search_in(tmp_path / 'here', n_trials=3)
    joining = threading.Timer(1, cluster.scale, [1])
    joining.start()
    gone = []

    def leave(trial, result):
        "All workers are taken away after the first trial, and one joins later."
        if not gone:
            cluster.scale(0)
            while client.nthreads():
                time.sleep(0.05)
            gone.append(threading.Timer(1.5, cluster.scale, [1]))
            gone[0].start()

    found = search_in(tmp_path / 'there', n_trials=3, client=client, on_trial=leave)
    for timer in joining, *gone:
        timer.join()
    assert found.done and losses(found) == losses(once)
    assert capsys.readouterr().err.count('has no workers: waiting') == 2  # once each time
    # A finished search needs no workers.
    cluster.scale(0)
    assert losses(search_in(tmp_path / 'there', n_trials=3, client=client)) == losses(once)


def test_a_stop_while_the_last_worker_is_gone(cluster, client, search_in, tmp_path):
    cluster.scale(1)
    client.wait_for_workers(1)

    def leave(trial, result):
        cluster.scale(0)

    begun = time.monotonic()
    wait = after(60)
    stop = [None]

    def should_stop():
        if stop[0] is None and not client.nthreads() and (tmp_path / 'study.sqlite').exists():
            stop[0] = after(1)
        return wait() or (stop[0] is not None and stop[0]())

    found = search_in(tmp_path, n_trials=3, client=client, on_trial=leave, should_stop=should_stop)
    assert 1 <= len(found.trials) < 3 and time.monotonic() - begun < 50
    assert len(search_in(tmp_path, n_trials=3).trials) == 3


MODULE = """
import torch
def Net(): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 3))
"""


@pytest.fixture
def far_nets(cluster, client, tmp_path, monkeypatch):
    "A module that this process can import, and the cluster's only worker can't."
    (tmp_path / 'my_far_nets.py').write_text(MODULE)
    cluster.scale(1)
    client.wait_for_workers(1)
    monkeypatch.syspath_prepend(tmp_path)
    import my_far_nets

    yield my_far_nets
    sys.modules.pop('my_far_nets', None)


def test_a_module_that_the_workers_lack(far_nets, client, search_in, tmp_path):
    "It is named, with the way out; and the way out is one."
    for engine in 'auto', 'autograd':
        with pytest.raises(
            ImportError,
            match='The Dask workers cannot import what they need of '
            r"my_far_nets.*client.upload_file\('my_far_nets.py'\)",
        ):
            search_in(tmp_path / 's', make=far_nets.Net, client=client, engine=engine)
    client.upload_file(str(tmp_path / 'my_far_nets.py'))
    assert search_in(tmp_path / 's', make=far_nets.Net, client=client).done


def test_a_worker_that_joins_later_and_lacks_the_module(far_nets, client):
    "The jobs themselves say so, too; nothing is tried again and again."
    with pytest.raises(ImportError, match='cannot import what they need of my_far_nets'):
        list(workers.run_jobs(Asking(far_nets.Net), [1, 2], client=client))


class Asking:
    def __init__(self, make):
        self.make = make

    def __call__(self, shared, job, note, should_stop):
        return job


@pytest.mark.soak  # on a busy machine Dask takes minutes to start its workers anew, three times
def test_a_worker_that_is_killed_for_good(client, cluster):
    "Its job is tried elsewhere, and in the end given up with the reason; the others are done."
    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    cluster.scale(2)
    client.wait_for_workers(2)
    try:
        outcomes = {
            o.job: o
            for o in workers.run_jobs(
                deadly, ['safe', 'deadly'], client=client, should_stop=reviving(cluster, 2, 500)
            )
        }
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert outcomes['safe'].value == 'safe'
    assert outcomes['deadly'].state == 'crashed'
    assert 'its worker died' in outcomes['deadly'].error and '3 tries' in outcomes['deadly'].error


def reviving(cluster, n, seconds):
    """A wish to stop that comes so much later, and until then sees to it that there are `n` workers
    again where all have gone: on a busy machine Dask may give up starting one anew."""
    too_late = after(seconds)
    seen = time.monotonic()

    def should_stop():
        nonlocal seen
        if cluster.scheduler_info['workers']:
            seen = time.monotonic()
        elif time.monotonic() - seen > 60:
            cluster.scale(0)
            cluster.scale(n)
            seen = time.monotonic()
        return too_late()

    return should_stop


def deadly(shared, job, note, should_stop):
    if job == 'deadly':
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)
    return job
