"""`python -m yolo_distill COMMAND key=value ...`, and so that torchrun can start it: the command `yolo-distill`."""

import sys

from yolo_distill.cli import main

if __name__ == "__main__":
    sys.exit(main())
