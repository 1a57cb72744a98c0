"Fail, or kill at, every file call of a run in turn: run again, it must end as if undisturbed."

import errno
import hashlib
import itertools
import json
import random
import re
import shutil
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path
from tqdm import tqdm

from . import runs
from .shim import CHANGES, HERE, NEVER, READ, ROOT, WRITE, Action, Shim


@dataclass(frozen=True)
class Fault:
    "What happens to a file call."

    name: str
    classes: int  # of calls that it happens to
    action: Action
    error: int = 0  # errno
    sticky: bool = False  # to all later calls, too?


FAULTS = [
    Fault('ENOSPC', CHANGES, Action.FAIL, errno.ENOSPC),
    Fault('EIO', CHANGES, Action.FAIL, errno.EIO),
    Fault('ENOSPC from there on', CHANGES, Action.FAIL, errno.ENOSPC, sticky=True),
    Fault('EIO from there on', CHANGES, Action.FAIL, errno.EIO, sticky=True),
    Fault('short write', WRITE, Action.CUT, errno.ENOSPC),
    Fault('short write, then ENOSPC', WRITE, Action.CUT, errno.ENOSPC, sticky=True),
    Fault('EIO in reading', READ, Action.FAIL, errno.EIO),
]
KILL = Fault('SIGKILL', CHANGES, Action.KILL)


# Progress


def code_version() -> str:
    "A word that changes with the package and with these tests."
    digest = hashlib.sha256()
    files = [*(ROOT / 'mnist_cmp').glob('*.py'), *HERE.glob('*.py'), *HERE.glob('*.c')]
    files += [ROOT / 'tests' / 'tiny.py', ROOT / 'tests' / 'written.py']
    for path in sorted(files):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def default_progress() -> Path:
    "Where progress is kept if no file is named."
    cache = user_cache_path('mnist_cmp') / 'faults'
    return cache / code_version() / 'progress.jsonl'


class Progress:
    "What came of each case, kept in a file so that a sweep which is cut goes on."

    def __init__(
        self,
        path,  # of the file, made if missing
    ):
        self.path = Path(path)
        self.results = {}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            return
        for line in self.path.read_text(encoding='utf-8').splitlines():
            try:
                case, result = json.loads(line)
            except ValueError:
                continue  # the last line of a sweep that was killed
            self.results[case] = result

    def __getitem__(self, case):
        return self.results[case]

    def add(self, case, result):
        "Keep what came of a case."
        self.results[case] = result
        line = json.dumps([case, result])
        with self.path.open('a', encoding='utf-8') as file:
            file.write(f'\n{line}')

    def go_on(
        self,
        cases,  # names
        work,  # called with a case, gives what came of it
    ):
        "Try the cases that were not tried yet."
        missing = [case for case in cases if case not in self.results]
        for case in tqdm(missing, 'cases', disable=None):  # no bar in a file
            self.add(case, work(case))


# One case


class Undisturbed:
    "A run that nothing happened to: what it left, and how many calls it made."

    def __init__(
        self,
        shim: Shim,
        what: str,  # a name in runs.RUNS
        journal: str,  # as for runs.choose_journal
        work: Path,  # a folder for runs
        classes=(CHANGES,),  # of calls to count, each in a run of its own
        panel: bool = False,  # does a run begin in a folder of the panel?
    ):
        self.shim = shim
        self.what = what
        self.journal = journal
        self.work = work
        self.panel = panel
        self.counts = {}
        for kind in classes:
            folder = self.begin('undisturbed')
            done = self.attempt(folder, Fault('nothing', kind, Action.FAIL))
            if done.get('error') != '':
                raise RuntimeError(f'The {what} fails undisturbed: {done}')
            self.counts[kind] = done['count']
            self.state = runs.seen(folder)
            if 'unreadable' in self.state:
                raise RuntimeError(f'The {what} left {self.state}')
            shutil.rmtree(folder)

    def begin(self, name):
        "The path of a new run's folder."
        folder = self.work / name
        if self.panel:
            runs.panel_file(folder)
        return folder

    def attempt(self, folder, fault=None, at=NEVER):
        "Run once, with a fault at a call."

        def arm():
            if not fault:
                return
            self.shim.arm(folder, fault.classes, at, fault.action, fault.error, fault.sticky)

        def disarm():
            self.shim.disarm()
            return {'count': self.shim.count, 'hits': self.shim.hits, 'call': self.shim.hit_call}

        return runs.attempt(self.what, folder, self.journal, arm, disarm)


def try_place(
    calm: Undisturbed,
    fault: Fault,
    at: int,  # the number of the call, from 1
) -> dict:
    "Run with a fault at a call, then again without: how the first ended, and all that was bad."
    folder = calm.begin(f'place_{at}')
    try:
        first = calm.attempt(folder, fault, at)
        ended = first.get('signal') or first['error']
        if not ended:
            ended = 'silently' if first['hits'] else 'not reached'
        bad = _bad_end(calm, fault, folder, first, ended)
        if fault.action == Action.KILL:
            bad += _bad_look(folder)
        bad += resumed(calm, folder)
        result = {'ended': ended, 'message': first['message'], 'call': first.get('call', '')}
        result['bad'] = bad
        return json.loads(json.dumps(result).replace(str(folder), 'STORE'))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _bad_end(calm, fault, folder, first, ended):
    "What is bad about the end of the first run."
    if fault.action == Action.KILL:
        return [] if ended in ('SIGKILL', 'not reached') else [f'the kill ended in {ended}']
    if 'signal' in first:
        return [f'the run was killed by {first["signal"]}']
    if first['error']:
        if first.get('is_right'):
            return []
        told = f'{first["error"]}: {first["message"]}'
        return [f'an error of another kind, or one that names no file: {told}']
    found = runs.seen(folder)
    if 'unreadable' in found:
        return [f'ended silently, unreadable: {found["unreadable"]}']
    was = calm.state['numbers']
    now = found['numbers']
    lost = [name for name in was if was[name] != now.get(name)]
    wrong = found['blamed'] + ([f'without {", ".join(lost)}'] if lost else [])
    return [f'ended silently, {"; ".join(wrong)}'] if wrong else []


