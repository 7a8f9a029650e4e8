"""Found first on the path of a run with a planted bug: plants it in each of its processes.

It imports the module of this bug only. All of them import most of durableq, and Django and boto3:
three quarters of a second of CPU in each process.
"""

import os
from pkgutil import resolve_name

if os.environ.get("PLANTED_BUG"):
    resolve_name(os.environ["PLANTED_BUG"])()
