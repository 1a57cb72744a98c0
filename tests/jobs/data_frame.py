import pandas as pd
from nets import linear, small

import mnist_cmp as mc

frame = pd.read_csv('tumours.csv')
data = mc.Data.from_frame(frame, target='diagnosis', scale='standard', epochs=5)
result = mc.compare([linear, small], data, n_trials=3, seeds=3)
