"""Prints the oldest versions that settings.ini allows, as constraints for pip: what is promised to
users is tested with them.

    python tools/oldest.py > oldest.txt
    make test CONSTRAINTS=oldest.txt
"""

import re
import sys
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What a user installs. The tools of `dev`, `docs` and `bench` are ours, and may be the newest.
FOR_USERS = (
    'requirements',
    'dask_requirements',
    'optuna_requirements',
    'app_requirements',
    'tables_requirements',
    'medmnist_requirements',
)


def requirements():
    "All that users install, such as 'numpy>=1.26', as settings.ini has it."
    config = ConfigParser()
    config.read(ROOT / 'settings.ini', encoding='utf-8')
    return [each for name in FOR_USERS for each in config['DEFAULT'][name].split()]


def oldest(requirement):
    "The requirement with its oldest version alone; raises `ValueError` if it names none."
    found = re.fullmatch(r'([\w.-]+)>=([\w.]+)(,.*)?', requirement)
    if found is None:
        raise ValueError(
            f'settings.ini: {requirement} names no oldest version. Write {requirement}>=VERSION.'
        )
    return f'{found[1]}=={found[2]}'


if __name__ == '__main__':
    try:
        print('\n'.join(map(oldest, requirements())))
    except ValueError as error:
        sys.exit(str(error))
