import numpy as np
import mnist_cmp as mc
from nets import linear, small

signs = np.load('signs.npz')  # 62 classes, as of letters and digits
data = mc.Data.from_arrays(signs['x'], signs['y'], search_epochs=4, epochs=10)
result = mc.compare([linear, small], data, n_trials=3, seeds=3)
