"""`/metrics`, open to everybody: it tells no more than the brief status does, and costs no more however often asked."""

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from daemon.metrics import Metrics
from daemon.status import Parts


def metrics_routes(parts: Parts) -> list[BaseRoute]:
    """`/metrics` of one daemon."""
    metrics = Metrics(parts)

    async def scrape(_: Request) -> Response:
        return Response(await metrics.text(), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    return [Route("/metrics", scrape, methods=["GET"])]
