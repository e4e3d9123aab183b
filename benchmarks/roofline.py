"""What devices can do at most, and the shortest time that work can take on one (the roofline)."""

from __future__ import annotations

from typing import NamedTuple


class Peak(NamedTuple):
    """Bytes of memory and operations on matrices in a second."""

    bandwidth: float
    flops: float

    def milliseconds(self, moved: float, flops: float) -> float:
        """Return the shortest time for so many bytes and operations, which overlap.

        Source: Williams, Waterman and Patterson, "Roofline" (Communications of the ACM, 2009).
        """
        return 1e3 * max(moved / self.bandwidth, flops / self.flops)


# From NVIDIA's data sheets of the product, dense bfloat16 with sums in float32: where a sheet gives
# numbers "with sparsity", half of them. GeForce: the white papers of GA102 and of Ada, appendix A.
#: Part of the name that torch gives a device -> what it can do; the longest part that fits counts.
KNOWN = {
    "B200": Peak(8.0e12, 2250e12),
    "H200": Peak(4.8e12, 989e12),
    "H200 NVL": Peak(4.8e12, 835e12),
    "H100": Peak(3.35e12, 989e12),
    "H100 PCIe": Peak(2.0e12, 756e12),
    "H100 NVL": Peak(3.9e12, 835e12),
    "A100-SXM4-40GB": Peak(1.555e12, 312e12),
    "A100-SXM4-80GB": Peak(2.039e12, 312e12),
    "A100-PCIE-40GB": Peak(1.555e12, 312e12),
    "A100 80GB PCIe": Peak(1.935e12, 312e12),
    "A10": Peak(0.6e12, 125e12),
    "A10G": Peak(0.6e12, 70e12),
    "L4": Peak(0.3e12, 121e12),
    "L40": Peak(0.864e12, 181e12),
    "L40S": Peak(0.864e12, 362e12),
    "RTX 3090": Peak(0.936e12, 71e12),
    "RTX 4090": Peak(1.008e12, 165e12),
}


def known_peak(device: str) -> Peak | None:
    """Return what a device can do, by the name that torch gives it; None if it is not listed."""
    words = f" {device} "
    fitting = [name for name in KNOWN if f" {name} " in words]
    return KNOWN[max(fitting, key=len)] if fitting else None
