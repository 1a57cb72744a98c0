"""What becomes of a run when a file call fails, when it is killed, and when the power is lost.

`shim` stands between this process and the C library, `runs` has the tiny runs, `sweep` fails or
kills at each call in turn, `powerloss` builds the states that a disk may be in after a crash.
`make soak ARGS="-k test_faults"` tries all places, `tests/test_faults.py` a sample. Linux only, and a
C compiler is needed.
"""
