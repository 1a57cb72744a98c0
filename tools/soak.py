"""Kill a search again and again, fill its disk, and see that nothing is lost: `make soak`; CI runs a short round.

A search runs as a child process with two workers. It is killed at random instants: the coordinator or a worker by the
clock, or the coordinator in the middle of writing its ledger, at a random SQL statement; or it gets Ctrl-C. It is started
again until it is done, and its table must be, bit for bit, that of a search that was left in peace. Linux only.
"""
import argparse
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

os.environ.update(OMP_NUM_THREADS='1', MNIST_CMP_QUIET='1')
POINTS, EPOCHS, WORKERS = 6, 6, 2
KINDS = 'coordinator worker ledger Ctrl-C'.split()


def child(folder, die_at):
    "The search; with `die_at` it kills itself at that SQL statement."
    from mnist_cmp.data import load_data
    from mnist_cmp.ledger import Ledger
    from mnist_cmp.models import MLP
    from mnist_cmp.search import search
    if die_at:
        statements, use = [], Ledger._use
        def count(sql):
            statements.append(sql)
            if len(statements) == die_at: os.kill(os.getpid(), signal.SIGKILL)
        def counted(self, connection):
            use(self, connection)
            connection.set_trace_callback(count)
        Ledger._use = counted
    digits = load_data('digits')
    search(partial(MLP, 64, 64), digits.train, digits.valid, n=POINTS, epochs=EPOCHS, workers=WORKERS, store=folder, name='mlp')


def start(folder, die_at=0):
    return subprocess.Popen([sys.executable, __file__, '--child', str(folder), '--die_at', str(die_at)],
                            stderr=subprocess.PIPE, text=True)


def table(folder):
    "All numbers of a search but its times."
    from mnist_cmp.search import SearchResult
    found = SearchResult.load(folder)
    return [(t.index, t.point, t.history.state, [(e.epoch, e.train_loss, e.train_accuracy, e.valid_loss, e.valid_accuracy)
                                                 for e in t.history.epochs]) for t in found.trials]


def workers_of(pid):
    "The process ids of its children."
    try: return [int(p) for p in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]
    except OSError: return []


def recorded(folder):
    "The finished epochs in the ledger."
    from mnist_cmp.ledger import Ledger
    try:
        with Ledger.read(folder) as ledger: return {(i, e.epoch) for i, row in ledger.histories().items() for e in row[0].epochs}
    except FileNotFoundError: return set()   # it has not begun


def interrupt(process, folder, waits):
    "Ctrl-C: the search ends, its workers too, and every epoch that was finished is kept; put its seconds into `waits`."
    crew, before, begun = workers_of(process.pid), recorded(folder), time.perf_counter()
    process.send_signal(signal.SIGINT)
    process.wait()
    waits.append(time.perf_counter() - begun)
    assert recorded(folder) >= before, f'{folder}: Ctrl-C lost {sorted(before - recorded(folder))}'
    assert not any(Path(f'/proc/{pid}/cmdline').exists() for pid in crew), 'a worker outlived its search'


def rarest(rng, kills, kinds): return min(kinds, key=lambda kind: (kills[kind], rng.random()))


def kill_one(rng, process, folder, seconds, kills, waits):
    "At a random instant do what was done least so far; what it was, or None if the search was done before."
    try: process.wait(rng.uniform(0, seconds))
    except subprocess.TimeoutExpired: pass
    crew = workers_of(process.pid)
    if process.poll() is not None: return None
    what = rarest(rng, kills, ['coordinator', 'worker', 'Ctrl-C'] if crew else ['coordinator'])
    if what == 'Ctrl-C': interrupt(process, folder, waits)
    elif what == 'coordinator':
        process.kill()
        process.wait()
    else:
        try: os.kill(rng.choice(crew), signal.SIGKILL)
        except ProcessLookupError: return None
    return what


def one_round(rng, folder, seconds, until, kills, waits):
    "Run one search to its end, and kill it until there are `until` kills in all; `kills` counts them by kind."
    tries = 0
    while True:
        more = lambda: sum(kills.values()) < until
        die_at = rng.randint(1, 250) if more() and rarest(rng, kills, KINDS) == 'ledger' else 0
        process, tries = start(folder, die_at), tries + 1
        while not die_at and more() and process.poll() is None:
            if what := kill_one(rng, process, folder, seconds, kills, waits): kills[what] += 1
        said = process.communicate()[1]
        if process.returncode == -signal.SIGKILL and die_at: kills['ledger'] += 1
        if process.returncode == 0: return
        assert process.returncode in (-signal.SIGKILL, -signal.SIGINT), f'the search failed:\n{said}'
        assert tries < 500, 'the search never ends'


