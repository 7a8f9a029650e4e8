"""The dashboard: pages that show and change queues, as an ASGI application.

`durableq dashboard` serves it. Another application mounts it:
`app.mount("/queues", dashboard(dq))`.
"""

from __future__ import annotations

from durableq.model.errors import Unsupported

try:
    from durableq.dashboard.access import Access
    from durableq.dashboard.site import dashboard
except ImportError as error:
    raise Unsupported(
        f"The dashboard needs libraries that cannot be imported ({error}). "
        "Install them: pip install 'durableq[dashboard]'."
    ) from error

__all__ = ["Access", "dashboard"]
