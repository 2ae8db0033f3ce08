"""`python -m genrebeam` is the `genrebeam` command."""

from genrebeam.pipelines.cli import main

if __name__ == "__main__":
    main()
