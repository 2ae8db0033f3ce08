"""Bundles and training shards by the place that a user names: a folder, a bucket, or the name of a shipped bundle."""

from __future__ import annotations

import os
from pathlib import Path

from genrebeam.features.errors import BundleError, UsageError
from genrebeam.model import shardset
from genrebeam.model.bundle import DEFAULT, SHIPPED, Bundle, load_config
from genrebeam.model.shardset import ShardSet
from genrebeam.pipelines.storage.copies import local_folder
from genrebeam.pipelines.storage.folders import folder_at
from genrebeam.pipelines.storage.places import local_path


def bundle_at(model: str | None) -> Bundle:
    """A model bundle: the one that ships under that name, else a folder or a URL; without a word the default one.

    Raises:
        BundleError: no such bundle, or it is damaged.
        UsageError: the bucket cannot be listed.
        UnreadableFile: an object cannot be fetched.
    """
    if model is None:
        return load_config(DEFAULT)
    if model != os.path.basename(model) or Path(model).exists():  # a place
        return load_config(local_folder(model))
    if model not in SHIPPED:
        raise BundleError(f"{model}: no such model bundle; give {' or '.join(SHIPPED)}, or the folder of a bundle")
    return load_config(SHIPPED[model])


def shards_at(place: str) -> ShardSet:
    """A set of training shards in a folder, or a copy of one in a bucket.

    Raises:
        UsageError: none is there, it is damaged, or the bucket cannot be listed.
        UnreadableFile: an object cannot be fetched.
    """
    path = local_path(place)
    if path is None:
        if shardset.DATASET not in folder_at(place).names():
            raise UsageError(f"{place}: no {shardset.DATASET}; give a folder that `genrebeam shards` has written")
        path = local_folder(place)
    return shardset.load(path)
