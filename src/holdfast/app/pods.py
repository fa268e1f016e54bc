"""The number of this process as a pod of sticky services, where it was given one from outside."""

from __future__ import annotations

import os
import socket

from holdfast.router import pod_from


def given_pod() -> int | None:
    """Return the number that HOLDFAST_POD_INDEX says, or the name of a StatefulSet's host; None: it takes a free one.

    Raises ConfigError for a variable that is no number.
    """
    # The name of a host ends in a number that is meant only where a StatefulSet gave it.
    host = socket.gethostname() if "KUBERNETES_SERVICE_HOST" in os.environ else ""
    return pod_from(os.environ.get("HOLDFAST_POD_INDEX", ""), host)