def _bad_look(folder):
    if not folder.exists():
        return []
    looked = runs.in_child(runs.look, folder)
    return [f'reader: {text}' for text in looked.get('value', [f'ended in {looked}'])]


def resumed(
    calm: Undisturbed,
    folder,  # of a run that was disturbed
) -> list[str]:
    "Run again with nothing in the way: what is bad about its end."
    again = calm.attempt(folder)
    if again.get('error') != '':
        why = again.get('signal') or f'{again["error"]}: {again["message"]}'
        return [f'not resumed: {why}']
    return runs.differences(calm.state, runs.seen(folder))


# Many cases


def chosen(
    groups: dict,  # group → its cases
    sample: int,  # how many of all; None: all
    seed: int,
) -> list:
    "The cases to try, a like number of each group."
    rng = random.Random(seed)
    if sample is None:
        return [case for cases in groups.values() for case in cases]
    waiting = [rng.sample(cases, len(cases)) for cases in groups.values()]
    rng.shuffle(waiting)
    found = []
    while len(found) < sample and any(waiting):
        for cases in waiting:
            if cases and len(found) < sample:
                found.append(cases.pop())
    return found


def check_only(
    only: str,
    groups: dict,  # of the cases that have it in their names
):
    "Raise `SystemExit` if there are none."
    if groups:
        return
    raise SystemExit(
        f"only is {only!r}, but must be a part of a case's name. "
        "A whole name is 'search, wal, EIO, call 7'."
    )


def sweep(
    faults: list[Fault],
    progress: Progress,
    sample: int = None,  # as for `chosen`
    seed: int = 0,
    only: str = '',  # a part of the cases' names
) -> int:
    "Try the faults at their places and print a table; gives how many cases were bad."
    shim = Shim()
    groups = defaultdict(list)
    where = {}
    with runs.work_folder() as work:
        for what, journal in itertools.product(runs.RUNS, runs.JOURNALS):
            meant = {}
            for fault in faults:
                group = f'{what}, {journal}, {fault.name}'
                if only in group or group in only:
                    meant[group] = fault
            if not meant:
                continue
            panel = what == 'comparison' and KILL in faults
            kinds = sorted({fault.classes for fault in meant.values()})
            calm = Undisturbed(shim, what, journal, work, kinds, panel)
            for group, fault in meant.items():
                for at in range(1, calm.counts[fault.classes] + 1):
                    case = f'{group}, call {at}'
                    if only not in case:
                        continue
                    groups[group].append(case)
                    where[case] = calm, fault, at
        check_only(only, groups)
        cases = chosen(groups, sample, seed)
        progress.go_on(cases, lambda case: try_place(*where[case]))
    return print_table(groups, {case: progress[case] for case in cases})


def print_table(
    groups: dict,  # group → the names of its cases
    results: dict,  # case → what came of it, of those that were tried
) -> int:
    "What came of each group, and each bad case; gives how many were bad."
    for group, cases in groups.items():
        tried = [results[case] for case in cases if case in results]
        if not tried:
            continue
        ends = Counter(result['ended'] for result in tried)
        equal = sum(not any(_is_about_again(text) for text in result['bad']) for result in tried)
        bad = sum(bool(result['bad']) for result in tried)
        told = ', '.join(f'{number} {end}' for end, number in ends.most_common())
        print(
            f'{group}: {len(tried)} of {len(cases)} cases; ended: {told}; '
            f'{equal} resumed to equal results; {bad} BAD'
        )
        for line in _messages(tried):
            print(f'    {line}')
    bad = {case: result for case, result in results.items() if result['bad']}
    print(f'{len(results)} cases, {len(bad)} BAD')
    for line in _bad_lines(bad):
        print(f'    {line}')
    return len(bad)


def _is_about_again(text):
    return text.startswith(('not resumed', 'unreadable', 'other', 'blamed'))


def _plain(text):
    "A message without what differs from place to place."
    text = re.sub(r'[\w./]*/', '', ' '.join(text.split()))
    return re.sub(r'[0-9a-f]{6,}|\d+|STORE', '#', text)


def _messages(tried, most=5):
    "The commonest messages, each with how often it came and an example."
    found = defaultdict(list)
    for result in tried:
        if result['message']:
            found[result['ended'], _plain(result['message'])].append(result)
    common = sorted(found.items(), key=lambda item: -len(item[1]))
    for (kind, _), several in common[:most]:
        call = several[0]['call']
        message = ' '.join(several[0]['message'].split())
        yield f'{len(several)} × {kind} such as (at {call}): {message[:240]}'
    if len(common) > most:
        yield f'… and {len(common) - most} other messages'


def _bad_lines(bad):
    "The bad cases, those of one kind in one line."
    found = defaultdict(list)
    for case, result in bad.items():
        group, _, call = case.rpartition(', call ')
        for text in result['bad']:
            found[group, _plain(text)].append((call, result['call'], text))
    for (group, _), several in sorted(found.items(), key=lambda item: -len(item[1])):
        calls = ' '.join(call for call, *_ in several)
        call, hit, text = several[0]
        text = ' '.join(text.split())
        yield f'{len(several)} × {group}, such as call {call} ({hit or "killed"}): {text[:400]}'
        yield f'    calls {calls}'
