"""Notebooks executed headless: records, batches, reports."""
