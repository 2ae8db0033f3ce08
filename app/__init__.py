"""The web application: hear a file, browse and correct a tagged catalog, look at its numbers and at the model's."""
