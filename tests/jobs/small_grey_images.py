from nets import conv, linear
from sklearn.datasets import load_digits

import mnist_cmp as mc

digits = load_digits()  # 8×8, values from 0 to 16
data = mc.Data.from_arrays(digits.images[:, None], digits.target, search_epochs=3, epochs=6)
space = mc.Space(learning_rate=mc.loguniform(1e-3, 3e-2))
result = mc.compare([conv, linear], data, space, n_trials=3, seeds=3)
