"""What there is to hear: folders, globs, manifests and buckets as tracks, and their labels."""
