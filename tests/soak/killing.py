"""Start a search or a comparison as a process of its own, and kill it at random instants.

The coordinator or a worker is killed by the clock, or the coordinator kills itself in the middle
of writing (`victim.py`), or it gets Ctrl-C. Linux only.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from checkout import environment
from written import numbers, recorded

VICTIM = Path(__file__).with_name('victim.py')
KINDS = 'coordinator worker write Ctrl-C'.split()


def start(what, folder, die_at=0):
    return subprocess.Popen(
        [sys.executable, VICTIM, what, str(folder), str(die_at)],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def workers_of(pid):
    "The process ids of its children."
    try:
        return [int(p) for p in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]
    except OSError:
        return []


def alive(pid):
    try:
        return bool(Path(f'/proc/{pid}/cmdline').read_bytes())
    except OSError:
        return False


def interrupt(process, folder, waits):
    """Ctrl-C: the run ends, its workers too, and every epoch that was finished is kept; put its
    seconds into `waits`."""
    crew = workers_of(process.pid)
    before = recorded(folder)
    begun = time.perf_counter()
    process.send_signal(signal.SIGINT)
    process.wait()
    waits.append(time.perf_counter() - begun)
    assert recorded(folder) >= before, f'{folder}: Ctrl-C lost {sorted(before - recorded(folder))}'
    # one that was just being started ends by itself, as its input does
    while any(map(alive, crew)):
        assert time.perf_counter() - begun < 10, 'a worker outlived its run'
        time.sleep(0.01)


def rarest(rng, kills, kinds):
    return min(kinds, key=lambda kind: (kills[kind], rng.random()))


def kill_one(rng, process, folder, seconds, kills, waits):
    """At a random instant do what was done least so far; what it was, or None if the run was
    done before."""
    try:
        process.wait(rng.uniform(0, seconds))
    except subprocess.TimeoutExpired:
        pass
    crew = workers_of(process.pid)
    if process.poll() is not None:
        return None
    what = rarest(rng, kills, ['coordinator', 'worker', 'Ctrl-C'] if crew else ['coordinator'])
    if what == 'Ctrl-C':
        interrupt(process, folder, waits)
    elif what == 'coordinator':
        process.kill()
        process.wait()
    else:
        try:
            os.kill(rng.choice(crew), signal.SIGKILL)
        except ProcessLookupError:
            return None
    return what


def one_round(what, rng, folder, seconds, until, kills, waits):
    """Run it to its end, and kill it until there are `until` kills in all; `kills` counts them
    by kind."""
    tries = 0
    while True:

        def more():
            return sum(kills.values()) < until

        die_at = rng.randint(1, 250) if more() and rarest(rng, kills, KINDS) == 'write' else 0
        process = start(what, folder, die_at)
        tries = tries + 1
        while not die_at and more() and process.poll() is None:
            if done := kill_one(rng, process, folder, seconds, kills, waits):
                kills[done] += 1
        said = process.communicate()[1]
        if process.returncode == -signal.SIGKILL and die_at:
            kills['write'] += 1
        if process.returncode == 0:
            return
        assert process.returncode in (-signal.SIGKILL, 130), (
            f'the {what} failed with {process.returncode}:\n{said}'
        )
        assert tries < 500, f'the {what} never ends'


def peace(what, folder):
    "The numbers of a run that is left in peace, and its seconds."
    begun = time.perf_counter()
    process = start(what, folder)
    said = process.communicate()[1]
    assert process.returncode == 0, f'the {what} failed with {process.returncode}:\n{said}'
    return numbers(folder), time.perf_counter() - begun
