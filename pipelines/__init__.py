"""The Beam graphs, the command line and the tag writers. The only place that imports Beam."""

if __name__ != "genrebeam.pipelines":
    raise ImportError("import it as genrebeam.pipelines: the folders at the top are rooms of the package genrebeam")
