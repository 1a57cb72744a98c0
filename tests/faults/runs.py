"A tiny search and a tiny comparison, each in a child of this process, and what they leave."

import hashlib
import json
import os
import signal
import tempfile
import traceback
import warnings
from contextlib import contextmanager
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from tiny import grouped, known_costs, noise, one, two
from written import numbers

import mnist_cmp as mc
from mnist_cmp import comparison, report
from mnist_cmp.core import ledger
from mnist_cmp.core.trials import SearchResult
from mnist_cmp.ui.run_state import RunState

JOURNALS = 'wal', 'delete'
SECONDS = 120  # that a child may take, many times what it needs
_DATA = noise()


def search(folder):
    "2 trials of 2 epochs."
    space = mc.Space(batch_size=(8, 16))
    how = grouped(n_trials=2, epochs=2, workers=1)
    mc.tune({'one': one}, _DATA.train, _DATA.valid, space, store=folder, **how)


def compare(folder):
    "1 trial and 2 trainings of each of two models, 1 epoch each, and the report."
    models = {'one': one, 'two': two}
    how = grouped(n_trials=1, seeds=2, search_epochs=1, epochs=1, workers=1)
    result = mc.compare(models, _DATA, {'batch_size': (8, 16)}, store=folder, **how)
    mc.write_report(result, folder)


RUNS = {'search': search, 'comparison': compare}


def make_quick():
    """Replace what takes seconds and is not under test: what a model costs is not measured, and of
    the report's figures, which are all written by the same lines, one small one is drawn."""

    def one_figure(result):
        figure, ax = plt.subplots(figsize=(1, 1))
        ax.axis('off')
        yield 'training', 'figure', 'A figure.', figure

    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    comparison.measure_costs = known_costs
    report.comparison_figures = one_figure


def choose_journal(
    kind: str,  # 'wal', or 'delete' for the rollback journal
):
    "Have ledgers opened from here on keep this journal, whatever the file system."
    os.environ['MNIST_CMP_JOURNAL'] = kind


@contextmanager
def work_folder():
    "A folder for runs, in memory where there is room for it: a thousand runs wear no disk."
    memory = Path('/dev/shm')  # noqa: S108
    place = memory if memory.is_dir() and os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix='mnist_cmp_faults_', dir=place) as folder:
        yield Path(folder).resolve()


def warm_up():
    "Do all once, so that children need not import anything."
    make_quick()
    with work_folder() as folder:
        for what, run in RUNS.items():
            run(folder / what)
            look(folder / what)
            state_of(folder / what)


# Children


def in_child(
    function,  # is called there; what it gives must be of JSON's types
    *args,
) -> dict:
    "What a fork of this process ended in: {'value': …}, {'error': …} or {'signal': …}."
    from_child, to_parent = os.pipe()
    pid = os.fork()
    if pid == 0:
        _be_child(to_parent, function, args)
    os.close(to_parent)
    with open(from_child, 'rb') as file:
        answer = file.read()
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        return {'signal': signal.Signals(os.WTERMSIG(status)).name}
    return json.loads(answer)


def _be_child(to_parent, function, args):
    try:
        signal.alarm(SECONDS)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        answer = {'value': function(*args)}
    except BaseException as error:
        answer = {'error': traceback.format_exception_only(error)[-1].strip()}
    with open(to_parent, 'wb') as file:
        file.write(json.dumps(answer).encode())
    os._exit(0)


def attempt(
    what: str,  # a name in RUNS
    folder,
    journal: str,  # as for choose_journal
    before=None,  # called first
    after=None,  # called at the end; what it gives, a dict, is added
) -> dict:
    "In a child, run once: {'error': '', …}, or the error's type and message, or {'signal': …}."

    def run():
        choose_journal(journal)
        if before:
            before()
        try:
            RUNS[what](folder)
            result = {'error': '', 'message': ''}
        except Exception as error:
            result = {'error': type(error).__name__, 'message': str(error)}
            result['is_right'] = is_right(error, folder)
        return result | (after() if after else {})

    done = in_child(run)
    return done.get('value') or {'message': ''} | done


