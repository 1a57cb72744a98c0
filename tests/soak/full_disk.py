"""`unshare -rm python full_disk.py FOLDER`: a search on a disk that is full, then read-only.

In a mount namespace of its own. Both are refused in one line, and nothing is lost; `FOLDER` holds
the same search, left in peace.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from killing import start
from written import numbers


def main(whole):
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


if __name__ == '__main__':
    main(Path(sys.argv[1]))
