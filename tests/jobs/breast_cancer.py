from nets import linear, small

import mnist_cmp as mc

data = mc.load_data('breast_cancer')
result = mc.compare([linear, small], data, n_trials=3, seeds=3)
