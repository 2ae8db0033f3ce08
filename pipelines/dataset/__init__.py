"""What is known: results, rejects, the journal of tag changes and the reports of runs."""
