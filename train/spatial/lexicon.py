"""Words for things: plurals, articles, synonyms, and which words may mean which nouns.

Knows English, not scenes. A noun it has never heard of works too: regular plural, no synonyms, fits only itself.
"""

from dataclasses import dataclass
from functools import cache

Verdict = bool | None

OBJECT = "object"
UNNAMED = "unnamed thing"  # noun of what nobody has named: it might be anything
ANY_WORDS = {OBJECT: "objects", "thing": "things", "item": "items"}

IRREGULAR_PLURALS = {
    "knife": "knives",
    "loaf": "loaves",
    "shelf": "shelves",
    "mouse": "mice",
    "die": "dice",
    "tomato": "tomatoes",
    "potato": "potatoes",
    "mango": "mangoes",
}

# What cannot be counted as it is: "a piece of cheese", "two bars of soap".
COUNTED = {
    "bread": "loaf of bread",
    "toast": "slice of toast",
    "cheese": "piece of cheese",
    "chocolate": "bar of chocolate",
    "soap": "bar of soap",
    "tape": "roll of tape",
    "scissors": "pair of scissors",
    "glasses": "pair of glasses",
    "pliers": "pair of pliers",
}
# Plural in form: even with "the" one says "the pair of scissors", or "is" would not agree.
ALWAYS_COUNTED = frozenset({"scissors", "glasses", "pliers"})

# Parts that give a side its name, as they stand before "side"; other parts are not asked about.
SIDE_WORDS: dict[str, str] = {
    **{word: word for word in (
        "front", "back", "handle", "spout", "head", "tail", "beak", "stem", "cap", "blade", "tip", "point", "nose",
        "jaw", "lens", "crust", "shackle", "display", "opening",
    )},
    "tines": "tine",
    "bristles": "bristle",
    "blades": "blade",
    "leaves": "leaf",
}  # fmt: skip

# Other words for a noun that mean nothing else on a table.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "mug": ("coffee mug",),
    "cup": ("drinking cup",),
    "can": ("tin", "tin can"),
    "plate": ("dinner plate",),
    "cube": ("block",),
    "box": ("carton",),
    "bottle": ("flask",),
    "laptop": ("notebook computer",),
    "remote": ("remote control",),
    "pen holder": ("pen cup",),
    "frying pan": ("skillet",),
    "milk carton": ("carton of milk",),
    "cereal box": ("box of cereal",),
    "thermos": ("vacuum flask",),
    "kettle": ("tea kettle",),
    "book": ("hardback",),
    "tray": ("serving tray",),
    "basket": ("wicker basket",),
    "phone": ("mobile phone", "cell phone"),
    "marker": ("felt pen",),
    "cutting board": ("chopping board",),
    "vase": ("flower vase",),
    "lamp": ("desk lamp",),
}

# Nouns that people use for one another: where two of a group are in a scene, neither word is safe for the other.
CONFUSABLE: tuple[frozenset[str], ...] = (
    frozenset({"mug", "cup", "teacup", "coffee cup"}),
    frozenset({"can", "tin", "tin can", "jar", "cylinder"}),
    frozenset({"plate", "dish", "saucer"}),
    frozenset({"bowl", "dish", "ramekin"}),
    frozenset({"box", "carton", "cereal box", "milk carton", "milk", "cereal"}),
    frozenset({"cube", "block", "dice", "box", "brick"}),
    frozenset({"bottle", "flask", "thermos"}),
    frozenset({"pan", "frying pan", "skillet", "pot"}),
    frozenset({"pen", "pencil", "marker"}),
    frozenset({"glass", "tumbler", "cup"}),
    frozenset({"tray", "board", "cutting board"}),
    frozenset({"ball", "sphere"}),
    frozenset({"bread", "loaf"}),
    frozenset({"teapot", "kettle", "jug", "pitcher"}),
    frozenset({"basket", "bin", "crate", "bucket"}),
    frozenset({"pen holder", "cup"}),
    # In rooms.
    frozenset({"chair", "armchair", "stool", "bench", "seat", "ottoman"}),
    frozenset({"sofa", "couch", "loveseat", "armchair"}),
    frozenset({"table", "desk", "nightstand", "counter", "countertop", "stand", "workbench"}),
    frozenset({"cabinet", "cupboard", "wardrobe", "dresser", "closet", "drawer", "nightstand"}),
    frozenset({"shelf", "bookshelf", "bookcase", "rack"}),
    frozenset({"picture", "painting", "photo", "poster", "picture frame", "frame", "artwork", "mirror"}),
    frozenset({"pillow", "cushion"}),
    frozenset({"blanket", "throw", "towel", "sheet", "duvet"}),
    frozenset({"lamp", "light", "lampshade", "chandelier"}),
    frozenset({"tv", "television", "monitor", "screen", "display"}),
    frozenset({"rug", "carpet", "mat"}),
    frozenset({"plant", "potted plant", "flower", "flowerpot", "vase"}),
    frozenset({"bag", "backpack", "handbag", "purse", "suitcase"}),
    frozenset({"trash can", "trash bin", "wastebasket", "bin", "bucket"}),
    frozenset({"curtain", "blind", "drape"}),
)
CONFUSABLE_COLOURS: tuple[frozenset[str], ...] = (
    frozenset({"grey", "gray", "silver"}),
    frozenset({"purple", "violet"}),
    frozenset({"brown", "wooden", "tan"}),
    frozenset({"white", "cream", "beige"}),
    frozenset({"cyan", "turquoise", "teal", "light blue"}),
    frozenset({"pink", "magenta"}),
)

