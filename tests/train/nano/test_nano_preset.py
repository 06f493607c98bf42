"""The preset is what was promised, and its tokenizer spells coordinates digit by digit."""

from tests.train.nano.boxes import box_checkpoint
from train.nano.preset import NANO, fresh_checkpoint, nano_tokenizer
from train.nano.prompt_layout import PromptLayout
from train.specs import dims
from train.tokenizer import text_ids


def test_nano_fits_its_bounds() -> None:
    checkpoint = fresh_checkpoint(NANO, nano_tokenizer(NANO, ["Point to the red mug."]))
    count = sum(p.numel() for p in checkpoint.model.parameters())
    assert 12e6 <= count <= 24e6
    sizes = dims(checkpoint)
    assert sizes.decoder_width % 256 == NANO.mlp % 256 == 0  # K-quants want blocks of 256
    assert 224 <= NANO.tile_px <= 336
    assert sizes.tokens_per_tile == 64
    assert sizes.context_tokens >= 2048


def test_coordinates_are_spelled_digit_by_digit() -> None:
    checkpoint = box_checkpoint()
    layout = PromptLayout(checkpoint)
    ids = layout.answer(0.123, 0.456)
    assert [checkpoint.tokenizer.decode([ids[i]]) for i in layout.places.x_digits] == ["1", "2", "3"]
    assert [checkpoint.tokenizer.decode([ids[i]]) for i in layout.places.y_digits] == ["4", "5", "6"]
    assert checkpoint.tokenizer.decode(ids) == "[(0.123, 0.456)]<|im_end|>"
    assert len(ids) == layout.places.length


def test_a_question_is_its_words_and_the_suffix() -> None:
    layout = PromptLayout(box_checkpoint())
    tokenizer = layout._tokenizer
    words = layout.text(" Point to the red box. ")
    assert words == text_ids(tokenizer, "Point to the red box.")
    text = tokenizer.decode(layout.question(words, with_suffix=True))
    assert text.startswith("Point to the red box. Your answer should be formatted as a list of tuples")
    assert text.endswith("in the image.<|im_end|>\n<|im_start|>assistant\n")
