"""One epoch of the same training by the libraries that people use instead; each is a function
that gives a runner.

`make(model, x, y, batch, rate)` prepares and gives `run(steps)`, which trains that many steps;
`x` are bytes. Loading and compiling happen before `run` is timed. A library that is not
installed raises `ImportError` and is left out.
"""

import os
from itertools import chain, islice, repeat

os.environ.setdefault('KERAS_BACKEND', 'jax')

import numpy as np
import torch
import torch.nn.functional as F

from mnist_cmp.models import MLP, CNNClassifier, initialise

NETS = {'mlp': MLP, 'cnn': CNNClassifier}


def loop_2019(model, x, y, batch, rate):
    """The loop of 2019: a data set of PIL images, a loader with two processes, `.item()` at each
    step."""
    from mnist_cmp.datasets.sources import torchvision_datasets

    torchvision_datasets()
    from PIL import Image
    from torchvision.transforms import ToTensor

    to_tensor = ToTensor()

    class Images(torch.utils.data.Dataset):
        def __len__(self):
            return len(x)

        def __getitem__(self, i):
            return to_tensor(Image.fromarray(x[i, 0].numpy(), mode='L')), int(y[i])

    net = initialise(NETS[model])
    if model == 'cnn':
        net.to(memory_format=torch.contiguous_format)  # as it was
    optimiser = torch.optim.SGD(net.parameters(), lr=rate)
    criterion = torch.nn.CrossEntropyLoss()
    loader = torch.utils.data.DataLoader(Images(), batch_size=batch, shuffle=True, num_workers=2)
    # a loader that is on its way, as within an epoch: its start takes 0.1 s
    batches = chain.from_iterable(repeat(loader))

    def run(steps):
        for images, labels in islice(batches, steps):
            optimiser.zero_grad()
            loss = criterion(net(images), labels)
            loss.backward()
            optimiser.step()
            loss.item()

    return run


def plain_pytorch(model, x, y, batch, rate):
    "Tensors in memory and torch.optim.SGD."
    net = initialise(NETS[model])
    n = len(x)
    optimiser = torch.optim.SGD(net.parameters(), lr=rate)

    def run(steps):
        order = torch.randperm(n)
        for k in range(steps):
            i = order[torch.arange(k * batch, (k + 1) * batch) % n]
            optimiser.zero_grad()
            F.cross_entropy(net(x[i].float().div_(255)), y[i]).backward()
            optimiser.step()

    return run


