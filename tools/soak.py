"""Kill a search and a whole comparison again and again, fill the disk, and see that nothing is
lost: `make soak`.

Each runs as a child process with two workers. It is killed at random instants: the coordinator
or a worker by the clock, or the coordinator in the middle of writing, at a random SQL statement
or as it opens or renames one of its files; or it gets Ctrl-C. It is started again until it is
done, and its numbers and weights must be, bit for bit, those of a run that was left in peace, in
the same files. CI runs a short round. Linux only.

`fuzz` is `tools/fuzz.py`. `memory` runs searches and the panel for half an hour, and sees that
nothing is left behind. `faults` fails every file call of a tiny search and comparison in turn,
`kills` kills them before each, and `powerloss` goes on from what a disk may hold after a crash
(`tests/faults`); they go on where they were cut.
"""

import argparse
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

os.environ.update(OMP_NUM_THREADS='1', MNIST_CMP_QUIET='1')
ROOT = Path(__file__).resolve().parent.parent
POINTS = 6
EPOCHS = 6
WORKERS = 2
KINDS = 'coordinator worker write Ctrl-C'.split()
FAULTS = 'faults kills powerloss'.split()
PARTS = 'search comparison disk fuzz memory'.split() + FAULTS
# in names of what another run need not repeat
VARIES = ('second', 'latency', 'calls', 'memory', 'times', 'worker', 'commit')


def run_search(folder):
    from mnist_cmp.data import load_data
    from mnist_cmp.models import MLP
    from mnist_cmp.search import tune
    from mnist_cmp.settings import Compute, Recipe

    digits = load_data('digits')
    tune(
        {'mlp': partial(MLP, 64, 64)},
        digits.train,
        digits.valid,
        n_trials=POINTS,
        recipe=Recipe(epochs=EPOCHS),
        compute=Compute(workers=WORKERS),
        store=folder,
    )


def run_comparison(folder):
    from mnist_cmp.cli import main

    words = (
        '--models mlp,deep_mlp --points 3 --search_epochs 2 --seeds 3 --epochs 3 --workers '
        f'{WORKERS} --quiet'
    )
    sys.exit(main([*words.split(), '--out', str(folder)]))


RUN = {'search': run_search, 'comparison': run_comparison}


def die_in_a_write(folder, at):
    """Kill this process at its `at`th SQL statement, or opening for writing or renaming of a
    file below `folder`."""
    import apsw

    from mnist_cmp.ledger import Ledger

    count = itertools.count(1)
    use = Ledger._use

    def tick(*_):
        if next(count) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(self, connection):
        use(self, connection)
        connection.trace_v2(apsw.SQLITE_TRACE_STMT, tick)

    Ledger._use = counted

    def heard(event, args):
        writes = event == 'os.rename' or event == 'open' and set(str(args[1])) & set('wax+')
        if writes and str(args[0]).startswith(str(folder)):
            tick()

    sys.addaudithook(heard)


def child(what, folder, die_at):
    if die_at:
        die_in_a_write(folder, die_at)
    try:
        RUN[what](folder)
    # Python alone ends with 1 if anything is imported after it
    except KeyboardInterrupt:
        sys.exit(130)


