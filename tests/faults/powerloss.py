"""Power loss: the states that a disk may be left in, and a run that goes on from one.

A record of all calls that changed a run's folder is replayed up to a point. What was synced by then
is there; of the rest chance decides, within one of two models. In both a write may be torn at
multiples of 512 or of 4096 bytes, and the pieces of writes into what a file had already may each be
there or not.

`weak`, much like that of ALICE (Pillai et al., OSDI 2014): syncing a file makes its contents safe,
and not its name; syncing a folder makes its names safe. Changes of a folder's names survive up to
some point in their order, for each folder another one. Of a file's changes since its last sync any
may be missing, in whole or in part; where a piece is missing below the file's end there are the old
bytes, or zeros, and its size may have grown without its contents.

`ordered`, as ext4 with data=ordered: changes of names and cuts of files survive up to some point in
the order of all of them, and each sync makes all of these safe, of whatever files and folders. A
file grows by no more than was written: what is behind the first missing piece is missing too.

Neither loses what was synced, and neither swaps the order of two changes of names in one folder.
What SQLite keeps in memory beside a WAL (-shm) is in no record: it makes that file anew.
"""

import random
import shutil
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from . import runs
from .shim import Shim
from .sweep import Progress, Undisturbed, check_only, chosen, print_table, resumed

MODELS = 'ordered', 'weak'
STATES = 400  # if no number is given


# The record


@dataclass(frozen=True)
class Call:
    "A call that changed the folder."

    name: str  # create, nameless, write, truncate, sync, rename, link, unlink, mkdir, rmdir
    path: str  # in the folder; '.' is the folder itself
    to: str = ''  # of a rename or link
    inode: int = 0  # of the file, of calls on an open one
    offset: int = 0  # of a write; of truncate the new size
    data: bytes = b''  # of a write


def read_record(path) -> list[Call]:
    "The calls that `Shim.recording` wrote down."
    calls = []
    with open(path, 'rb') as file:
        while line := file.readline():
            name, inode, offset, size, place, to = line.decode().rstrip('\n').split('\t')
            calls.append(Call(name, place, to, int(inode), int(offset), file.read(int(size))))
    return calls


# The disk


@dataclass(eq=False)
class File:
    "What a file holds, what of it is safe, and what was done since."

    now: bytearray = field(default_factory=bytearray)
    safe: bytes = b''
    changes: list = field(default_factory=list)  # (moment, 'write' or 'truncate', place, bytes)

    def sync(self):
        self.safe = bytes(self.now)
        self.changes.clear()


@dataclass(eq=False)
class Folder:
    "The names in a folder, those that are safe, and what was done since."

    now: dict = field(default_factory=dict)
    safe: dict = field(default_factory=dict)
    changes: list = field(default_factory=list)  # (moment, name that goes, name that comes, whose)

    def sync(self):
        self.safe = dict(self.now)
        self.changes.clear()

    def change(self, moment, goes, comes='', node=None):
        self.changes.append((moment, goes, comes, node))
        _rename(self.now, goes, comes, node)


def _rename(names, goes, comes, node):
    names.pop(goes, None)
    if comes:
        names[comes] = node


def _alter(content, kind, offset, data):
    "Do a write or a truncation to a bytearray."
    size = offset + len(data)
    if kind == 'truncate':
        del content[offset:]
    if size > len(content):
        content.extend(bytes(size - len(content)))
    if kind == 'write':
        content[offset:size] = data