def peace(folder):
    "The table of a search that is left in peace, and its seconds."
    begun = time.perf_counter()
    assert start(folder).wait() == 0
    seconds, rows = time.perf_counter() - begun, table(folder)
    assert [row[0] for row in rows] == list(range(1030, 1030 + POINTS)) and {row[2] for row in rows} == {'finished'}
    return rows, seconds


def kill_test(kills, seed, work, expected, seconds):
    "Searches that are killed give the table of one that is not."
    rng, done, rounds, waits = random.Random(seed), dict.fromkeys(KINDS, 0), 0, []
    while (sofar := sum(done.values())) < kills:
        folder, rounds = work/f'round_{rounds}', rounds + 1
        one_round(rng, folder, seconds, min(sofar + 12, kills), done, waits)
        assert table(folder) == expected, f'{folder}: the table is another one'
        left = sorted(f.name for f in folder.iterdir() if f.name != '.lock')
        assert left == ['study.sqlite'], f'{folder}: left behind {left}'
    print(f'{sum(done.values())} kills ({", ".join(f"{n} {kind}" for kind, n in done.items())}) in {rounds} searches: '
          'every table equal, nothing left behind')
    if waits: print(f'Ctrl-C: stopped after {statistics.median(waits):.2f} s (median), {max(waits):.2f} s (longest)')


def disk_test(whole):
    "In a mount namespace of its own: a full and a read-only disk are refused in one line, and nothing is lost."
    inside = [sys.executable, __file__, '--disk_inside', str(whole)]
    if not shutil.which('unshare') or subprocess.run(['unshare', '-rm', 'true'], capture_output=True).returncode:
        return print('disk test skipped: this system gives no user namespaces (unshare -rm)')
    subprocess.run(['unshare', '-rm', *inside], check=True)


def disk_inside(whole):
    "The test itself; `whole` is the folder of the search that was left in peace."
    work = Path(tempfile.mkdtemp())
    (disk := work/'disk').mkdir()
    mount = lambda *options: subprocess.run(['mount', *options, str(disk)], check=True)
    mount('-t', 'tmpfs', '-o', 'size=2m', 'tmpfs')
    store, filler = disk/'store', disk/'filler'
    process = start(store)
    while not (store/'study.sqlite').exists() and process.poll() is None: time.sleep(.01)
    for size in (2**17, 2**10, 1):   # until not one byte is left
        with filler.open('ab', buffering=0) as f:
            try:
                while True: f.write(b'x'*size)
            except OSError: pass
    said = process.communicate()[1]
    assert process.returncode == 1 and 'is safe: make room' in said, f'on a full disk:\n{said}'
    print(f'full disk: {said.strip().splitlines()[-1].replace(str(work), "")[:150]}')
    filler.unlink()
    mount('-o', 'remount,ro,size=64m')
    said = (refused := start(store)).communicate()[1]
    assert refused.returncode == 1 and 'must be a folder that can be written to' in said, f'on a read-only disk:\n{said}'
    print(f'read-only disk: {said.strip().splitlines()[-1].replace(str(work), "")[:150]}')
    mount('-o', 'remount,rw,size=64m')
    assert start(store).wait() == 0
    assert table(store) == table(whole), 'after a full disk the table is another one'
    print('with room again the search went on to the same table', flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--kills', type=int, default=100, help='number of kills (default: %(default)s)')
    p.add_argument('--seed', type=int, default=0, help='of the instants (default: %(default)s)')
    p.add_argument('--child', help=argparse.SUPPRESS)
    p.add_argument('--die_at', type=int, default=0, help=argparse.SUPPRESS)
    p.add_argument('--disk_inside', help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.child: return child(args.child, args.die_at)
    if args.disk_inside: return disk_inside(args.disk_inside)
    with tempfile.TemporaryDirectory() as work:
        expected, seconds = peace(whole := Path(work)/'peace')
        disk_test(whole)
        kill_test(args.kills, args.seed, Path(work), expected, seconds)


if __name__ == '__main__': main()
