"""What an example holds: the settings of the data path as a loader's preset narrows them."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from xkd.pipelines.config import DataConfig

StreamName = Literal["video", "audio"]
BOTH: tuple[StreamName, ...] = ("video", "audio")


class ExampleConfig(DataConfig):
    """The settings that every example of a loader is made by; its own fields stand in for those of the protocols."""

    streams: tuple[StreamName, ...] = Field(BOTH, min_length=1, description="streams that are read")
    clips: int = Field(1, gt=0, description="clips an example, in place of train_clips and eval_clips")
    crops: Literal[1, 3] = Field(1, description="crops a clip, in place of eval_crops")

    @classmethod
    def of(cls, config: DataConfig, streams: Sequence[StreamName], clips: int = 1, crops: int = 1) -> "ExampleConfig":
        """The settings of valid ones."""
        assert set(streams) in ({"video"}, {"audio"}, {"video", "audio"}), streams
        return cls.model_construct(**dict(config) | {"streams": tuple(streams), "clips": clips, "crops": crops})

    @property
    def view_counts(self) -> dict[str, int]:
        """Views of each kind an example, by the names of the graph's outputs."""
        counts = {
            "video_global": self.clips * self.crops,
            "audio_global": self.clips,
            "video_local": self.video.local_view.count,
            "audio_local": self.audio.local_view.count,
        }
        return {name: count if name.startswith(self.streams) else 0 for name, count in counts.items()}
