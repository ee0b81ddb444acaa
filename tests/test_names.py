"""Names that no disk can hold, given for files: one sentence, as for a file that is not there."""

import pytest

from mvguide.backbones.native_size import known_native_size
from mvguide.backbones.pretrained import load_backbone
from mvguide.depth.model import model_is_here
from mvguide.diffusion.schedule import load_sigmas
from mvguide.errors import FileError, ModelError
from mvguide.tables.table import LambdaTable

NAMES = ["x" * 5000, "a\0b"]


@pytest.mark.parametrize("name", NAMES)
def test_tables_sigmas_and_models_with_impossible_names(name: str) -> None:
    with pytest.raises(FileError, match="no lambda table at"):
        LambdaTable.load(name)
    with pytest.raises(FileError, match="no sigma schedule"):
        load_sigmas(name)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_backbone(name)
    assert known_native_size(name) is None


def test_a_depth_model_with_an_impossible_name_is_not_here() -> None:
    assert not model_is_here("x" * 5000)
