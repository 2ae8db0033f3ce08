"""One run each: find, leave out what is done, launch, sum up."""
