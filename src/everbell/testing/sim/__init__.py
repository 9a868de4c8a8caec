"""Simulated clusters on virtual time: one seed decides the world, its faults and their order."""
