"""Which of two models is better on this data, at equal size and equal tuning effort, by how much, and how sure are we?

Each public name is here, and so is each room (`mnist_cmp.data`, …). A name is loaded at its first use:
`import mnist_cmp` alone loads no other package.
"""
from importlib import import_module

from . import _moved

__version__ = "0.1.0"

_rooms = {room: names.split() for room, names in {
    'core.checks': 'MachineError Stopped',
    'core.files': '',
    'core.system': '',
    'core.display': '',
    'core.records': 'Epoch History Config Space Trial SearchResult Cost plot_accuracy',
    'core.settings': 'Recipe Compute Callbacks',
    'core.points': 'sobol_points plot_sobol',
    'core.ledger': 'Ledger LedgerError',
    'core.trials': '',
    'core.run_folder': '',
    'core.children': '',
    'core.process': '',
    'datasets.sources': '',
    'data': 'Split Data load_data show_samples default_device',
    'models': (
        'MLP CNNClassifier DeepMLP glorot_init zero_init norm_init initialise register_model '
        'model_names get_model'
    ),
    'params': 'number_of_params params_table relative_difference match_params flops size_table',
    'engines.step_protocol': '',
    'engines.autograd': '',
    'engines.chains': '',
    'engines.onednn': '',
    'engines.compiled': '',
    'engines.graphs': '',
    'engines.steps': '',
    'engines.evaluation': 'measure measure_accuracy predict topk_errors smoke_test save_model load_model',
    'training': 'train snapshot_accuracies display_timer',
    'study.provenance': '',
    'study.population': 'train_population',
    'study.workers': '',
    'study.trainers': '',
    'study.scheduling': '',
    'study.studies': '',
    'study.retraining': 'Retraining retrain',
    'search': 'tune',
    'study.costs': 'latency measure_cost',
    'evidence.health': '',
    'evidence.intervals': (
        'wilson_interval error_interval mcnemar_exact bonett_price_interval paired_t '
        'crossed_difference CrossedDifference prob_better expected_best calibration '
        'Calibration agreement simulate_errors'
    ),
    'evidence.answers': '',
    'evidence.differences': 'Difference',
    'evidence.tables': '',
    'evidence.figures': '',
    'evidence.verdict': 'verdict',
    'evidence.comparison': 'Comparison',
    'comparison': 'compare',
    'report': 'write_report summary report_schema',
    'ui.sound': 'chime make_sound',
    'ui.run_state': '',
    'ui.run_process': '',
    'ui.run_view': '',
    'ui.run_display': '',
    'ui.fields': '',
    'ui.controls': 'ComparePanel',
    'ui.pad': 'DigitPad',
    'cli': '',
}.items()}
_workshops = {room.partition('.')[0] for room in _rooms if '.' in room}
_room_of = {name: room for room, names in _rooms.items() for name in names}
_old = {'Box': 'Space', 'Point': 'Config'}  # names that go with the next release

__all__ = list(_room_of)


def __getattr__(name):
    if name in _rooms or name in _workshops or name in _moved.MODULES: return import_module(f'{__name__}.{name}')
    if name in _room_of: return getattr(import_module(f'{__name__}.{_room_of[name]}'), name)
    if name in _old:
        from .core.checks import warn_renamed
        warn_renamed(name, _old[name])
        return __getattr__(_old[name])
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__(): return sorted({*globals(), *(room for room in _rooms if '.' not in room), *_workshops, *__all__})


_moved.install()
