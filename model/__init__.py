"""The genre network: bundle, training, prediction and voting. May import features; no Beam here."""

if __name__ != "genrebeam.model":
    raise ImportError("import it as genrebeam.model: the folders at the top are rooms of the package genrebeam")
