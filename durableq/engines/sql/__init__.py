"""SQL that engines share: tables, statements and operations. It imports no driver."""

from importlib.util import find_spec

from durableq.model.errors import Unsupported

if find_spec("fcntl") is None:
    raise Unsupported(
        "Files are kept on POSIX systems only (Linux, macOS): this Python has no fcntl, "
        "so they cannot be locked. On Windows, run durableq under WSL 2 or in a Linux container. "
        "Nothing was created."
    )
