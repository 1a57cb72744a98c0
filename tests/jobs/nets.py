"Small nets that take their shape from the data."

from torch import nn


def linear(inputs, outputs):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(outputs))


def small(inputs, outputs, width=32, dropout=0.0):
    hidden = [nn.LazyLinear(width), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, outputs))


def conv(inputs, outputs, width=8):
    features = [nn.Conv2d(inputs[0], width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*features, nn.Flatten(), nn.LazyLinear(outputs))


def conv1d(inputs, outputs, width=8):
    features = [nn.Conv1d(inputs[0], width, 7, padding=3), nn.ReLU(), nn.AdaptiveMaxPool1d(1)]
    return nn.Sequential(*features, nn.Flatten(), nn.Linear(width, outputs))


class LSTM(nn.Module):
    def __init__(self, inputs, outputs, width=16):
        super().__init__()
        self.lstm = nn.LSTM(inputs[0], width, batch_first=True)
        self.head = nn.Linear(width, outputs)

    def forward(self, x):
        states, _ = self.lstm(x.transpose(1, 2))  # N×channels×steps to N×steps×channels
        return self.head(states.mean(1))
