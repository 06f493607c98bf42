"""Sinks: where the loop's records go. None of them can stall the loop: each works behind a queue of its own."""

from edge_runtime.publish.base import Sink
from edge_runtime.publish.jsonl import JsonLinesSink
from edge_runtime.publish.named import open_sink

__all__ = ["JsonLinesSink", "Sink", "open_sink"]
