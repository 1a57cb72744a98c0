"Build settings: all of them are read from settings.ini, which nbdev reads too."

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).resolve().parent
config = ConfigParser()
config.read(here / 'settings.ini', encoding='utf-8')
cfg = config['DEFAULT']
extras = {
    extra: cfg[f'{extra}_requirements'].split()
    for extra in ('dask', 'optuna', 'app', 'tables', 'medmnist', 'docs')
}
name, source, docs = cfg['lib_name'], cfg['git_url'], cfg['doc_host'] + cfg['doc_baseurl']

setup(
    name=name,
    version=cfg['version'],
    description=cfg['description'],
    long_description=(here / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author=cfg['author'],
    author_email=cfg['author_email'],
    license_expression={'apache2': 'Apache-2.0'}[cfg['license']],
    license_files=['LICENSE'],
    url=source,
    project_urls={
        'Documentation': docs,
        'Changelog': f'{source}/blob/{cfg["branch"]}/CHANGELOG.md',
        'Issues': f'{source}/issues',
    },
    keywords=cfg['keywords'].split(),
    classifiers=[
        'Development Status :: '
        + {'3': '3 - Alpha', '4': '4 - Beta', '5': '5 - Production/Stable'}[cfg['status']],
        f'Intended Audience :: {cfg["audience"]}',
        'Intended Audience :: Science/Research',
        f'Natural Language :: {cfg["language"]}',
        *(f'Programming Language :: Python :: 3.{minor}' for minor in range(11, 15)),
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Typing :: Typed',
    ],
    python_requires=f'>={cfg["min_python"]}',
    packages=find_packages(include=[name, f'{name}.*']),
    include_package_data=True,  # the data files that MANIFEST.in names
    install_requires=cfg['requirements'].split(),
    # what speed is compared with: large, and no test needs it
    extras_require=extras
    | {
        'bench': cfg['bench_requirements'].split(),
        # dev tests them all but pyarrow: beside it pandas keeps texts in another way, which takes
        # fewer of them
        'dev': cfg['dev_requirements'].split()
        + sum((names for extra, names in extras.items() if extra != 'tables'), []),
    },
    entry_points={
        'console_scripts': cfg['console_scripts'].split(),
        # lets other nbdev projects link to our docs
        'nbdev': [f'{name}={name}._modidx:d'],
    },
)
