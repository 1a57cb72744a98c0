from sklearn.datasets import load_wine

import mnist_cmp as mc

x, y = load_wine(return_X_y=True)  # from hundredths to thousands
data = mc.Data.from_arrays(x, y, scale='standard', search_epochs=5, epochs=10)
result = mc.compare(['mlp', 'deep_mlp'], data, n_trials=3, seeds=3)
