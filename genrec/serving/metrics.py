"""Counters that Prometheus reads at /metrics."""

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Counters and histograms of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        to: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("genrec_requests", "Requests answered.", ["endpoint", "code"], **to)
        self.seconds = Histogram(
            "genrec_request_seconds", "Seconds until a request was answered.", ["endpoint"], buckets=SECONDS, **to
        )
        self.first = Histogram(
            "genrec_ttft_seconds", "Seconds until the first text of a stream.", buckets=SECONDS, **to
        )
        self.inflight = Gauge("genrec_inflight", "Requests under way.", **to)
        self.queue = Gauge("genrec_queue_depth", "Jobs that wait for the model or are under way.", **to)
        self.tokens = Counter("genrec_tokens", "Tokens of chats.", ["kind"], **to)
        self.recommendations = Counter("genrec_recommendations", "Lists given.", ["strategy"], **to)
        self.cold_starts = Counter("genrec_cold_start", "Lists for users of whom nothing is known.", **to)
        self.events = Counter("genrec_events", "Events recorded.", ["type"], **to)
        self.items = Gauge("genrec_catalog_items", "Items of the catalogue.", ["dataset"], **to)
        self.prefix_hits = Gauge("genrec_prefix_hits", "Histories that were known, wholly or in part.", **to)
        self.prefix_misses = Gauge("genrec_prefix_misses", "Histories that were read anew.", **to)
        self.prefix_bytes = Gauge("genrec_prefix_bytes", "Bytes of the histories that are kept in memory.", **to)
        self.passes = Gauge("genrec_passes", "Passes through the model.", **to)
        self.rows = Gauge("genrec_rows_read", "Rows read in these passes.", **to)
        self.model = Gauge("genrec_model_info", "The model that answers.", ["model", "backbone", "version"], **to)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)