def start(what, folder, die_at=0):
    return subprocess.Popen(
        [sys.executable, __file__, '--child', what, str(folder), '--die_at', str(die_at)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def numbers(folder):
    """The numbers of all trials and trainings in the ledgers below a folder, all of a report,
    and the weights; no times."""
    from mnist_cmp.ledger import Ledger

    def lasting(x):
        if isinstance(x, dict):
            return {
                k: lasting(v) for k, v in x.items() if not any(word in str(k) for word in VARIES)
            }
        return [lasting(v) for v in x] if isinstance(x, list) else x

    def words(x):
        return json.dumps(lasting(x))  # in words, in which NaN equals NaN

    found = {}
    for file in sorted(folder.rglob('*')):
        name = file.relative_to(folder).as_posix()
        if file.name == 'study.sqlite':
            with Ledger.read(file.parent) as ledger:
                found[name] = words({i: asdict(row[0]) for i, row in ledger.histories().items()})
        elif file.name == 'report.json':
            found[name] = words(json.loads(file.read_text()))
        elif file.suffix == '.safetensors':
            found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
        elif file.is_file() and file.name != '.lock':
            found[name] = 'there'
    return found


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


def recorded(folder):
    "The finished epochs in the ledgers."
    from mnist_cmp.ledger import Ledger

    found = set()
    for file in folder.rglob('study.sqlite'):
        with Ledger.read(file.parent) as ledger:
            found |= {
                (file.parent.name, i, e.epoch)
                for i, row in ledger.histories().items()
                for e in row[0].epochs
            }
    return found


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


def kill_test(what, kills, seed, work, expected, seconds):
    "Runs that are killed give the numbers of one that is not."
    rng = random.Random(seed)
    done = dict.fromkeys(KINDS, 0)
    rounds = 0
    waits = []
    while (sofar := sum(done.values())) < kills:
        folder = work / f'round_{rounds}'
        rounds = rounds + 1
        one_round(what, rng, folder, seconds, min(sofar + 12, kills), done, waits)
        found = numbers(folder)
        assert found.keys() == expected.keys(), (
            f'{folder}: other files: {sorted(found.keys() ^ expected.keys())}'
        )
        assert found == expected, (
            f'{folder}: other numbers in '
            f'{[name for name in found if found[name] != expected[name]]}'
        )
    print(
        f'{what}: {sum(done.values())} kills '
        f'({", ".join(f"{n} {kind}" for kind, n in done.items())}) in {rounds} runs: '
        'all numbers equal, nothing left behind'
    )
    if waits:
        print(
            f'Ctrl-C: stopped after {statistics.median(waits):.2f} s (median), {max(waits):.2f} s '
            '(longest)'
        )


def disk_test(whole):
    """In a mount namespace of its own: a full and a read-only disk are refused in one line, and
    nothing is lost."""
    inside = [sys.executable, __file__, '--disk_inside', str(whole)]
    if (
        not shutil.which('unshare')
        or subprocess.run(['unshare', '-rm', 'true'], capture_output=True).returncode
    ):
        return print('disk test skipped: this system gives no user namespaces (unshare -rm)')
    subprocess.run(['unshare', '-rm', *inside], check=True)


def disk_inside(whole):
    "The test itself; `whole` is the folder of the search that was left in peace."
    work = Path(tempfile.mkdtemp())
    (disk := work / 'disk').mkdir()

    def mount(*options):
        return subprocess.run(['mount', *options, str(disk)], check=True)

    mount('-t', 'tmpfs', '-o', 'size=2m', 'tmpfs')
    store = disk / 'store'
    filler = disk / 'filler'
    process = start('search', store)
    while not (store / 'study.sqlite').exists() and process.poll() is None:
        time.sleep(0.01)
    for size in (2**17, 2**10, 1):  # until not one byte is left
        with filler.open('ab', buffering=0) as f:
            try:
                while True:
                    f.write(b'x' * size)
            except OSError:
                pass
    said = process.communicate()[1]
    assert process.returncode == 1 and 'is safe: make room' in said, f'on a full disk:\n{said}'
    print(f'full disk: {said.strip().splitlines()[-1].replace(str(work), "")[:150]}')
    filler.unlink()
    mount('-o', 'remount,ro,size=64m')
    said = (refused := start('search', store)).communicate()[1]
    assert refused.returncode == 1 and 'must be a folder that can be written to' in said, (
        f'on a read-only disk:\n{said}'
    )
    print(f'read-only disk: {said.strip().splitlines()[-1].replace(str(work), "")[:150]}')
    mount('-o', 'remount,rw,size=64m')
    assert start('search', store).wait() == 0
    assert numbers(store) == numbers(whole), 'after a full disk the numbers are others'
    print('with room again the search went on to the same numbers', flush=True)


def taken():
    "Resident memory (MB), open files, threads and child processes of this process."
    status = Path('/proc/self/status').read_text()
    return (
        int(status.split('VmRSS:')[1].split()[0]) / 1024,
        len(os.listdir('/proc/self/fd')),
        threading.active_count(),
        len(workers_of(os.getpid())),
    )


def memory_test(minutes):
    """Searches and runs of the panel, one after the other, leave no memory, file, thread or
    process behind."""
    import matplotlib.pyplot as plt

    from mnist_cmp.controls import ComparePanel

    begun = time.perf_counter()
    rounds = 0
    first = None

    def spent():
        return (time.perf_counter() - begun) / 60

    with tempfile.TemporaryDirectory() as work:
        panel = ComparePanel(runs=Path(work) / 'runs', workers=WORKERS)
        panel.set(models=['mlp', 'deep_mlp'], points=2, search_epochs=1, epochs=1, seeds=2)
        while spent() < minutes or rounds < 3:
            run_search(Path(work) / f'search_{rounds}')
            panel.run()
            assert panel.wait().state == 'finished', panel.state.error
            plt.close('all')
            rounds = rounds + 1
            now = taken()
            if first is None and spent() > min(5, minutes / 6) and rounds > 1:
                first = now
    first = first or now
    print(
        f'memory: {rounds} searches and panel runs in {spent():.0f} min: {first[0]:.0f} MB after '
        f'the first minutes, {now[0]:.0f} MB at the end; {now[1]} files (before {first[1]}), '
        f'{now[2]} threads ({first[2]}), {now[3]} processes '
        f'({first[3]})'
    )
    assert now[0] - first[0] < 20, 'memory grows'
    assert all(b <= a for a, b in zip(first[1:], now[1:])), (
        'a file, thread or process was left over'
    )


def run_test(what, args):
    "Kill a search or a comparison, or fill the disk below one."
    with tempfile.TemporaryDirectory() as work:
        expected, seconds = peace(
            'search' if what == 'disk' else what, whole := Path(work) / 'peace'
        )
        if what == 'disk':
            disk_test(whole)
        else:
            kill_test(what, args.kills, args.seed, Path(work), expected, seconds)


def fault_test(part, args):
    "A part of `tests/faults`, in a process whose file calls can be watched; did all go well?"
    sys.path.insert(0, str(ROOT / 'tests'))
    from faults.shim import run_python, why_not

    if why := why_not():
        print(f'{part} skipped: {why}')
        return True
    options = ['--seed', args.seed]
    for name in ('sample', 'progress', 'only'):
        if value := getattr(args, name):
            options += [f'--{name}', value]
    return run_python(['-m', 'faults', part, *options]).returncode == 0


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('what', nargs='*', default=PARTS, help=f'{", ".join(PARTS)} (default: all)')
    p.add_argument(
        '--kills', type=int, default=100, help='of search and of comparison (default: %(default)s)'
    )
    p.add_argument('--seed', type=int, default=0, help='of the instants (default: %(default)s)')
    p.add_argument('--minutes', type=float, default=30, help='of memory (default: %(default)s)')
    p.add_argument(
        '--sample',
        type=int,
        help='of faults, kills and powerloss: try as many cases (default: all, which takes hours)',
    )
    p.add_argument(
        '--progress',
        help='file that keeps what they tried (default: one for each state of the code, which they '
        'name)',
    )
    p.add_argument(
        '--only',
        help='of their cases: those that have this text in their names, such as "search, wal, EIO"',
    )
    p.add_argument('--child', nargs=2, help=argparse.SUPPRESS)
    p.add_argument('--die_at', type=int, default=0, help=argparse.SUPPRESS)
    p.add_argument('--disk_inside', help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.child:
        return child(args.child[0], Path(args.child[1]), args.die_at)
    if args.disk_inside:
        return disk_inside(Path(args.disk_inside))
    if unknown := sorted(set(args.what) - set(PARTS)):
        p.error(f'{unknown[0]} is none of {", ".join(PARTS)}')
    failed = []
    for what in args.what:
        if what == 'fuzz':
            subprocess.run([sys.executable, ROOT / 'tools' / 'fuzz.py'], check=True)
        elif what == 'memory':
            memory_test(args.minutes)
        elif what not in FAULTS:
            run_test(what, args)
        elif not fault_test(what, args):
            failed.append(what)
    if failed:
        sys.exit(f'Cases are BAD in {", ".join(failed)}.')


if __name__ == '__main__':
    main()
