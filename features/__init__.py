"""Audio files to log-Mel arrays to records. A leaf: no Beam here; TensorFlow only in records.py."""

if __name__ != "genrebeam.features":
    raise ImportError("import it as genrebeam.features: the folders at the top are rooms of the package genrebeam")
