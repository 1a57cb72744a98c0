import numpy as np
from nets import LSTM, conv1d

import mnist_cmp as mc

waves = np.load('waves.npz')  # x: N×2×40, y: 'slow' or 'fast'
data = mc.Data.from_arrays(waves['x'], waves['y'], search_epochs=4, epochs=10)
recipe = mc.Recipe(optimizer='adam')
space = mc.Space(learning_rate=mc.loguniform(1e-3, 3e-2))
result = mc.compare([LSTM, conv1d], data, space, n_trials=3, seeds=3, recipe=recipe)
