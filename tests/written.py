"What a search or a comparison has written below a folder."

import hashlib
import json
from dataclasses import asdict

from mnist_cmp.core.ledger import Ledger

# in names of what another run need not repeat
VARIES = ('second', 'latency', 'calls', 'memory', 'times', 'worker', 'commit')


def numbers(folder):
    """The numbers of all trials and trainings in the ledgers below a folder, all of a report,
    and the weights; no times."""

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


def recorded(folder):
    "The finished epochs in the ledgers."
    found = set()
    for file in folder.rglob('study.sqlite'):
        with Ledger.read(file.parent) as ledger:
            found |= {
                (file.parent.name, i, e.epoch)
                for i, row in ledger.histories().items()
                for e in row[0].epochs
            }
    return found