class Disk:
    "The folder as the calls so far left it: what programs see, and what is safe."

    def __init__(self):
        self.root = Folder()
        self.files = {}  # by the number of the inode
        self.moment = 0
        self.committed = 0  # the moment of the last sync

    def find(self, path):
        "The file or folder of that name; None if there is none."
        node = self.root
        for part in Path(path).parts:
            node = node.now.get(part) if isinstance(node, Folder) else None
        return node

    def do(
        self,
        call: Call,
    ):
        "Replay a call."
        self.moment += 1
        path = Path(call.path)
        above = self.find(path.parent)
        if call.name == 'nameless':
            self.files.pop(call.inode, None)  # it may have been another's
        elif call.name in ('write', 'truncate'):
            self._alter(call)
        elif call.name == 'sync':
            self._sync(call)
        elif call.path == '.':
            return  # the folder itself is made
        elif call.name == 'create':
            self.files[call.inode] = File()
            above.change(self.moment, '', path.name, self.files[call.inode])
        elif call.name == 'mkdir':
            above.change(self.moment, '', path.name, Folder())
        elif call.name in ('unlink', 'rmdir'):
            above.change(self.moment, path.name)
        elif call.name in ('rename', 'link'):
            self._rename(call, above)
        else:
            raise ValueError(f'call is {call.name!r}, but must be one that shim.c records.')

    def _alter(self, call):
        if file := self.files.get(call.inode):
            file.changes.append((self.moment, call.name, call.offset, call.data))
            _alter(file.now, call.name, call.offset, call.data)

    def _sync(self, call):
        self.committed = self.moment
        node = self.find(call.path)
        if not isinstance(node, Folder):
            node = self.files.get(call.inode)
        if node:
            node.sync()

    def _rename(self, call, above):
        name = Path(call.path).name
        to = Path(call.to)
        target = self.find(to.parent)
        node = above.now[name]
        goes = name if call.name == 'rename' else ''
        if target is above:
            above.change(self.moment, goes, to.name, node)
        else:
            target.change(self.moment, '', to.name, node)
            if goes:
                above.change(self.moment, goes)

    def tree(self) -> dict:
        "What programs see: name → bytes, or the same of a folder."
        return _tree(self.root, lambda folder: folder.now, lambda file: bytes(file.now))


def _tree(folder, names_of, content_of):
    "Nested dicts of a folder, each file and folder looked at once, also one of two names."
    seen = {}

    def of(node):
        if id(node) not in seen:
            if isinstance(node, File):
                seen[id(node)] = content_of(node)
            else:
                seen[id(node)] = {name: of(child) for name, child in names_of(node).items()}
        return seen[id(node)]

    return of(folder)


def replayed(
    calls,  # of a record
) -> Disk:
    "The disk after these calls."
    disk = Disk()
    for call in calls:
        disk.do(call)
    return disk


# What survives


class Crash:
    "The power is lost: chance decides, within a model, what survives of a disk."

    def __init__(
        self,
        disk: Disk,
        model: str,  # in MODELS
        rng: random.Random,
    ):
        self.disk = disk
        self.model = model
        self.rng = rng
        self.share = rng.choice([0, 0, 0.2, 0.5, 0.8, 0.95])  # of contents that are not safe
        self.share_of_names = rng.choice([0, 0.5, 1])  # 0.5 stands for some
        self.grain = rng.choice([512, 4096])
        self.cut = self._point(disk.committed, disk.moment)  # of the model 'ordered'

    def _point(self, first, last):
        "Up to where changes of names survive."
        if self.share_of_names in (0, 1):
            return last if self.share_of_names else first
        return self.rng.randint(first, last)

    def _survives(self):
        return self.rng.random() < self.share

    def tree(self) -> dict:
        "What is found on the disk afterwards: name → bytes, or the same of a folder."
        return _tree(self.disk.root, self.names, self.content)

    def names(self, folder: Folder) -> dict:
        "The names in a folder that survive, each with what bears it."
        found = dict(folder.safe)
        several = self._point(0, len(folder.changes))
        for place, (moment, *change) in enumerate(folder.changes):
            survives = moment <= self.cut if self.model == 'ordered' else place < several
            if survives:
                _rename(found, *change)
        return found

    def content(self, file: File) -> bytes:
        "The bytes of a file that survive."
        content = bytearray(file.safe)
        grow = self._grow_in_order if self.model == 'ordered' else self._grow_anyhow
        grow(content, file)
        return bytes(content)

    def _pieces(self, offset, data):
        "The parts of a write that a disk may write one without the other."
        while data:
            size = self.grain - offset % self.grain
            yield offset, data[:size]
            offset += size
            data = data[size:]

    def _grow_anyhow(self, content, file):
        for _, kind, offset, data in file.changes:
            if kind == 'truncate':
                if self._survives():
                    _alter(content, kind, offset, data)
                continue
            for place, piece in self._pieces(offset, data):
                if self._survives():
                    _alter(content, kind, place, piece)
        missing = len(file.now) - len(content)
        if missing > 0 and self._survives():
            content.extend(bytes(missing))

    def _grow_in_order(self, content, file):
        ended = False  # is a piece missing that the file would have grown by?
        for moment, kind, offset, data in file.changes:
            if kind == 'truncate':
                if moment <= self.cut:
                    _alter(content, kind, offset, data)
                continue
            for place, piece in self._pieces(offset, data):
                inside = place + len(piece) <= len(content)
                survives = self._survives() and (inside or not ended)
                if survives:
                    _alter(content, kind, place, piece)
                elif not inside:
                    ended = True


