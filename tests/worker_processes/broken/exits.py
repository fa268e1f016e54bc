"""An app module that ends its process with a signal while it is imported."""

import os
import signal

os.kill(os.getpid(), signal.SIGKILL)
