"""What a finished conversion came to: the summary that a user reads."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from xkd.pipelines.convert.journal import ListedFailure
from xkd.pipelines.convert.output import FAILURES, SOURCE
from xkd.pipelines.shards.manifest import Completeness, Manifest

# Reasons that a summary counts by name; the list has all.
REASONS = 10


@dataclass(frozen=True)
class Summary:
    """What was written, or found already written, and why items failed."""

    folder: Path
    manifest: Manifest
    already_complete: bool
    failures: Sequence[ListedFailure]

    def __str__(self) -> str:
        found = self.manifest
        part = "part {} of {}, ".format(*found.settings.part) if found.settings.part else ""
        lines = [
            f"{self.folder}: {'already complete, ' if self.already_complete else ''}{part}{found.num_samples} samples of"
            f" {len(found.classes)} classes in {len(found.shards)} shards, {found.num_bytes / 1e6:.1f} MB,"
            f" {found.video_seconds / 3600:.2f} h of video, {found.audio_seconds / 3600:.2f} h of audio",
            f"{found.settings.dataset} {found.split}: {describe_completeness(found.completeness, len(found.classes))}",
        ]
        if found.completeness.listed not in (None, found.completeness.present) or found.completeness.unlisted:
            lines.append(f"which files these are: {self.folder / SOURCE}")
        if self.failures:
            lines += [f"{len(self.failures)} files failed, see {self.folder / FAILURES}:", *count_reasons(self.failures)]
        return "\n".join(lines)


def describe_completeness(found: Completeness, num_classes: int) -> str:
    """From the published count to the converted one, in a line."""
    whole = found.official or found.listed
    counts = [
        f"{found.official} published" if found.official is not None else "",
        f"{found.listed} listed" if found.listed is not None else "",
        f"{found.present} present" + (f" ({found.present / whole:.1%})" if whole else ""),
        f"{found.listed - found.present} missing" if found.listed is not None and found.listed > found.present else "",
        f"{found.unlisted} in no list" if found.unlisted else "",
        f"{found.converted} converted, {found.failed} failed" if found.converted or found.failed else "",
        f"{num_classes} of {found.official_classes} classes" if found.official_classes not in (None, num_classes) else "",
    ]
    return ", ".join(filter(None, counts))


def count_reasons(failures: Iterable[ListedFailure]) -> list[str]:
    """A line for each of the most frequent reasons, with how often it occurred and the first name."""
    failures = list(failures)
    first = {failure.reason: failure.name for failure in reversed(failures)}
    counts = Counter(failure.reason for failure in failures).most_common()
    lines = [f"  {count}: {reason} (such as {first[reason]!r})" for reason, count in counts[:REASONS]]
    if others := counts[REASONS:]:
        lines.append(f"  {sum(count for _, count in others)}: other reasons")
    return lines
