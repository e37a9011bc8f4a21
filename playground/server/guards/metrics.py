"""The metrics that Prometheus reads at /metrics, one registry per app. No client can add labels."""

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector
from starlette.responses import Response

from playground.server.guards.record import Record

BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
MODELS = 200
"""Models beyond this number share one label."""


class Meters:
    """Counts requests as they end; routes report tokens through the request's record."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._models: set[str] = set()
        ProcessCollector(registry=registry)
        labels = ("route", "model", "status")
        self._requests = Counter("madang_requests", "Requests that ended", labels, registry=registry)
        self._rejected = Counter("madang_requests_rejected", "Requests turned away", ("reason",), registry=registry)
        self._left = Counter("madang_clients_left", "Clients gone before the answer's end", registry=registry)
        self._seconds = self._timed("madang_request_seconds", "From request to end of answer")
        self._first_byte = self._timed("madang_first_byte_seconds", "From request to first byte of the answer")
        self._first_token = self._timed("madang_first_token_seconds", "From request to first token")
        self._prompt = Counter("madang_prompt_tokens", "Tokens of prompts", ("model",), registry=registry)
        self._answer = Counter("madang_answer_tokens", "Tokens of answers", ("model",), registry=registry)

    def _timed(self, name: str, what: str) -> Histogram:
        return Histogram(name, what, ("route", "model"), registry=self.registry, buckets=BUCKETS_S)

    def watch_queue(self, held: Callable[[], int], waiting: Callable[[], int]) -> None:
        """Add gauges that look at the queue when they are read."""
        gauge = Gauge("madang_requests_in_flight", "Requests that hold a place", registry=self.registry)
        gauge.set_function(held)
        gauge = Gauge("madang_requests_waiting", "Those with nothing of their answer yet", registry=self.registry)
        gauge.set_function(waiting)

    def observe(self, record: Record) -> None:
        """Count a request that ended."""
        if record.rejected:
            self._rejected.labels(record.rejected).inc()
        if record.left:
            self._left.inc()
        route, model = record.route or "other", self._label(record.model)
        self._requests.labels(route, model, record.status).inc()
        if record.rejected:
            return  # how fast requests are turned away would only hide how long answers take
        self._seconds.labels(route, model).observe(record.seconds)
        if record.first_byte_s is not None:
            self._first_byte.labels(route, model).observe(record.first_byte_s)
        if record.first_token_s is not None:
            self._first_token.labels(route, model).observe(record.first_token_s)
        if record.model:
            self.tokens(record.model, record.prompt_tokens, record.answer_tokens)

    def tokens(self, model: str, prompt: int, answer: int) -> None:
        """Count what a known model read and wrote outside a request; `Record.tokens` does it for one."""
        label = self._label(model)
        self._prompt.labels(label).inc(prompt)
        self._answer.labels(label).inc(answer)

    def _label(self, model: str) -> str:
        if not model:
            return "none"
        if model not in self._models:
            if len(self._models) >= MODELS:
                return "other"
            self._models.add(model)
        return model

    async def page(self) -> Response:
        """Answer /metrics."""
        return Response(generate_latest(self.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
