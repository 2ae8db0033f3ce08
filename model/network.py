"""Layers of the network. Filled next."""
