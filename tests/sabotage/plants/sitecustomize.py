"""Found first on the path of a run with a planted bug: plants it in each of its processes."""

import os

if os.environ.get("PLANTED_BUG"):
    from tests.sabotage.bugs import BUGS

    BUGS[os.environ["PLANTED_BUG"]]()
