"""Which Beam runner works, what a failed run does next, and what is shown meanwhile."""
