"""Sentences around a phrase: how people ask a robot to point, politely or not. Data only.

Slots: {x} what to point at, {a} an anchor that is named first, {beside} a place beside it, {an} a thing with its
indefinite article, {direction} a preposition. Sentences begin in lower case because something may stand before them.
"""

from train.spatial.phrasebook import Wordings

LOCATE = Wordings(
    (
        "please point out {x}.",
        "please point to {x}.",
        "point to {x}.",
        "point at {x}.",
        "where is {x}?",
        "show me {x}.",
        "show me where {x} is.",
        "find {x}.",
        "locate {x}.",
        "I need {x}, where is it?",
        "which point is on {x}?",
        "give me a point on {x}.",
        "mark {x}.",
        "just point to {x}.",
        "tell me where {x} is.",
        "help me find {x}.",
        "look for {x}.",
        "identify {x}.",
        "can you see {x}?",
        "I want to pick up {x}: where is it?",
        "the robot should grasp {x}. Where is it?",
        "where should I reach for {x}?",
        "move the gripper to {x}.",
        "we need {x}. Show it.",
        "what are the coordinates of {x}?",
        "put a mark on {x}.",
    ),
    (
        "indicate {x}.",
        "I am looking for {x}, can you help?",
        "tell me where to find {x}.",
        "put your finger on {x}.",
        "what is the position of {x}?",
        "we want to pick up {x}; where should the gripper go?",
    ),
)
LOCATE_ANCHOR_FIRST = Wordings(
    (
        "look at {a}. Point to {x}.",
        "find {a}. Now point to {x}.",
        "do you see {a}? Show me {x}.",
        "start at {a} and point to {x}.",
        "first find {a}, then show me {x}.",
        "you see {a}. Where is {x}?",
        "from {a}, go to {x}.",
        "this is about {a}: mark {x}.",
    ),
    ("first look for {a}. Then indicate {x}.", "there is {a}. Where is {x}?"),
)
LOCATE_THERE_IS = Wordings(
    (
        "{beside} there is {an}. Point to it.",
        "{beside} there is {an}. Where is it?",
        "{beside} you see {an}: mark it.",
        "{beside} there must be {an}. Find it.",
        "{beside} stands {an}. Show it to me.",
        "{beside} you can find {an}: where?",
    ),
    ("{beside} you will find {an}. Indicate it.", "{beside} there should be {an}. Put your finger on it."),
)
PUT = Wordings(
    (
        "please point out {x}.",
        "please point to {x}.",
        "point to {x}.",
        "point at {x}.",
        "show me {x}.",
        "find {x}.",
        "locate {x}.",
        "where is {x}?",
        "give me a point in {x}.",
        "I want to put something down: point to {x}.",
        "mark {x}.",
        "just point to {x}.",
        "tell me where {x} is.",
        "help me find {x}.",
        "look for {x}.",
        "identify {x}.",
        "where could I place something? Show me {x}.",
        "the gripper should set an item down: point to {x}.",
        "we need room. Where is {x}?",
        "I have something to put away, find {x}.",
        "move the gripper to {x}.",
        "put a mark in {x}.",
    ),
    (
        "indicate {x}.",
        "where could I set something down? I mean {x}.",
        "we have to place an item; show {x}.",
        "put your finger on {x}.",
        "tell me where to find {x}.",
    ),
)
PUT_ANCHOR_FIRST = Wordings(
    (
        "look at {a}. Point to a free spot {direction} it.",
        "find {a}. Where is there room {direction} it?",
        "where could something go {direction} {a}?",
        "is there space {direction} {a}? Point to it.",
        "I want to put something {direction} {a}. Where?",
        "start at {a}. Show me a clear spot {direction} it.",
        "you see {a}. Point to an open area {direction} it.",
        "where would an item stand {direction} {a}?",
        "what place {direction} {a} is unoccupied?",
        "set something down {direction} {a}: where?",
    ),
    (
        "take {a}. Indicate an unoccupied area {direction} it.",
        "suppose I set a cup down {direction} {a}: where would it stand?",
    ),
)
POLITENESS = Wordings(
    (
        "could you {do}?",
        "can you {do}?",
        "{do}, please.",
        "hey, {do}.",
        "would you please {do}?",
        "now {do}.",
        "robot, {do}.",
        "I would like you to {do}.",
        "{do}, thank you.",
    ),
    ("would you mind helping me: {do}.", "excuse me, {do}, thanks."),
)
# What politeness can be wrapped around: requests that start with a plain verb.
PLAIN_VERBS = (
    "point", "show", "find", "locate", "mark", "give", "indicate", "put", "tell", "just", "help", "look",
    "identify", "move",
)  # fmt: skip
