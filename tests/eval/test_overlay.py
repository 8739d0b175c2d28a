import pytest
from pydantic import Field, PositiveInt, ValidationError, model_validator

from xkd.config import Settings, dump, parse_yaml
from xkd.eval.overlay import lay_over, overlay_of
from xkd.pipelines.config import DataConfig


class View(Settings):
    size: PositiveInt = 8
    scale: tuple[float, float] = Field((0.5, 1.0), description="of the area")


class Clips(Settings):
    train: str
    seconds: float = Field(4.0, gt=0)
    view: View = View()

    @model_validator(mode="after")
    def _check(self):
        if self.seconds * self.view.size > 100:
            raise ValueError(f"view.size: {self.view.size} is too much for {self.seconds:g} seconds")
        return self


CLIPS = Clips(train="here", seconds=10, view={"size": 5})


def test_what_is_not_given_stays():
    assert lay_over(CLIPS, overlay_of(Clips)(), "data") == CLIPS


def test_what_is_given_replaces_it_in_sections_too():
    overlay = overlay_of(Clips)(view={"scale": (0.1, 0.2)})
    assert lay_over(CLIPS, overlay, "data") == Clips(train="here", seconds=10, view={"size": 5, "scale": (0.1, 0.2)})


@pytest.mark.parametrize("wrong", [{"seconds": -1}, {"view": {"size": 0}}, {"second": 1}, {"view": {"siez": 1}}, {"view": 3}])
def test_a_wrong_value_or_key_is_found_before_it_is_laid_over_anything(wrong):
    with pytest.raises(ValidationError):
        overlay_of(Clips)(**wrong)


def test_what_does_not_go_with_the_rest_is_told_with_its_path():
    with pytest.raises(ValueError, match=r"^data\.view\.size: 50 is too much for 10 seconds$"):
        lay_over(CLIPS, overlay_of(Clips)(view={"size": 50}), "data")


def test_an_overlay_that_was_written_down_is_the_same_again():
    overlay = overlay_of(DataConfig)(train="there", video={"global_view": {"size": 224, "rand_augment": {"ops": 4}}})
    assert overlay_of(DataConfig)(**parse_yaml(dump(overlay), "text")) == overlay
