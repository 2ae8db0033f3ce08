"""One module per command of the `genrebeam` program."""
