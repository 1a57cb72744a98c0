"Ctrl-C comes through as Ctrl-C at every moment, leaves no lock taken and nothing changed."

import os
import random
import signal
import sys
import threading
import time

import numpy as np
import pytest
import torch

from mnist_cmp.core import process
from mnist_cmp.core.process import sealed, unsealed, working_time


def once():
    with sealed(7, threads=1):
        torch.rand(2)


def nested():
    with sealed(7):
        torch.set_default_dtype(torch.float16)  # as a stranger's net might do
        with sealed():
            random.random()
            with sealed(8):
                np.random.rand()


def asking():
    with sealed(7):
        torch.rand(2)
        with sealed():
            with unsealed():
                torch.get_num_threads()
            torch.rand(2)
        with unsealed():
            with sealed():
                pass


needs_signals = pytest.mark.skipif(os.name != 'posix', reason='sends a signal to a thread')

WORK = [once, nested, asking]


class Interrupt:
    """Raises KeyboardInterrupt at the k-th line, or beginning of a function, of 00b_process;
    counts them."""

    def __init__(self, k):
        self.k = k
        self.seen = 0
        # Python looks for signals at calls, so never at a bare `try`.
        with open(process.__file__, encoding='utf-8') as file:
            self.bare = {
                i for i, line in enumerate(file, 1) if line.strip() in ('try:', 'finally:')
            }

    def __call__(self, frame, event, arg):
        if frame.f_code.co_filename != process.__file__:
            return None
        # the `with` statement's own step
        is_block = frame.f_code.co_name in ('__enter__', '__exit__')
        if event == 'line' and frame.f_lineno not in self.bare or event == 'call' and not is_block:
            self.seen += 1
            if self.seen == self.k:
                raise KeyboardInterrupt
        return self

    def during(self, work):
        before = sys.gettrace()
        sys.settrace(self)
        try:
            work()
        finally:
            sys.settrace(before)


def state():
    _, numpy, place, *_ = np.random.get_state()
    return [
        process._read_settings(),
        torch.get_default_device().type,
        torch.get_num_threads(),
        random.getstate(),
        numpy.tolist(),
        place,
        torch.get_rng_state().numpy().tolist(),
    ]


def is_free():
    "Can another thread take the lock?"
    done = threading.Event()

    def take():
        with sealed(1):
            pass
        done.set()

    threading.Thread(target=take, daemon=True).start()
    return done.wait(20)


def steps(work):
    counting = Interrupt(0)
    counting.during(work)
    return counting.seen


def put_nothing():
    pass


def put_double():
    torch.set_default_dtype(torch.float64)
    torch.set_float32_matmul_precision('medium')


def put_on_meta():
    torch.set_default_device('meta')


@pytest.fixture(params=[put_nothing, put_double, put_on_meta])
def told(request):
    "Tells the process something; everything is put back at the end."
    request.param()
    yield
    torch.set_default_device(None)
    torch.set_default_dtype(torch.float32)
    torch.set_float32_matmul_precision('highest')


@pytest.mark.parametrize('work', WORK)
def test_ctrl_c_at_every_step(work, told, monkeypatch):
    monkeypatch.setattr(process, '_SETTINGS', process._SETTINGS[:3])  # they stand for all
    before = state()
    n = steps(work)
    assert n > 20
    for k in range(1, n + 1):
        with pytest.raises(KeyboardInterrupt):
            Interrupt(k).during(work)
        assert is_free(), f'the lock is taken after an interrupt at step {k}'
        assert state() == before, f'not as before after an interrupt at step {k}'
    assert not process._here.blocks


class Holder:
    "Another thread that keeps the lock until it is told to leave."

    def __init__(self):
        self.holds = threading.Event()
        self.leave = threading.Event()
        self.thread = threading.Thread(target=self.hold, daemon=True)

    def hold(self):
        with sealed(1):
            self.holds.set()
            self.leave.wait(60)

    def __enter__(self):
        self.thread.start()
        assert self.holds.wait(60)

    def __exit__(self, *_):
        self.leave.set()
        self.thread.join(60)


def interrupt_soon():
    "Ctrl-C, once the main thread waits."
    time.sleep(0.3)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


@needs_signals
@pytest.mark.parametrize('when', ['waiting', 'in the callback'])
def test_ctrl_c_does_not_wait_for_another_thread(when):
    "It comes while `unsealed` waits for the lock, or in the callback, when the lock is another's."
    before = state()
    holder = Holder()
    sender = threading.Thread(target=interrupt_soon, daemon=True)

    def callback():
        holder.__enter__()
        if when == 'waiting':
            sender.start()
        else:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        with sealed(7), sealed():
            process.callers(callback)()
            raise AssertionError('the lock was taken while another thread had it')
    assert not holder.leave.is_set()  # it still holds the lock
    holder.__exit__()
    assert is_free()
    assert state() == before


@needs_signals
def test_ctrl_c_while_a_first_block_waits():
    before = state()
    with Holder():
        threading.Thread(target=interrupt_soon, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            with sealed(7):
                raise AssertionError('the lock was taken while another thread had it')
    assert is_free()
    assert state() == before


def test_ctrl_c_comes_through_where_a_setting_cannot_be_put_back(monkeypatch):
    def refuse(*_):
        raise RuntimeError('can not be put')

    with pytest.raises(KeyboardInterrupt):
        with sealed(7), sealed():
            monkeypatch.setattr(process, '_put_settings', refuse)
            raise KeyboardInterrupt
    with pytest.raises(RuntimeError, match='can not be put'):
        with sealed(7):
            pass
    monkeypatch.undo()
    assert is_free()
    assert not process._here.blocks


def test_a_block_left_for_a_while_goes_on_where_it_was():
    with sealed(7):
        expected = torch.rand(4).tolist()
    before = state()
    with sealed(7):
        torch.set_default_dtype(torch.float64)
        found = torch.rand(2, dtype=torch.float32).tolist()
        with sealed():
            with unsealed():
                assert state() == before
            found += torch.rand(2).tolist()
        assert torch.get_default_dtype() == torch.float64
    assert found == expected
    assert state() == before


def test_waiting_for_another_thread_is_no_working_time():
    def release(holder):
        time.sleep(0.5)
        holder.leave.set()

    for inside in (False, True):
        holder = Holder()
        begin = time.perf_counter(), working_time()
        if inside:
            with sealed(7):
                with unsealed():
                    holder.__enter__()
                    threading.Thread(target=release, args=[holder], daemon=True).start()
        else:
            holder.__enter__()
            threading.Thread(target=release, args=[holder], daemon=True).start()
            with sealed(7):
                pass
        whole = time.perf_counter() - begin[0]
        assert working_time() - begin[1] <= whole - 0.4
        holder.__exit__()
