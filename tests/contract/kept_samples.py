"""A store of samples in memory."""

from datetime import datetime

from connectors.recorded import Batch
from ems.records import DeviceSample
from ems.telemetry import Quality


class Kept:
    """Keeps batches as if they were on the disk at once, or refuses them."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.is_full = False

    def recorded(self, batch: Batch) -> bool:
        if not self.is_full:
            self.batches.append(batch)
            batch.stored()
        return not self.is_full

    def mark(self, device: str, name: str) -> str | None:
        return None

    @property
    def samples(self) -> list[DeviceSample]:
        return [s for b in self.batches for s in b.samples]

    @property
    def told(self) -> list[tuple[float | None, Quality, datetime | None]]:
        return [(s.value, s.quality, s.told_at) for s in self.samples]

    @property
    def marks(self) -> list[str]:
        return [b.mark.text for b in self.batches if b.mark is not None]
