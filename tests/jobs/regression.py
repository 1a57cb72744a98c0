from nets import linear, small

import mnist_cmp as mc

data = mc.load_data('diabetes')
result = mc.compare([linear, small], data, n_trials=4, seeds=3)
