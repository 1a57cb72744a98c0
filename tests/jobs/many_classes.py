import numpy as np
from nets import linear, small

import mnist_cmp as mc

signs = np.load('signs.npz')  # 62 classes, as of letters and digits
data = mc.Data.from_arrays(signs['x'], signs['y'], search_epochs=4, epochs=10)
result = mc.compare([linear, small], data, n_trials=3, seeds=3)
