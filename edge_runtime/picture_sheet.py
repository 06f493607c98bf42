"""A sheet of pictures: the newest answer to every instruction, each drawn into the picture it was found in."""

from collections.abc import Sequence

from PIL import Image

from edge_runtime.annotate import annotated
from edge_runtime.pipeline import Referrer
from edge_runtime.records import F64, U8, Answer, FrameStamp, View

COLUMNS = 3
GAP_PX = 4


class PictureSheet:
    """Passes questions on and remembers what the answers looked like; a `Referrer` around another one.

    Nothing is drawn until the sheet is asked for, so a live loop pays nothing for it.

    Args:
        referrer: Answers the questions; None where they are asked elsewhere and the answers brought to `keep`.
    """

    def __init__(self, referrer: Referrer | None = None) -> None:
        self._referrer = referrer
        self._newest: dict[str, tuple[U8, Answer]] = {}

    def refer(
        self,
        views: Sequence[View],
        instruction: str,
        *,
        raw_prompt: bool = False,
        frame: FrameStamp | None = None,
        base_from_camera: F64 | None = None,
    ) -> Answer:
        """Answer one question about the views."""
        assert self._referrer is not None, "this sheet is brought its answers"
        answer = self._referrer.refer(
            views, instruction, raw_prompt=raw_prompt, frame=frame, base_from_camera=base_from_camera
        )
        self.keep(instruction, views[0].rgb, answer)
        return answer

    def keep(self, instruction: str, rgb: U8, answer: Answer) -> None:
        """Remember an answer that was asked for elsewhere.

        Args:
            instruction: What was asked.
            rgb: [H, W, 3] the picture it was asked about.
            answer: What came.
        """
        self._newest[instruction] = (rgb, answer)

    def image(self) -> Image.Image | None:
        """The sheet, in the order the instructions were first asked; None before the first answer."""
        panels = [annotated(rgb, answer, instruction) for instruction, (rgb, answer) in self._newest.items()]
        if not panels:
            return None
        width, height = (max(panel.size[side] for panel in panels) for side in (0, 1))
        columns = min(COLUMNS, len(panels))
        rows = -(-len(panels) // columns)
        size = (columns * (width + GAP_PX) - GAP_PX, rows * (height + GAP_PX) - GAP_PX)
        sheet = Image.new("RGB", size, "white")
        for number, panel in enumerate(panels):
            row, column = divmod(number, columns)
            sheet.paste(panel, (column * (width + GAP_PX), row * (height + GAP_PX)))
        return sheet
