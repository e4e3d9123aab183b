"""Names and shapes of weights, from which a configuration is inferred."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zipasr.base.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class WeightShapes:
    """Shapes by name; a question without an answer ends in an error that names the file.

    Attributes:
        shapes: of the weights.
        origin: of the weights, named in errors.
    """

    shapes: Mapping[str, tuple[int, ...]]
    origin: str

    def has(self, start: str) -> bool:
        """Say whether any name starts so."""
        return any(name.startswith(start) for name in self.shapes)

    def size(self, name: str, axis: int) -> int:
        """Return one size of one tensor.

        Raises:
            CheckpointError: there is no such tensor, or it has too few axes.
        """
        shape = self.shapes.get(name, ())
        if len(shape) <= axis:
            problem = f"is {shape}" if name in self.shapes else "is missing"
            raise CheckpointError(
                f"{self.origin} does not hold a whole Zipformer: {name} {problem}.",
                "choose another file, or download it again.",
            )
        return shape[axis]

    def count(self, start: str) -> int:
        """Return how many numbered modules there are: ``start0.``, ``start1.``, ..."""
        number = 0
        while self.has(f"{start}{number}."):
            number += 1
        return number

    def layers_of(self, stack: int) -> str:
        """Return the start of the names of the layers of a stack, in the middle or alone."""
        start = f"encoder.encoders.{stack}."
        return f"{start}encoder.layers." if self.has(f"{start}downsample.") else f"{start}layers."
