"""What happens to a block of sums before it is stored: bias, then activation, in place."""

from __future__ import annotations

from dataclasses import dataclass

from cuconv._backends import _functions
from cuconv._backends._protocol import Array


@dataclass(frozen=True, slots=True)
class Epilogue:
    bias: Array | None  # (channels,), or as it is broadcast; of the dtype sums are kept in
    activation: str | None

    def part(self, first: int, last: int) -> Epilogue:
        """That of some channels, or of some groups where it is grouped."""
        if self.bias is None:
            return self
        return Epilogue(self.bias[first:last], self.activation)

    def grouped(self, groups: int, positions: int) -> Epilogue:
        """For sums (groups, channels of a group, then so many axes of positions)."""
        if self.bias is None:
            return self
        shape = (groups, len(self.bias) // groups, *[1] * positions)
        return Epilogue(self.bias.reshape(shape), self.activation)

    def apply(self, sums: Array, axis: int) -> None:
        """`axis` is that of the channels."""
        if self.bias is not None and self.bias.ndim == 1:
            shape = [1] * sums.ndim
            shape[axis] = -1
            sums += self.bias.reshape(shape)
        elif self.bias is not None:
            sums += self.bias
        if self.activation == "relu":
            _functions.relu_into(sums, sums)
        elif self.activation is not None:
            sums[...] = _functions.activate(sums, self.activation)
