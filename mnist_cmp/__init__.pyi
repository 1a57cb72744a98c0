# The public names, for type checkers; __init__.py reads here in which module each is. One
# `from … import` stands on one line, and __all__ names what `from mnist_cmp import *` gives.

from . import data as data
from . import models as models
from . import params as params
from . import training as training
from . import search as search
from . import comparison as comparison
from . import report as report
from . import cli as cli
from . import core as core
from . import datasets as datasets
from . import engines as engines
from . import evidence as evidence
from . import study as study
from . import ui as ui
from .core.checks import MachineError, Stopped
from .core.records import Epoch, History, Config, Space, Trial, SearchResult, Cost, plot_accuracy
from .core.records import Scaling, loguniform, fixed
from .core.settings import Recipe, Compute, Callbacks, Tuning
from .core.points import sobol_points, plot_sobol
from .core.ledger import Ledger, LedgerError
from .data import Split, Data, load_data, show_samples, default_device
from .models import MLP, CNNClassifier, DeepMLP, glorot_init, zero_init, norm_init, initialise
from .models import register_model, model_names, get_model, Shape, fitted, maker_settings
from .params import number_of_params, params_table, relative_difference, match_params, flops
from .params import size_table
from .engines.augment import random_shift, random_flip, random_erasing
from .engines.evaluation import measure, measure_accuracy, predict, topk_errors, smoke_test
from .engines.evaluation import save_model, load_model
from .training import train, snapshot_accuracies, display_timer
from .study.population import train_population
from .study.retraining import Retraining, retrain
from .search import tune
from .study.costs import latency, measure_cost
from .evidence.intervals import wilson_interval, error_interval, mcnemar_exact
from .evidence.intervals import bonett_price_interval, paired_t, crossed_difference
from .evidence.intervals import CrossedDifference, prob_better, expected_best, calibration
from .evidence.intervals import Calibration, agreement, simulate_errors
from .evidence.crossed import CrossedInterval, crossed_interval, expected_interval
from .evidence.crossed import collapse_limit
from .evidence.metrics import Metric, METRICS
from .evidence.predictions import Predictions
from .evidence.differences import Difference
from .evidence.judging import judge
from .evidence.verdict import verdict
from .evidence.comparison import Comparison
from .comparison import compare
from .report import write_report, summary, report_schema
from .ui.sound import chime, make_sound
from .ui.controls import ComparePanel
from .ui.pad import DigitPad

__version__: str
__all__ = [
    'MachineError', 'Stopped', 'Epoch', 'History', 'Config', 'Space', 'Trial', 'SearchResult',
    'Cost', 'plot_accuracy', 'Scaling', 'loguniform', 'fixed', 'Recipe', 'Compute', 'Callbacks',
    'Tuning', 'sobol_points', 'plot_sobol', 'Ledger', 'LedgerError', 'Split', 'Data',
    'load_data', 'show_samples', 'default_device', 'MLP', 'CNNClassifier', 'DeepMLP',
    'glorot_init', 'zero_init', 'norm_init', 'initialise', 'register_model', 'model_names',
    'get_model', 'Shape', 'fitted', 'maker_settings', 'number_of_params', 'params_table',
    'relative_difference', 'match_params', 'flops', 'size_table', 'random_shift', 'random_flip',
    'random_erasing', 'measure', 'measure_accuracy', 'predict', 'topk_errors', 'smoke_test',
    'save_model', 'load_model', 'train', 'snapshot_accuracies', 'display_timer',
    'train_population', 'Retraining', 'retrain', 'tune', 'latency', 'measure_cost',
    'wilson_interval', 'error_interval', 'mcnemar_exact', 'bonett_price_interval', 'paired_t',
    'crossed_difference', 'CrossedDifference', 'prob_better', 'expected_best', 'calibration',
    'Calibration', 'agreement', 'simulate_errors', 'CrossedInterval', 'crossed_interval',
    'expected_interval', 'collapse_limit', 'Metric', 'METRICS', 'Predictions', 'Difference',
    'judge', 'verdict', 'Comparison', 'compare', 'write_report', 'summary', 'report_schema',
    'chime', 'make_sound', 'ComparePanel', 'DigitPad',
]
