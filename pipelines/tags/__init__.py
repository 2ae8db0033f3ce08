"""Genre tags in audio files: reading them, deciding on them, writing them without damage. No Beam, no TensorFlow."""
