"""Synthetic data with exact labels, available offline."""
