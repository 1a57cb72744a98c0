"`python -m mnist_cmp` is the command `mnist_cmp`."
import os
import sys

if __name__ == '__main__':
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    # `-m` has put the current folder first, where any file could stand for a library:
    # it is taken out, unless this package is found by it
    try:
        here = os.getcwd()
    except FileNotFoundError:   # the folder has been deleted
        here = ''
    if not sys.flags.safe_path and sys.path[:1] == [here] != [home]:
        del sys.path[0]
    from mnist_cmp.cli import main
    sys.exit(main())
