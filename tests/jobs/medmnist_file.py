from nets import conv, linear

import mnist_cmp as mc

data = mc.Data.from_npz('pathmnist.npz', search_epochs=2, epochs=5)
result = mc.compare([conv, linear], data, n_trials=3, seeds=3)
