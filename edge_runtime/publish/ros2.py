"""Points as ROS 2 messages, where ROS 2 is installed. Untested: no ROS was at hand where this was written.

Publishes `geometry_msgs/PointStamped`, in the base frame if the camera's place is known, else in the camera's optical
frame (x right, y down, z forward, as ROS has it). The stamp is the moment the picture was taken, on ROS's clock.
"""

from typing import Any

from edge_runtime.errors import ConfigError
from edge_runtime.publish.base import ShownPoint, shown_points

TOPIC = "/roborefer/point"
BASE_FRAME, CAMERA_FRAME = "base_link", "camera_color_optical_frame"


class Ros2Sink:
    """Publishes the points of each record.

    Args:
        topic: Where.

    Raises:
        ConfigError: ROS 2's Python packages cannot be imported.
    """

    def __init__(self, topic: str = TOPIC) -> None:
        try:
            import rclpy
            from geometry_msgs.msg import PointStamped
            from rclpy.duration import Duration
        except ImportError as error:
            raise ConfigError(
                f"the sink ros2 needs ROS 2 ({error.name} is missing): source /opt/ros/<distribution>/setup.bash, "
                "and use a virtual environment that sees the system's packages"
            ) from error
        self._message, self._duration = PointStamped, Duration
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node("roborefer_edge", context=self._context)
        self._publisher = self._node.create_publisher(PointStamped, topic, 10)

    def write(self, record: dict[str, Any]) -> None:
        """Publish every point of a record that has metres."""
        for point in shown_points(record):
            located = frame_and_place(point)
            if located is None:
                continue
            message = self._message()
            age = self._duration(nanoseconds=int(record["age_ms"] * 1e6))
            message.header.stamp = (self._node.get_clock().now() - age).to_msg()
            message.header.frame_id, (message.point.x, message.point.y, message.point.z) = located
            self._publisher.publish(message)

    def close(self) -> None:
        """Leave the ROS graph."""
        self._node.destroy_node()
        self._context.try_shutdown()


def frame_and_place(point: ShownPoint) -> tuple[str, tuple[float, float, float]] | None:
    """The frame id and metres that a point is published with; None: it has no metres."""
    if point.base_m is not None:
        return BASE_FRAME, point.base_m
    return None if point.camera_m is None else (CAMERA_FRAME, point.camera_m)
