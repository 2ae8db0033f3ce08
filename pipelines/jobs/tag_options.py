"""Options of `genrebeam tag`."""

from __future__ import annotations

import dataclasses

from genrebeam.features.errors import UsageError
from genrebeam.features.limits import ExtractLimits
from genrebeam.features.ranges import check_range
from genrebeam.model.voting import METHODS
from genrebeam.pipelines.engine.runner import Engine
from genrebeam.pipelines.library.manifest import is_manifest


@dataclasses.dataclass(frozen=True)
class TagOptions:
    """A validated command line of `genrebeam tag`. Folders are paths or URLs; model None is the default bundle.

    Raises:
        UsageError: an option is out of range, naming it.
    """

    libraries: tuple[str, ...]
    output: str
    model: str | None
    engine: Engine
    vote: str = "mean"
    top_k: int = 3
    batch_size: int = 64
    exclude: tuple[str, ...] = ()
    features_output: str | None = None
    features_input: str | None = None
    retry_rejects: bool = False
    write_every_s: float = 20.0
    max_reject_share: float = 0.2
    limits: ExtractLimits = dataclasses.field(default_factory=ExtractLimits)
    quiet: bool = False
    dry_run: bool = False

    def __post_init__(self) -> None:
        if bool(self.libraries) == (self.features_input is not None):
            raise UsageError("give either LIBRARY or --features-input, and not both")
        if self.features_input and self.dry_run:
            raise UsageError("--dry-run looks at a library; it has nothing to look at with --features-input")
        if self.features_input and self.features_output:
            raise UsageError("--features-output has nothing to write when --features-input is given")
        if self.limits.coverage_s is not None and (self.features_input or self.features_output):
            raise UsageError("--coverage does not go with kept features, which are of whole tracks")
        if self.vote not in METHODS:
            raise UsageError(f"--vote must be one of {', '.join(METHODS)}, not {self.vote!r}")
        for option, value, low, high in (
            ("--coverage", self.limits.coverage_s, 6, 3600),  # from one stretch (features/chunks.py) on
            ("--top-k", self.top_k, 1, 1000),
            ("--batch-size", self.batch_size, 1, 65_536),
            ("--write-every", self.write_every_s, 0, 3600),
            ("--max-reject-share", self.max_reject_share, 0, 1),
            ("--track-timeout", self.limits.stall_s, 1, 3600),  # 0 would set no alarm at all
        ):
            if value is not None:
                check_range(option, value, low=low, high=high)
        folders = (
            ("--output", self.output),
            ("--model", self.model),
            ("--features-output", self.features_output),
            ("--features-input", self.features_input),
        )
        for option, place in folders:
            if place == "":
                raise UsageError(f"{option} '' names no folder: give a path or an address, or leave the option out")
        libraries = [("LIBRARY", library) for library in self.libraries if not is_manifest(library)]
        self.engine.check_places([*libraries, *((option, place) for option, place in folders if place)])
