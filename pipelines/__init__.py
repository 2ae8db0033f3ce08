"""The Beam graphs, the command line and the tag writers. The only place that imports Beam."""
