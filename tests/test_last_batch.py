"A last batch of a single image joins the one before it where the net can't learn from one."

import pytest
import torch
import torch.nn as nn

import mnist_cmp as mc


def pooled(norm, places):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.AdaptiveAvgPool2d(places),
        norm(4),
        nn.Flatten(),
        nn.Linear(4 * places**2, 3),
    )


class Own2d(nn.BatchNorm2d):
    pass


class Volume(nn.Module):
    "Batch normalisation of three-dimensional maps, each of one place."

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(784, 8)
        self.norm = nn.BatchNorm3d(8)
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        return self.out(self.norm(self.fc(x.flatten(1))[:, :, None, None, None]).flatten(1))


class ByHand(nn.Module):
    "Divides by the spread over the batch, which a single image has not."

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(784, 8)
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        x = self.fc(x.flatten(1))
        return self.out((x - x.mean(0)) / x.std(0))


class Guarded(ByHand):
    "The gradient of a root at 0 is infinite, although the answer is finite."

    def forward(self, x):
        x = self.fc(x.flatten(1))
        return self.out((x - x.mean(0)) / (x.var(0, unbiased=False).sqrt() + 1e-5))


def flat(norm):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 8), norm, nn.Linear(8, 3))


JOINED = {
    'BatchNorm1d': lambda: flat(nn.BatchNorm1d(8)),
    'LazyBatchNorm1d': lambda: flat(nn.LazyBatchNorm1d()),
    'BatchNorm2d on 1×1 maps': lambda: pooled(nn.BatchNorm2d, 1),
    'own BatchNorm2d on 1×1 maps': lambda: pooled(Own2d, 1),
    'LazyBatchNorm2d on 1×1 maps': lambda: pooled(lambda maps: nn.LazyBatchNorm2d(), 1),
    'BatchNorm3d': Volume,
    'by hand': ByHand,
    'guarded': Guarded,
}

ALONE = {
    'BatchNorm2d on 2×2 maps': lambda: pooled(nn.BatchNorm2d, 2),
    'BatchNorm2d without statistics': lambda: pooled(
        lambda maps: nn.BatchNorm2d(maps, track_running_stats=False), 2
    ),
    'GroupNorm': lambda: pooled(lambda maps: nn.GroupNorm(2, maps), 1),
    'LayerNorm': lambda: flat(nn.LayerNorm(8)),
    'InstanceNorm2d': lambda: pooled(nn.InstanceNorm2d, 2),
    'MLP': lambda: mc.MLP(8, 8, 3),
    'dropout': lambda: flat(nn.Dropout()),
}


def sizes_of_batches(make, split, size=13):
    "The sizes of the batches of an epoch, as the net met them in training."
    net = mc.initialise(make)
    met = []
    forward = net.forward

    def watched(x):
        if net.training and torch.is_grad_enabled():
            met.append(len(x))
        return forward(x)

    epochs = []
    net.forward = watched
    history = mc.train(
        net,
        split,
        recipe=mc.Recipe(learning_rate=0.01, batch_size=size, epochs=1),
        compute=mc.Compute(engine='autograd'),
        callbacks=mc.Callbacks(progress=False, on_epoch=lambda history: epochs.append([*met])),
    )
    assert history.state == 'finished'
    assert all(p.isfinite().all() for p in net.parameters())
    return epochs[0][-(len(split) // size + 1) :]


@pytest.mark.parametrize('name', JOINED)
def test_it_joins(data, name):
    split = data.train  # 40 images: 13 + 13 + 13 + 1
    assert len(split) == 40
    net = mc.initialise(JOINED[name])
    history = mc.train(
        net,
        split,
        recipe=mc.Recipe(learning_rate=0.01, batch_size=13, epochs=2),
        callbacks=mc.Callbacks(progress=False),
    )
    assert history.state == 'finished'
    assert all(p.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize('name', ALONE)
def test_it_stays_alone(data, name):
    assert sizes_of_batches(ALONE[name], data.train) == [13, 13, 13, 1]


def test_a_joined_batch_is_one_larger(data):
    assert sizes_of_batches(JOINED['BatchNorm1d'], data.train)[-3:] == [13, 13, 14]


@pytest.mark.parametrize('name', JOINED)
def test_the_same_rule_for_a_training_that_goes_on(data, tmp_path, name):
    def trained(epochs, **kwargs):
        net = mc.initialise(JOINED[name])
        mc.train(
            net,
            data.train,
            recipe=mc.Recipe(learning_rate=0.01, batch_size=13, epochs=epochs),
            callbacks=mc.Callbacks(progress=False),
            **kwargs,
        )
        return torch.cat([t.flatten().double() for t in net.state_dict().values()])

    whole = trained(3)
    trained(1, checkpoint=tmp_path)
    assert torch.equal(trained(3, checkpoint=tmp_path), whole)


def test_asking_leaves_the_net_as_it_is(data):
    from mnist_cmp.training import _joins

    net = pooled(nn.BatchNorm2d, 1)
    before = [t.clone() for t in net.state_dict().values()]
    assert _joins(net, data.train, 13)
    assert all(map(torch.equal, net.state_dict().values(), before))
    assert all(p.grad is None for p in net.parameters())


def test_nothing_but_single_images(data):
    with pytest.raises(
        ValueError, match='batch_size is 1, but must be 2 at least: Sequential normalises'
    ):
        mc.train(
            pooled(nn.BatchNorm2d, 1),
            data.train,
            recipe=mc.Recipe(learning_rate=0.01, batch_size=1, epochs=1),
            callbacks=mc.Callbacks(progress=False),
        )
