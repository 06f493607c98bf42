"""The table of recipes, and recipes of one's own in TOML."""

from pathlib import Path

import pytest

from edge_runtime.errors import ConfigError
from quantize.recipes import DECODER_BITS, ENCODER_RATIO, RECIPES, Recipe, recipe_named, with_recipes_of


def test_every_recipe_has_a_summary_and_known_parts() -> None:
    assert len({recipe.name for recipe in RECIPES}) == len(RECIPES)
    for recipe in RECIPES:
        assert recipe.summary
        assert recipe.encoders in ENCODER_RATIO
        assert recipe.decoder in DECODER_BITS
        assert recipe.for_tensorrt == recipe.name.startswith("jetson-")


def test_a_toml_file_adds_recipes(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(
        '[recipe.mine]\nbase = "jetson-8gb"\ndecoder = "Q5_K_M"\nbudget_db = 25\nmax_tiles = 3\n'
        '[recipe.yours]\nbase = "mine"\nproviders = ["CPUExecutionProvider"]\n'
    )
    table = with_recipes_of(tmp_path / "r.toml")
    mine, yours = recipe_named("mine", table), recipe_named("yours", table)
    assert (mine.encoders, mine.decoder, mine.budget_db, mine.max_tiles) == ("int8-static", "Q5_K_M", 25.0, 3)
    assert mine.for_tensorrt
    assert (yours.decoder, yours.providers) == ("Q5_K_M", ("CPUExecutionProvider",))
    assert recipe_named("cpu-int8", table) == recipe_named("cpu-int8")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "holds no"),
        ("[recipe", "cannot read recipes"),
        ("[recipe]\nmine = 3\n", "must be a table"),
        ('[recipe.mine]\nbase = "jetson-8gbb"\n', "did you mean 'jetson-8gb'"),
        ("[recipe.mine]\ndecodr = 3\n", r"unknown keys \['decodr'\]"),
        ('[recipe.mine]\ndecoder = "Q3_K"\n', "possible are F16, Q8_0"),
        ('[recipe.mine]\nsmooth = "yes"\n', "not of the kind bool"),
        ("[recipe.mine]\nmax_tiles = 1000\n", "outside 1 to"),
        ("[recipe.mine]\nworst_error = 0\n", "must be positive"),
        ('[recipe.mine]\ndecoder = "Q8_0"\ndecoder_method = "gptq"\n', "on the grid of Q4_0"),
        ('[recipe.mine]\nbase = "jetson-8gb"\nprefill = true\n', "prefill is for processors"),
        ("[recipe.mine]\nproviders = [1]\n", "recipe.mine.providers"),
        ('[recipe.mine]\ndecoder_q8 = ["attn_o"]\n', "names attn_o; a decoder has attn_q"),
        ('[recipe.mine]\ndecoder = "F16"\ndecoder_q8 = ["output"]\n', "F16 is finer already"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(ConfigError, match=what):
        with_recipes_of(tmp_path / "r.toml")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml"):
        with_recipes_of(tmp_path / "absent.toml")


def test_recipes_are_frozen() -> None:
    with pytest.raises(AttributeError):
        recipe_named("fp16").decoder = "Q4_0"  # type: ignore[misc]
    assert isinstance(recipe_named("fp16"), Recipe)
