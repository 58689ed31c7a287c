"""Metrics, and what an evaluated cell leaves behind."""
