"""What the pipeline said of simulated scans, held against what the simulator knows: masks, the oracle's verdicts."""

from dataclasses import replace

from tests.train.spatial.oracle import Oracle
from tests.train.spatial.oracle_meaning import evaluate, is_free, on_table, point_in_place, regions_of
from train.scans.simulated import SimulatedFrame
from train.spatial.forms import Claim, Dialogue
from train.spatial.places import Place
from train.spatial.relations import Detail

# The table's top is measured from depth and its pixels are coarser than the picture's.
SLACK_M = 0.012


class Truth:
    """One simulated frame as judge of what was said about it."""

    def __init__(self, frame: SimulatedFrame) -> None:
        # What a picture does not show at all, nobody who looks at it would mean.
        shown = tuple(thing for thing in frame.truth.objects if frame.truth.visible_px(thing))
        self.graph = replace(frame.truth, objects=shown)
        self.oracle = Oracle(self.graph)

    def shown_at(self, x: float, y: float) -> str | None:
        """Id of the thing that a point of the picture shows."""
        mask = self.graph.instance_mask
        height, width = mask.shape
        value = int(mask[min(int(y * height), height - 1), min(int(x * width), width - 1)])
        return next((thing.id for thing in self.graph.objects if thing.mask_value == value), None)

    def holds(self, claim: Claim) -> bool | None:
        """The oracle's verdict; distances are compared."""
        thing, *anchors = (self.graph.by_id(name) for name in (claim.thing, *claim.anchors))
        if claim.metres is None:
            return self.oracle.filter(claim.relation.value, thing, anchors, Detail())
        metres = self.oracle.apart(thing, anchors[0]) if anchors else self.oracle.from_camera(thing)
        return abs(metres - claim.metres) <= 0.01

    def meant(self, dialogue: Dialogue) -> list[str]:
        """Ids of what a question for an object may mean, by the oracle."""
        assert dialogue.question is not None
        sure, perhaps = evaluate(self.oracle, dialogue.question.meaning)
        return [thing.id for thing in (*sure, *perhaps)]

    def is_free_place(self, place: Place, x: float, y: float) -> bool:
        """Whether a point shows table in the place, with nothing on it."""
        height, width = self.graph.instance_mask.shape
        pixel = min(int(y * height), height - 1), min(int(x * width), width - 1)
        xy = self.graph.world_xyz_m[pixel][:2].astype(float)
        tray = self._tray(place)
        stands = self.shown_at(x, y) == tray.id if tray is not None else on_table(self.oracle, pixel, 0.0)
        return bool(
            stands
            and is_free(self.oracle, xy, 0.0, on=tray)
            and point_in_place(self.oracle, regions_of(self.oracle, place), xy, -SLACK_M)
        )

    def _tray(self, place: Place):
        if place.surface is None:
            return None
        return evaluate(self.oracle, place.surface.anchors[0])[0][0]


def wrong(truth: Truth, dialogue: Dialogue, points) -> list[str]:
    """What is not true of a dialogue about one view; `points` are its answer's, shares of the picture."""
    found = [f"{c}: {truth.holds(c)}" for c in dialogue.claims if truth.holds(c) is not c.holds]
    question = dialogue.question
    if question is None:
        return found
    (x, y) = points[-1]
    if isinstance(question.meaning, Place):
        if not truth.is_free_place(question.meaning, x, y):
            found.append(f"not free: {dialogue.asked} at {x}, {y}")
        return found
    if truth.meant(dialogue) != [question.target_id]:
        found.append(f"means {truth.meant(dialogue)}, not {question.target_id}: {dialogue.asked}")
    if truth.shown_at(x, y) != question.target_id:
        found.append(f"shows {truth.shown_at(x, y)}, not {question.target_id}: {dialogue.asked}")
    return found
