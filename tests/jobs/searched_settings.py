from nets import conv, small

import mnist_cmp as mc

space = mc.Space(width=[8, 16, 32], dropout=(0.0, 0.5))
result = mc.compare([conv, small], 'digits', space, n_trials=4, seeds=2, search_epochs=3)
