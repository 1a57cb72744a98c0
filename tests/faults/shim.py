"Compile `shim.c`, start a process with it, and arm it there."

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

# Classes of calls, as in shim.c.
OPEN = 1
WRITE = 2
SYNC = 4
RENAME = 8
MKDIR = 16
UNLINK = 32
TRUNCATE = 64
MMAP = 128
CHMOD = 256
LOCK = 512
READ = 1024
CHANGES = OPEN | WRITE | SYNC | RENAME | MKDIR | UNLINK | TRUNCATE | MMAP | CHMOD | LOCK
NEVER = 1 << 62  # a number that no call has


class Action(IntEnum):
    "What is done to a call."

    FAIL = 0
    CUT = 1  # a write ends half-way; later ones fail
    KILL = 2  # the process dies before it


def why_not() -> str:
    "Why the shim can't be used on this machine; '' if it can."
    if sys.platform != 'linux':
        return f'it needs Linux, and this is {sys.platform}'
    if not shutil.which('cc'):
        return 'it needs a C compiler (cc), and there is none'
    return ''


def build(
    folder,  # for the library
) -> Path:
    "The shared library made from `shim.c`; raises `RuntimeError` with what the compiler said."
    library = Path(folder) / 'shim.so'
    # without fortification the headers would define some of the functions that are defined here
    flags = ['-shared', '-fPIC', '-O1', '-U_FORTIFY_SOURCE']
    command = ['cc', *flags, '-o', str(library), str(HERE / 'shim.c'), '-ldl', '-lpthread']
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f'cc cannot compile {HERE / "shim.c"}:\n{done.stderr}')
    return library


def run_python(
    arguments,  # of Python, such as ['-m', 'faults', 'kills']
    **options,  # as for `subprocess.run`
) -> subprocess.CompletedProcess:
    "Run Python with the shim below it, on one thread, with the package and these tests."
    paths = [str(ROOT), str(HERE.parent), str(ROOT / 'tools'), os.environ.get('PYTHONPATH', '')]
    quiet = {'OMP_NUM_THREADS': '1', 'MNIST_CMP_QUIET': '1', 'MPLBACKEND': 'agg'}
    with tempfile.TemporaryDirectory() as folder:
        python_path = os.pathsep.join(filter(None, paths))
        shimmed = {'LD_PRELOAD': str(build(folder)), 'PYTHONPATH': python_path}
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(command, env=os.environ | quiet | shimmed, **options)


class Shim:
    "The shim that this process was started with; raises `RuntimeError` if it was not."

    def __init__(self):
        self.library = ctypes.CDLL(None)  # all that is loaded
        if not hasattr(self.library, 'shim_arm'):
            raise RuntimeError('This process runs without the shim: use run_python.')
        self.library.shim_count.restype = ctypes.c_long
        self.library.shim_hits.restype = ctypes.c_long
        self.library.shim_hit_call.restype = ctypes.c_char_p
        numbers = ctypes.c_int, ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_int
        self.library.shim_arm.argtypes = [ctypes.c_char_p, *numbers]

    def arm(
        self,
        folder,  # calls on it and on what is below it are counted
        classes: int,  # of calls that count
        at: int = NEVER,  # which of them is hit, from 1
        action: Action = Action.FAIL,
        error: int = 0,  # the errno of calls that fail
        sticky: bool = False,  # are all later calls hit, too?
    ):
        "Count the calls from here on, and hit one of them."
        path = os.fsencode(Path(folder).resolve())
        self.library.shim_arm(path, classes, at, action, error, sticky)

    def disarm(self):
        "Let all calls pass."
        self.library.shim_disarm()

    @property
    def count(self) -> int:
        "How many calls were seen since the shim was armed."
        return self.library.shim_count()

    @property
    def hits(self) -> int:
        "How many of them were hit."
        return self.library.shim_hits()

    @property
    def hit_call(self) -> str:
        "The first call that was hit, with the file's path in the folder; '' if none was."
        return self.library.shim_hit_call().decode(errors='replace')

    @contextmanager
    def recording(
        self,
        folder,  # what changes in it is written down
        path,  # into this file, which lies elsewhere
    ):
        "Inside the block every call that changes the folder goes into the record."
        with open(path, 'wb', buffering=0) as file:
            self.library.shim_record(os.fsencode(Path(folder).resolve()), file.fileno())
            try:
                yield
            finally:
                self.library.shim_record(b'/', -1)
