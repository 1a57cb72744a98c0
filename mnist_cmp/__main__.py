"`python -m mnist_cmp` is the command `mnist_cmp`."
import sys

from mnist_cmp.cli import main

if __name__ == '__main__': sys.exit(main())