def _jax(model, x, y, batch, rate, im2col):
    import jax
    import jax.numpy as jnp

    weights = [jnp.asarray(p.detach().numpy().copy()) for p in initialise(NETS[model]).parameters()]
    images = jnp.asarray(x.numpy())
    labels = jnp.asarray(y.numpy())

    def conv(h, w, b, pad):
        if not im2col:
            return (
                jax.lax.conv_general_dilated(h, w, (1, 1), [(pad, pad)] * 2)
                + b[None, :, None, None]
            )
        patches = jax.lax.conv_general_dilated_patches(h, (3, 3), (1, 1), [(pad, pad)] * 2)
        return jnp.einsum('nkhw,ok->nohw', patches, w.reshape(len(w), -1)) + b[None, :, None, None]

    def pool(h):
        n, c, height, width = h.shape
        return h.reshape(n, c, height // 2, 2, width // 2, 2).max((3, 5))

    def logits(ws, h):
        pairs = list(zip(ws[::2], ws[1::2]))
        if model == 'cnn':
            for (w, b), pad, pooled in zip(pairs[:5], (1, 2, 1, 1, 1), (1, 1, 1, 1, 0)):
                h = jax.nn.relu(conv(h, w, b, pad))
                if pooled:
                    h = pool(h)
            pairs = pairs[5:]
        h = h.reshape(len(h), -1)
        for w, b in pairs[:-1]:
            h = jax.nn.relu(h @ w.T + b)
        return h @ pairs[-1][0].T + pairs[-1][1]

    def loss(ws, i):
        logs = jax.nn.log_softmax(logits(ws, images[i].astype(jnp.float32) / 255))
        return -logs[jnp.arange(batch), labels[i]].mean()

    @jax.jit
    def epoch(ws, order):
        def step(ws, i):
            value, grads = jax.value_and_grad(loss)(ws, i)
            return [w - rate * g for w, g in zip(ws, grads)], value

        return jax.lax.scan(step, ws, order)

    def run(steps):
        nonlocal weights
        order = np.resize(np.random.permutation(len(x)), (steps, batch))
        weights, losses = epoch(weights, order)
        losses.block_until_ready()

    return run


def jax_scan(model, x, y, batch, rate):
    "JAX: the epoch as one compiled `lax.scan`."
    return _jax(model, x, y, batch, rate, im2col=False)


def jax_im2col(model, x, y, batch, rate):
    "The same with convolutions as matrix products."
    if model != 'cnn':
        raise ImportError('no convolutions')
    return _jax(model, x, y, batch, rate, im2col=True)


def keras_jax(model, x, y, batch, rate):
    "Keras 3 on JAX: `fit`."
    import keras
    from keras import layers

    if model == 'mlp':
        body = [layers.Flatten(), layers.Dense(620, 'relu'), layers.Dense(620, 'relu')]
    else:
        body = []
        for maps, pad, pooled in ((16, 1, 1), (32, 2, 1), (64, 1, 1), (128, 1, 1), (256, 1, 0)):
            body += [layers.ZeroPadding2D(pad), layers.Conv2D(maps, 3, activation='relu')] + [
                layers.MaxPooling2D()
            ] * pooled
        body += [layers.Flatten(), layers.Dense(472, 'relu')]
    net = keras.Sequential([keras.Input((28, 28, 1)), *body, layers.Dense(10)])
    net.compile(
        keras.optimizers.SGD(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    images = x.numpy().transpose(0, 2, 3, 1).astype('float32') / 255
    labels = y.numpy()
    return lambda steps: net.fit(
        *(np.resize(a, (steps * batch, *a.shape[1:])) for a in (images, labels)),
        batch_size=batch,
        verbose=0,
    )


def skorch_net(model, x, y, batch, rate):
    "skorch: `partial_fit`."
    from skorch import NeuralNetClassifier

    net = NeuralNetClassifier(
        NETS[model],
        criterion=torch.nn.CrossEntropyLoss,
        lr=rate,
        batch_size=batch,
        max_epochs=1,
        train_split=None,
        iterator_train__shuffle=True,
        verbose=0,
    )
    images = x.float().div(255).numpy()
    labels = y.numpy()
    return lambda steps: net.partial_fit(
        *(np.resize(a, (steps * batch, *a.shape[1:])) for a in (images, labels))
    )


def lightning_module(model, x, y, batch, rate):
    "Lightning: `Trainer.fit`."
    import logging

    import lightning

    logging.getLogger('lightning.pytorch').setLevel(logging.ERROR)

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = initialise(NETS[model])

        def training_step(self, pair, _):
            return F.cross_entropy(self.net(pair[0]), pair[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=rate)

    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(x.float().div(255), y), batch, shuffle=True
    )
    module = Module()
    quiet = dict(
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    return lambda steps: lightning.Trainer(max_steps=steps, accelerator='cpu', **quiet).fit(
        module, loader
    )


def sklearn_mlp(model, x, y, batch, rate):
    "scikit-learn's MLPClassifier: `partial_fit` a batch at a time."
    if model != 'mlp':
        raise ImportError('no convolutions')
    from sklearn.neural_network import MLPClassifier
    from threadpoolctl import threadpool_limits

    net = MLPClassifier(
        (620, 620), solver='sgd', alpha=0, batch_size=batch, learning_rate_init=rate, momentum=0
    )
    images = x.flatten(1).float().div(255).numpy()
    labels = y.numpy()

    def run(steps):
        with threadpool_limits(torch.get_num_threads()):
            for k in range(steps):
                i = np.arange(k * batch, (k + 1) * batch) % len(x)
                net.partial_fit(images[i], labels[i], classes=range(10))

    return run


PEERS = {
    '2019 loop': loop_2019,
    'PyTorch in memory': plain_pytorch,
    'JAX': jax_scan,
    'JAX, im2col': jax_im2col,
    'Keras 3 on JAX': keras_jax,
    'skorch': skorch_net,
    'Lightning': lightning_module,
    'scikit-learn': sklearn_mlp,
}
