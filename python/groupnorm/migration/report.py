"""What a migration says: the report when it succeeds, the error when it does not."""

from __future__ import annotations

from dataclasses import dataclass, field


class MigrationError(ValueError):
    """A model cannot be brought over to Keras 3."""


@dataclass
class Report:
    """What was changed, layer by layer, and what was proved.

    Attributes:
        old: The file that was read.
        new: The file that was written, or is to be; `None` if there is no name yet.
        written: Whether it was.
        changes: For each layer that was changed, by its name, what was.
        unchanged: Number of layers that are as they were.
        notes: What concerns the model as a whole.
        proved: What was shown to be as it was, and how.
        not_proved: What was not.
        needs: Names of one's own classes and functions that the new file needs.
        largest_difference: Between the predictions of the old and the new file, on
            random input, relative to the largest prediction.
    """

    old: str
    new: str | None
    written: bool = False
    changes: dict[str, list[str]] = field(default_factory=dict)
    unchanged: int = 0
    notes: list[str] = field(default_factory=list)
    proved: list[str] = field(default_factory=list)
    not_proved: list[str] = field(default_factory=list)
    needs: list[str] = field(default_factory=list)
    largest_difference: float = 0.0

    def add(self, layer: str, changes: list[str]) -> None:
        """Record one layer."""
        if changes:
            self.changes.setdefault(layer, []).extend(changes)
        else:
            self.unchanged += 1

    def __str__(self) -> str:
        new = self.new or "no file"
        dry = "" if self.written else " (nothing was written)"
        lines = [f"{self.old} -> {new}{dry}", "Changed:"]
        for layer, changes in self.changes.items():
            lines += [f"  {layer}:"] + [f"    {change}" for change in changes]
        lines.append(f"Other layers, which are as they were: {self.unchanged}.")
        proved = [
            "Old and new predict the same on random input (largest difference: "
            f"{self.largest_difference:.1e} of the largest prediction).",
            *self.proved,
        ]
        lines += _section("Notes", [*self.notes, *self._opening()])
        lines += _section("Proved", proved)
        lines += _section("Not proved", self.not_proved)
        return "\n".join(lines)

    def _opening(self) -> list[str]:
        if not self.needs:
            return []
        names = ", ".join(self.needs)
        return [
            f"The new file names what is your own: {names}. Open it with load_model() "
            "and that in custom_objects, or register it before."
        ]


def _section(title: str, items: list[str]) -> list[str]:
    return [f"{title}:", *(f"  {item}" for item in items)] if items else []
