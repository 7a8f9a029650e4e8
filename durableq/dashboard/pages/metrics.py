"""The metrics of the database, for a Prometheus that scrapes the dashboard."""

from __future__ import annotations

from starlette.responses import PlainTextResponse, Response

from durableq.dashboard.errors import refusal_of
from durableq.dashboard.visit import Visit
from durableq.metrics import exposition, library
from durableq.model.errors import DurableQError


def text(visit: Visit) -> Response:
    """Return the metrics in the text format of Prometheus; an error is a line of text."""
    try:
        kind = library().CONTENT_TYPE_PLAIN_0_0_4
        return Response(exposition(visit.store), media_type=kind)
    except DurableQError as error:
        refusal = refusal_of(error)
        return PlainTextResponse(f"{refusal.what}\n", refusal.status)
