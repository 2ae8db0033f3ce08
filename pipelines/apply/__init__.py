"""Tags into files: options, the plan for one file, and a batch of them with its journal. No Beam in here."""
