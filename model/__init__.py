"""The genre network: bundle, training, prediction and voting. May import features; no Beam here."""
