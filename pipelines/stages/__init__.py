"""Thin DoFns and what they call for one element: extract, predict, write."""
