"""Synthetic data with exact labels, for runs anywhere."""
