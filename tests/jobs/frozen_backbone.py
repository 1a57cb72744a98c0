import numpy as np
from backbone import pretrained, scratch

import mnist_cmp as mc

patches = np.load('patches.npz')
data = mc.Data.from_arrays(patches['x'], patches['y'], search_epochs=2, epochs=5)
result = mc.compare([pretrained, scratch], data, n_trials=3, seeds=3)
