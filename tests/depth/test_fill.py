import pytest
import torch

from mvguide.depth.fill import fill_from_similar
from mvguide.errors import InputError


def test_holes_take_the_value_of_their_own_colour_and_nothing_is_mixed() -> None:
    image = torch.zeros(3, 20, 31)
    image[:, :, 15:] = 0.8
    values = torch.where(image[0] > 0.5, 5.0, 1.0)
    known = torch.ones(20, 31, dtype=torch.bool)
    known[4:16, 10:22] = False  # a hole over the border of both colours
    filled = fill_from_similar(torch.where(known, values, torch.nan), known, image)
    assert torch.equal(filled, values)


def test_one_known_pixel_fills_all_and_known_ones_stay() -> None:
    generator = torch.Generator().manual_seed(0)
    image, values = torch.rand(3, 13, 7, generator=generator), torch.rand(13, 7, generator=generator)
    known = torch.zeros(13, 7, dtype=torch.bool)
    known[12, 6] = True
    assert torch.equal(fill_from_similar(values, known, image), torch.full((13, 7), float(values[12, 6])))
    assert torch.equal(fill_from_similar(values, ~known, image)[~known], values[~known])


def test_nothing_known_and_unlike_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="no pixel is known"):
        fill_from_similar(torch.ones(3, 4), torch.zeros(3, 4, dtype=torch.bool), torch.ones(3, 3, 4))
    with pytest.raises(InputError, match="differ in size"):
        fill_from_similar(torch.ones(3, 4), torch.ones(3, 5, dtype=torch.bool), torch.ones(3, 3, 4))
