import numpy as np
from nets import conv, linear

import mnist_cmp as mc

x = np.load('patches.npy', mmap_mode='r')
data = mc.Data.from_arrays(x, np.load('regions.npy'), search_epochs=2, epochs=5)
result = mc.compare([conv, linear], data, n_trials=3, seeds=3)
