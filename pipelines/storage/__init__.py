"""Bytes on a disk or in a bucket: where they are, and how they are read and replaced."""
