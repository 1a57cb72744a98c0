"""Processes of our own, and how work is told to stop, in the cases that no notebook shows."""

import os
import signal
import subprocess
import sys
import time

import pytest

import mnist_cmp as mc
from mnist_cmp import comparison
from mnist_cmp.core import checks
from mnist_cmp.core.children import Child, python_code
from mnist_cmp.study import workers

POSIX = pytest.mark.skipif(os.name != 'posix', reason='sends signals')


def test_stopped_is_one_class_under_all_its_names():
    assert mc.Stopped is comparison.Stopped is checks.Stopped


def test_nothing_but_the_standard_library_is_needed_to_begin_a_child():
    code = python_code(
        "import mnist_cmp.core.children; print(sorted({'torch', 'numpy', 'cloudpickle'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.stdout.strip() == '[]', done.stderr


@POSIX
def test_ctrl_c_of_a_terminal_does_not_reach_a_child():
    "The terminal sends it to the whole group of processes."
    code = (
        'import os, signal, time; from mnist_cmp.core.children import Child; '
        "child = Child('-c', 'import sys; sys.stdin.read(); sys.exit(3)')\n"
        'try:\n'
        '    os.killpg(0, signal.SIGINT)\n'
        '    time.sleep(60)\n'
        'except KeyboardInterrupt:\n'
        '    print(child.is_running(), child.stop(patience=60))'
    )
    parent = Child('-c', python_code(code), output=subprocess.PIPE)
    with parent.process.stdout as pipe:
        assert pipe.read().decode().split() == ['True', '3']
    assert parent.stop(patience=60) == 0


@POSIX
def test_a_child_that_hears_nothing_is_killed():
    code = (
        'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); '
        "print('ready', flush=True); time.sleep(600)"
    )
    child = Child('-c', code, output=subprocess.PIPE)
    with child.process.stdout as pipe:
        assert pipe.readline() == b'ready\n'
        begin = time.monotonic()
        assert child.stop(patience=0.1) == -signal.SIGKILL
        assert time.monotonic() - begin < 30
    assert child.kill() == -signal.SIGKILL  # once more, which changes nothing


def test_a_wish_to_stop_is_final_for_all_jobs(monkeypatch):
    "A `should_stop` that says yes within a job, and no afterwards, ends the other jobs, too."
    answers = iter([False, True])  # before the first job, and within it

    def work(shared, job, note, should_stop):
        return should_stop()

    outcomes = list(workers.run_jobs(work, [1, 2, 3], should_stop=lambda: next(answers, False)))
    assert [outcome.value for outcome in outcomes] == [True]


class Leaving:
    "The client of a cluster whose only worker leaves while it is sent the data."

    scheduler = None

    def __init__(self, error):
        self.errors = [error]

    def subscribe_topic(self, topic, handler):
        pass

    def run_on_scheduler(self, function, number):
        pass

    def scatter(self, data, **how):
        if self.errors:
            raise self.errors.pop()
        return self

    status = 'finished'


def test_a_worker_that_leaves_while_it_is_sent_the_data_ends_nothing():
    comm = pytest.importorskip('distributed.comm')
    for error in (TimeoutError(), comm.CommClosedError('Stream is closed')):
        cluster = workers._Cluster(Leaving(error), print, 1)
        assert [cluster.has_data(), cluster.has_data()] == [False, True]
