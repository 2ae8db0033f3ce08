"""The web application: hear a file, browse and correct a tagged catalog, look at its numbers and at the model's."""

if __name__ != "genrebeam.app":
    raise ImportError("import it as genrebeam.app: the folders at the top are rooms of the package genrebeam")
