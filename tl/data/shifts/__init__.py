"""Shifts: images as another camera, another weather or another style would show them."""

from tl.data.shifts.shift import FAMILIES, SHIFTS, Shift

__all__ = ["FAMILIES", "SHIFTS", "Shift"]
