from mnist_cmp._moved import name_in_folder


def __getattr__(name):
    "A name that stood here while this was a module."
    return name_in_folder('core', name)