def write_tree(
    tree: dict,  # as Crash gives it
    folder,  # made if missing
):
    "Put it on the disk."
    Path(folder).mkdir(exist_ok=True)
    for name, node in tree.items():
        if isinstance(node, dict):
            write_tree(node, Path(folder) / name)
        else:
            (Path(folder) / name).write_bytes(node)


def read_tree(folder) -> dict:
    "What `write_tree` wrote."
    tree = {}
    for path in Path(folder).iterdir():
        tree[path.name] = read_tree(path) if path.is_dir() else path.read_bytes()
    return tree


# Runs that lose their power


def recorded(
    calm: Undisturbed,
    shim: Shim,
    work: Path,  # for the run and the record
) -> list[Call]:
    "The calls of a run that is left in peace."
    folder = work / 'recorded'
    path = work / 'record'

    def run():
        runs.choose_journal(calm.journal)
        with shim.recording(folder, path):
            runs.RUNS[calm.what](folder)
        return True

    done = runs.in_child(run)
    if done != {'value': True}:
        raise RuntimeError(f'The recorded run ended with {done}.')
    calls = read_record(path)
    if replayed(calls).tree() != read_tree(folder):
        raise RuntimeError('The record gives another folder than the run left.')
    shutil.rmtree(folder)
    path.unlink()
    return calls


def try_state(
    calm: Undisturbed,
    calls: list[Call],
    model: str,
    rng: random.Random,
) -> dict:
    "Lose the power, and with it something where that can be: what was bad about running again."
    for _ in range(20):
        point = rng.randint(1, len(calls))
        disk = replayed(calls[:point])
        crash = Crash(disk, model, rng)
        tree = crash.tree()
        if tree != disk.tree():
            break
    folder = calm.work / 'state'
    try:
        write_tree(tree, folder)
        bad = [text.replace(str(folder), 'STORE') for text in resumed(calm, folder)]
        last = calls[point - 1]
        names = {0: 'no', 0.5: 'some', 1: 'all'}[crash.share_of_names]
        where = (
            f'after {point} of {len(calls)} calls, the last: {last.name} {last.path}; '
            f'{crash.share:.0%} of what was not synced survive, {names} names'
        )
        ended = 'with all on the disk' if tree == disk.tree() else 'with something lost'
        return {'ended': ended, 'message': '', 'call': where, 'bad': bad}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def power_losses(
    progress: Progress,
    sample: int = None,  # how many states; None: STATES
    seed: int = 0,
    only: str = '',  # a part of the cases' names
) -> int:
    "Lose the power of a comparison, often, and print a table; gives how many cases were bad."
    shim = Shim()
    groups = defaultdict(list)
    where = {}
    sample = sample or STATES
    with runs.work_folder() as work:
        for journal in runs.JOURNALS:
            calm = Undisturbed(shim, 'comparison', journal, work)
            calls = recorded(calm, shim, work)
            for model in MODELS:
                group = f'comparison, {journal}, {model}'
                for number in range(sample):
                    case = f'{group}, seed {seed}, call {number}'
                    if only not in case:
                        continue
                    groups[group].append(case)
                    where[case] = calm, calls, model
        check_only(only, groups)
        cases = chosen(groups, sample, seed)
        progress.go_on(cases, lambda case: try_state(*where[case], random.Random(case)))
    return print_table(groups, {case: progress[case] for case in cases})
