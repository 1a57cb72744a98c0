"""Modules and names that have moved: under their old names they still work, with a
`DeprecationWarning` that says where they are now."""

import importlib
import importlib.machinery
import sys
import warnings

# Old module → where what it held is now. A module that has moved as a whole is the same object
# under both names; one whose names went to several modules looks them up there.
MODULES = {
    'statistics': ['evidence.intervals'],
    'health': ['evidence.health'],
    'findings': ['evidence.answers', 'evidence.differences', 'evidence.tables'],
    'figures': ['evidence.figures'],
    'records': ['core.records'],
    'ledger': ['core.ledger'],
    'run_folder': ['core.run_folder'],
    'points': ['core.points'],
    'trials': ['core.trials'],
    'children': ['core.children'],
    'process': ['core.process'],
    'sources': ['datasets.sources'],
    'provenance': ['study.provenance'],
    'step_protocol': ['engines.step_protocol'],
    'autograd': ['engines.autograd'],
    'chains': ['engines.chains'],
    'onednn': ['engines.onednn'],
    'compiled': ['engines.compiled'],
    'graphs': ['engines.graphs'],
    'steps': ['engines.steps'],
    'evaluation': ['engines.evaluation'],
    'population': ['study.population'],
    'workers': ['study.workers'],
    'studies': ['study.studies', 'study.trainers', 'study.scheduling'],
    'retraining': ['study.retraining'],
    'costs': ['study.costs'],
    'sound': ['ui.sound'],
    'controls': ['ui.controls', 'ui.run_state', 'ui.sound'],
    'pad': ['ui.pad'],
}
# Old module → name → where it is now, by module and name.
NAMES = {
    'engines.steps': {'float_images': 'engines.autograd.float_images'},
    'comparison': {
        'Contestant': 'core.records.ModelResult',
        'KS': 'core.records.KS',
        'PROTOCOLS': 'core.records.PROTOCOLS',
        'extent_in': 'core.run_folder.extent_in',
        'figure_files': 'core.run_folder.figure_files',
    },
    'core.trials': {'Trial': 'core.records.Trial'},
    'params': {'unequal_sizes': 'evidence.tables.unequal_sizes'},
    'report': {'verdict': 'evidence.verdict.verdict'},
    'search': {
        'Box': 'core.records.Space',
        'Point': 'core.records.Config',
        'plot_sobol': 'core.points.plot_sobol',
    },
    'training': {
        'load_model': 'engines.evaluation.load_model',
        'plot_accuracy': 'core.records.plot_accuracy',
        'smoke_test': 'engines.evaluation.smoke_test',
        'topk_errors': 'engines.evaluation.topk_errors',
    },
}
# A module that has become a folder of modules → those that its names are in now.
FOLDERS = {'core': ['core.checks', 'core.files', 'core.system', 'core.display']}
PACKAGE = __name__.partition('.')[0]


def warn(old, new):
    "Warn at the line outside this package that asked for an old name."
    level = 2
    frame = sys._getframe(1)
    while frame.f_back and _is_passed(frame):
        # The frames of an `import` statement are none that `warnings` counts.
        level += '_bootstrap' not in frame.f_code.co_filename
        frame = frame.f_back
    warnings.warn(
        f'{PACKAGE}.{old} is now {PACKAGE}.{new}.', DeprecationWarning, stacklevel=level
    )


def _is_passed(frame):
    "Is a frame of this package, or of Python's import?"
    return frame.f_globals.get('__name__', '').partition('.')[0] in (PACKAGE, 'importlib')


def moved_name(module, name):
    "What had a name in a module until it moved; raises `AttributeError`."
    new = NAMES[module].get(name)
    if new is None:
        raise AttributeError(f'module {f"{PACKAGE}.{module}"!r} has no attribute {name!r}')
    warn(f'{module}.{name}', new)
    home, _, new_name = new.rpartition('.')
    return getattr(importlib.import_module(f'{PACKAGE}.{home}'), new_name)


def name_in_folder(folder, name):
    "What had a name in a module that is a folder now; raises `AttributeError`."
    for home in FOLDERS[folder]:
        if name.startswith('__') or f'{folder}.{name}' in sys.modules:
            break
        module = importlib.import_module(f'{PACKAGE}.{home}')
        if name in vars(module):
            warn(f'{folder}.{name}', f'{home}.{name}')
            return getattr(module, name)
    raise AttributeError(f'module {f"{PACKAGE}.{folder}"!r} has no attribute {name!r}')


class MovedFinder:
    "Finds the modules of `MODULES` by their old names."

    def find_spec(self, fullname, path=None, target=None):
        package, _, old = fullname.partition('.')
        if package == PACKAGE and old in MODULES:
            # No importlib.abc.Loader: `python -m` must not load what that loads.
            return importlib.machinery.ModuleSpec(fullname, self)  # type: ignore[arg-type]
        return None

    def create_module(self, spec):
        return None  # Python's own way

    def exec_module(self, module):
        old = module.__name__.partition('.')[2]
        homes = MODULES[old]
        warn(old, f' and {PACKAGE}.'.join(homes))
        modules = [importlib.import_module(f'{PACKAGE}.{home}') for home in homes]
        if len(modules) == 1:
            sys.modules[module.__name__] = modules[0]
            return
        module.__doc__ = f'Moved to {", ".join(homes)}.'
        module.__all__ = [name for home in modules for name in home.__all__]

        def look_up(name):
            for home in modules:
                if hasattr(home, name):
                    return getattr(home, name)
            raise AttributeError(f'module {module.__name__!r} has no attribute {name!r}')

        module.__getattr__ = look_up


def install():
    "Have old module names found, once in a process."
    if not any(isinstance(finder, MovedFinder) for finder in sys.meta_path):
        # The first, so that a file that an older installation left behind is not taken.
        sys.meta_path.insert(0, MovedFinder())
