"""The inference worker's process: one Pipeline, one question after the other, gone with its parent.

python -m edge_runtime.worker_child FD '{"bundle": PATH, "max_tiles": null, "n_threads": null}'
"""

import json
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.errors import EdgeError
from edge_runtime.estimating import EstimatingPipeline
from edge_runtime.frame_view import view_of
from edge_runtime.pipeline import Pipeline
from edge_runtime.records import FrameStamp, View
from edge_runtime.worker_wire import answer_to_message, error_to_message, frame_from_memory, views_from_memory
from hardware.packets import leave_with, receive, send

log = logging.getLogger(__name__)


def serve(end: socket.socket, settings: dict[str, Any]) -> None:
    """Answer until the other end closes."""
    settings["bundle"] = Path(settings["bundle"])
    try:
        pipeline = Pipeline.open(settings.pop("bundle"), **settings, remembers=True)
    except EdgeError as error:
        send(end, error_to_message(error))
        return
    with pipeline, EstimatingPipeline(pipeline, n_threads=settings["n_threads"]) as model:
        send(end, {"kind": "ready", "bundle": pipeline.bundle.manifest.name})
        while True:
            message, fds = receive(end)
            if message is None:
                return
            send(end, _answered(model, message, fds[0]))


def _answered(model: EstimatingPipeline, question: dict[str, Any], fd: int) -> dict[str, Any]:
    """The reply to one question; whatever goes wrong in Python is told, what goes wrong below it ends the process."""
    try:
        base_from_camera = question["base_from_camera"]
        model.limit_tiles(question["max_tiles"])
        answer = model.refer(
            _views(question, fd),
            question["instruction"],
            raw_prompt=question["raw_prompt"],
            grammar=question["grammar"],
            frame=FrameStamp(**question["frame"]) if question["frame"] else None,
            base_from_camera=None if base_from_camera is None else np.array(base_from_camera, np.float64),
        )
    except Exception as error:
        if not isinstance(error, EdgeError):
            log.exception("a question failed")
        return error_to_message(error)
    finally:
        os.close(fd)
    return answer_to_message(answer)


def _views(question: dict[str, Any], fd: int) -> list[View]:
    if question["camera"] is None:
        return views_from_memory(question["views"], fd)
    return [view_of(frame_from_memory(question["camera"], fd))]


def main(arguments: list[str]) -> int:
    """Run one worker process."""
    fd, settings = arguments
    logging.basicConfig(level=logging.INFO, format="inference worker: %(levelname)s %(message)s", stream=sys.stderr)
    for number in (signal.SIGINT, signal.SIGTERM):  # they reach the whole group, or unit; the parent decides
        signal.signal(number, signal.SIG_IGN)
    end = socket.socket(fileno=int(fd))
    leave_with(end)
    serve(end, json.loads(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
