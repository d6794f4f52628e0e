"""What a migration says: the report when it succeeds, the error when it does not."""

from __future__ import annotations

from dataclasses import dataclass, field


class MigrationError(ValueError):
    """A model cannot be brought over to Keras 3."""


@dataclass
class Report:
    """What was changed, layer by layer.

    Attributes:
        old: The file that was read.
        new: The file that was written.
        changes: For each layer that was changed, by its name, what was.
        unchanged: Number of layers that are as they were.
        notes: What concerns the model as a whole.
        largest_difference: Between the predictions of the old and the new file, on
            random input, relative to the largest prediction.
    """

    old: str
    new: str
    changes: dict[str, list[str]] = field(default_factory=dict)
    unchanged: int = 0
    notes: list[str] = field(default_factory=list)
    largest_difference: float = 0.0

    def add(self, layer: str, changes: list[str]) -> None:
        """Record one layer."""
        if changes:
            self.changes.setdefault(layer, []).extend(changes)
        else:
            self.unchanged += 1

    def __str__(self) -> str:
        lines = [f"{self.old} -> {self.new}"]
        for layer, changes in self.changes.items():
            lines += [f"  {layer}:"] + [f"    {change}" for change in changes]
        lines.append(f"  {self.unchanged} other layers are as they were.")
        lines += [f"  {note}" for note in self.notes]
        lines.append(
            "  Old and new predict the same on random input (largest difference: "
            f"{self.largest_difference:.1e} of the largest prediction)."
        )
        return "\n".join(lines)
