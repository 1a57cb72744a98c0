import numpy as np
import mnist_cmp as mc
from nets import conv, linear

patches = np.load('patches.npz')  # x: N×3×32×32, bytes
data = mc.Data.from_arrays(patches['x'], patches['y'], search_epochs=2, epochs=5)
result = mc.compare([conv, linear], data, n_trials=3, seeds=3)
