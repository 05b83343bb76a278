"""Coordinated omission, shown: one stall, seen by an open loop and by the closed loop beside it."""