def is_right(
    error,  # that a run ended with
    folder,  # of the run
) -> bool:
    "Is this how a failing disk is to be told: as an error of disk or files, with a path?"
    kinds = OSError, ValueError  # LedgerError is one of the latter
    return isinstance(error, kinds) and str(folder) in str(error)


# What a folder holds


def names(folder) -> list[str]:
    "All files and folders below it."
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob('*'))


def ledgers(folder):
    return [file.parent for file in sorted(Path(folder).rglob('study.sqlite'))]


def digest(content) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def state_of(folder) -> dict:
    "All that two equal runs have in common, and the trainings that a model is blamed for."
    blamed = []
    for study in ledgers(folder):
        with ledger.Ledger.read(study) as rows:
            for number, (history, _, error) in rows.histories().items():
                if history.state in ('failed', 'crashed') or error:
                    place = study.relative_to(folder)
                    blamed.append(f'{number} in {place}: {history.state}: {error}')
    values = {name: digest(text.encode()) for name, text in numbers(Path(folder)).items()}
    return {'numbers': values, 'names': names(folder), 'blamed': blamed}


def seen(folder) -> dict:
    "`state_of` in a child; why it can't be read under 'unreadable'."
    done = in_child(state_of, folder)
    return done.get('value') or {'unreadable': done.get('error') or f'killed by {done["signal"]}'}


def differences(
    expected: dict,  # of `state_of`
    found: dict,  # of `seen`
) -> list[str]:
    "What is wrong with a folder, in words."
    if 'unreadable' in found:
        return [f'unreadable: {found["unreadable"]}']
    wrong = [f'blamed on a model: {text}' for text in found['blamed']]
    was = expected['numbers']
    now = found['numbers']
    if other := sorted(name for name in {**was, **now} if was.get(name) != now.get(name)):
        wrong.append(f'other numbers: {", ".join(other)}')
    elif found['names'] != expected['names']:
        extra = sorted(set(found['names']) - set(expected['names']))
        missing = sorted(set(expected['names']) - set(found['names']))
        wrong.append(
            f'other files: {len(extra)} too many, {len(missing)} missing '
            f'({", ".join([*extra, *missing][:4])})'
        )
    return wrong


# Readers


def panel_file(folder):
    "The file of the panel, with which `RunState.read` begins."
    Path(folder).mkdir(parents=True)
    settings = dict(models=['one', 'two'], n_trials=1, seeds=2, search_epochs=1, epochs=1)
    (Path(folder) / 'panel.json').write_text(json.dumps({'settings': settings, 'state': 'running'}))


def contents(folder) -> dict:
    "Each file's bytes, in short; of SQLite's index in memory (-shm) only that it is there."
    found = {}
    for name in names(folder):
        path = Path(folder) / name
        kept = path.is_file() and not name.endswith('-shm')
        found[name] = digest(path.read_bytes()) if kept else ''
    return found


def look(folder) -> list[str]:
    "Read all there is of a run that is not at work: what can't be read, and what that changed."
    before = contents(folder)
    readers = [('Comparison.load', mc.Comparison.load, folder)]
    if 'panel.json' in before:
        readers.append(('RunState.read', RunState.read, folder))
    for study in ledgers(folder):
        readers.append(('Ledger.read', _read_ledger, study))
        if study.parent.name == 'weights':
            continue  # it holds no search
        readers.append(('SearchResult.load', SearchResult.load, study))
    wrong = []
    for name, reader, place in readers:
        try:
            reader(place)
        except Exception as error:
            if name == 'Comparison.load' and 'report.json' not in before:
                continue  # as it says
            wrong.append(f'{name}: {type(error).__name__}: {error}')
    after = contents(folder)
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if changed:
        wrong.append(f'the look changed {", ".join(sorted(changed))}')
    return wrong


def _read_ledger(study):
    with ledger.Ledger.read(study) as rows:
        rows.histories()
