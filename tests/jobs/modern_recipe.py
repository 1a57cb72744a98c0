import mnist_cmp as mc

recipe = mc.Recipe(
    epochs=3, optimizer='adamw', schedule='cosine', warmup=1, augment=mc.random_shift(2)
)
space = mc.Space(learning_rate=mc.loguniform(3e-4, 3e-3), batch_size=(16, 64))
how = {'n_trials': 2, 'seeds': 2, 'search_epochs': 2}
result = mc.compare(['mlp', 'cnn'], 'digits', space, recipe=recipe, **how)