RANKS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
_SILENT_H = ("hour", "honest", "heir")
_SOUNDS_LIKE_CONSONANT = ("uni", "use", "uten", "euro", "one", "ukulele")


@dataclass(frozen=True)
class Category:
    """What a thing is called: "mug", "red mug", "red object", "object"."""

    noun: str | None  # None: any object
    colour: str | None = None

    @property
    def words(self) -> str:
        """The plain words, singular."""
        return " ".join(w for w in (self.colour, self.noun or OBJECT) if w)

    def fits(self, noun: str, colour: str | None) -> Verdict:
        """Whether a thing of that noun and colour would be called so; None where people differ."""
        return _and(self._fits_noun(noun), self._fits_colour(colour))

    def _fits_noun(self, noun: str) -> Verdict:
        if self.noun is None or noun == self.noun:
            return True
        return None if confusable(noun, self.noun) else False

    def _fits_colour(self, colour: str | None) -> Verdict:
        if self.colour is None or colour == self.colour:
            return True
        if colour is None:
            return None
        return None if _share_group(colour, self.colour, CONFUSABLE_COLOURS) else False


@cache
def confusable(noun: str, other: str) -> bool:
    """Whether people use one word for the other: a shared group, or one contains the other ("pan", "frying pan")."""
    if UNNAMED in (noun, other):
        return True
    return _share_group(noun, other, CONFUSABLE) or noun.endswith(f" {other}") or other.endswith(f" {noun}")


def plural(noun: str) -> str:
    """More than one of it."""
    if noun in ANY_WORDS:
        return ANY_WORDS[noun]
    first, of, rest = COUNTED.get(noun, noun).partition(" of ")
    *before, last = first.split(" ")
    return " ".join([*before, IRREGULAR_PLURALS.get(last, _regular_plural(last))]) + of + rest


def article(words: str) -> str:
    """The indefinite article with its words: "an orange mug"."""
    low = words.lower()
    vowel = (low[0] in "aeiou" and not low.startswith(_SOUNDS_LIKE_CONSONANT)) or low.startswith(_SILENT_H)
    return f"{'an' if vowel else 'a'} {words}"


def safe_synonyms(noun: str, nouns_in_scene: frozenset[str]) -> tuple[str, ...]:
    """Other words for a noun that fit nothing else in the scene."""
    others = nouns_in_scene - {noun}
    return tuple(
        word for word in SYNONYMS.get(noun, ()) if not any(word == other or confusable(word, other) for other in others)
    )


def _regular_plural(word: str) -> str:
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return f"{word}es"
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return f"{word[:-1]}ies"
    return f"{word}s"


@cache
def _share_group(a: str, b: str, groups: tuple[frozenset[str], ...]) -> bool:
    return any(a in group and b in group for group in groups)


def _and(a: Verdict, b: Verdict) -> Verdict:
    if a is False or b is False:
        return False
    return None if a is None or b is None else True
