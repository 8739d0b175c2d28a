"""The table of datasets: each is a small source that lists its items; nothing else knows a dataset's name."""

from xkd.pipelines.convert.sources.folder import list_folder

SOURCES = {"folder": list_folder}
