import pytest

from xkd.benchmarks import gpu_media


@pytest.fixture(scope="session")
def media(tmp_path_factory):
    """A media folder of 2 clips in every codec, of the smaller size only."""
    folder = tmp_path_factory.mktemp("media")
    gpu_media.write(folder, clips=2, sizes=(128,))
    return folder
