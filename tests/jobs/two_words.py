from nets import linear, small
from sklearn.datasets import load_breast_cancer

import mnist_cmp as mc

tumours = load_breast_cancer()
labels = tumours.target_names[tumours.target]  # 'malignant' or 'benign'
data = mc.Data.from_arrays(tumours.data, labels, scale='standard', epochs=5)
result = mc.compare([linear, small], data, n_trials=3, seeds=3, metric='auroc')
