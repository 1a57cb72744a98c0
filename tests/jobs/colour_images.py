import numpy as np
from nets import conv, linear

import mnist_cmp as mc

patches = np.load('patches.npz')  # x: N×3×32×32, bytes
data = mc.Data.from_arrays(patches['x'], patches['y'], search_epochs=2, epochs=5)
result = mc.compare([conv, linear], data, n_trials=3, seeds=3)
